#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# compare exits 0, 1 or 2, says why, and nothing with -q.
. "$(dirname "$0")/kinds.sh"

mkdata a.raw 1M 1 random
cp a.raw b.raw
cp a.raw longer.raw
truncate -s 2M longer.raw
cp longer.raw other-end.raw
printf x | dd of=other-end.raw bs=1 seek=1500000 conv=notrunc status=none

is 'Images are identical.' "$(ok "$QDEDUP" compare a.raw b.raw)"
is '' "$(ok "$QDEDUP" compare -q a.raw b.raw)"
ok "$QDEDUP" compare a.raw longer.raw >text
says 'warning: .*differ in size: 1048576 and 2097152'
ok "$QDEDUP" compare -q longer.raw a.raw
is '' "$ERR"
exits 1 "$QDEDUP" compare -s a.raw longer.raw >text
grep -q 'size mismatch' text
exits 1 "$QDEDUP" compare a.raw other-end.raw >text
grep -q 'mismatch at offset 1499648' text
exits 1 "$QDEDUP" compare -q other-end.raw a.raw >text
is '' "$(cat text)"

# marked as zeros, or never written
qemu-img create -q -f qcow2 never 1M
qemu-img create -q -f qcow2 marked 1M
qemu-io -c 'write -z 128k 64k' marked >/dev/null
ok "$QDEDUP" compare never marked >text
exits 1 "$QDEDUP" compare -s never marked >text
grep -q 'Offset 131072 ' text
exits 1 "$QDEDUP" compare --strict --output=json marked never >j
is '["allocation", 131072]' "$(json j '[d["difference"], d["offset"]]')"

exits 1 "$QDEDUP" compare --output=json a.raw other-end.raw >j
is '["content", false, 1499648, 1500000, false]' \
	"$(json j '[d["difference"], d["identical"], d["offset"], d["byte-offset"], d["same-size"]]')"
ok "$QDEDUP" compare --output=json a.raw b.raw >j
is '{"identical": true, "same-size": true}' "$(json j d)"

# what could not be found out is neither 0 nor 1
fails 2 "$QDEDUP" compare a.raw nowhere
says 'nowhere'
fails 2 "$QDEDUP" compare a.raw
fails 2 "$QDEDUP" compare a.raw b.raw longer.raw
fails 2 "$QDEDUP" compare -F vmdk a.raw b.raw
make_luks luks
fails 2 "$QDEDUP" compare a.raw luks
says 'luks: .*LUKS'
qemu-img create -q -f qcow2 -b a.raw -F raw overlay
ok "$QDEDUP" compare -f raw a.raw overlay >text
fails 2 "$QDEDUP" compare --untrusted a.raw overlay
says untrusted
mkdata t.raw 1M 2 text
qemu-img convert -f raw -O qcow2 -c t.raw broken
printf '\377\377\377\377\377\377' | dd of=broken bs=1 seek=$(($(stat -c %s broken) - 9000)) conv=notrunc status=none
fails 2 "$QDEDUP" compare t.raw broken
says 'broken: guest offset'

# a difference before the place that cannot be read counts
printf '\377' | dd of=t.raw bs=1 seek=5 conv=notrunc status=none
exits 1 "$QDEDUP" compare t.raw broken >text
grep -q 'first different byte: 5' text

ok "$QDEDUP" compare -p --progress-fd=3 a.raw b.raw 3>lines >text
says '100.0 %'
is '{"current": 1048576, "finished": true, "operation": "compare", "total": 1048576}' \
	"$(tail -n 1 lines | json - d)"
