#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Where a refcount is too low, a cluster in use looks free: rehash, journal, dedup and compact refuse
# and write nothing, and work after a repair.  What says nothing of counts stops neither rehash nor
# journal.
. "$(dirname "$0")/check-lib.sh"

mkdata base.raw 5M 522 random
qemu-img convert -O qcow2 -o cluster_size=1K base.raw plain.qcow2
cp plain.qcow2 indexed.qcow2
ok "$QDEDUP" rehash -q indexed.qcow2
cp indexed.qcow2 logged.qcow2
ok "$QDEDUP" journal -q --size=8K create logged.qcow2

# works IMG CMD...: refused, repaired, done; the content is what it was with the damage.
works() {
	local img=$1
	shift
	leaves_alone "$img" "$@"
	qemu-img convert -O raw "$img" was.raw
	"$QDEDUP" check -q --repair "$img" >repair.out || [ $? -le 3 ]
	# An index that no longer says what the image holds went with the damage.
	! prints 'index is dropped' <repair.out || ok "$QDEDUP" rehash -q "$img"
	ok "$@" >/dev/null
	check_clean -q "$img"
	[ "$how" = table ] || same was.raw "$img"
}

for how in $BAD_COUNTS; do
	for verb in 'plain rehash' 'plain dedup' 'plain compact' 'indexed rehash' 'indexed rehash --drop' \
		'indexed journal create' 'logged journal drop'; do
		read -r from args <<<"$verb"
		cp $from.qcow2 bad.qcow2
		break_counts bad.qcow2 "$how"
		# shellcheck disable=SC2086
		works bad.qcow2 "$QDEDUP" $args bad.qcow2
	done
	cp logged.qcow2 bad.qcow2
	break_counts bad.qcow2 "$how"
	leaves_alone bad.qcow2 "$QDEDUP" journal pack bad.qcow2
	leaves_alone bad.qcow2 "$QDEDUP" rehash -n bad.qcow2
done

# The index's own clusters look free: the next claim would destroy it.
cp logged.qcow2 bad.qcow2
read -r _ off _ < <("$_python" "$_cli/index.py" regions bad.qcow2)
damage bad.qcow2 "refcount[$((off))] = 0"
leaves_alone bad.qcow2 "$QDEDUP" journal pack bad.qcow2
works bad.qcow2 "$QDEDUP" journal create --size=64K bad.qcow2

# Harmless: flags that say less or more than the counts, clusters nobody uses.
cp plain.qcow2 odd.qcow2
break_half odd.qcow2 flags
damage odd.qcow2 'refcount[new] = 1'
exits 2 "$QDEDUP" check -q odd.qcow2
ok "$QDEDUP" rehash -q odd.qcow2
ok "$QDEDUP" journal -q create odd.qcow2
same base.raw odd.qcow2
leaves_alone odd.qcow2 "$QDEDUP" dedup odd.qcow2
