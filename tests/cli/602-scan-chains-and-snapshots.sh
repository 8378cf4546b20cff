#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Backing chains count once, whatever their cluster sizes, formats and lengths; internal snapshots only
# with --snapshots, each at its own size, the pin never.
. "$(dirname "$0")/scan-lib.sh"

mix base.raw 3000001 21
mix_qcow2 base.qcow2 22 2500K cluster_size=16K
# chain NAME BASE FORMAT OPTIONS [SIZE]: an overlay that is longer or shorter than what it lies on
chain() {
	qemu-img create -q -f qcow2 ${4:+-o "$4"} -b "$2" -F "$3" "$1" ${5:+"$5"}
	scribble "$1" 2>/dev/null || true
	qemu-io -c 'write -P 3 700k 5k' -c 'write -z 900k 100k' -c 'write -P 2 1900k 40k' "$1" >/dev/null
}
chain longer.qcow2 base.raw raw cluster_size=4K 5M
chain shorter.qcow2 base.raw raw cluster_size=64K 2M
chain packed.qcow2 base.qcow2 qcow2 cluster_size=512 4M
chain top.qcow2 longer.qcow2 qcow2 cluster_size=2M 8M
chain sub.qcow2 base.qcow2 qcow2 extended_l2=on,cluster_size=64K 3M
qemu-img create -q -f qcow2 -b base.raw -F raw bare.qcow2
qemu-img create -q -f qcow2 -b base.raw -F raw large.qcow2 64M
qemu-img create -q -f qcow2 -o compat=0.10 -b top.qcow2 -F qcow2 tip.qcow2 20M

for image in longer shorter packed top sub bare large tip; do
	counts --cluster-size=$ALL_SIZES $image.qcow2
	for cs in 512 4K 64K 2M; do
		counts --cluster-size=$cs $image.qcow2
	done
done
counts --cluster-size=$ALL_SIZES tip.qcow2 shorter.qcow2 packed.qcow2 sub.qcow2 bare.qcow2 large.qcow2
is '["base.qcow2", "base.raw", "longer.qcow2", "top.qcow2"]' \
	"$(json report.json 'sorted(i["filename"] for i in d["images"] if i.get("backing"))')" "files nobody named"
counts --cluster-size=$ALL_SIZES base.raw tip.qcow2 shorter.qcow2 packed.qcow2 base.qcow2

# zeros of its own, as large as what is read at a time, and data beside them; the end of the backing file in
# the middle of a cluster, with and without data after it
qemu-img create -q -f qcow2 -b base.raw -F raw zeros.qcow2 8M
qemu-io -c 'write -z 256k 256k' -c 'write -P 9 600k 4k' -c 'write -z 704k 256k' -c 'write -z 1M 1M' zeros.qcow2 >/dev/null
qemu-img create -q -f qcow2 -o cluster_size=4K -b base.raw -F raw end.qcow2 4M
qemu-io -c 'write -P 9 2900k 4k' -c 'write -P 9 3500k 4k' end.qcow2 >/dev/null
for sizes in 2K,16K 512,128K 4K,64K,2M $ALL_SIZES 16K; do
	counts --cluster-size=$sizes zeros.qcow2 end.qcow2
done

# a backing file in another directory, named relative to the image
mkdir sub
mv base.raw sub/deep.raw
qemu-img create -q -f qcow2 -b deep.raw -F raw sub/over.qcow2
qemu-io -c 'write -P 9 1M 100k' sub/over.qcow2 >/dev/null
counts sub/over.qcow2
counts --cluster-size=$ALL_SIZES sub/over.qcow2 sub/deep.raw

# snapshots: of several sizes, over a backing file, shared with the active layer and not
mix_qcow2 snap.qcow2 23 2500K cluster_size=4K
qemu-img snapshot -c one snap.qcow2
scribble snap.qcow2 2>/dev/null || true
qemu-img snapshot -c two snap.qcow2
qemu-io -c 'write -P 5 0 1M' -c 'discard 1M 500k' snap.qcow2 >/dev/null
qemu-img resize -q snap.qcow2 4M
qemu-img snapshot -c 'three, longer' snap.qcow2
qemu-io -c 'write -P 6 3M 512k' snap.qcow2 >/dev/null
qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 layered.qcow2
qemu-io -c 'write -P 7 100k 200k' layered.qcow2 >/dev/null
qemu-img snapshot -c first layered.qcow2
qemu-io -c 'write -P 8 150k 700k' -c 'write -z 2M 64k' layered.qcow2 >/dev/null
qemu-img snapshot -c first base.qcow2
qemu-io -c 'write -P 8 250k 70k' base.qcow2 >/dev/null
for sizes in $ALL_SIZES 4K 64K; do
	counts --cluster-size=$sizes snap.qcow2 layered.qcow2
	before=$(json report.json 'd["cluster-sizes"][0]["clusters"]')
	counts --cluster-size=$sizes --snapshots snap.qcow2 layered.qcow2
	[ "$(json report.json 'd["cluster-sizes"][0]["clusters"]')" -gt "$before" ] || die "--snapshots adds nothing"
done

# the pin is no snapshot to count
mix pinned.raw 3M 24
ok "$QDEDUP" convert -q -t unsafe -o cluster_size=4K pinned.raw pinned.qcow2
qemu-img snapshot -l pinned.qcow2 | prints qdedup || die "no pin to test with"
ok "$QDEDUP" scan --output=json pinned.qcow2 >without
ok "$QDEDUP" scan --output=json --snapshots pinned.qcow2 >with
is "$(json without 'd["cluster-sizes"]')" "$(json with 'd["cluster-sizes"]')" "counts with a pin"
