#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Every --hash, with and without --trust-hash, gives the same clusters; unknown names are refused.
. "$(dirname "$0")/convert-lib.sh"

mkdata in.raw 8M 124 dup50
ok "$QDEDUP" convert -t unsafe -o cluster_size=4K in.raw default.qcow2
for hash in xxh128 sha256 sha512-256 sha3-256 blake2b; do
	for trust in '' --trust-hash; do
		rm -f out.qcow2
		# shellcheck disable=SC2086
		ok "$QDEDUP" convert -t unsafe --hash=$hash $trust -o cluster_size=4K in.raw out.qcow2
		deduplicated out.qcow2 in.raw 4K
		rm -f out.qcow2
		# shellcheck disable=SC2086
		ok "$QDEDUP" convert -t unsafe -c --hash=$hash $trust in.raw out.qcow2
		deduplicated out.qcow2 in.raw 64K
	done
done
for bad in md5 SHA256 ''; do
	fails 1 "$QDEDUP" convert -t unsafe --hash=$bad in.raw none.qcow2
	says hash sha256
	[ ! -e none.qcow2 ] || die "--hash=$bad left an output"
done
