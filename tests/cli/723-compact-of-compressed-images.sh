#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Streams of every length, some nearly a cluster long, packed anew after deduplication made holes: content, both
# checks, the hash table, and a file at most 2 % larger than convert -c makes.
. "$(dirname "$0")/lib.sh"

"$_python" - <<'EOP'
import random
rnd = random.Random(723)
with open('disk.raw', 'wb') as f:
    pool = []
    while f.tell() < 6 << 20:
        if pool and rnd.random() < .4:
            f.write(rnd.choice(pool))
            continue
        size = rnd.choice([1024, 4096, 8192])
        noise = int(size * rnd.choice([.05, .3, .6, .9, .97, .99, 1]))
        pool.append(rnd.randbytes(noise) + b'a' * (size - noise))
        f.write(pool[-1])
EOP
truncate -s 6M disk.raw
for options in cluster_size=1K cluster_size=4K cluster_size=8K,compression_type=zstd cluster_size=64K \
	cluster_size=4K,refcount_bits=8; do
	qemu-img convert -c -f raw -O qcow2 -o $options disk.raw disk.qcow2
	qemu-img snapshot -c one disk.qcow2
	qemu-io -c 'discard 1M 1M' -c 'write -P 5 2M 100K' disk.qcow2 >/dev/null
	qemu-img convert -O raw disk.qcow2 active.raw
	ok "$QDEDUP" dedup -q -t unsafe disk.qcow2
	ok "$QDEDUP" compact -q -t unsafe disk.qcow2
	check_clean disk.qcow2
	exits 0 "$QDEDUP" check -q disk.qcow2
	same active.raw disk.qcow2 raw qcow2
	qemu-img convert -l one -O raw disk.qcow2 one.raw
	cmp one.raw disk.raw
	ok "$QDEDUP" verify disk.qcow2 >/dev/null
	size=$(stat -c %s disk.qcow2)
	ok "$QDEDUP" compact -q disk.qcow2
	[ $(($(stat -c %s disk.qcow2) + size / 50)) -ge "$size" ] || die "$options: a second run gains more than 2 %"

	# The same streams, with every duplicate.
	ok "$QDEDUP" convert -c --no-dedup -q -t unsafe -f raw -o $options disk.raw disk.qcow2
	ok "$QDEDUP" dedup -q -t unsafe disk.qcow2
	ok "$QDEDUP" compact -q -t unsafe disk.qcow2
	ok "$QDEDUP" convert -c -q -t unsafe -f raw -o $options disk.raw again.qcow2
	size=$(stat -c %s disk.qcow2) again=$(stat -c %s again.qcow2)
	[ "$size" -le $((again + again / 50 + 262144)) ] || die "$options: $size bytes, convert makes $again"
done
