#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# dedup --upgrade opens the image again before it stores the table: what the table says of the image is true,
# in the image and in a file (a sanitizer sees where it was taken from).
. "$(dirname "$0")/rehash-lib.sh"

mkdup base.raw 1M 4K 60 719
for options in '' --index=disk.idx; do
	qemu-img convert -f raw -O qcow2 -o compat=0.10,cluster_size=4K base.raw disk.qcow2
	# shellcheck disable=SC2086
	in_place disk.qcow2 4K --upgrade $options
	# shellcheck disable=SC2086
	ok "$QDEDUP" verify --output=json $options disk.qcow2 >verify.json
	is valid/0 "$(json verify.json 'd["state"] + "/" + str(d["unknown"])')" "the index after dedup --upgrade $options"
done
