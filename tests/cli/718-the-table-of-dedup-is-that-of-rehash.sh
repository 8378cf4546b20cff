#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# dedup stores the records that a complete rehash would, first guest clusters included: so verify can compare
# every cluster of an image with snapshots, also after compact moved them.
. "$(dirname "$0")/rehash-lib.sh"

# all_known IMG: verify compares every cluster
all_known() {
	ok "$QDEDUP" verify --output=json "$1" >verify.json
	is '0/[]' "$(json verify.json 'str(d["unknown"]) + "/" + str(d["bad"])')" "$1, $2: unknown and bad clusters"
}

# records IMG: without the flag for the share cap
records() {
	index records "$1" | awk '{ print $1, $2, $3 - $3 % 2, $4 }'
}

mkdup base.raw 1M 4K 100 718
for kind in plain snapshot packed; do
	rm -f disk.qcow2
	qemu-img create -q -f qcow2 -o cluster_size=4K disk.qcow2 1M
	if [ $kind = packed ]; then
		qemu-img convert -c -f raw -O qcow2 -o cluster_size=4K base.raw disk.qcow2
	else	# the last guest cluster first in the file
		for ((n = 255; n >= 0; n--)); do
			echo "write -P $((n % 40 + 1)) $((n * 4096)) 4096"
		done >commands
		qemu-io disk.qcow2 <commands >/dev/null
	fi
	if [ $kind != plain ]; then
		qemu-img snapshot -c one disk.qcow2
		qemu-io -c 'write -P 3 0 64K' -c 'write -P 77 256K 100K' -c 'write -z 900K 100K' disk.qcow2 >/dev/null
	fi
	in_place disk.qcow2 4K
	all_known disk.qcow2 "$kind, dedup"
	records disk.qcow2 >dedup.records
	cp disk.qcow2 full.qcow2
	ok "$QDEDUP" rehash -q --drop full.qcow2
	ok "$QDEDUP" rehash -q full.qcow2
	records full.qcow2 >full.records
	diff dedup.records full.records || die "$kind: not the records (<) of a complete rehash (>)"
	ok "$QDEDUP" compact -q disk.qcow2
	judge_index disk.qcow2
	all_known disk.qcow2 "$kind, compact"
	cp disk.qcow2 kept
	ok "$QDEDUP" dedup -q --compact disk.qcow2
	cmp disk.qcow2 kept || die "$kind: dedup --compact after that wrote"
done
