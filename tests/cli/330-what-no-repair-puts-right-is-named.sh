#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# What no repair puts right is named, with what can be done; everything else is repaired.
. "$(dirname "$0")/check-lib.sh"

qemu-img create -q -f qcow2 base.img 1G
qemu-io -f qcow2 -c 'write -P 1 0 1M' base.img >/dev/null

# nothing else: refused, nothing is written
for edit in 'header.crypt = 9' 'header.size = 0x7fffffffffff0000' 'header.backing_len = 100'; do
	cp base.img disk.img
	damage disk.img "$edit"
	[[ $edit != *backing* ]] || damage disk.img 'header.backing_off = CLUSTER - 4'
	cp disk.img was.img
	exits 2 "$QDEDUP" check --repair disk.img >out
	grep -q '^No repair: ' out || die "$edit: does not say that it is refused"
	grep -q '^not repaired header-' out || die "$edit: does not say what is not repaired"
	grep -q 'what can be done: ' out || die "$edit: no advice"
	exits 2 "$QDEDUP" check --repair --output=json disk.img >out.json
	is true "$(json out.json '"refused" in d and d["not-repaired"][0]["count"] == 1 and "advice" in d["not-repaired"][0]')"
	cmp disk.img was.img || die "$edit: changed"
done

# beside other damage
cp base.img disk.img
damage disk.img 'header.crypt = 9' 'l1[0] = table[0]'
exits 2 "$QDEDUP" check --repair disk.img >out
grep -q '^not repaired header-crypt: ' out || die "does not say what is left"
! grep -q '^No repair' out || die "says that it is refused"
damage disk.img 'header.crypt = 0'
exits 0 "$QDEDUP" check -q disk.img >/dev/null
same disk.img base.img

# a sound image
exits 0 "$QDEDUP" check --repair --output=json base.img >out.json
is '[]' "$(json out.json 'd["not-repaired"]')" "nothing is left"
