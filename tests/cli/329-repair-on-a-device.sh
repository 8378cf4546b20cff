#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# An image on a block device is repaired there; where new clusters are needed and the device has no room for
# them, the repair says so and writes nothing.
. "$(dirname "$0")/check-lib.sh"
need_root "a loop device"

# IMG BYTES: a device of that size with the image at its beginning, noise behind it; its name in $dev
on_device() {
	local size
	size=$(stat -c %s "$1")
	cp "$1" device.img
	head -c $(($2 - size)) /dev/urandom >>device.img
	dev=$(losetup -f --show device.img) || skip "needs a device: losetup -f failed"
	at_exit "losetup -d $dev"
}

qemu-img create -q -f qcow2 base.img 64M
qemu-io -f qcow2 -c 'write -P 1 0 1M' -c 'write -P 2 5M 64k' base.img >/dev/null
truncate -s %64K base.img
size=$(stat -c %s base.img)

# counts and flags change in place, on a device without a byte to spare
cp base.img disk.img
damage disk.img 'refcount[host[64K]] = 0' 'l2[5M] = host[5M]'
on_device disk.img "$size"
exits 2 "$QDEDUP" check "$dev" >/dev/null
exits 0 "$QDEDUP" check --repair "$dev" >/dev/null
check_clean -q -f qcow2 "$dev"
same base.img "$dev" qcow2 qcow2

# two owners of a cluster, and refcounts made anew: there is room behind the image
for edit in 'l2[128K] = l2[0]' 'header.reftable_clusters = 0'; do
	cp base.img disk.img
	damage disk.img "$edit"
	on_device disk.img $((size + (1 << 20)))
	exits 2 "$QDEDUP" check "$dev" >/dev/null
	exits 0 "$QDEDUP" check --repair "$dev" >/dev/null
	check_clean -q -f qcow2 "$dev"
	same base.img "$dev" qcow2 qcow2
done

# there is none
on_device disk.img "$size"
before=$(sha256sum <"$dev")
for option in '' -n; do
	# shellcheck disable=SC2086  # a word or none
	fails 1 "$QDEDUP" check --repair $option "$dev"
	says "$dev" 'device has no room'
	is "$before" "$(sha256sum <"$dev")" "the device"
done
