#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Sources of every refcount width convert: the width says nothing about the content.
. "$(dirname "$0")/convert-lib.sh"

mkdata base.raw 4M 102 dup50
for bits in 1 2 4 8 16 32 64; do
	qemu-img convert -O qcow2 -o refcount_bits=$bits base.raw in.qcow2
	scribble in.qcow2
	content in.qcow2
	to_raw in.qcow2
	ok "$QDEDUP" convert in.qcow2 out.qcow2
	check_clean -q out.qcow2
	same content.raw out.qcow2 raw qcow2
done
from in.qcow2
