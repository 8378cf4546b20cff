#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Internal snapshots take part: clusters equal across layers become one, each layer reads what it did, and
# snapshots can be applied and deleted afterwards.
. "$(dirname "$0")/dedup-lib.sh"

mkdup base.raw 2M 4K 80 710
for options in cluster_size=4K cluster_size=512,refcount_bits=32 cluster_size=64K cluster_size=16K,extended_l2=on; do
	for c in '' -c; do
		cs=${options#*=} cs=${cs%%,*}
		# shellcheck disable=SC2086
		qemu-img convert $c -f raw -O qcow2 -o "$options" base.raw disk.qcow2
		for n in 1 2 3; do
			qemu-img snapshot -c "state $n" disk.qcow2
			twin_write disk.qcow2 base.raw $((711 + n)) $cs 30
			cp base.raw twin.raw
		done
		# The same content again at other places: found only by looking across layers.
		qemu-io -c 'write -P 7 0 64k' disk.qcow2 >/dev/null
		qemu-img snapshot -c 'state 4' disk.qcow2
		qemu-io -c 'write -P 8 0 64k' -c 'write -P 7 128k 64k' disk.qcow2 >/dev/null
		case $options in
		*extended*) in_place disk.qcow2 $cs ;;
		*) in_place_exactly disk.qcow2 $cs ;;
		esac
		[ "$(json out.json 'd["clusters-freed"]')" -gt 0 ] || die "nothing was freed: no test"
		mkdup base.raw 2M 4K 80 710
		qemu-img snapshot -a 'state 2' disk.qcow2
		check_clean -q disk.qcow2
		qemu-img convert -O raw disk.qcow2 state.raw
		cmp before/2 state.raw || die "state 2 is another"
		qemu-img snapshot -d 'state 1' disk.qcow2
		qemu-img snapshot -d 'state 4' disk.qcow2
		check_clean -q disk.qcow2
		qemu-img snapshot -d qdedup disk.qcow2
		check_clean -q disk.qcow2
		qemu-img convert -O raw disk.qcow2 state.raw
		cmp before/2 state.raw || die "state 2 is another"
	done
done
