#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# -B: the output holds only what differs from the backing file, and reads as the source through it.
. "$(dirname "$0")/convert-lib.sh"

mkdata base.raw 4M 191 dup50
qemu-img convert -O qcow2 base.raw base.qcow2
cp base.raw in.raw
qemu-io -f raw -c 'write -P 1 1M 128k' -c 'write -P 1 2M 64k' -c 'write -z 3M 128k' in.raw >/dev/null
mkdir sub
for cs in 4K 64K; do
	for c in '' -c; do
		for base in base.qcow2:qcow2 base.raw:raw; do
			rm -f over.qcow2 sub/over.qcow2
			# shellcheck disable=SC2086
			ok "$QDEDUP" convert $c -o cluster_size=$cs -B ${base%:*} -F ${base#*:} in.raw over.qcow2
			check_clean -q over.qcow2
			same in.raw over.qcow2 raw qcow2
			# 192 KiB of one byte: one cluster
			is "1 $((192 * 1024 / $(bytes $cs)))" "$(walk --fresh --get data --get references over.qcow2 | xargs)" \
				"data clusters and references at $cs"
			qemu-img info --output=json -U over.qcow2 >info.json
			is "${base%:*}" "$(json info.json 'd["backing-filename"]')"
			is "${base#*:}" "$(json info.json 'd["backing-filename-format"]')"
			ok "$QDEDUP" convert over.qcow2 back.raw
			cmp in.raw back.raw

			# a relative name is relative to the target
			# shellcheck disable=SC2086
			ok "$QDEDUP" convert $c -B ../${base%:*} -F ${base#*:} in.raw sub/over.qcow2
			same in.raw sub/over.qcow2 raw qcow2
		done
	done
done
# the same by -o
ok "$QDEDUP" convert -o backing_file=base.qcow2,backing_fmt=qcow2,cluster_size=4K in.raw byo.qcow2
same in.raw byo.qcow2 raw qcow2
is 1 "$(walk --fresh --get data byo.qcow2)" "data clusters with -o backing_file"

# sources shorter and longer than the backing file; version 2, which has no zero flag
head -c 1000448 in.raw >short.raw
cp in.raw long.raw
truncate -s 6M long.raw
mkdata tail.raw 64K 1911 random
dd if=tail.raw of=long.raw bs=64K seek=80 conv=notrunc status=none
head -c 2M base.raw >half.raw
for raw in short in long; do
	for base in base.qcow2:qcow2 half.raw:raw; do
		for compat in 1.1 0.10; do
			rm -f over.qcow2
			ok "$QDEDUP" convert -o compat=$compat -B ${base%:*} -F ${base#*:} $raw.raw over.qcow2
			check_clean -q over.qcow2
			same $raw.raw over.qcow2 raw qcow2
		done
	done
done
# a qcow2 overlay flattened onto another base
ok "$QDEDUP" convert -B half.raw -F raw over.qcow2 other.qcow2
same over.qcow2 other.qcow2 qcow2 qcow2

rm -f none.*
fails 1 "$QDEDUP" convert -B nosuch.qcow2 -F qcow2 in.raw none.qcow2
says nosuch.qcow2
fails 1 "$QDEDUP" convert -B base.qcow2 -F qcow2 -O raw in.raw none.raw
says qcow2
! ls none.* 2>/dev/null || die "a failure left an output"
