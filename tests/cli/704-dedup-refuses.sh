#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What dedup refuses, by name, the image untouched; one image that fails does not stop the others.
. "$(dirname "$0")/dedup-lib.sh"

# refuses IMG PATTERN [OPTION...]
refuses() {
	local img=$1 pattern=$2 before
	shift 2
	before=$(sha256sum <"$img")
	fails 1 "$QDEDUP" dedup "$@" "$img"
	says "$pattern" "$img"
	is "$before" "$(sha256sum <"$img")" "$img after it was refused"
}

mkdup base.raw 1M 4K 20 740
qemu-img convert -f raw -O qcow2 -o cluster_size=4K base.raw good.qcow2
qemu-img convert -f raw -O qcow2 -o cluster_size=4K,refcount_bits=1 base.raw one.qcow2
refuses one.qcow2 'refcount_bits=16.*qemu-img amend'
qemu-img convert -f raw -O qcow2 -o cluster_size=4K,compat=0.10 base.raw old.qcow2
refuses old.qcow2 'compat=0.10.*--upgrade'
qemu-img create -q -f qcow2 -o data_file=data.bin,cluster_size=4K data.qcow2 1M
refuses data.qcow2 'external data file'
refuses base.raw 'not a qcow2 image'
cp good.qcow2 dirty.qcow2
poke dirty.qcow2 72 8 1
refuses dirty.qcow2 'dirty.*qdedup check --repair'
cp good.qcow2 corrupt.qcow2
poke corrupt.qcow2 72 8 2
refuses corrupt.qcow2 'corrupt.*qdedup check --repair'
cp good.qcow2 wrong.qcow2
block=$(peek wrong.qcow2 "$(peek wrong.qcow2 48 8)" 8)
poke wrong.qcow2 $((block + 20)) 2 7
refuses wrong.qcow2 'qdedup check --repair'
cp good.qcow2 named.qcow2
qemu-img snapshot -c qdedup named.qcow2
refuses named.qcow2 "snapshot named qdedup that is not qdedup's"
refuses good.qcow2 'expected at most' --max-share=70000
refuses good.qcow2 'hash' --hash=md5
rm -f enc.qcow2
for ((try = 0; try < 20; try++)); do
	qemu-img create -q --object secret,id=s,data=abc -f qcow2 \
		-o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10 enc.qcow2 1M 2>luks.err && break
done
refuses enc.qcow2 'encrypted|LUKS'
fails 1 "$QDEDUP" dedup nothing.qcow2
says 'nothing.qcow2'
fails 1 "$QDEDUP" dedup
fails 1 "$QDEDUP" dedup --index=x --no-index good.qcow2
hold user qemu-io good.qcow2
tell user 'read 0 512'
wait_for grep -q 'read 512' user.out
refuses good.qcow2 'lock|in use'
release user

# One after the other
cp good.qcow2 second.qcow2
exits 1 "$QDEDUP" dedup -t unsafe good.qcow2 one.qcow2 nothing.qcow2 second.qcow2 >out
says 'one.qcow2' 'nothing.qcow2'
is 2 "$(grep -c 'on disk' out)" "images done"
for img in good second; do
	same base.raw $img.qcow2 raw qcow2
	check_clean -q $img.qcow2
done
ok "$QDEDUP" dedup --output=json good.qcow2 second.qcow2 >out.json
is 2 "$(json out.json 'len(d)')" "results"
