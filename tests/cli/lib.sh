# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What command-line tests share.  A test begins with
#
#	#!/usr/bin/env bash
#	. "$(dirname "$0")/lib.sh"
#
# and then stands in an empty directory of its own, which is removed afterwards; it
# runs under set -euo pipefail, and passes when it gets to its end.
#
#	$QDEDUP $QIMG $QIO $QNBD   the program under test, and stock QEMU's as judges
#	ok CMD...              must exit 0; its stdout passes through
#	fails STATUS CMD...    must exit exactly so, print nothing on stdout and something on
#	                       stderr, which is then in $ERR; a crash is never expected
#	exits STATUS CMD...    must exit exactly so, stdout passes (check, compare: 1, 2, 3)
#	says PATTERN...        $ERR matches each extended regular expression
#	CMD | prints GREP-ARGS  grep finds something in what CMD prints, and reads it to the end, which
#	                       grep -q does not: CMD would meet a closed pipe now and then
#	check_clean IMG        qemu-img check exits 0
#	same A B [FMT_A [FMT_B]]   qemu-img compare: identical (a name in .raw is raw,
#	                       otherwise the content decides)
#	mkdata FILE SIZE SEED KIND   tests/tools/mkdata.c: random, dup50, sparse, zeros, text ...
#	distinct FILE CLUSTER  how many distinct clusters of a raw file are not all zero (the
#	                       last one padded with zeros); CLUSTER takes K and M
#	json FILE EXPR         the value of a Python expression over document d ("-": stdin);
#	                       true, false and null as in JSON
#	is WANTED GOT [WHAT]   fails unless both are equal
#	die TEXT...            fails
#	at_exit COMMAND        runs at the end, also of a failed test; the last given first
#	skip REASON            "needs root: ..." and the like; see tests/run.sh
#	need_root REASON       skips unless root
#
# A test run by hand needs nothing set: tests/cli/010-something.sh
set -euo pipefail
shopt -s inherit_errexit

_top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export LC_ALL=C TZ=UTC
PATH=$PATH:/usr/sbin:/sbin
QDEDUP=${QDEDUP:-$_top/qdedup}
QD_TOOLS=${QD_TOOLS:-$_top/build/tools}
# shellcheck disable=SC2034  # for the tests
QIMG=qemu-img QIO=qemu-io QNBD=qemu-nbd
ERR=
# A version manager's wrapper of python3 takes ten times as long to start as python3 itself.
_python=/usr/bin/python3
[ -x $_python ] || _python=python3

_dir=$(mktemp -d)
_at_exit=
_leave() {
	eval "$_at_exit"
	cd /
	chmod -R u+rwX "$_dir"
	rm -rf "$_dir"
}
trap _leave EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
cd "$_dir"

at_exit() {
	_at_exit="{ $*; } || true
$_at_exit"
}

die() {
	printf 'FAILED: %s\n' "$*" >&2
	exit 1
}

skip() {
	printf 'SKIP: %s\n' "$*"
	exit 77
}

need_root() {
	[ "$(id -u)" -eq 0 ] || skip "needs root: $*"
}

# _run CMD...: sets _status and ERR; stdout passes through
_run() {
	local errfile=$_dir/.err.$BASHPID
	_status=0
	"$@" 2>"$errfile" || _status=$?
	ERR=$(tr -d '\0' <"$errfile")
	rm -f "$errfile"
}

ok() {
	_run "$@"
	[ "$_status" -eq 0 ] || die "$* exited $_status, not 0; it said: $ERR"
}

exits() {
	local wanted=$1
	shift
	_run "$@"
	[ "$_status" -eq "$wanted" ] || die "$* exited $_status, not $wanted; it said: $ERR"
}

fails() {
	local wanted=$1 outfile=$_dir/.out.$BASHPID
	shift
	_run "$@" >"$outfile"
	case $_status in
	132 | 134 | 135 | 136 | 139) die "$* crashed, status $_status; it said: $ERR" ;;
	esac
	[ "$_status" -eq "$wanted" ] || die "$* exited $_status, not $wanted; it said: $ERR"
	[ ! -s "$outfile" ] || die "$* failed, but printed on stdout: $(head -c 1000 "$outfile")"
	[ -n "$ERR" ] || die "$* failed without a word on stderr"
	rm -f "$outfile"
}

says() {
	local pattern
	for pattern; do
		grep -Eq -- "$pattern" <<<"$ERR" || die "stderr does not match '$pattern': $ERR"
	done
}

prints() {
	[ "$(grep -c -- "$@")" -gt 0 ]
}

is() {
	[ "$1" = "$2" ] || die "${3:-value}: expected '$1', got '$2'"
}

check_clean() {
	local out status=0
	out=$(qemu-img check "$@" 2>&1) || status=$?
	[ "$status" -eq 0 ] || die "qemu-img check $* exited $status: $(head -n 20 <<<"$out")"
}

_format_of() {
	case $1 in
	*.raw) echo raw ;;
	*) qemu-img info -U --output=json -- "$1" | $_python -c 'import json, sys; print(json.load(sys.stdin)["format"])' ;;
	esac
}

same() {
	local out status=0 fmt_a fmt_b
	fmt_a=${3:-$(_format_of "$1")}
	fmt_b=${4:-$(_format_of "$2")}
	out=$(qemu-img compare -U -f "$fmt_a" -F "$fmt_b" "$1" "$2" 2>&1) || status=$?
	[ "$status" -eq 0 ] || die "$1 and $2 are not identical (qemu-img compare: $status): $out"
}

mkdata() {
	"$QD_TOOLS/mkdata" "$@"
}

distinct() {
	$_python - "$1" "$2" <<-'END'
	import sys
	name, text = sys.argv[1:]
	unit = {"K": 1 << 10, "M": 1 << 20}.get(text[-1], 1)
	cluster = int(text.rstrip("KM")) * unit
	zero = bytes(cluster)
	seen = set()
	with open(name, "rb") as f:
	    while block := f.read(cluster):
	        block = block.ljust(cluster, b"\0")
	        if block != zero:
	            seen.add(block)
	print(len(seen))
	END
}

json() {
	$_python - "$1" "$2" <<-'END'
	import json, sys
	name, expr = sys.argv[1:]
	d = json.load(open(3) if name == "-" else open(name))
	v = eval(expr, {"d": d})
	print(v if isinstance(v, str) else json.dumps(v, sort_keys=True))
	END
} 3<&0
