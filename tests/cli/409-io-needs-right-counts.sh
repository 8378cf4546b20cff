#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Where a refcount is too low, a cluster in use looks free, or its own: nothing is written before a
# repair, whether the image has an index or not.  Reading, and what says nothing of counts, works.
. "$(dirname "$0")/check-lib.sh"

mkdata base.raw 5M 409 random
qemu-img convert -O qcow2 -o cluster_size=1K base.raw plain.qcow2
qemu-img resize -q plain.qcow2 8M
truncate -s 8M base.raw
cp plain.qcow2 indexed.qcow2
ok "$QDEDUP" rehash -q indexed.qcow2

for how in $BAD_COUNTS; do
	for from in plain indexed; do
		cp $from.qcow2 bad.qcow2
		break_counts bad.qcow2 "$how"
		for command in 'write -P 7 6M 64K' 'write -P 7 0 1K' 'write -z 0 64K' 'discard 3M 64K'; do
			leaves_alone bad.qcow2 "$QDEDUP" io -q -c "$command" bad.qcow2
		done
		qemu-img convert -O raw bad.qcow2 was.raw
		cp bad.qcow2 untouched
		ok "$QDEDUP" io -q -c 'read 0 1M' -c 'write 0 0' bad.qcow2
		cmp bad.qcow2 untouched || die "a read changed the image"
		"$QDEDUP" check -q --repair bad.qcow2 >/dev/null || [ $? -le 3 ]
		ok "$QDEDUP" io -q -c 'write -P 7 6M 64K' -c 'discard 3M 64K' bad.qcow2
		check_clean -q bad.qcow2
		[ "$how" != table ] || continue
		qemu-io -f raw -c 'write -P 7 6M 64K' -c 'write -z 3M 64K' was.raw >/dev/null
		same was.raw bad.qcow2
	done
done

cp plain.qcow2 odd.qcow2
break_half odd.qcow2 flags
damage odd.qcow2 'refcount[new] = 1'
ok "$QDEDUP" io -q -c 'write -P 7 6M 64K' odd.qcow2
qemu-io -f raw -c 'write -P 7 6M 64K' base.raw >/dev/null
same base.raw odd.qcow2
