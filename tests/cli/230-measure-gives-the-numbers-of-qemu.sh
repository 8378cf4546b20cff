#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# measure gives qemu-img's numbers for every kind of source and target.
. "$(dirname "$0")/kinds.sh"

# agrees OPTION...: both fail, or both say the same
agrees() {
	local theirs status=0
	theirs=$("$QIMG" measure --output=json "$@" 2>/dev/null) || status=$?
	if [ "$status" -ne 0 ]; then
		fails 1 "$QDEDUP" measure --output=json "$@"
	else
		ok "$QDEDUP" measure --output=json "$@" >j
		is "$(json - 'd' <<<"$theirs")" "$(json j d)" "measure $*"
	fi
}

make_kinds
kind bitmaps
qemu-img bitmap --add bitmaps one
qemu-img bitmap --add -g 512 bitmaps a-much-longer-name
for image in "${KINDS[@]}"; do
	format=qcow2
	case $image in *.raw) format=raw ;; esac
	agrees -f $format "$image"
	agrees -f $format -O qcow2 "$image"
	# qemu-img measures a copy of "huge" that cannot be made, for its L1 table would be too large
	[ "$image" = huge ] || agrees -f $format -O qcow2 -o cluster_size=4k,refcount_bits=1 "$image"
	agrees -f $format -O qcow2 -o preallocation=full,compat=0.10 "$image"
done
for options in cluster_size=512 cluster_size=2M extended_l2=on preallocation=metadata preallocation=falloc \
	backing_file=x,backing_fmt=raw refcount_bits=64; do
	agrees -O qcow2 -o $options default
	agrees -O qcow2 -o $options overlay
	agrees -O qcow2 -o $options bitmaps
	for size in 0 1 512 1M 10G 3T 100T; do
		agrees -O qcow2 -o $options --size $size
	done
done
agrees -O raw --size 1000
agrees -O qcow2 -l first snapshots
agrees -O qcow2 -l 2 snapshots
agrees -O qcow2 -l 'no such' snapshots
agrees default --size 1M
agrees -O qcow2
agrees nowhere
fails 1 "$QDEDUP" measure -O qcow2 -o cluster_size=4k huge
says 'larger clusters'
