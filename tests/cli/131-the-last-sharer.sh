#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# QEMU overwrites all sharers but one, then the last: with the pin qemu-img check is 0 all the way;
# without it QEMU leaves the flaw that the pin is there for, which shows that this test can see it.
. "$(dirname "$0")/convert-lib.sh"

mkdup base.raw 1M 64K 1 3
tr '\0' 'y' <base.raw >in.raw
# 16 clusters, two contents
for c in '' -c; do
	rm -f ./*.qcow2
	cp in.raw twin.raw
	# shellcheck disable=SC2086
	ok "$QDEDUP" convert -t unsafe $c in.raw disk.qcow2
	# shellcheck disable=SC2086
	ok "$QDEDUP" convert -t unsafe $c --no-pin in.raw bare.qcow2
	for ((i = 0; i < 15; i++)); do
		for img in disk.qcow2 bare.qcow2; do
			exits 0 qemu-io -f qcow2 -c "write -P $((i + 1)) $((i * 65536)) 64k" $img >/dev/null
		done
		qemu-io -f raw -c "write -P $((i + 1)) $((i * 65536)) 64k" twin.raw >/dev/null
		check_clean -q disk.qcow2
	done
	same twin.raw disk.qcow2 raw qcow2
	same twin.raw bare.qcow2 raw qcow2
	if [ -z "$c" ]; then
		exits 2 qemu-img check -q bare.qcow2 >/dev/null
		exits 0 qemu-img check -q -r leaks bare.qcow2 >/dev/null
	fi
	walk disk.qcow2 >/dev/null || die "rules broken with one sharer left"
	qemu-io -f qcow2 -c 'write -P 99 960k 64k' disk.qcow2 >/dev/null
	qemu-io -f raw -c 'write -P 99 960k 64k' twin.raw >/dev/null
	check_clean -q disk.qcow2
	same twin.raw disk.qcow2 raw qcow2
	qemu-img snapshot -d qdedup disk.qcow2
	check_clean -q disk.qcow2
	same twin.raw disk.qcow2 raw qcow2
done
