#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# No header makes check run long, take memory or crash.
. "$(dirname "$0")/check-lib.sh"

# quick STATUSES IMG: within seconds and bounded memory (convert-lib.sh: hostile)
quick() {
	local status=0
	timeout -s KILL $((10 * slower)) "$_cli/bounded.sh" "$QDEDUP" check --memory=64M "$2" >out 2>err || status=$?
	case " $1 " in
	*" $status "*) ;;
	*) die "$2: exited $status, expected $1: $(head -n 5 out err)" ;;
	esac
}

for cluster in 512 64K 2M; do
	for bits in 1 16 64; do
		qemu-img create -q -f qcow2 -o cluster_size=$cluster,refcount_bits=$bits base.img 1M
		qemu-io -c 'write 0 1M' base.img >/dev/null
		for size in 1T 100T 4P 6E; do
			cp base.img x.img
			truncate -s $size x.img 2>/dev/null || continue
			quick '0 1' x.img
			damage x.img 'header.l1_entries = 4M' 'header.size = SPAN * 4M - 1'
			quick '0 1 2 3' x.img
			damage x.img 'header.reftable_clusters = 8M / CLUSTER' 'header.reftable_off = 1M * CLUSTER'
			quick '1 2' x.img
		done
	done
done

# tables of snapshots that lie on top of each other, as many as there can be
qemu-img create -q -f qcow2 -o cluster_size=512 x.img 1M
qemu-io -c 'write 0 1M' x.img >/dev/null
qemu-img snapshot -c s x.img
python3 - <<'END'
import struct
f = open("x.img", "r+b")
f.seek(0, 2)
at = (f.tell() + 511) // 512 * 512
one = lambda i: struct.pack(">QIHHIIQII", 65536 + i % 2 * 512, 4 << 20, 1, 1, 0, 0, 0, 0, 16) + struct.pack(">QQ", 0, 1 << 40) + b"1s"
entry = one(0)
f.seek(at)
for i in range(65536):
    e = one(i)
    f.write(e + bytes(-len(e) % 8))
f.seek(60)
f.write(struct.pack(">IQ", 65536, at))
END
truncate -s 1G x.img
quick '2' x.img

# half a gigabyte of L1 table whose entries all name one table
qemu-img create -q -f qcow2 -o cluster_size=64K x.img 1M
qemu-io -c 'write 0 1M' x.img >/dev/null
python3 - <<'END'
import struct
f = open("x.img", "r+b")
f.seek(40)
l1, = struct.unpack(">Q", f.read(8))
f.seek(l1)
entry = f.read(8)
f.seek(64 << 20)
f.write(entry * (4 << 20))
f.seek(36)
f.write(struct.pack(">IQ", 4 << 20, 64 << 20))
f.seek(24)
f.write(struct.pack(">Q", (4 << 20) * 512 << 20))
END
quick '2 1' x.img
