#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A disk without room for the few clusters that tables need, a limit on the file's size: a message that says
# what to do, the image sound; with room it goes through.
. "$(dirname "$0")/dedup-lib.sh"

mkdup base.raw 2M 4K 40 712
qemu-img convert -f raw -O qcow2 -o cluster_size=4K base.raw whole.qcow2
fallocate -l "$(stat -c %s whole.qcow2)" whole.qcow2

sound() {
	qemu-img check -q -r all "$1" || die "$1 after it failed: qemu-img check -r all exits $?"
	ok "$QDEDUP" check -q --repair "$1"
	same base.raw "$1" raw qcow2
}

size=$(stat -c %s whole.qcow2)
for ((more = 0; more <= 24; more += 8)); do
	cp whole.qcow2 limited.qcow2
	status=0
	(
		trap '' XFSZ
		ulimit -f $((size / 1024 + more))
		"$QDEDUP" dedup limited.qcow2 >out 2>err
	) || status=$?
	if [ $status -eq 0 ]; then
		check_clean -q limited.qcow2
		same base.raw limited.qcow2 raw qcow2
	else
		is 1 $status "exit status at the limit of the file's size: $(cat err)"
		grep -q 'limited.qcow2' err || die "it says: $(cat err)"
		sound limited.qcow2
	fi
	ok "$QDEDUP" dedup -q limited.qcow2
	check_clean -q limited.qcow2
	same base.raw limited.qcow2 raw qcow2
done

mkdir disk
if [ "$(id -u)" -eq 0 ] && mount -t tmpfs -o size=$((size + 8192)),mode=755 none disk 2>/dev/null; then
	at_exit "cd / && umount '$PWD/disk'"
	cp whole.qcow2 disk/image.qcow2
	head -c 8192 /dev/zero >disk/rest 2>/dev/null || true
	status=0
	"$QDEDUP" dedup disk/image.qcow2 >out 2>err || status=$?
	if [ $status -ne 0 ]; then
		grep -q 'No space left' err || die "it says: $(cat err)"
		grep -q 'note:' err || die "it does not say what to do: $(cat err)"
		sound disk/image.qcow2
	fi
	rm disk/rest
	mount -o remount,size=8M disk
	ok "$QDEDUP" dedup -q disk/image.qcow2
	check_clean -q disk/image.qcow2
	same base.raw disk/image.qcow2 raw qcow2
fi
