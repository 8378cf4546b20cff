#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Raw and qcow2 images of every kind in one call, at every cluster size, give the counts of a brute-force
# count; sizes asked for together, alone, or in part.
. "$(dirname "$0")/scan-lib.sh"

make_mix
counts --cluster-size=$ALL_SIZES "${MIX[@]}"
counts --cluster-size=$ALL_SIZES --hash=sha256 "${MIX[@]}"
counts "${MIX[@]}"
is '[4096, 8192, 16384, 32768, 65536]' "$(json report.json '[c["cluster-size"] for c in d["cluster-sizes"]]')" "sizes by default"

# the larger sizes are made from the smaller: in any steps
for sizes in 512 4K 64K 2M 512,2M 2M,512,64K 1K,128K 4K,8K,1M 16K,2M; do
	counts --cluster-size=$sizes a.raw odd.raw tiny.raw c2M.qcow2 c512.qcow2 zlib.qcow2 sub.qcow2
done

# with -f raw an image is the bytes of its file
counts -f raw --cluster-size=4K,64K c4K.qcow2 zlib.qcow2 odd.raw

# clusters shared within an image, by qdedup and by hand, are duplicates of one another
ok "$QDEDUP" convert -q -t unsafe -o cluster_size=4K a.raw dedup4K.qcow2
ok "$QDEDUP" convert -q -t unsafe -c -o cluster_size=16K odd.raw dedup16K.qcow2
counts --cluster-size=$ALL_SIZES dedup4K.qcow2 dedup16K.qcow2 a.raw
counts --cluster-size=512,4K dedup16K.qcow2 dedup4K.qcow2
counts --cluster-size=64K dedup16K.qcow2 dedup4K.qcow2
