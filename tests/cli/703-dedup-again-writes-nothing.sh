#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# -n tells what a run then does and touches nothing; a second run finds nothing, writes nothing and says so;
# with the table in the image it reads nothing that is alone.
. "$(dirname "$0")/dedup-lib.sh"

state() {
	stat -c '%Y.%y %s %b' "$1"
	sha256sum <"$1"
}

mkdup base.raw 4M 4K 90 730
for options in cluster_size=4K cluster_size=64K cluster_size=4K,compression_type=zstd; do
	c=
	[ "$options" = "${options%zstd}" ] || c=-c
	# shellcheck disable=SC2086
	qemu-img convert $c -f raw -O qcow2 -o "$options" base.raw disk.qcow2
	[ "$options" != cluster_size=64K ] || qemu-img snapshot -c one disk.qcow2
	qemu-io -c 'write -P 3 1M 300k' disk.qcow2 >/dev/null
	before=$(state disk.qcow2)
	ok "$QDEDUP" dedup -n --output=json disk.qcow2 >plan.json
	is "$before" "$(state disk.qcow2)" "the file after -n"
	ok "$QDEDUP" dedup -n disk.qcow2 >plan
	grep -q 'would be freed' plan || die "-n says: $(cat plan)"
	in_place_exactly disk.qcow2 "$(sed 's/.*size=//;s/,.*//' <<<"$options")"
	for key in clusters-scanned clusters-freed zero-clusters-freed data-clusters changed; do
		is "$(json plan.json "d['$key']")" "$(json out.json "d['$key']")" "$key, planned and done"
	done
	# The file system's own tables for a file with holes come off.
	planned=$(json plan.json 'd["bytes-freed"]') done=$(json out.json 'd["bytes-freed"]')
	[ "$done" -le "$planned" ] && [ "$done" -ge $((planned / 100 * 97)) ] ||
		die "$planned bytes were to be freed, $done were"
	before=$(state disk.qcow2)
	sleep 0.02
	ok "$QDEDUP" dedup --output=json disk.qcow2 >again.json
	is "$before" "$(state disk.qcow2)" "the file after a second run"
	is 'false 0 0 0' "$(json again.json '" ".join(str(d[k]).lower() for k in
		("changed", "clusters-freed", "zero-clusters-freed", "flushes"))')" "the second run"
	# With snapshots of the user's own the table holds for what is pinned only.
	[ "$options" = cluster_size=64K ] ||
		is 0 "$(json again.json 'd["bytes-read"]')" "bytes of data read with a complete table"
	ok "$QDEDUP" dedup disk.qcow2 >again
	grep -q 'nothing to do' again || die "the second run says: $(cat again)"
done

# Without a table it is read again, with the same result.
qemu-img convert -f raw -O qcow2 -o cluster_size=4K base.raw disk.qcow2
in_place disk.qcow2 4K --no-index
is 0 "$(walk --get index disk.qcow2)" "clusters of an index"
before=$(state disk.qcow2)
ok "$QDEDUP" dedup --no-index --output=json disk.qcow2 >again.json
is "$before" "$(state disk.qcow2)" "the file after a second run without index"
is false "$(json again.json 'd["changed"]')"

# QEMU writes: what it wrote is read, duplicates of what was there before are found.
ok "$QDEDUP" dedup -t unsafe -q disk.qcow2
qemu-io -c 'write -P 11 0 64k' -c 'write -P 11 2M 64k' disk.qcow2 >/dev/null
in_place_exactly disk.qcow2 4K
is 32 "$(json out.json 'd["clusters-freed"] + 1')" "clusters freed of what was written"
is true "$(json out.json 'd["index-written"]')"
ok "$QDEDUP" dedup -q -t unsafe disk.qcow2
is 0 "$(ok "$QDEDUP" dedup --output=json disk.qcow2 | json - 'd["bytes-read"]')" "bytes read at last"
