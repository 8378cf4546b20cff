#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""iocmds.py SEED CLUSTER COUNT COMMANDS RAW [keeps-discarded]

Writes a list of random commands for `qdedup io`, and does the same to the raw twin: writes
of a byte and of a file, zero writes, discards, flushes, reads that check what was written
last.  Places are few and ranges mostly small, so that clusters are hit again and again.

A discard makes zeros of the whole clusters in its range and leaves the rest alone;
"keeps-discarded" (version 2 with a backing file): it leaves everything alone.  pattern.bin
in the current directory is the file that is written.
"""
import random
import sys

seed, cluster, count = map(int, sys.argv[1:4])
list_name, raw_name = sys.argv[4:6]
keeps = "keeps-discarded" in sys.argv[6:]
rng = random.Random(seed)
with open(raw_name, "rb") as f:
    disk = bytearray(f.read())
size = len(disk)
with open("pattern.bin", "wb") as f:
    f.write(random.Random(4711).randbytes(5000))
with open("pattern.bin", "rb") as f:
    pattern_file = f.read()
places = [rng.randrange(size) for _ in range(6)]
unit = min(cluster, 65536)


def pick():
    """A range: whole clusters, or any bytes near one of the places."""
    if rng.random() < 0.4:
        first = (rng.choice(places) if rng.random() < 0.6 else rng.randrange(size)) // cluster * cluster
        return first, min(rng.choice([1, 1, 2, 3]) * cluster, size - first)
    off = min(max(rng.choice(places) + rng.randrange(-2 * unit, 2 * unit), 0), size - 1)
    return off, min(rng.choice([1, 511, 512, 513, 4096, unit, rng.randrange(1, 3 * unit)]), size - off)


lines = []
for _ in range(count):
    off, n = pick()
    kind = rng.choice(["byte", "byte", "byte", "file", "zero", "zero", "discard", "read", "flush"])
    if kind == "byte":
        value = rng.choice([0, rng.randrange(1, 256)])
        lines.append(f"write -P {value} {off} {n}")
        disk[off:off + n] = bytes([value]) * n
    elif kind == "file":
        lines.append(f"write -s pattern.bin {off} {n}")
        disk[off:off + n] = (pattern_file * (n // len(pattern_file) + 1))[:n]
    elif kind == "zero":
        lines.append(f"write -z {off} {n}")
        disk[off:off + n] = bytes(n)
    elif kind == "discard":
        lines.append(f"discard {off} {n}")
        first = -(-off // cluster) * cluster
        end = off + n if off + n == size else (off + n) // cluster * cluster
        if first < end and not keeps:
            disk[first:end] = bytes(end - first)
    elif kind == "flush":
        lines.append("flush")
    else:
        end = off
        while end < off + n and disk[end] == disk[off]:
            end += 1
        lines.append(f"read -P {disk[off]} {off} {end - off}")
with open(list_name, "w") as f:
    print("\n".join(lines), file=f)
with open(raw_name, "wb") as f:
    f.write(disk)
