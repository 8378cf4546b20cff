#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""writes.py SEED SIZE CLUSTER COUNT QCOW2-COMMANDS RAW-COMMANDS

Writes two lists of qemu-io commands that do the same to a qcow2 image and to a raw file:
random writes, zero writes, discards (of whole clusters; on the raw file, zero writes)
and compressed writes (on the raw file, plain ones), clustered so that they hit the same
places again.
"""
import random
import sys

seed, size, cluster, count = map(int, sys.argv[1:5])
rng = random.Random(seed)
clusters = size // cluster
with open(sys.argv[5], "w") as qcow2, open(sys.argv[6], "w") as raw:
    for _ in range(count):
        first = rng.randrange(clusters)
        n = min(rng.choice([1, 1, 1, 2, 5]), clusters - first)
        whole = f"{first * cluster} {n * cluster}"
        kind = rng.choice(["part", "part", "part", "whole", "whole", "zero", "unmap", "discard", "packed"])
        pattern = rng.choice([0, 0xA5, rng.randrange(1, 256)])
        if kind == "part":
            off = rng.randrange(first * cluster, min((first + n) * cluster, size))
            part = f"write -P {pattern} {off} {min(rng.randrange(1, 2 * cluster), size - off)}"
            print(part, file=qcow2)
            print(part, file=raw)
        elif kind == "packed":
            one = f"{first * cluster} {cluster}"
            print(f"discard {one}", file=qcow2)    # QEMU compresses only where nothing is
            print(f"write -c -P {pattern} {one}", file=qcow2)
            print(f"write -P {pattern} {one}", file=raw)
        elif kind == "whole":
            print(f"write -P {pattern} {whole}", file=qcow2)
            print(f"write -P {pattern} {whole}", file=raw)
        else:
            how = {"zero": "write -z", "unmap": "write -z -u", "discard": "discard"}[kind]
            print(f"{how} {whole}", file=qcow2)
            print(f"write -z {whole}", file=raw)
    print("flush", file=qcow2)
