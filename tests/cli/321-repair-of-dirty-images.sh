#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Images that QEMU left dirty (lazy refcounts, killed) are repaired as QEMU would: same data, clean, not dirty.
. "$(dirname "$0")/check-lib.sh"

for options in '' cluster_size=4K refcount_bits=1 refcount_bits=64 extended_l2=on; do
	rm -f dirty.img twin.raw
	qemu-img create -q -f qcow2 -o "lazy_refcounts=on${options:+,$options}" dirty.img 64M
	truncate -s 64M twin.raw
	for target in '-f raw twin.raw' '-f qcow2 dirty.img'; do
		# shellcheck disable=SC2086  # several words
		qemu-io -c 'write -P 1 0 1M' -c 'write -P 2 5M 300k' -c 'write -P 3 40M 64k' -c 'discard 1M 64k' \
			-c abort $target >/dev/null 2>&1 || true
	done
	exits 2 "$QDEDUP" check --output=json dirty.img >before.json
	is true "$(json before.json 'json.dumps(d["dirty"])' 2>/dev/null || json before.json 'd["dirty"]')" dirty
	cp dirty.img theirs.img
	qemu-img check -q -r all theirs.img >/dev/null 2>&1
	exits 0 "$QDEDUP" check --repair --output=json -p dirty.img >after.json
	is false "$(json after.json 'd["dirty"]')" "dirty after the repair"
	check_clean dirty.img
	agrees dirty.img 0
	same dirty.img twin.raw
	is "$("$QD_TOOLS/damage" theirs.img 'print header.incompatible')" \
		"$("$QD_TOOLS/damage" dirty.img 'print header.incompatible')" "feature bits"
	qemu-io -c 'write -P 9 20M 1M' dirty.img >/dev/null
	check_clean dirty.img
done

# all refcounts zero: the worst that lazy refcounts can leave
damage dirty.img 'fill refblock[0], CLUSTER, 0' 'header.incompatible = header.incompatible | 1'
exits 0 "$QDEDUP" check --repair dirty.img >/dev/null
check_clean dirty.img
