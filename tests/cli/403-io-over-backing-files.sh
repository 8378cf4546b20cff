#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Overlays: qdedup io fills up clusters from the backing file, which may be shorter, and hides it with
# zeros; the backing file is never written to.
. "$(dirname "$0")/io-lib.sh"

mkdata base.raw 2M 403 random
printf tail >>base.raw
qemu-img convert -f raw -O qcow2 -o cluster_size=4K base.raw base.qcow2
before=$(sha256sum base.raw base.qcow2)
for options in cluster_size=512 cluster_size=4K cluster_size=64K cluster_size=64K,extended_l2=on \
	cluster_size=2M,lazy_refcounts=on compat=0.10,cluster_size=4K; do
	cs=${options#*cluster_size=} cs=${cs%%,*}
	keeps=
	[ "$options" = "${options#compat=0.10}" ] || keeps='keeps-discarded'
	for format in raw qcow2; do
		rm -f top.qcow2
		qemu-img create -q -f qcow2 -o "$options" -b base.$format -F $format top.qcow2 3M
		cp base.raw twin.raw
		truncate -s 3M twin.raw
		# shellcheck disable=SC2086
		rounds 1 top.qcow2 twin.raw "$cs" $keeps
	done
done
is "$before" "$(sha256sum base.raw base.qcow2)" "the backing files"
fails 1 "$QDEDUP" io --untrusted -c 'write 0 1' top.qcow2
says untrusted base.qcow2
