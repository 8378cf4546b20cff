#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# run.sh [-k DIR] VARIANT [CASE...]: damage cases, each on one kind of image.
#
# Each is checked, repaired and checked again, and qemu-img checks it too; what the guest
# reads in any layer is as before the damage, but for ranges that the repair reported as
# lost (layers.py).  With -k the damaged images are only put into DIR.
#
# A case is a directory here:
#
#	name           what is damaged, in a line
#	recipe         shell, run with $img (a sound image of the variant) in an empty
#	               directory; mostly calls of `damage` (tests/tools/damage.c)
#	expect.check   "status N" and the kinds of findings, one per line, notes left out;
#	               expect.check.VARIANT, if there is one, counts instead
#	expect.repair  "status N", what is left after the repair, and the actions taken, one
#	               per line; expect.repair.VARIANT likewise.  Where N is not 0 nothing may
#	               be written.
#	variants       the variants it is for, if not all of them
#
# Variants: 64k 4k v2 rb1 rb64 extl2 snap data.  Each image has four L1 entries, the last one
# empty; data in the first clusters of the first three L2 tables, a zero cluster (5) and
# compressed ones (8, 9) in the first; "snap" has two snapshots with data of their own;
# "data" has an external data file and nothing compressed, and only cases of its own.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../cli/lib.sh"

keep=''
if [ "${1-}" = -k ]; then
	keep=$2
	shift 2
fi
variant=${1:?which variant}
shift
cluster=65536 span=$((512 << 20)) options=''
case $variant in
64k | snap) ;;
4k) cluster=4096 span=$((2 << 20)) options=cluster_size=4K ;;
v2) options=compat=0.10 ;;
rb1) options=refcount_bits=1 ;;
rb64) options=refcount_bits=64 ;;
data) options=data_file=base.data ;;
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
		base.qcow2 >/dev/null
	[ "$variant" = data ] || qemu-io -f qcow2 -c "write -c -P 4 $((8 * c)) $c" -c "write -c -P 5 $((9 * c)) $c" \
		base.qcow2 >/dev/null
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
# accept DIR WHAT: WHAT is expect.check or expect.repair, the file `got` what was found
accept() {
	local expect=$1/$2
	if [ "$variant" != 64k ] && [ -e "$expect" ] && [ "$(cat "$1/variants" 2>/dev/null)" != "$variant" ]; then
		expect=$expect.$variant
	fi
	cp got "$expect"
	[ "$expect" = "$1/$2" ] || ! cmp -s "$1/$2" "$expect" || rm "$expect"
}

# expected DIR WHAT: got is as expected, or it says how not
expected() {
	local expect=$1/$2
	[ -z "${QD_ACCEPT-}" ] || accept "$1" "$2"
	[ ! -e "$expect.$variant" ] || expect=$expect.$variant
	{ head -n 1 "$expect"; tail -n +2 "$expect" | sort; } | diff - got >differ || {
		echo "FAILED $(basename "$1") ($(cat "$1/name")): $2: expected (<), found (>):"
		cat differ
		return 1
	}
}

# What the repair did and left, as expect.repair has it, in `got`; false when it cannot be right.
repaired() {
	local status=0
	timeout 60 "$QDEDUP" check --repair --output=json -v --memory=64M img >repair.json 2>repair.err || status=$?
	echo "status $status" >got
	[ "$status" -ne 0 ] || {
		"$_python" "$here/layers.py" base.qcow2 damaged img repair.json >actions || return 1
		cat actions >>got
		[ "$(found img)" = "status 0" ] || { cat check.out check.err; return 1; }
		timeout 60 qemu-img check -q -f qcow2 img || return 1
		! grep -E '"(dirty|corrupt)": true' repair.json
		return
	}
	cmp damaged img
}

run_case() {
	local dir=$here/$1
	img=$PWD/img
	grep -qsw -- "$variant" "$dir/variants" || { [ ! -e "$dir/variants" ] && [ "$variant" != data ]; } || return 0
	cp --sparse=always base.qcow2 img
	(. "$dir/recipe") >recipe.out 2>&1 || {
		echo "FAILED $1: the recipe does not work: $(cat recipe.out)"
		return 1
	}
	ran=$((ran + 1))
	[ -z "$keep" ] || { cp --sparse=always img "$keep/$1.$variant"; return 0; }
	found img >got
	expected "$dir" expect.check || { cat check.out check.err; return 1; }
	cp --sparse=always img damaged
	repaired >problems 2>&1 || {
		echo "FAILED $1 ($(cat "$dir/name")): the repair:"
		cat problems repair.err repair.json
		return 1
	}
	sed -i '/^$/d' got
	expected "$dir" expect.repair || { cat repair.json repair.err; return 1; }
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
