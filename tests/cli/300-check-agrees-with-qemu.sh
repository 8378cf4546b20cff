#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# check agrees with qemu-img check on every kind of image that qemu-img makes.
. "$(dirname "$0")/check-lib.sh"

# write_some IMG: data, zeroes, a discard, fragments
write_some() {
	qemu-io -t unsafe -c 'write -P 1 0 300k' -c 'write -P 2 1M 70k' -c 'write -P 3 64k 128k' -c 'write -z 2M 512k' \
		-c 'write -P 4 3900k 100k' -c 'write -P 5 2200k 3k' -c 'discard 128k 64k' "$1" >/dev/null
}

mkdata data.raw 4M 7 text

for cluster in 512 1K 2K 4K 8K 16K 32K 64K 128K 256K 512K 1M 2M; do
	qemu-img create -q -f qcow2 -o cluster_size=$cluster c.img 4M
	agrees c.img 0
	write_some c.img
	agrees c.img 0
	qemu-img convert -t unsafe -O qcow2 -c -o cluster_size=$cluster data.raw z.img
	agrees z.img 0
	qemu-io -t unsafe -c 'write 100k 700k' z.img >/dev/null
	agrees z.img 0
done

for bits in 1 2 4 8 16 32 64; do
	for cluster in 512 4K 64K 2M; do
		qemu-img create -q -f qcow2 -o cluster_size=$cluster,refcount_bits=$bits r.img 4M
		write_some r.img
		agrees r.img 0
		[ "$bits" -gt 1 ] || continue
		qemu-img snapshot -c one r.img
		write_some r.img
		qemu-img snapshot -c two r.img
		qemu-io -t unsafe -c 'write 0 4M' r.img >/dev/null
		agrees r.img 0
		qemu-img snapshot -d one r.img
		agrees r.img 0
	done
done

# versions, and from one to the other
qemu-img create -q -f qcow2 -o compat=0.10 v2.img 4M
write_some v2.img
qemu-img snapshot -c s v2.img
qemu-io -t unsafe -c 'write 64k 1M' v2.img >/dev/null
agrees v2.img 0
qemu-img amend -o compat=1.1 v2.img
write_some v2.img
agrees v2.img 0
qemu-img amend -o refcount_bits=64 v2.img
agrees v2.img 0

# compression
for type in zlib zstd; do
	qemu-img convert -t unsafe -O qcow2 -c -o compression_type=$type,cluster_size=4K data.raw z.img
	qemu-img snapshot -c s z.img
	qemu-io -t unsafe -c 'write 3k 900k' -c 'discard 2M 1M' z.img >/dev/null
	agrees z.img 0
done

# extended L2 entries
for cluster in 16K 64K 2M; do
	qemu-img create -q -f qcow2 -o extended_l2=on,cluster_size=$cluster x.img 40M
	write_some x.img
	qemu-io -t unsafe -c 'write 7k 1k' -c 'write -z 4k 2k' -c 'write 30M 512' x.img >/dev/null
	agrees x.img 0
	qemu-img snapshot -c s x.img
	write_some x.img
	agrees x.img 0
done
qemu-img convert -t unsafe -O qcow2 -c -o extended_l2=on data.raw x.img
qemu-io -t unsafe -c 'write 100k 1k' x.img >/dev/null
agrees x.img 0

# preallocation
for how in metadata falloc full; do
	qemu-img create -q -f qcow2 -o preallocation=$how p.img 5M
	agrees p.img 0
	write_some p.img
	agrees p.img 0
done
qemu-img create -q -f qcow2 -o preallocation=metadata,extended_l2=on p.img 5M
agrees p.img 0

# backing files, sizes
qemu-img create -q -f qcow2 -b data.raw -F raw b.img
write_some b.img
agrees b.img 0
for size in 0 1 512 65537 1T 60T; do
	qemu-img create -q -f qcow2 s.img $size
	agrees s.img 0
done
qemu-img create -q -f qcow2 s.img 3T
qemu-io -t unsafe -c 'write 2T 64k' -c 'write 1T 64k' s.img >/dev/null
qemu-img resize -q --shrink s.img 1500G
agrees s.img 0
qemu-img resize -q s.img 5T
agrees s.img 0

# external data files
for raw in on off; do
	rm -f d.data
	qemu-img create -q -f qcow2 -o data_file=d.data,data_file_raw=$raw d.img 8M
	agrees d.img 0
	write_some d.img
	agrees d.img 0
done
rm -f d.data
qemu-img create -q -f qcow2 -o data_file=d.data,preallocation=metadata d.img 8M
agrees d.img 0

# bitmaps
qemu-img create -q -f qcow2 m.img 64M
qemu-img bitmap --add m.img first
qemu-io -t unsafe -c 'write 0 5M' m.img >/dev/null
qemu-img bitmap --add -g 512 m.img second
qemu-img bitmap --disable m.img second
qemu-io -t unsafe -c 'write 32M 5M' m.img >/dev/null
agrees m.img 0
qemu-img create -q -f qcow2 -o cluster_size=512 m.img 6M
for i in $(seq 20); do
	qemu-img bitmap --add -g 512 m.img "bitmap-$i"
done
qemu-io -t unsafe -c 'write 0 5M' m.img >/dev/null
agrees m.img 0

# encryption
for how in luks aes; do
	# on a busy machine QEMU may find the key derivation too hard to measure
	for _ in $(seq 20); do
		! qemu-img create -q -f qcow2 --object secret,id=s,data=abc \
			-o encrypt.format=$how,encrypt.key-secret=s e.img 4M || break
		rm -f e.img
	done
	# shellcheck disable=SC2054  # one word
	QEMU_OPTS=(--object secret,id=s,data=abc --image-opts "driver=qcow2,encrypt.key-secret=s,file.filename=e.img")
	agrees e.img 0
done
QEMU_OPTS=()

# a VM's state lies past the end of the disk
qemu-img create -q -f qcow2 vm.img 4M
qemu-io -t unsafe -c 'write 0 1M' vm.img >/dev/null
qemu-img snapshot -c a vm.img
qemu-img resize -q vm.img 8M
agrees vm.img 0

# refused alike
qemu-img create -q -f raw r.raw 1M
fails 63 "$QDEDUP" check r.raw
fails 63 "$QDEDUP" check -f raw c.img
fails 1 "$QDEDUP" check -f qcow2 r.raw
fails 1 "$QDEDUP" check missing
