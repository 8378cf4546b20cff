#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""emptyblocks.py IMAGE: takes the refcount blocks that count nothing but themselves out of the
table of an image with 64-bit refcounts, which is legal; prints how many."""
import struct
import sys

with open(sys.argv[1], 'r+b') as f:
    image = f.read()
    size = 1 << struct.unpack_from('>I', image, 20)[0]
    table, clusters = struct.unpack_from('>QI', image, 48)
    entries, dropped = size // 8, 0
    for i in range(clusters * entries):
        block, = struct.unpack_from('>Q', image, table + 8 * i)
        if not block or block // size // entries != i:
            continue
        counts = struct.unpack_from(f'>{entries}Q', image, block)
        if not any(n for k, n in enumerate(counts) if (i * entries + k) * size != block):
            f.seek(table + 8 * i)
            f.write(bytes(8))
            dropped += 1
print(dropped)
