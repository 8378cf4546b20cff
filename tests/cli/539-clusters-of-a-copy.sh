#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Each cluster of an index with a journal in turn is that of another image made the same way with other
# data, of a copy that went on with other data, of a template's other child, and of an older state: it is
# noticed, or no record that holds is another one for it.
. "$(dirname "$0")/io-lib.sh"

reader() {
	"$_python" "$_cli/indexread.py" "$@"
}

go_on() {	# IMG SEED: packed once, a few commits, nothing pending
	mkdata more.raw 256K "$2" random
	ok "$QDEDUP" io -q -t unsafe -c 'write -s more.raw 0 64K' -c flush -c 'write -s more.raw 100K 64K' "$1"
	ok "$QDEDUP" journal -q -t unsafe pack "$1"
	ok "$QDEDUP" io -q -t unsafe -c 'write -s more.raw 200K 64K' -c flush -c 'discard 0 20K' "$1"
}

for name in template other; do
	mkdata $name.raw 512K ${#name} random
	ok "$QDEDUP" convert -q -t unsafe -o cluster_size=4K $name.raw $name.qcow2
done
cp template.qcow2 child.qcow2
cp template.qcow2 good.qcow2
for name in good child other; do
	ok "$QDEDUP" journal -q -t unsafe --size=64K create $name.qcow2
done
cp good.qcow2 copy.qcow2
n=1
for name in good copy child other; do
	cp $name.qcow2 before.qcow2
	go_on $name.qcow2 $n
	[ $name != good ] || cp before.qcow2 older.qcow2
	n=$((n + 1))
done
ok "$QDEDUP" journal -q -t unsafe verify good.qcow2
ok "$QDEDUP" verify -q good.qcow2
reader list good.qcow2 >good.list
at=$(peek good.qcow2 128 8) nbytes=$(peek good.qcow2 136 8)
is "$at/$nbytes" "$(peek copy.qcow2 128 8)/$(peek copy.qcow2 136 8)" "the copy's container"

noticed=0 harmless=0
for ((c = 0; c < nbytes / 4096; c++)); do
	for how in other copy child older; do
		from=$(peek $how.qcow2 128 8)
		cp good.qcow2 bad.qcow2
		dd if=$how.qcow2 of=bad.qcow2 bs=4096 skip=$((from / 4096 + c)) seek=$((at / 4096 + c)) count=1 conv=notrunc status=none
		! cmp -s good.qcow2 bad.qcow2 || continue
		status=0
		"$QDEDUP" journal verify bad.qcow2 >text 2>&1 || status=$?
		[ $status -le 2 ] || die "cluster $c of $how: journal verify exits $status: $(cat text)"
		[ $status -ne 0 ] || "$QDEDUP" verify bad.qcow2 >text 2>&1 || status=-$?
		[ $status -ne -2 ] || die "cluster $c of $how: a wrong hash is believed: $(cat text)"
		if [ $status -ne 0 ]; then
			noticed=$((noticed + 1))
			continue
		fi
		reader list bad.qcow2 >bad.list
		cmp good.list bad.list || die "cluster $c of $how: not noticed, and other records hold"
		harmless=$((harmless + 1))
	done
done
echo "$noticed noticed, $harmless harmless"
[ $noticed -ge 12 ] || die "too few"
