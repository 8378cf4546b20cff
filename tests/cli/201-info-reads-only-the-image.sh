#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# info opens nothing that the image names, works on damaged and locked images, and follows
# a chain only when told to.
. "$(dirname "$0")/lib.sh"

qemu-img create -q -u -f qcow2 -b missing -F qcow2 orphan 1M
ok "$QDEDUP" info orphan >text
grep -q 'backing file: *missing' text || die "no backing file in: $(cat text)"
fails 1 "$QDEDUP" info --backing-chain orphan
says missing
ok "$QDEDUP" info --untrusted orphan >/dev/null
fails 1 "$QDEDUP" info --untrusted --backing-chain orphan
says untrusted

qemu-img create -q -u -f qcow2 -b nbd://localhost/x -F raw protocol 1M
fails 1 "$QDEDUP" info --backing-chain protocol
says 'nbd://localhost/x'
qemu-img create -q -u -f qcow2 -b 'json:{"driver":"null-co"}' -F raw described 1M
fails 1 "$QDEDUP" info --backing-chain described
says json

qemu-img create -q -u -f qcow2 -b loop-b -F qcow2 loop-a 1M
qemu-img create -q -u -f qcow2 -b loop-a -F qcow2 loop-b 1M
fails 1 "$QDEDUP" info --backing-chain loop-a
says loop

qemu-img create -q -f qcow2 -o data_file=data external 1M
rm data
ok "$QDEDUP" info external >text
grep -q 'data file: *data' text || die "no data file in: $(cat text)"

# a damaged snapshot table or L2 table costs what depends on it, and a warning
qemu-img create -q -f qcow2 image 1M
qemu-io -c 'write 0 128k' image >/dev/null
qemu-img snapshot -c one image
cp image damaged
printf '\177' | dd of=damaged bs=1 seek=64 conv=notrunc status=none
ok "$QDEDUP" info --output=json damaged >j
says 'warning: snapshot table'
is false "$(json j '"snapshots" in d')"
cp image damaged
l1=$(python3 -c 'import struct; f = open("damaged", "rb"); f.seek(40); print(struct.unpack(">Q", f.read(8))[0])')
printf '\200\377\377\377\377\0\0\0' | dd of=damaged bs=1 seek="$l1" conv=notrunc status=none
ok "$QDEDUP" info --output=json damaged >j
says 'cannot be true'

fails 1 "$QDEDUP" info nowhere
says nowhere
fails 1 "$QDEDUP" info
says -- '--help'
echo text >text
fails 1 "$QDEDUP" info -f qcow2 text
says 'not a qcow2'
fails 1 "$QDEDUP" info .

# names from an image cannot reach the terminal
qemu-img create -q -u -f qcow2 -b $'bad\e[31m\nname' -F raw hostile 1M
ok "$QDEDUP" info hostile >text
! grep -q $'\e' text || die "an escape character got through"
