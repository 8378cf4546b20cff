#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# verify: 0 when all match, 2 when some do not, 1 when it could not be completed; it takes the lock or not.
. "$(dirname "$0")/rehash-lib.sh"

noise base.raw 2M 515
ok "$QDEDUP" convert -q -t unsafe base.raw img.qcow2
ok "$QDEDUP" rehash -q img.qcow2
ok "$QDEDUP" verify img.qcow2 >text
grep -q '32 clusters compared' text || die 'no text'
ok "$QDEDUP" verify -q img.qcow2 >text
[ ! -s text ] || die '-q is not quiet'
qemu-img convert -O qcow2 base.raw none.qcow2
fails 1 "$QDEDUP" verify none.qcow2
says 'no index' 'qdedup rehash'
qemu-img convert -O qcow2 -o compat=0.10 base.raw old.qcow2
fails 1 "$QDEDUP" verify old.qcow2
says 'no index to compare with, and there cannot be one: compat=0.10'
fails 1 "$QDEDUP" verify base.raw
fails 1 "$QDEDUP" verify -f raw base.raw
fails 1 "$QDEDUP" verify missing.qcow2
cp img.qcow2 before
chmod a-w img.qcow2
ok "$QDEDUP" verify -q img.qcow2
cmp img.qcow2 before || die 'verify wrote'
chmod u+w img.qcow2
hold writer qemu-io img.qcow2
tell writer 'read 0 512'
wait_for grep -q 'read 512' writer.out
fails 1 "$QDEDUP" verify img.qcow2
ok "$QDEDUP" verify -q -U img.qcow2
release writer
off=$(index clusters before | sed -n '3s/ .*//p')
poke before $((off + 1000)) 4 0x12345678
exits 2 "$QDEDUP" verify --output=json before >verify.json
is 131072 "$(json verify.json 'd["bad"][0]["offset"]')" 'offset'
is 65536 "$(json verify.json 'd["bad"][0]["length"]')" 'length'
is active "$(json verify.json 'd["bad"][0]["layer"]')" 'layer'
is 32 "$(json verify.json 'd["checked"]')" 'checked'
is 0 "$(json verify.json 'd["unknown"]')" 'unknown'
