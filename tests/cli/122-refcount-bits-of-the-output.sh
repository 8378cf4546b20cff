#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The default share cap is half of what refcount_bits count; one bit cannot share and is refused by
# name, with the way out.
. "$(dirname "$0")/convert-lib.sh"

mkdup in.raw 4M 4K 3 122
for pair in 2:2 4:7 8:127 16:32767 32:0 64:0; do
	for c in '' -c; do
		rm -f out.qcow2
		# shellcheck disable=SC2086
		ok "$QDEDUP" convert $c -o cluster_size=4K,refcount_bits=${pair%:*} in.raw out.qcow2
		deduplicated out.qcow2 in.raw 4K ${pair#*:}
		is "${pair%:*}" "$(walk --get refcount-bits out.qcow2)" "refcount_bits"
	done
done

# a cluster shared up to the cap, at 16 bits: 40000 times the same 512 bytes
mkdup many.raw 20480000 512 0 1
tr '\0' 'x' <many.raw >same.raw
ok "$QDEDUP" convert -o cluster_size=512 same.raw out.qcow2 && deduplicated out.qcow2 same.raw 512 32767
is 2 "$data" "data clusters of 40000 references"

rm out.qcow2
for c in '' -c; do
	# shellcheck disable=SC2086
	fails 1 "$QDEDUP" convert $c -o refcount_bits=1 in.raw out.qcow2
	says refcount_bits no-dedup
	[ ! -e out.qcow2 ] || die "refcount_bits=1 left an output"
done
ok "$QDEDUP" convert --no-dedup -o refcount_bits=1,cluster_size=4K in.raw out.qcow2
deduplicated out.qcow2 in.raw 4K 1

# the largest cap a width can hold with the pin on top, and one more
rm out.qcow2
ok "$QDEDUP" convert -o cluster_size=4K,refcount_bits=8 --max-share=254 in.raw out.qcow2
deduplicated out.qcow2 in.raw 4K 254
rm out.qcow2
fails 1 "$QDEDUP" convert -o cluster_size=4K,refcount_bits=8 --max-share=256 in.raw out.qcow2
says max-share 256
[ ! -e out.qcow2 ] || die "--max-share=256 left an output"
