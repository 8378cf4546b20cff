#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Same input, same options, same output bytes: for any number of threads and any memory ceiling, at any
# time, into any file name.
. "$(dirname "$0")/convert-lib.sh"

mkdata dup.raw 4M 150 dup50
mkdata text.raw 1M 151 text
mkdata sparse.raw 4M 152 sparse
cat dup.raw text.raw sparse.raw dup.raw >in.raw
qemu-img convert -c -O qcow2 in.raw in.qcow2
one_out=
for options in '-o cluster_size=4K' '-o cluster_size=64K' '-c -o cluster_size=4K' '-c' \
	'-c -o compression_type=zstd' '--no-dedup -c' '--max-share=3' '-o cluster_size=2M' '-o cluster_size=512'; do
	rm -f first.qcow2
	# shellcheck disable=SC2086
	ok "$QDEDUP" convert -t unsafe $options in.raw first.qcow2
	for how in --threads=1 --threads=2 --threads=3 --threads=8 --memory=16M \
		'--threads=1 --memory=16M' '--threads=8 --memory=16M' -p '-t writeback'; do
		rm -f other.qcow2
		# shellcheck disable=SC2086
		ok "$QDEDUP" convert -t unsafe $options $how in.raw other.qcow2 2>/dev/null
		cmp first.qcow2 other.qcow2 || die "other bytes with $options $how"
	done
	for source in in.qcow2 -; do
		rm -f other.qcow2
		# shellcheck disable=SC2086
		ok "$QDEDUP" convert -t unsafe $options --threads=3 $source other.qcow2 <in.raw
		rm -f same.qcow2
		# shellcheck disable=SC2086
		ok "$QDEDUP" convert -t unsafe $options --threads=1 $source same.qcow2 <in.raw
		cmp same.qcow2 other.qcow2 || die "other bytes with $options from $source"
	done
	one_out=$options
done
# shellcheck disable=SC2086
ok "$QDEDUP" convert $one_out in.raw again.qcow2
cmp first.qcow2 again.qcow2 || die "other bytes at another time"
