#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# --no-pin shares without a pin; --no-dedup stores every non-zero cluster; with nothing shared and no
# index there is nothing to pin.
. "$(dirname "$0")/convert-lib.sh"

mkdup in.raw 4M 4K 40 123
counted in.raw 4K
for c in '' -c; do
	rm -f ./*.qcow2
	# shellcheck disable=SC2086
	ok "$QDEDUP" convert $c --no-pin -o cluster_size=4K in.raw out.qcow2
	check_clean -q out.qcow2
	same in.raw out.qcow2 raw qcow2
	is "$data 0 0" "$(walk --get data --get pin --get snapshots out.qcow2 | xargs)" "--no-pin: data, pin, snapshots"

	# shellcheck disable=SC2086
	ok "$QDEDUP" convert $c --no-dedup -o cluster_size=4K in.raw full.qcow2
	deduplicated full.qcow2 in.raw 4K 1
	is 0 "$(walk --get shared full.qcow2)" "shared clusters of --no-dedup"

	# shellcheck disable=SC2086
	ok "$QDEDUP" convert $c -o cluster_size=4K in.raw pinned.qcow2
	deduplicated pinned.qcow2 in.raw 4K
	is "$shared 1" "$(walk --get pinned --get pin pinned.qcow2 | xargs)" "pinned clusters, pins"

	# shellcheck disable=SC2086
	ok "$QDEDUP" convert $c --no-index -o cluster_size=4K in.raw nothing.qcow2
	is "$shared 1 0" "$(walk --get pinned --get pin --get index nothing.qcow2 | xargs)" "--no-index: pinned clusters, pins, clusters of the index"
	rm nothing.qcow2
	# shellcheck disable=SC2086
	ok "$QDEDUP" convert $c --no-index -o cluster_size=2M in.raw nothing.qcow2
	is "0 0" "$(walk --get pin --get index nothing.qcow2 | xargs)" "nothing shared, no index: pins, clusters of the index"
done
qemu-img snapshot -l pinned.qcow2 | prints qdedup || die "the pin is not a snapshot named qdedup"
