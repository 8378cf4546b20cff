#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# stats of several images is an array; a bad one is reported and the others are shown;
# damage does not stop it; only the image itself is opened.
. "$(dirname "$0")/lib.sh"

qemu-img create -q -f qcow2 a 4M
qemu-io -c 'write 0 1M' a >/dev/null
qemu-img create -q -u -f qcow2 -b missing -F raw b 1M
truncate -s 70000 c.raw

ok "$QDEDUP" stats --output=json a >j
is dict "$(json j 'type(d).__name__')"
ok "$QDEDUP" stats --output=json a b c.raw >j
is 'a b c.raw' "$(json j '" ".join(s["filename"] for s in d)')"
is '["actual-size", "filename", "format", "virtual-size"]' "$(json j 'sorted(d[2])')"
is 70144 "$(json j 'd[2]["virtual-size"]')"

exits 1 "$QDEDUP" stats --output=json a nowhere c.raw >j
says nowhere
is 'a c.raw' "$(json j '" ".join(s["filename"] for s in d)')"
fails 1 "$QDEDUP" stats --output=json nowhere
fails 1 "$QDEDUP" stats
says -- --help

ok "$QDEDUP" stats a >text
grep -Eq '^ +1 \|#{40} 16 \(100.0 %\)$' text || die "no chart in: $(cat text)"

# entries that cannot be true are left out and numbered
cp a broken
python3 - <<-'END'
import struct
with open("broken", "r+b") as f:
    f.seek(40)
    l1, = struct.unpack(">Q", f.read(8))
    f.seek(l1)
    l2, = struct.unpack(">Q", f.read(8))
    f.seek(l2 & ~(1 << 63))
    f.write(struct.pack(">QQ", 1 << 63 | 1 << 50, 1 << 62 | 1 << 51))
END
ok "$QDEDUP" stats --output=json broken >j
says 'cannot be true'
is '[2, 14, 2]' "$(json j '[d["bad-entries"], d["references"], d["leaked-clusters"]]')"

# an image in use, with and without -U
mkfifo to-qemu
"$QIO" a <to-qemu >said 2>&1 &
at_exit "kill $!; wait $!"
exec 9>to-qemu
echo 'write 0 64k' >&9
for ((i = 0; i < 200; i++)); do
	! grep -q wrote said || break
	sleep 0.1
done
fails 1 "$QDEDUP" stats a
says 'force-share'
ok "$QDEDUP" stats -U a >/dev/null
