#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# check and qemu-img check agree on deduplicated images, before and after QEMU works on
# them; COPIED clear at refcount 1, which QEMU leaves without a pin, has a name.
. "$(dirname "$0")/check-lib.sh"

mkdata in.raw 8M 302 dup50
nothing() {
	agrees "$1" 0
	is '{}' "$(json ours.json 'd["finding-counts"]')" "$1: findings"
}
for options in '-o cluster_size=4K' '-o cluster_size=64K' '-c -o cluster_size=4K' '-o refcount_bits=64,cluster_size=4K' \
	'--no-pin -o cluster_size=4K' '-o extended_l2=on'; do
	# shellcheck disable=SC2086  # a list of words
	ok "$QDEDUP" convert -q $options in.raw d.img
	nothing d.img
	[[ $options != *no-pin* ]] || continue
	qemu-io -c 'write 100k 1M' -c 'write -z 3M 1M' -c 'write 5M 300k' d.img >/dev/null
	nothing d.img
	qemu-img snapshot -c mine d.img
	qemu-io -c 'write 200k 2M' d.img >/dev/null
	agrees d.img 0
	qemu-img snapshot -d qdedup d.img
	agrees d.img 0
done

# four equal clusters, no pin, all sharers but one overwritten
mkdata one.raw 64K 1 random
cat one.raw one.raw one.raw one.raw >four.raw
ok "$QDEDUP" convert -q --no-pin four.raw d.img
nothing d.img
qemu-io -c 'write 0 192k' d.img >/dev/null
agrees d.img 2
finds d.img copied-clear=1
ok "$QDEDUP" convert -q four.raw d.img
qemu-io -c 'write 0 192k' d.img >/dev/null
nothing d.img

# shared clusters that the pin does not hold are noted
ok "$QDEDUP" convert -q four.raw d.img
damage d.img 'snap[0].l2[0] = 0' 'refcount[host[0]] = 4'
exits 0 "$QDEDUP" check --output=json d.img >ours.json
is '{"unpinned": 1}' "$(json ours.json 'd["finding-counts"]')" "findings"
