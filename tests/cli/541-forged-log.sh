#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A log whose checksums are right, with a record that no table could hold: an entry in the middle of a
# cluster with the hash of what lies there, one beyond what an entry can say, unknown flags.  None of its
# records is believed, and io, which would share that place, does without the index.
. "$(dirname "$0")/io-lib.sh"

cat >forge.py <<'END'
import sys
sys.path.insert(0, sys.argv[1])
from indexread import HASHES, Image, crc
name, how = sys.argv[2:]
img = Image(name)
x, at = img.x, img.x.off + img.x.journal
log = bytearray(img.container(x.journal, x.log_clusters * 4096))
pos, first = 56, None
while log[pos + 1] not in (2, 3) or (log[pos + 1] == 3) != (how == "revoke"):
    pos += 2 + log[pos]
pos += 2
entry = int.from_bytes(log[pos:pos + 8], "big")
window = img.read(img.f, entry + 512, 4096)
if how in ("middle", "revoke"):
    log[pos:pos + 8] = (entry + 512).to_bytes(8, "big")
elif how == "high":
    log[pos] |= 1
elif how == "copied":
    log[pos] |= 0x80
elif how == "flags":
    log[pos + 8] |= 8
if how not in ("none", "revoke"):
    log[pos + 14:pos + 14 + x.hash_nbytes] = HASHES[x.hash][1](window)
log[4:8] = crc(log[8:4096]).to_bytes(4, "big")
first = bytearray(img.read(img.f, 0, 4096))
ext = first.index(bytes.fromhex("cd8e819b00000070")) + 8
first[ext + 92:ext + 96] = crc(log).to_bytes(4, "big")
first[ext + 108:ext + 112] = crc(first[ext:ext + 108]).to_bytes(4, "big")
with open(name, "r+b") as f:
    f.write(first)
    f.seek(at)
    f.write(log)
with open("window", "wb") as f:
    f.write(window)
END

mkdata base.raw 1M 541 random
ok "$QDEDUP" convert -q -t unsafe -o cluster_size=4K base.raw good.qcow2
ok "$QDEDUP" journal -q -t unsafe --size=64K create good.qcow2
mkdata more.raw 64K 542 random
ok "$QDEDUP" io -q -t unsafe -c 'write -s more.raw 100K 64K' -c 'discard 132K 16K' good.qcow2
"$_python" "$_cli/indexread.py" list good.qcow2 >good.list
for how in none middle high copied flags revoke; do
	cp good.qcow2 bad.qcow2
	"$_python" forge.py "$_cli" bad.qcow2 $how
	ok "$QDEDUP" journal -q -t unsafe verify bad.qcow2	# the checksums are right
	"$QDEDUP" verify --output=json bad.qcow2 >verify.json || true
	wanted=0
	[ $how != none ] || wanted=1
	is $wanted "$(json verify.json 'int(d["checked"] > 0)')" "$how: a record is believed"
	"$QIMG" convert -O raw bad.qcow2 twin.raw
	dd if=window of=twin.raw bs=4K seek=200 conv=notrunc status=none
	ok "$QDEDUP" io -q -t unsafe -c 'write -s window 800K 4K' bad.qcow2
	check_clean bad.qcow2
	same twin.raw bad.qcow2
	ok "$QDEDUP" rehash -q -t unsafe bad.qcow2
	ok "$QDEDUP" verify -q bad.qcow2
done
