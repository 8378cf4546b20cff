#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Stock QEMU works with an image that has an index, clears the bit when it writes, and takes the index
# out cleanly with the pin.  Snapshots of the user's own survive qemu-img check -r.
. "$(dirname "$0")/rehash-lib.sh"

mkdup base.raw 4M 4K 300 513
ok "$QDEDUP" convert -q -t unsafe -o cluster_size=4K base.raw img.qcow2
rehash img.qcow2
is 1 "$(index bit img.qcow2)" 'feature bit'
qemu-img info img.qcow2 >/dev/null
is 1 "$(qemu-img snapshot -l img.qcow2 | grep -cw qdedup)" 'pin'
qemu-io -r -c 'read 0 1M' img.qcow2 >/dev/null
is 1 "$(index bit img.qcow2)" 'feature bit after reading'

cp img.qcow2 gone.qcow2
qemu-img snapshot -d qdedup gone.qcow2
check_clean -q gone.qcow2
same base.raw gone.qcow2
fails 1 "$QDEDUP" verify gone.qcow2
says 'no index' 'qdedup rehash'
ok "$QDEDUP" rehash --output=json gone.qcow2 >out.json
is absent "$(value previous-state)" 'state without the pin'
judge_index gone.qcow2

cp img.qcow2 written.qcow2
qemu-io -c 'write -P 1 1M 300k' -c 'discard 2M 64k' written.qcow2 >/dev/null
check_clean -q written.qcow2
exits 0 "$QDEDUP" verify --output=json written.qcow2 >verify.json
is partial "$(json verify.json 'd["state"]')" 'state after a write'
[ "$(json verify.json 'd["unknown"]')" -ge 75 ] || die 'what QEMU wrote is not unknown'
layers written.qcow2 before
rehash written.qcow2
is 1 "$(index bit written.qcow2)" 'feature bit after rehash'
same_layers written.qcow2 before
is 0 "$(json verify.json 'd["unknown"]')" 'unknown after rehash'

# check -r with an unknown autoclear bit makes QEMU forget every snapshot.
qemu-img snapshot -c mine written.qcow2
layers written.qcow2 before
rehash written.qcow2
is 0 "$(index bit written.qcow2)" 'feature bit beside own snapshots'
cp written.qcow2 repaired.qcow2
qemu-img check -q -r all repaired.qcow2
check_clean -q repaired.qcow2
same_layers repaired.qcow2 before
cp img.qcow2 repaired.qcow2
qemu-img check -q -r all repaired.qcow2 2>/dev/null
check_clean -q repaired.qcow2
same base.raw repaired.qcow2
rehash repaired.qcow2

# Resized, given other refcounts, rebased: still clean, and rehash copes.
cp img.qcow2 other.qcow2
qemu-img resize -q other.qcow2 6M
qemu-img amend -o refcount_bits=64 other.qcow2
check_clean -q other.qcow2
rehash other.qcow2
