#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Without --repair nothing is written: not to sound images, damaged ones or dirty ones.
. "$(dirname "$0")/check-lib.sh"

unchanged() {
	local img=$1 before
	touch -d '2020-01-01 00:00:00.123456789' "$img"
	before=$(sha256sum "$img"; stat -c '%y %s %b %i' "$img")
	chmod a-w "$img"
	"$QDEDUP" check "$img" >/dev/null || true
	"$QDEDUP" check -v "$img" >/dev/null || true
	"$QDEDUP" check -U --output=json "$img" >/dev/null || true
	chmod u+w "$img"
	is "$before" "$(sha256sum "$img"; stat -c '%y %s %b %i' "$img")" "$img"
	is "$files" "$(ls -A)" "files"
}

qemu-img create -q -f qcow2 sound.img 64M
qemu-io -c 'write 0 1M' sound.img >/dev/null
cp sound.img bad.img
damage bad.img 'l2[0] = host[0]' 'refcount[host[64K]] = 0' 'byte[new] = 0' 'refcount[END - CLUSTER] = 1'
qemu-img create -q -f qcow2 -o lazy_refcounts=on dirty.img 64M
qemu-io -c 'write 0 1M' -c abort dirty.img >/dev/null 2>&1 || true
files=$(ls -A)
for img in sound.img bad.img dirty.img; do
	unchanged $img
done
agrees dirty.img 2

# nor is anything opened that an image names
qemu-img create -q -f qcow2 -u -b json:missing -F qcow2 top.img 64M
exits 0 "$QDEDUP" check top.img >/dev/null
exits 0 "$QDEDUP" check --untrusted top.img >/dev/null
