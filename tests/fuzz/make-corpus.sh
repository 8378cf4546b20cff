#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# make-corpus.sh DIRECTORY
#
# Makes seed images with qemu-img: DIRECTORY/NAME/ for each target tests/fuzz/fuzz_NAME.c.
# Clusters of 512 bytes keep them small; two are larger because what they show needs it.
set -eu
[ $# -eq 1 ] || { echo "usage: $0 DIRECTORY" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
cd "$1"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# 64 KiB with a compressible cluster, zeros, and lines that differ.
{
	yes 'the same line' | head -c 4096
	head -c 28672 /dev/zero
	seq 1 7000 | head -c 32768
} >"$work/raw"

# 6 KiB for the variants whose clusters are small: the smaller an input, the further a fuzzer gets.
{
	yes 'the same line' | head -c 1536
	head -c 1024 /dev/zero
	seq 1 7000 | head -c 3584
} >"$work/small"

make() {
	local name=$1
	shift
	qemu-img convert -q -f raw -O qcow2 "$@" "$work/raw" "$work/$name.qcow2"
	case "$*" in
	*=512*) qemu-img convert -q -f raw -O qcow2 "$@" "$work/small" "$work/small-$name.qcow2" ;;
	esac
}

make v2 -o compat=0.10,cluster_size=512
make v3 -o cluster_size=512
make zlib -c -o cluster_size=4096
make zstd -c -o cluster_size=4096,compression_type=zstd
make refcount1 -o cluster_size=512,refcount_bits=1
make refcount64 -o cluster_size=512,refcount_bits=64,lazy_refcounts=on
make extended_l2 -o cluster_size=16k,extended_l2=on
make snapshot -o cluster_size=512
make bitmap -o cluster_size=512
for size in '' small-; do
	qemu-img snapshot -c first "$work/${size}snapshot.qcow2"
	qemu-img snapshot -c 'a second one' "$work/${size}snapshot.qcow2"
	qemu-img bitmap --add -g 4096 "$work/${size}bitmap.qcow2" dirty
	qemu-img bitmap --add -g 512 "$work/${size}bitmap.qcow2" frozen
	qemu-io -c 'write -P 7 1k 3k' "$work/${size}bitmap.qcow2" >"$work/log"
	qemu-img bitmap --disable "$work/${size}bitmap.qcow2" frozen
done
# Enough dirty bits to fill a cluster of them.
qemu-img create -q -f qcow2 -o cluster_size=512 "$work/ones.qcow2" 5M
qemu-img bitmap --add -g 512 "$work/ones.qcow2" all
qemu-io -c 'discard 0 5M' "$work/ones.qcow2" >"$work/log"
qemu-img create -q -u -f qcow2 -o cluster_size=512 -b base.raw -F raw "$work/backing.qcow2" 64k
qemu-img create -q -f qcow2 "$work/feature_names.qcow2" 64k

for target in "$here"/fuzz_*.c; do
	name=$(basename "$target" .c)
	name=${name#fuzz_}
	mkdir -p "$name"
	cp "$work"/*.qcow2 "$name/"
done

# Records of a scan are text.
{
	printf '#image\tdir/a b.qcow2\t1048576\txxh128,4096:0:0,65536:65536:0\n'
	printf '#backing\tback\\\\slash\\t\\n\\x01\\@1\t3000\tsha256,512:512:1024\n'
	printf '00112233445566778899aabbccddeeff\tdir/a b.qcow2\t4096\t4096\n'
} >scan_record/records
