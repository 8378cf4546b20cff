# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# make_kinds: small images of every kind that stock QEMU makes, in the current directory;
# their names are then in the array KINDS (raw ones end in .raw).  Their guests have 3 MiB
# of data, zeros and nothing in places that differ from kind to kind; chains and external
# data files lie beside them.

. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# shellcheck disable=SC2034,SC2154  # for the tests; lib.sh
WALKER=$_top/tests/cli/qcow2walk.py
KINDS=()

# fill IMAGE: data, zeros and holes; the same calls for every format
fill() {
	qemu-io -c 'write -P 0x11 0 256k' -c 'write -P 0x22 300k 3k' -c 'write -z 512k 200k' \
		-c 'write -P 0x33 1M 64k' -c 'write -P 0x44 1600k 130k' -c 'write -z 1601k 9k' \
		-c 'discard 1M 64k' -c 'write -P 0x55 2900k 20k' "$1" >/dev/null
}

# kind NAME [qemu-img create OPTION]...: 3 MiB, filled
kind() {
	local name=$1
	shift
	qemu-img create -q -f qcow2 "$@" "$name" 3M
	fill "$name"
	KINDS+=("$name")
}

# make_luks NAME: an encrypted image; qemu-img measures the processor for it and sometimes fails
make_luks() {
	local try
	for ((try = 0; try < 20; try++)); do
		qemu-img create -q --object secret,id=s,data=abc -f qcow2 \
			-o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10 "$1" 3M 2>luks.err && return
	done
	die "$(cat luks.err)"
}

make_raw_kinds() {
	local name
	qemu-img create -q -f raw plain.raw 3M
	qemu-io -f raw -c 'write -P 0x11 0 256k' -c 'write -P 0x22 1300k 3k' plain.raw >/dev/null
	head -c 70001 /dev/urandom >odd.raw
	truncate -s 200001 sparse-odd.raw
	dd if=odd.raw of=sparse-odd.raw bs=1 count=5000 seek=100000 conv=notrunc status=none
	truncate -s 0 empty.raw
	truncate -s 5M hole.raw
	for name in plain odd sparse-odd empty hole; do KINDS+=("$name.raw"); done
}

make_compressed_kinds() {
	local type cluster
	"$QD_TOOLS/mkdata" source.raw 3M 7 text
	dd if=/dev/zero of=source.raw bs=64k seek=8 count=16 conv=notrunc status=none
	for type in zlib zstd; do
		for cluster in 4k 64k; do
			qemu-img convert -c -f raw -O qcow2 -o "compression_type=$type,cluster_size=$cluster" source.raw \
				"packed-$type-$cluster"
			KINDS+=("packed-$type-$cluster")
		done
	done
	cp packed-zlib-64k packed-mixed
	qemu-io -c 'write -P 0x66 100k 100k' -c 'write -z 1M 10k' packed-mixed >/dev/null
	KINDS+=(packed-mixed)
}

make_layered_kinds() {
	kind snapshots
	qemu-img snapshot -c first snapshots
	qemu-io -c 'write -P 0x77 200k 500k' snapshots >/dev/null
	qemu-img snapshot -c 'second, with a longer name' snapshots
	qemu-io -c 'write -P 0x78 2M 100k' -c 'discard 0 128k' snapshots >/dev/null

	kind base
	qemu-img create -q -f qcow2 -b base -F qcow2 overlay 4M
	qemu-io -c 'write -P 0x79 100k 30k' -c 'write -z 1M 100k' -c 'write -P 0x7a 3900k 1k' overlay >/dev/null
	mkdir chain
	qemu-img create -q -f qcow2 -b ../overlay -F qcow2 -o cluster_size=4k chain/top
	qemu-io -c 'write -P 0x7b 0 9k' chain/top >/dev/null
	qemu-img create -q -f qcow2 -b odd.raw -F raw short-backing 3M
	qemu-io -c 'write -P 0x7c 1M 64k' short-backing >/dev/null
	qemu-img create -q -f qcow2 -b "$PWD/base" -F qcow2 -o extended_l2=on sub-overlay
	qemu-io -c 'write -P 0x7d 10k 1k' -c 'write -z 1026k 8k' -c 'write -P 0x7e 2000k 90k' sub-overlay >/dev/null
	KINDS+=(overlay chain/top short-backing sub-overlay)
}

make_preallocated_kinds() {
	local mode
	for mode in metadata falloc full; do
		qemu-img create -q -f qcow2 -o "preallocation=$mode" "prealloc-$mode" 3M
		qemu-io -c 'write -P 0x11 1M 128k' -c 'write -z 2M 128k' "prealloc-$mode" >/dev/null
		KINDS+=("prealloc-$mode")
	done
	qemu-img create -q -f qcow2 -o preallocation=metadata,extended_l2=on prealloc-sub 3M
	qemu-io -c 'write -P 0x11 1M 3k' prealloc-sub >/dev/null
	KINDS+=(prealloc-sub)
}

make_kinds() {
	make_raw_kinds
	kind default
	kind v2 -o compat=0.10
	kind c512 -o cluster_size=512
	kind c4k -o cluster_size=4k,refcount_bits=8
	kind c2m -o cluster_size=2M
	kind rc1 -o refcount_bits=1
	kind rc2 -o refcount_bits=2,cluster_size=1k
	kind rc64 -o refcount_bits=64,lazy_refcounts=on
	kind sub -o extended_l2=on
	kind sub16k -o extended_l2=on,cluster_size=16k
	kind zstd -o compression_type=zstd
	kind external -o data_file=external-data
	kind external-raw -o data_file=external-raw-data,data_file_raw=on
	qemu-img create -q -f qcow2 nothing 3M
	qemu-img create -q -f qcow2 size0 0
	qemu-img create -q -f qcow2 odd-size 100001536
	qemu-img create -q -f qcow2 huge 40T
	KINDS+=(nothing size0 odd-size huge)
	make_compressed_kinds
	make_layered_kinds
	make_preallocated_kinds
	# ext4 calls preallocated space a hole until a page of it is cached: settle that
	cat ./* chain/* >/dev/null 2>&1 || true
}
