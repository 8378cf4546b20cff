#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# An image with a stored hash table counts like one without, also after others wrote it, at its own
# cluster size and hash and at all others.
. "$(dirname "$0")/scan-lib.sh"

mix a.raw 3000320 140
mix_qcow2 plain.qcow2 141 2M cluster_size=4K
for hash in xxh128 sha256; do
	ok "$QDEDUP" convert -q -t unsafe --hash=$hash -o cluster_size=4K a.raw image.qcow2
	ok "$QDEDUP" rehash -q --hash=$hash image.qcow2
	is valid "$(ok "$QDEDUP" stats --output=json image.qcow2 | json - 'd["index"]["state"]')" "state of the index"
	same a.raw image.qcow2
	for scan in xxh128 sha256; do
		for sizes in 4K 4K,64K 512,4K 64K $ALL_SIZES; do
			counts --hash=$scan --top=5 --cluster-size=$sizes image.qcow2 plain.qcow2
		done
		ok "$QDEDUP" scan --hash=$scan --cluster-size=4K,8K --records image.qcow2 >records
		brute --hash=$scan --cluster-size=4K,8K --records=records image.qcow2
	done
	ok "$QDEDUP" scan --output=json --cluster-size=4K --hash=$hash --shard=1/2 image.qcow2 >one
	ok "$QDEDUP" scan --output=json --cluster-size=4K --hash=$hash --shard=2/2 image.qcow2 >two
	ok "$QDEDUP" scan --output=json --cluster-size=4K --hash=$hash image.qcow2 >both
	is "$(json both 'd["cluster-sizes"][0]["unique"]')" \
		$(($(json one 'd["cluster-sizes"][0]["unique"]') + $(json two 'd["cluster-sizes"][0]["unique"]'))) "unique in two shards"
	# QEMU knows nothing of the table
	qemu-io -c 'write -P 3 100k 300k' -c 'write -z 1M 64k' -c 'write -P 4 2M 5k' image.qcow2 >/dev/null
	counts --hash=$hash --cluster-size=4K image.qcow2 plain.qcow2
	qemu-img snapshot -c s image.qcow2
	qemu-io -c 'write -P 5 200k 300k' image.qcow2 >/dev/null
	counts --hash=$hash --snapshots --cluster-size=4K image.qcow2 plain.qcow2
	rm image.qcow2
done
