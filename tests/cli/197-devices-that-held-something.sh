#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A device full of something else: what nobody writes must not show in the new image, and a conversion
# that fails must not leave what looks like the image that was there before.
. "$(dirname "$0")/convert-lib.sh"
need_root "a loop device"

truncate -s 12M target.img
dev=$(losetup -f --show target.img) || skip "needs a device: losetup -f failed"
at_exit "losetup -d $dev"
mkdata data.raw 1M 197 random
noise noise.raw 12M 197
cp data.raw in.raw
truncate -s 3M in.raw
cat data.raw >>in.raw
truncate -s 5M in.raw

for options in preallocation=metadata preallocation=falloc preallocation=full \
	preallocation=metadata,cluster_size=4K preallocation=metadata,cluster_size=16K,extended_l2=on; do
	cp noise.raw "$dev"
	ok "$QDEDUP" convert --no-dedup -O qcow2 -o $options in.raw "$dev" >/dev/null
	check_clean -q -f qcow2 "$dev"
	same in.raw "$dev" raw qcow2
done
for options in '--no-dedup -S 0' '--no-dedup -S 0 -c' '' -c; do
	cp noise.raw "$dev"
	# shellcheck disable=SC2086
	ok "$QDEDUP" convert $options -O qcow2 in.raw "$dev" >/dev/null
	check_clean -q -f qcow2 "$dev"
	same in.raw "$dev" raw qcow2
done

mkdata large.raw 16M 1971 random
for options in '' -n; do
	ok "$QDEDUP" convert -q -O qcow2 data.raw "$dev"
	[ -z "$options" ] || qemu-img resize -q -f qcow2 "$dev" 16M
	# shellcheck disable=SC2086
	fails 1 "$QDEDUP" convert $options -O qcow2 large.raw "$dev"
	says "$dev" 'No space'
	exits 1 qemu-img info -f qcow2 "$dev"
done
