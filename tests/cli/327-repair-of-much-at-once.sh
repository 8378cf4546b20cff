#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Hundreds of broken roots, a whole bitmap table or all snapshots, are repaired in one run.
. "$(dirname "$0")/check-lib.sh"

repaired() {
	exits 2 "$QDEDUP" check disk.img >/dev/null
	exits 0 "$QDEDUP" check --repair disk.img >out
	[ "$(wc -l <out)" -lt 40 ] || die "too much is printed"
	check_clean disk.img
	exits 0 "$QDEDUP" check -q disk.img >/dev/null
	same disk.img base.img
}

qemu-img create -q -f qcow2 -o cluster_size=4k base.img 8G
qemu-io -f qcow2 -c 'write -P 1 0 1M' base.img >/dev/null
qemu-img bitmap --add -g 512 base.img one
cp base.img disk.img
for i in $(seq 0 300); do
	printf 'be64[be64[ext[BITMAPS].be64[16]] + %d] = 0x0100000000000000\n' $((i * 8))
done >edits
mapfile -t edits <edits
damage disk.img "${edits[@]}"
repaired

qemu-img create -q -f qcow2 base.img 64M
qemu-io -f qcow2 -c 'write -P 1 0 1M' base.img >/dev/null
cp base.img disk.img
"$_python" - <<'PY'
import struct
with open("disk.img", "r+b") as f:
    data = f.read()
    end = -(-len(data) // 65536) * 65536
    f.seek(end)
    for i in range(500):
        ident = b"%d" % (i + 1)
        entry = struct.pack(">QIHHIIQII", (1 << 40) + i * 65536, 1, len(ident), 1, 0, 0, 0, 0, 24)
        entry += struct.pack(">QQQ", 0, 64 << 20, 0) + ident + b"s"
        f.write(entry + bytes(-len(entry) % 8))
    f.seek(60)
    f.write(struct.pack(">IQ", 500, end))
PY
repaired
is 1 "$(grep -c "^repair dropped" out)" "kinds of things given up"
is 500 "$(qemu-img snapshot -l disk.img | grep -c ' s ')" "snapshots that are still there"

# more snapshots than rounds share the active L1 table, their own being lost or not
mkmany() {
	"$_python" - "$1" <<'PY'
import struct, sys
with open("disk.img", "r+b") as f:
    data = f.read()
    cs = 65536
    l1_off, = struct.unpack_from(">Q", data, 40)
    end = -(-len(data) // cs) * cs
    table = data[l1_off:l1_off + 8]
    f.seek(end)
    for i in range(300):
        ident = b"%d" % (i + 1)
        entry = struct.pack(">QIHHIIQII", l1_off, 1, len(ident), 1, 0, 0, 0, 0, 24)
        entry += struct.pack(">QQQ", 0, 64 << 20, 0) + ident + b"s"
        f.write(entry + bytes(-len(entry) % 8))
    f.seek(60)
    f.write(struct.pack(">IQ", 300, end))
    if sys.argv[1] == "lost":
        first = end // cs + 1
        for i in range(300):
            f.seek((first + i) * cs)
            f.write(table)
        block, = struct.unpack_from(">Q", data, struct.unpack_from(">Q", data, 48)[0])
        f.seek(block + first * 2)
        f.write(b"\0\1" * 300)
        f.truncate((first + 300) * cs)
PY
}
for what in shared lost; do
	cp base.img disk.img
	mkmany $what
	repaired
	is 300 "$(qemu-img snapshot -l disk.img | grep -c ' s ')" "snapshots that are still there"
	qemu-img convert -l snapshot.id=300 -O raw disk.img snap.raw
	same base.img snap.raw
done

# a sector of the L1 table, in an image with more clusters than are worth reading
qemu-img create -q -f qcow2 -o preallocation=metadata base.img 64G
qemu-io -f qcow2 -c 'write -P 1 1G 1M' -c 'write -P 2 20G 64k' -c 'write -P 3 40G 64k' base.img >/dev/null
cp --sparse=always base.img disk.img
"$_python" - <<'PY'
import struct
with open("disk.img", "r+b") as f:
    f.seek(40)
    at, = struct.unpack(">Q", f.read(8))
    f.seek(at)
    entries = struct.unpack(">64Q", f.read(512))
    f.seek(at)
    f.write(struct.pack(">64Q", *(e | 1 << 50 for e in entries)))
PY
repaired
