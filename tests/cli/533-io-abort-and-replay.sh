#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# abort on an image with an index leaves the writes since the last flush in the redo log: verify
# says so (3), replay completes them, once is as good as twice, and also when no table of the image
# can be read; after somebody else's repair they are of no use and are not replayed.
. "$(dirname "$0")/io-lib.sh"

crashed() {
	_run "$QDEDUP" io -q -t unsafe "$@"
	is 137 "$_status" "exit status of abort"
}

mkdata base.raw 4M 533 random
ok "$QDEDUP" convert -q -t unsafe -o cluster_size=4K base.raw disk.qcow2
ok "$QDEDUP" io -q -t unsafe -c 'write -P 1 3M 4K' disk.qcow2
"$_python" -c '
f = open("base.raw", "r+b")
f.seek(3 << 20)
f.write(b"\x01" * 4096)'
cp base.raw twin.raw
crashed -c 'write -P 7 0 200K' -c 'write -s base.raw 1M 100K' -c 'discard 2M 100K' -c abort disk.qcow2
"$_python" -c '
old = open("base.raw", "rb").read()
f = open("twin.raw", "r+b")
f.write(b"\x07" * (200 << 10))
f.seek(1 << 20)
f.write(old[:100 << 10])
f.seek(2 << 20)
f.write(bytes(100 << 10))'
cp disk.qcow2 crashed.qcow2
same base.raw disk.qcow2 raw qcow2

exits 3 "$QDEDUP" journal verify disk.qcow2 >verify.out
exits 3 "$QDEDUP" journal --output=json verify disk.qcow2 >verify.out
is pending "$(json verify.out 'd["state"]')"
ok "$QDEDUP" journal --output=json -n replay disk.qcow2 >dry.out
is true "$(json dry.out 'd["writes"] > 0')"
cmp disk.qcow2 crashed.qcow2 || die "a dry run wrote"
fails 1 "$QDEDUP" io -c 'write 0 4K' disk.qcow2
says 'not closed cleanly'
fails 1 "$QDEDUP" journal pack disk.qcow2
ok "$QDEDUP" journal dump disk.qcow2 | prints 'WRITE.*bytes at' || die "no WRITE in the dump"

ok "$QDEDUP" journal --output=json replay disk.qcow2 >replay.out
is "$(json dry.out 'd["writes"]')" "$(json replay.out 'd["writes"]')"
judge disk.qcow2 twin.raw
# The table tells of what the batch linked, and no longer of what it released.
ok "$QDEDUP" verify --output=json disk.qcow2 >verify.out
is valid/0 "$(json verify.out 'd["state"] + "/" + str(d["unknown"])')" "the index after replay"
ok "$QDEDUP" check --output=json disk.qcow2 >check.json
is 0 "$(json check.json 'd["index"]["errors"]')" "entries of what was released"
cp disk.qcow2 once.qcow2
ok "$QDEDUP" journal -q -t unsafe replay disk.qcow2
cmp disk.qcow2 once.qcow2 || die "the second replay changed something"
ok "$QDEDUP" io -q -t unsafe -c 'write -P 9 0 1M' -c 'write -P 9 1M 1M' disk.qcow2
check_clean disk.qcow2
ok "$QDEDUP" verify -q disk.qcow2

# A repair completes them first, and its index needs no repair then.
cp crashed.qcow2 disk.qcow2
ok "$QDEDUP" check --output=json -n disk.qcow2 >dry.out
is true "$(json dry.out 'd["index"]["replayed"] > 0')" "a dry run tells of the writes"
cmp disk.qcow2 crashed.qcow2 || die "a dry run wrote"
ok "$QDEDUP" check --repair --output=json disk.qcow2 >check.json
is "$(json dry.out 'd["index"]["replayed"]')" "$(json check.json 'd["index"]["replayed"]')"
judge disk.qcow2 twin.raw
ok "$QDEDUP" verify -q disk.qcow2
exits 0 "$QDEDUP" journal verify disk.qcow2 >/dev/null

# QEMU's leads back to the state of the last flush; what was pending is then of no use.
cp crashed.qcow2 disk.qcow2
"$QIMG" check -q -r all disk.qcow2 >/dev/null 2>&1 || die "$QIMG check exits $?"
judge disk.qcow2 base.raw
"$QDEDUP" journal -q -t unsafe replay disk.qcow2 2>/dev/null || true
judge disk.qcow2 base.raw
cp crashed.qcow2 disk.qcow2
qemu-io -c 'read 0 512' disk.qcow2 >/dev/null
judge disk.qcow2 base.raw
"$QDEDUP" journal -q -t unsafe replay disk.qcow2 2>/dev/null || true
judge disk.qcow2 base.raw

# What was overtaken by a repair that knows nothing of journals does not come back with the next crash.
overtake() {
	ok "$QDEDUP" check -q --repair=leaks disk.qcow2
	poke disk.qcow2 72 8 0
}
cp crashed.qcow2 disk.qcow2
overtake
ok "$QDEDUP" journal --output=json verify disk.qcow2 >verify.out
is obsolete "$(json verify.out 'd["state"]')"
ok "$QDEDUP" journal -q -t unsafe --size=256K create disk.qcow2
ok "$QDEDUP" rehash -q -t unsafe --hash=sha256 disk.qcow2
poke disk.qcow2 72 8 1
ok "$QDEDUP" journal -q -t unsafe replay disk.qcow2
judge disk.qcow2 base.raw
ok "$QDEDUP" io -q -t unsafe -c 'write -P 3 0 4K' disk.qcow2
cp crashed.qcow2 disk.qcow2
overtake
ok "$QDEDUP" compact -q disk.qcow2
poke disk.qcow2 72 8 1
ok "$QDEDUP" journal -q -t unsafe replay disk.qcow2
judge disk.qcow2 base.raw

# Without L1 table and refcounts: the journal is read all the same; what was overwritten is seen.
cp crashed.qcow2 disk.qcow2
poke disk.qcow2 40 8 $((1 << 60))
poke disk.qcow2 48 8 $((1 << 59))
exits 3 "$QDEDUP" journal verify disk.qcow2 >/dev/null
cp crashed.qcow2 disk.qcow2
json "$(ok "$QDEDUP" journal --output=json dump disk.qcow2 >dump.out && echo dump.out)" \
	'[i["target"] for i in d["items"] if i["type"] == "WRITE"][0]' >target
printf '\x5a' | dd of=disk.qcow2 bs=1 seek="$(cat target)" conv=notrunc status=none
cp disk.qcow2 before
exits 2 "$QDEDUP" journal verify disk.qcow2 >verify.out
grep -q 'neither' verify.out || die "does not say why"
fails 2 "$QDEDUP" journal replay disk.qcow2
says 'neither'
cmp disk.qcow2 before || die "a refused replay wrote"
