#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""writes.py SEED SIZE CLUSTER COUNT QCOW2-COMMANDS PACKED-COMMANDS RAW-COMMANDS

Writes lists of qemu-io commands, the first two of which do to a qcow2 image what the
third does to a raw file: random writes, zero writes, discards (of whole clusters; on the
raw file, zero writes) and compressed writes (on the raw file, plain ones), clustered so
that they hit the same places again.

The compressed writes are for a qemu-io of their own, and go to clusters discarded before:
QEMU compresses only where nothing is, and QEMU 7.2 can give one host cluster away twice
when compressed writes and discards alternate in one session, with any internal snapshot.
"""
import random
import sys

seed, size, cluster, count = map(int, sys.argv[1:5])
rng = random.Random(seed)
clusters = size // cluster
qcow2, packed, raw = [], [], []
for _ in range(count):
    first = rng.randrange(clusters)
    n = min(rng.choice([1, 1, 1, 2, 5]), clusters - first)
    whole = f"{first * cluster} {n * cluster}"
    kind = rng.choice(["part", "part", "part", "whole", "whole", "zero", "unmap", "discard"])
    pattern = rng.choice([0, 0xA5, rng.randrange(1, 256)])
    if kind == "part":
        off = rng.randrange(first * cluster, min((first + n) * cluster, size))
        part = f"write -P {pattern} {off} {min(rng.randrange(1, 2 * cluster), size - off)}"
        qcow2.append(part)
        raw.append(part)
    elif kind == "whole":
        qcow2.append(f"write -P {pattern} {whole}")
        raw.append(f"write -P {pattern} {whole}")
    else:
        how = {"zero": "write -z", "unmap": "write -z -u", "discard": "discard"}[kind]
        qcow2.append(f"{how} {whole}")
        raw.append(f"write -z {whole}")
for c in rng.sample(range(clusters), min(clusters, count // 8)):
    one = f"{c * cluster} {cluster}"
    pattern = rng.randrange(1, 256)
    packed.append(f"discard {one}")
    packed.append(f"write -c -P {pattern} {one}")
    raw.append(f"write -P {pattern} {one}")
packed.sort()
for name, commands in zip(sys.argv[5:], (qcow2, packed, raw)):
    with open(name, "w") as f:
        print("\n".join(commands), file=f)
