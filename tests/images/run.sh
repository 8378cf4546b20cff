#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# run.sh VARIANT [CASE...]: damage cases, each on one kind of image.
#
# A case is a directory here:
#
#	name           what is damaged, in a line
#	recipe         shell, run with $img (a sound image of the variant) in an empty
#	               directory; mostly calls of `damage` (tests/tools/damage.c)
#	expect.check   "status N" and the kinds of findings, one per line, notes left out;
#	               expect.check.VARIANT, if there is one, counts instead
#	variants       the variants it is for, if not all of them
#
# Variants: 64k 4k v2 rb1 rb64 extl2 snap.  Each image has four L1 entries, the last one
# empty; data in the first clusters of the first three L2 tables, a zero cluster (5) and
# compressed ones (8, 9) in the first; "snap" has two snapshots with data of their own.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../cli/lib.sh"

variant=${1:?which variant}
shift
cluster=65536 span=$((512 << 20)) options=''
case $variant in
64k | snap) ;;
4k) cluster=4096 span=$((2 << 20)) options=cluster_size=4K ;;
v2) options=compat=0.10 ;;
rb1) options=refcount_bits=1 ;;
rb64) options=refcount_bits=64 ;;
extl2) span=$((256 << 20)) options=extended_l2=on ;;
*) die "no such variant: $variant" ;;
esac

damage() {
	"$QD_TOOLS/damage" "$img" "$@"
}

make_base() {
	local c=$cluster s=$span
	qemu-img create -q -f qcow2 ${options:+-o "$options"} base.qcow2 $((s * 4))
	qemu-io -f qcow2 -c "write -P 1 0 $((4 * c))" -c "write -P 2 $s $((2 * c))" -c "write -P 3 $((2 * s)) $c" \
		-c "write -c -P 4 $((8 * c)) $c" -c "write -c -P 5 $((9 * c)) $c" base.qcow2 >/dev/null
	[ "$variant" = v2 ] || qemu-io -f qcow2 -c "write -z $((5 * c)) $c" base.qcow2 >/dev/null
	[ "$variant" = snap ] || return 0
	qemu-img snapshot -c one base.qcow2
	qemu-io -f qcow2 -c "write -P 6 0 $((2 * c))" -c "write -P 7 $((2 * s)) $c" base.qcow2 >/dev/null
	qemu-img snapshot -c two base.qcow2
	qemu-io -f qcow2 -c "write -P 8 $c $((2 * c))" base.qcow2 >/dev/null
}

# "status N" and the kinds found, as expect.check has them
found() {
	local status=0
	timeout 60 "$QDEDUP" check --memory=64M "$1" >check.out 2>check.err || status=$?
	echo "status $status"
	sed -nE 's/^(error|corruption|leak) ([a-z0-9-]+):.*/\2/p' check.out | sort
}

# QD_ACCEPT=1: what is found now becomes what is expected; git diff shows whether it should
accept() {
	if [ "$variant" = 64k ] || [ ! -e "$1/expect.check" ] || [ "$(cat "$1/variants" 2>/dev/null)" = "$variant" ]; then
		expect=$1/expect.check
	else
		expect=$1/expect.check.$variant
	fi
	cp got "$expect"
	[ "$expect" = "$1/expect.check" ] || ! cmp -s "$1/expect.check" "$expect" || rm "$expect"
	[ -e "$expect" ] || expect=$1/expect.check
}

run_case() {
	local dir=$here/$1 expect
	img=$PWD/img
	expect=$dir/expect.check
	[ ! -e "$expect.$variant" ] || expect=$expect.$variant
	[ ! -e "$dir/variants" ] || grep -qw -- "$variant" "$dir/variants" || return 0
	cp --sparse=always base.qcow2 img
	(. "$dir/recipe") >recipe.out 2>&1 || {
		echo "FAILED $1: the recipe does not work: $(cat recipe.out)"
		return 1
	}
	found img >got
	[ -z "${QD_ACCEPT-}" ] || accept "$dir"
	if ! { head -n 1 "$expect"; tail -n +2 "$expect" | sort; } | diff - got >differ; then
		echo "FAILED $1 ($(cat "$dir/name")): expected (<), found (>):"
		cat differ check.out check.err
		return 1
	fi
	ran=$((ran + 1))
}

make_base
[ "$(found base.qcow2)" = "status 0" ] || die "the image of variant $variant is not sound"
ran=0 bad=0
# shellcheck disable=SC2046  # a list of words
[ $# -gt 0 ] || set -- $(cd "$here" && printf '%s\n' */recipe | sed 's,/recipe,,')
for name; do
	run_case "$name" || bad=$((bad + 1))
done
echo "$variant: $ran cases as expected, $bad not"
[ "$bad" -eq 0 ] && [ "$ran" -gt 0 ]
