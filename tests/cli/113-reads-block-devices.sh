#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Block devices as source and as target (written in place).
. "$(dirname "$0")/convert-lib.sh"
need_root "a loop device"

mkdata base.raw 4M 113 dup50
truncate -s 16M target.img
cp base.raw source.img
loop_of() {
	losetup -f --show "$@" || skip "needs a device: losetup -f failed"
}
source_dev=$(loop_of -r source.img)
at_exit "losetup -d $source_dev"
target_dev=$(loop_of target.img)
at_exit "losetup -d $target_dev"

ok "$QDEDUP" convert "$source_dev" out.qcow2
deduplicated out.qcow2 base.raw 64K
ok "$QDEDUP" convert "$source_dev" out.raw
cmp out.raw base.raw

ok "$QDEDUP" convert -O qcow2 base.raw "$target_dev"
[ -b "$target_dev" ] || die "the device node was replaced"
check_clean -q -f qcow2 "$target_dev"
same base.raw "$target_dev" raw qcow2
found=$(walk --get data "$target_dev")
is "$(distinct base.raw 64K)" "$found" "data clusters on the device"
ok "$QDEDUP" convert "$target_dev" back.raw
cmp back.raw base.raw

ok "$QDEDUP" convert -O raw base.raw "$target_dev"
cmp -n $((4 << 20)) base.raw "$target_dev"

# too small a device: refused, or found out, with its name
truncate -s 1M small.img
small_dev=$(loop_of small.img)
at_exit "losetup -d $small_dev"
fails 1 "$QDEDUP" convert -O raw base.raw "$small_dev"
says "$small_dev"

# the device as both
fails 1 "$QDEDUP" convert -O qcow2 "$target_dev" "$target_dev"
says "$target_dev" source
