#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Images that a killed QEMU left dirty (lazy refcounts) are read as they are and not written to.
. "$(dirname "$0")/convert-lib.sh"

mkdata base.raw 4M 110 dup50
for cs in 4K 64K; do
	qemu-img convert -O qcow2 -o lazy_refcounts=on,cluster_size=$cs base.raw in.qcow2
	qemu-img resize -q in.qcow2 6M
	(qemu-io -c 'write -P 1 1M 1M' -c 'write -z 0 64k' -c 'write -P 2 5000k 300k' -c flush -c 'sigraise 9' \
		in.qcow2 >/dev/null) 2>/dev/null && die "sigraise did not kill"
	is 1 "$(($(peek in.qcow2 72 8) & 1))" "dirty bit"
	before=$(sha256sum in.qcow2)
	content in.qcow2
	from in.qcow2
	is "$before" "$(sha256sum in.qcow2)" "source"
	is 0 "$(($(peek out.qcow2 72 8) & 1))" "dirty bit of the output"
done
