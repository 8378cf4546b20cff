#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The default share cap is half of what refcount_bits count; one bit cannot share and is refused by
# name, with the way out.
. "$(dirname "$0")/convert-lib.sh"

mkdup in.raw 4M 4K 3 122
for pair in 2:2 4:7 8:127 16:32767 32:0 64:0; do
	rm -f out.qcow2
	ok "$QDEDUP" convert -t unsafe -o cluster_size=4K,refcount_bits=${pair%:*} in.raw out.qcow2
	deduplicated out.qcow2 in.raw 4K ${pair#*:}
	is "${pair%:*}" "$(walk --get refcount-bits out.qcow2)" "refcount_bits"
done

# Compressed clusters share host clusters, whose counts must not overflow either: with narrow ones
# not everything can be shared, but nothing may go wrong.
mkdata text.raw 2M 122 text
cat in.raw text.raw in.raw text.raw >twice.raw
for bits in 1 2 4 8 16 32 64; do
	for cs in 4K 64K; do
		rm -f out.qcow2
		no=
		[ $bits != 1 ] || no=--no-dedup
		# shellcheck disable=SC2086
		ok "$QDEDUP" convert -t unsafe -c $no -o cluster_size=$cs,refcount_bits=$bits twice.raw out.qcow2
		if [ $bits -ge 16 ]; then
			deduplicated out.qcow2 twice.raw $cs
			continue
		fi
		check_clean -q out.qcow2
		same twice.raw out.qcow2 raw qcow2
		walk --fresh out.qcow2 >/dev/null || die "rules broken: -c, $bits bits, $cs"
	done
done

# tables of refcounts that span many clusters
mkdata wide.raw 12M 1221 dup50
for options in cluster_size=512,refcount_bits=64 cluster_size=512,refcount_bits=2 cluster_size=1K,refcount_bits=32; do
	rm -f out.qcow2
	ok "$QDEDUP" convert -t unsafe -o $options wide.raw out.qcow2
	cs=${options%%,*}
	case $options in
	*=2) deduplicated out.qcow2 wide.raw "${cs#*=}" 2 ;;
	*) deduplicated out.qcow2 wide.raw "${cs#*=}" ;;
	esac
done

# a cluster shared up to the cap, at 16 bits: 40000 times the same 512 bytes
mkdup many.raw 20480000 512 0 1
tr '\0' 'x' <many.raw >same.raw
ok "$QDEDUP" convert -t unsafe -o cluster_size=512 same.raw out.qcow2 && deduplicated out.qcow2 same.raw 512 32767
is 2 "$data" "data clusters of 40000 references"

rm out.qcow2
for c in '' -c; do
	# shellcheck disable=SC2086
	fails 1 "$QDEDUP" convert -t unsafe $c -o refcount_bits=1 in.raw out.qcow2
	says refcount_bits no-dedup
	[ ! -e out.qcow2 ] || die "refcount_bits=1 left an output"
done
ok "$QDEDUP" convert -t unsafe --no-dedup -o refcount_bits=1,cluster_size=4K in.raw out.qcow2
deduplicated out.qcow2 in.raw 4K 1

# the largest cap a width can hold with the pin on top, and one more
rm out.qcow2
ok "$QDEDUP" convert -t unsafe -o cluster_size=4K,refcount_bits=8 --max-share=254 in.raw out.qcow2
deduplicated out.qcow2 in.raw 4K 254
rm out.qcow2
fails 1 "$QDEDUP" convert -t unsafe -o cluster_size=4K,refcount_bits=8 --max-share=256 in.raw out.qcow2
says max-share 256
[ ! -e out.qcow2 ] || die "--max-share=256 left an output"
