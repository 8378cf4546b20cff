#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# LUKS and AES images are recognised and refused by name, before anything is written.
. "$(dirname "$0")/convert-lib.sh"

# on a busy machine QEMU may fail to measure how long its key derivation takes
for ((n = 0; n < 20; n++)); do
	! qemu-img create -q --object secret,id=s,data=secret -f qcow2 \
		-o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10 luks.qcow2 1M || break
done
[ $n -lt 20 ] || die "no LUKS image"
qemu-img create -q --object secret,id=s,data=secret -f qcow2 \
	-o encrypt.format=aes,encrypt.key-secret=s aes.qcow2 1M 2>/dev/null
qemu-img create -q -f qcow2 -b luks.qcow2 -F qcow2 -u over.qcow2 1M
for target in out.qcow2 out.raw; do
	fails 1 "$QDEDUP" convert luks.qcow2 $target
	says luks.qcow2 LUKS
	fails 1 "$QDEDUP" convert aes.qcow2 $target
	says aes.qcow2 AES
	fails 1 "$QDEDUP" convert over.qcow2 $target
	says luks.qcow2 LUKS
	[ ! -e $target ] || die "an output of an encrypted image"
done
