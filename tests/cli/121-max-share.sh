#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# --max-share caps the references to one cluster; contents that occur n times take ceil(n / cap).
. "$(dirname "$0")/convert-lib.sh"

mkdup in.raw 4M 4K 20 121
for cap in 2 3 50; do
	for c in '' -c; do
		rm -f out.qcow2
		# shellcheck disable=SC2086
		ok "$QDEDUP" convert $c --max-share=$cap -o cluster_size=4K in.raw out.qcow2
		deduplicated out.qcow2 in.raw 4K $cap
	done
done

rm out.qcow2
for bad in 0 1 -1 x 1.5 65536 99999999999999999999; do
	fails 1 "$QDEDUP" convert --max-share=$bad in.raw out.qcow2
	says "$bad"
	[ ! -e out.qcow2 ] || die "--max-share=$bad left an output"
done
