#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# --no-pin, --no-punch, --lazy-refcounts, --hash, --trust-hash, --index, cache modes, threads: the same result
# as without, but for what the option is about.  Bitmaps stay.
. "$(dirname "$0")/dedup-lib.sh"

mkdup base.raw 2M 4K 50 780
fresh() {
	qemu-img convert -f raw -O qcow2 -o cluster_size=4K base.raw disk.qcow2
	qemu-img snapshot -c one disk.qcow2
	qemu-io -c 'write -P 9 100k 300k' disk.qcow2 >/dev/null
}

fresh
in_place_exactly disk.qcow2 4K
data=$(walk --get data disk.qcow2)
for option in --lazy-refcounts --trust-hash '--hash=sha256' '--hash=blake2b --trust-hash' '--threads=1' '--threads=7' \
	'-t none' '-t writethrough' '-t directsync' '-t writeback'; do
	fresh
	# shellcheck disable=SC2086
	in_place_exactly disk.qcow2 4K $option
	is "$data" "$(walk --get data disk.qcow2)" "data clusters with $option"
	ok "$QDEDUP" dedup disk.qcow2 >out
	grep -q 'nothing to do' out || die "$option: the second run: $(cat out)"
done

fresh
in_place_exactly disk.qcow2 4K --no-pin
is '0 0' "$(walk --get pin disk.qcow2) $(walk --get index disk.qcow2)" "pins, clusters of an index"
ok "$QDEDUP" dedup --no-pin disk.qcow2 >out
grep -q 'nothing to do' out || die "--no-pin: the second run: $(cat out)"
in_place_exactly disk.qcow2 4K
[ "$(walk --get pinned disk.qcow2)" -gt 0 ] || die "nothing is pinned after all"

fresh
before=$(stat -c %b disk.qcow2)
in_place_exactly disk.qcow2 4K --no-punch
[ "$(stat -c %b disk.qcow2)" -ge "$before" ] || die "--no-punch made holes"

fresh
in_place_exactly disk.qcow2 4K --index=disk.index
[ -s disk.index ] || die "no table in disk.index"
is 0 "$(walk --get index disk.qcow2)" "clusters of an index"
ok "$QDEDUP" dedup --index=disk.index disk.qcow2 >out
grep -q 'nothing to do' out || die "--index: the second run: $(cat out)"

fresh
qemu-img bitmap --add disk.qcow2 one
qemu-io -c 'write -P 4 0 64k' disk.qcow2 >/dev/null
qemu-img info --output=json disk.qcow2 | json - 'd["format-specific"]["data"]["bitmaps"]' >bitmaps
in_place_exactly disk.qcow2 4K
qemu-img info --output=json disk.qcow2 | json - 'd["format-specific"]["data"]["bitmaps"]' | diff bitmaps -
