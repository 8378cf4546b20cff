#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Writes to an image with an index: known content becomes a reference, an identical rewrite
# writes nothing, a part of a cluster reads what is missing, a freed cluster leaves the table, the
# share cap is marked; afterwards every hash holds, and stock QEMU finds nothing wrong.
. "$(dirname "$0")/io-lib.sh"

indexed() {
	judge "$1" "$2"
	ok "$QDEDUP" verify -q --output=json "$1" >verify.out
	is valid "$(json verify.out 'd["state"]')" "state"
	is 0 "$(json verify.out 'd["unknown"]')" "clusters without a hash"
}

stat() {
	ok "$QDEDUP" stats --output=json disk.qcow2 >stats.out
	json stats.out "d[\"$1\"]"
}

mkdata base.raw 4M 531 random
cp base.raw twin.raw
ok "$QDEDUP" convert -q -t unsafe -o cluster_size=4K base.raw disk.qcow2

# The first change gives the index a journal; nothing is compared by hash alone.
dd if=base.raw of=known bs=4K skip=256 count=16 status=none
ok "$QDEDUP" io -q -t unsafe -c 'write -s known 2M 64K' disk.qcow2
dd if=known of=twin.raw bs=4K seek=512 conv=notrunc status=none
indexed disk.qcow2 twin.raw
is 1008 "$(stat data-clusters)" "data clusters after known content"
is 16 "$(stat shared-clusters)" "shared clusters"

# The same again, and what reads the same already.
cp disk.qcow2 before
ok "$QDEDUP" io -q -t unsafe -c 'write -s known 2M 64K' -c 'write -s base.raw 0 1M' -c 'write -s known 1M 10000' disk.qcow2
cmp disk.qcow2 before || die "an identical rewrite changed the image"

# Part of a cluster, such that it becomes one that is known.
dd if=base.raw of=known bs=4K skip=300 count=1 status=none
ok "$QDEDUP" io -q -t unsafe -c 'write -s known 3M 1000' disk.qcow2
dd if=known of=rest bs=1 skip=1000 status=none
ok "$QDEDUP" io -q -t unsafe -c "write -s rest $((3 * 1048576 + 1000)) 3096" disk.qcow2
dd if=known of=twin.raw bs=4K seek=768 conv=notrunc status=none
indexed disk.qcow2 twin.raw
is 17 "$(stat shared-clusters)" "shared clusters"

# Zeros are not stored; a discarded cluster is free and gone from the table.
n=$(stat data-clusters)
ok "$QDEDUP" io -q -t unsafe -c 'write -P 0 0 40K' -c 'discard 40K 40K' disk.qcow2
dd if=/dev/zero of=twin.raw bs=4K count=20 conv=notrunc status=none
indexed disk.qcow2 twin.raw
is $((n - 20)) "$(stat data-clusters)" "data clusters"
ok "$QDEDUP" journal --output=json dump disk.qcow2 >dump.out
is true "$(json dump.out 'sum(i["type"] == "REVOKE" and i["counts"] for i in d["items"]) >= 20')" "revocations"

# New content, twice: stored once.
ok "$QDEDUP" io -q -t unsafe -c 'write -P 0x11 100K 4K' -c 'write -P 0x11 1000K 400K' -c 'write -P 0x12 3M 8K' disk.qcow2
"$_python" -c '
f = open("twin.raw", "r+b")
for pos, n, byte in (100 << 10, 4 << 10, 0x11), (1000 << 10, 400 << 10, 0x11), (3 << 20, 8 << 10, 0x12):
    f.seek(pos)
    f.write(bytes([byte]) * n)
'
indexed disk.qcow2 twin.raw
n=$(stat data-clusters)
ok "$QDEDUP" io -q -t unsafe -c 'write -P 0x12 3080K 4K' disk.qcow2
"$_python" -c '
f = open("twin.raw", "r+b")
f.seek(3080 << 10)
f.write(b"\x12" * 4096)'
indexed disk.qcow2 twin.raw

# After a rehash the table says all that the journal did.
ok "$QDEDUP" rehash --output=json disk.qcow2 >rehash.out
is 0 "$(json rehash.out 'd["clusters-read"]')" "clusters read again"
indexed disk.qcow2 twin.raw

# The share cap: refcounts of 4 bits count to 15.
rm disk.qcow2
ok "$QDEDUP" convert -q -t unsafe -o cluster_size=4K,refcount_bits=4 base.raw disk.qcow2
cp base.raw twin.raw
ok "$QDEDUP" io -q -t unsafe -c 'write -P 5 0 400K' disk.qcow2
"$_python" -c '
f = open("twin.raw", "r+b")
f.write(b"\x05" * (400 << 10))'
indexed disk.qcow2 twin.raw
ok "$QDEDUP" journal --output=json dump disk.qcow2 >dump.out
is true "$(json dump.out 'sum(i["type"] == "HASH" and i["flags"] & 1 for i in d["items"]) >= 10')" "marked as full"
is 7 "$(stat max-refcount)" "references"

# An image whose index does not hold is written to as one without.
qemu-io -c 'write -P 1 0 4K' disk.qcow2 >/dev/null
"$_python" -c '
f = open("twin.raw", "r+b")
f.write(b"\x01" * 4096)'
ok "$QDEDUP" io -q -t unsafe -c 'write -P 1 64K 4K' disk.qcow2
"$_python" -c '
f = open("twin.raw", "r+b")
f.seek(65536)
f.write(b"\x01" * 4096)'
judge disk.qcow2 twin.raw
ok "$QDEDUP" stats --output=json disk.qcow2 >stats.out
is partial "$(json stats.out 'd["index"]["state"]')"
