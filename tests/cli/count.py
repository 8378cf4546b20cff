#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""count.py RAW CLUSTER-SIZE [CAP]

What a deduplicated image of RAW must hold, counted on the guest's bytes with a
dictionary of whole clusters.  The last cluster is padded with zeros.  Prints four numbers:

  data        distinct non-zero clusters; with CAP, contents that occur n times count ceil(n / CAP)
  references  non-zero clusters
  shared      stored clusters with two references or more
  max-share   the most references one stored cluster has
"""
import sys
from collections import Counter


def main(path, cluster, cap=0):
    zero, seen = bytes(cluster), Counter()
    with open(path, "rb") as f:
        while data := f.read(cluster):
            data = data.ljust(cluster, b"\0")
            if data != zero:
                seen[data] += 1
    cap = cap or max(seen.values(), default=1)
    data = sum(-(-n // cap) for n in seen.values())
    shared = sum(n // cap * (cap > 1) + (n % cap > 1) for n in seen.values())
    print(data, sum(seen.values()), shared, max((min(n, cap) for n in seen.values()), default=0))


main(sys.argv[1], *map(int, sys.argv[2:]))
