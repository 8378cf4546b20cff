#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# QEMU killed while it writes a deduplicated image with lazy refcounts: its own repair on the next
# open leaves refcounts, sharing and pin right.
. "$(dirname "$0")/convert-lib.sh"

mkdup base.raw 4M 4K 60 134
for c in '' -c; do
	rm -f disk.qcow2
	cp base.raw twin.raw
	# shellcheck disable=SC2086
	ok "$QDEDUP" convert $c -o cluster_size=4K,lazy_refcounts=on base.raw disk.qcow2
	deduplicated disk.qcow2 base.raw 4K
	for at in 0 1000k 3M; do
		(qemu-io -c "write -P 7 $at 300k" -c flush -c 'sigraise 9' disk.qcow2 >/dev/null) 2>/dev/null || true
		qemu-io -f raw -c "write -P 7 $at 300k" twin.raw >/dev/null
		same twin.raw disk.qcow2 raw qcow2
		rm -f out.qcow2
		ok "$QDEDUP" convert -o cluster_size=4K disk.qcow2 out.qcow2
		deduplicated out.qcow2 twin.raw 4K
		qemu-io -c 'read 0 512' disk.qcow2 >/dev/null 2>&1
		check_clean -q disk.qcow2
		same twin.raw disk.qcow2 raw qcow2
		walk disk.qcow2 >/dev/null || die "rules broken after QEMU's repair"
		is 1 "$(walk --get pin disk.qcow2)" "pins after QEMU's repair"
	done
done
