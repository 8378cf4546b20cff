#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What people do to images with qemu-img works on a deduplicated one and leaves check at 0: snapshots of
# their own, resize, amend, rebase and commit of overlays, bitmaps, convert.
. "$(dirname "$0")/convert-lib.sh"

mkdup base.raw 4M 4K 60 133
for cs in 4K 64K; do
	for c in '' -c; do
		rm -f ./*.qcow2
		cp base.raw twin.raw
		# shellcheck disable=SC2086
		ok "$QDEDUP" convert -t unsafe $c -o cluster_size=$cs base.raw disk.qcow2
		good() {
			check_clean -q disk.qcow2
			same twin.raw disk.qcow2 raw qcow2
			walk disk.qcow2 >/dev/null || die "$cs $c: rules broken after $1"
		}
		qemu-img snapshot -c mine disk.qcow2
		good "snapshot -c"
		twin_write disk.qcow2 twin.raw 1331 $cs 40
		good "writes after a snapshot"
		qemu-img convert -l mine -O raw disk.qcow2 mine.raw
		cmp mine.raw base.raw || die "$cs $c: the snapshot's content"
		ok "$QDEDUP" convert -t unsafe -l mine disk.qcow2 mine.qcow2
		deduplicated mine.qcow2 base.raw 64K
		qemu-img snapshot -a mine disk.qcow2
		cp base.raw twin.raw
		good "snapshot -a"
		twin_write disk.qcow2 twin.raw 1332 $cs 40
		good "writes after going back"
		qemu-img snapshot -d mine disk.qcow2
		good "snapshot -d"
		qemu-img resize -q disk.qcow2 6M
		truncate -s 6M twin.raw
		good "resize up"
		twin_write disk.qcow2 twin.raw 1333 $cs 40
		qemu-img resize -q --shrink disk.qcow2 2M
		truncate -s 2M twin.raw
		good "resize down"
		qemu-img amend -o refcount_bits=64 disk.qcow2
		good "amend refcount_bits=64"
		qemu-img amend -o lazy_refcounts=on disk.qcow2
		twin_write disk.qcow2 twin.raw 1334 $cs 40
		good "amend lazy_refcounts=on"
		qemu-img bitmap --add disk.qcow2 b0
		twin_write disk.qcow2 twin.raw 1335 $cs 20
		good "a bitmap"
		qemu-img create -q -f qcow2 -b disk.qcow2 -F qcow2 over.qcow2
		qemu-io -c 'write -P 5 100k 1M' over.qcow2 >/dev/null
		qemu-io -f raw -c 'write -P 5 100k 1M' twin.raw >/dev/null
		qemu-img commit -q over.qcow2
		good "commit"
		qemu-img convert -O qcow2 disk.qcow2 copy.qcow2
		same twin.raw copy.qcow2 raw qcow2
	done
done
