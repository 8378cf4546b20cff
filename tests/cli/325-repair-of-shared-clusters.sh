#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Deduplicated images: sharing and the pin survive a repair; flags of last sharers are put right.
. "$(dirname "$0")/check-lib.sh"

mkdata data.raw 4M 1 dup50
for pin in '' --no-pin; do
	# shellcheck disable=SC2086  # a word or none
	ok "$QDEDUP" convert -O qcow2 $pin data.raw disk.img
	before=$("$QDEDUP" stats --output=json disk.img)
	damage disk.img 'header.reftable_clusters = 0'
	exits 0 "$QDEDUP" check --repair disk.img >/dev/null
	check_clean disk.img
	same disk.img data.raw
	is "$(json - 'd["shared-clusters"]' <<<"$before")" \
		"$("$QDEDUP" stats --output=json disk.img | json - 'd["shared-clusters"]')" shared-clusters
done

# what QEMU leaves behind when the guest overwrites all sharers but one
mkdata half.raw 64K 2 random
cat half.raw half.raw >twice.raw
ok "$QDEDUP" convert -O qcow2 --no-pin twice.raw disk.img
cp twice.raw now.raw
qemu-io -f raw -c 'write -P 7 0 64k' now.raw >/dev/null
qemu-io -f qcow2 -c 'write -P 7 0 64k' disk.img >/dev/null
finds disk.img copied-clear
exits 0 "$QDEDUP" check --repair disk.img >/dev/null
check_clean disk.img
same disk.img now.raw
