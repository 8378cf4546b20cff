#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""qcow2walk.py [--fresh] [--get KEY]... IMAGE

Walks every structure of a qcow2 image, written from the qcow2 specification alone and
sharing nothing with qdedup, and holds it against the rules of a deduplicated image:

  - each host cluster's refcount is the number of references to it, those of internal
    snapshots (the pin is one) included; clusters without reference have refcount 0
  - COPIED stands in an entry of the active layer if and only if the refcount is 1
  - the pin has a disk size that QEMU refuses to revert to, references nothing twice,
    carries no COPIED, and no zero or compressed flag of its own invention
  - with --fresh (an image that nobody has written to since): the pin references each
    shared cluster and each cluster of an embedded index exactly once and nothing else,
    those of the index have refcount 1, and the file ends with its last referenced cluster

What breaks a rule is printed to stderr, the first few of each kind; exit status 1.
Otherwise prints "key value" lines, or only the values asked for with --get:

  cluster-size refcount-bits version snapshots
  data         distinct data clusters (compressed: descriptors) of the active layer
               and of all snapshots but the pin
  compressed   those of them that are compressed
  references   L2 entries that name them
  shared       those with two references or more
  max-share    the most references that one of them has
  zero         zero entries of the active layer (all subclusters, extended L2)
  prealloc     zero entries that keep a host cluster
  pin          1 when the image has one
  pinned       clusters or descriptors that the pin references, those of the index aside
  index        clusters of the embedded index
  metadata     clusters that hold metadata, those of the index included
"""
import os
import struct
import sys
from array import array
from collections import Counter

OFFSET_MASK = 0x00FFFFFFFFFFFE00
COPIED = 1 << 63
COMPRESSED = 1 << 62
ZERO = 1
INCOMPAT_DATA_FILE, INCOMPAT_EXTL2 = 4, 16
EXT_BITMAPS, EXT_CRYPTO, EXT_QDEDUP = 0x23852875, 0x0537BE77, 0xCD8E819B


class Broken(Exception):
    pass


def be64(data):
    a = array("Q", data)
    if sys.byteorder == "little":
        a.byteswap()
    return a


class Image:
    def __init__(self, path):
        self.f = open(path, "rb")
        self.size = self.f.seek(0, os.SEEK_END)
        self.problems = Counter()
        self.refs = Counter()      # host cluster -> references
        self.meta = set()          # host clusters of metadata
        self.header()
        self.load_refcounts()

    def read(self, off, n, what):
        if off + n > self.size + self.cs - 1:
            raise Broken(f"{what}: {n} bytes at {off:#x} run past the end of the file, {self.size:#x}")
        self.f.seek(off)
        data = self.f.read(n)
        return data + bytes(n - len(data))

    def problem(self, kind, text):
        self.problems[kind] += 1
        if self.problems[kind] <= 5:
            print(f"{kind}: {text}", file=sys.stderr)

    def header(self):
        self.cs = 1
        h = self.read(0, 112, "header")
        (magic, self.version, back_off, back_len, self.bits, self.vsize, self.crypt, self.l1n, self.l1_off,
         self.rt_off, self.rt_clusters, self.nsnap, self.snap_off) = struct.unpack(">IIQIIQIIQQIIQ", h[:72])
        if magic != 0x514649FB:
            raise Broken("not a qcow2 image")
        self.incompat = self.autoclear = 0
        order, hlen = 4, 72
        if self.version >= 3:
            self.incompat, _, self.autoclear, order, hlen = struct.unpack(">QQQII", h[72:104])
        self.cs = 1 << self.bits
        self.rbits = 1 << order
        self.ext_l2 = bool(self.incompat & INCOMPAT_EXTL2)
        self.esize = 16 if self.ext_l2 else 8
        self.external = bool(self.incompat & INCOMPAT_DATA_FILE)
        self.exts = {}
        pos, end = hlen, back_off or self.cs
        first = self.read(0, self.cs, "first cluster")
        while pos + 8 <= end:
            kind, n = struct.unpack(">II", first[pos:pos + 8])
            if kind == 0:
                break
            self.exts[kind] = first[pos + 8:pos + 8 + n]
            pos += 8 + (n + 7) // 8 * 8

    def container(self):
        """The host clusters of an embedded index, all pinned; none when it is external or there is none."""
        ext = self.exts.get(EXT_QDEDUP, b"")
        if len(ext) < 24:
            return range(0)
        _, flags, off, n = struct.unpack(">IIQQ", ext[:24])
        return range(0) if flags & 1 else range(off, off + n, self.cs)

    # ---- references ------------------------------------------------------------------

    def own(self, off, n, what):
        """A structure of n bytes at off: one reference to each cluster it touches."""
        if off & (self.cs - 1):
            self.problem("unaligned", f"{what} at {off:#x}")
        for c in range(off >> self.bits, (off + n + self.cs - 1) >> self.bits):
            self.refs[c] += 1
            self.meta.add(c)

    def load_refcounts(self):
        self.own(0, self.cs, "header")
        n = self.rt_clusters * self.cs
        self.own(self.rt_off, n, "refcount table")
        self.counts = {}
        per = self.cs * 8 // self.rbits
        for i, off in enumerate(be64(self.read(self.rt_off, n, "refcount table"))):
            if off == 0:
                continue
            if off & 511:
                self.problem("reserved", f"refcount table entry {i} is {off:#x}")
            self.own(off & ~511, self.cs, f"refcount block {i}")
            block = self.read(off & ~511, self.cs, "refcount block")
            if not any(block):
                continue
            for k, v in enumerate(self.unpack_block(block, per)):
                if v:
                    self.counts[i * per + k] = v

    def unpack_block(self, block, per):
        if self.rbits >= 8:
            a = array({8: "B", 16: "H", 32: "I", 64: "Q"}[self.rbits], block)
            if sys.byteorder == "little":
                a.byteswap()
            return a
        step, mask = 8 // self.rbits, (1 << self.rbits) - 1
        return [block[k // step] >> (k % step * self.rbits) & mask for k in range(per)]

    def refcount(self, cluster):
        return self.counts.get(cluster, 0)

    def l1(self, off, n, what):
        if n == 0:
            return []
        self.own(off, n * 8, f"{what} L1 table")
        return be64(self.read(off, n * 8, f"{what} L1 table"))

    def compressed(self, entry):
        x = 62 - (self.bits - 8)
        off = entry & ((1 << x) - 1)
        sectors = (entry >> x & ((1 << (self.bits - 8)) - 1)) + 1
        start = off & ~511
        return range(start >> self.bits, (start + sectors * 512 + self.cs - 1) >> self.bits)

    def walk(self, off, n, what, active=False, pin=False):
        """Counts the references of one L1 table; returns (Counter of descriptors, stats)."""
        found, stats = Counter(), Counter()
        for i, e in enumerate(self.l1(off, n, what)):
            l2_off = e & OFFSET_MASK
            if e & ~(OFFSET_MASK | COPIED):
                self.problem("reserved", f"{what} L1 entry {i} is {e:#x}")
            if l2_off == 0:
                continue
            self.own(l2_off, self.cs, f"{what} L2 table {i}")
            if active and bool(e & COPIED) != (self.refcount(l2_off >> self.bits) == 1):
                self.problem("copied", f"{what} L1 entry {i} is {e:#x}, refcount {self.refcount(l2_off >> self.bits)}")
            if pin and e & COPIED and self.refcount(l2_off >> self.bits) != 1:
                self.problem("pin", f"L1 entry {i} is {e:#x}, refcount {self.refcount(l2_off >> self.bits)}")
            table = be64(self.read(l2_off, self.cs, f"{what} L2 table"))
            self.walk_l2(table, f"{what} L2 {i}", found, stats, active, pin)
        return found, stats

    def walk_l2(self, table, what, found, stats, active, pin):
        step = self.esize // 8
        for k in range(0, len(table), step):
            e = table[k]
            bitmap = table[k + 1] if self.ext_l2 else 0
            if e == 0 and bitmap == 0:
                continue
            if e & COMPRESSED:
                if e & COPIED:
                    self.problem("copied", f"{what}[{k // step}] is compressed and COPIED: {e:#x}")
                for c in self.compressed(e):
                    self.refs[c] += 1
                found[e & ~COPIED] += 1
                continue
            off = e & OFFSET_MASK
            zero = bitmap == 0xFFFFFFFF << 32 if self.ext_l2 else bool(e & ZERO)
            if e & ~(OFFSET_MASK | COPIED | (0 if self.ext_l2 else ZERO)):
                self.problem("reserved", f"{what}[{k // step}] is {e:#x}")
            if self.version < 3 and e & ZERO:
                self.problem("reserved", f"{what}[{k // step}] has the zero flag, version 2: {e:#x}")
            if off & (self.cs - 1):
                self.problem("unaligned", f"{what}[{k // step}] is {e:#x}")
            if zero:
                stats["zero"] += 1
                if off:
                    stats["prealloc"] += 1
                if pin:
                    self.problem("pin", f"{what}[{k // step}] is a zero entry: {e:#x}")
            if off == 0 and not self.external:
                continue
            if not self.external:
                rc = self.refcount(off >> self.bits)
                self.refs[off >> self.bits] += 1
                if active and bool(e & COPIED) != (rc == 1):
                    self.problem("copied", f"{what}[{k // step}] is {e:#x}, refcount {rc}")
                if pin and e & COPIED:
                    self.problem("pin", f"{what}[{k // step}] has COPIED: {e:#x}")
            if not zero:
                found[off] += 1

    def snapshots(self):
        pos, start = self.snap_off, self.snap_off
        for i in range(self.nsnap):
            fixed = self.read(pos, 40, "snapshot table")
            l1_off, l1n, idn, namen = struct.unpack(">QIHH", fixed[:16])
            extra_len, = struct.unpack(">I", fixed[36:40])
            extra = self.read(pos + 40, extra_len, "snapshot table")
            name = self.read(pos + 40 + extra_len + idn, namen, "snapshot table").decode("utf-8", "replace")
            size = struct.unpack(">Q", extra[8:16])[0] if extra_len >= 16 else self.vsize
            yield name, size, l1_off, l1n
            pos += (40 + extra_len + idn + namen + 7) // 8 * 8
        if self.nsnap:
            self.own(start, pos - start, "snapshot table")

    def bitmaps(self):
        ext = self.exts.get(EXT_BITMAPS)
        if not ext:
            return
        count, _, dir_size, dir_off = struct.unpack(">IIQQ", ext)
        self.own(dir_off, dir_size, "bitmap directory")
        directory, pos = self.read(dir_off, dir_size, "bitmap directory"), 0
        for _ in range(count):
            t_off, t_n, _, _, _, namen, extra = struct.unpack(">QIIBBHI", directory[pos:pos + 24])
            pos += (24 + extra + namen + 7) // 8 * 8
            self.own(t_off, t_n * 8, "bitmap table")
            for e in be64(self.read(t_off, t_n * 8, "bitmap table")):
                if e & OFFSET_MASK:
                    self.own(e & OFFSET_MASK, self.cs, "bitmap cluster")
        if pos != dir_size:
            self.problem("bitmaps", f"directory has {dir_size} bytes, its entries {pos}")

    # ---- judging ---------------------------------------------------------------------

    def check_counts(self, fresh):
        for c in self.refs.keys() | self.counts.keys():
            if self.refs.get(c, 0) != self.refcount(c):
                self.problem("refcount", f"cluster {c * self.cs:#x}: refcount {self.refcount(c)}, "
                                         f"references {self.refs.get(c, 0)}")
        last = (max(self.refs) + 1) * self.cs
        if fresh and self.size > last:
            self.problem("tail", f"file has {self.size:#x} bytes, the last cluster in use ends at {last:#x}")
        for c in self.refs:
            if c * self.cs >= self.size:
                self.problem("tail", f"cluster {c * self.cs:#x} is past the end of the file, {self.size:#x}")

    def check_pin(self, pin, size, found, fresh):
        if size % 512 == 0:
            self.problem("pin", f"its disk size is {size}: QEMU can revert to it")
        for d, n in pin.items():
            if n != 1:
                self.problem("pin", f"references {d:#x} {n} times")
        if not fresh:
            return
        shared = {d for d, n in found.items() if n > 1}
        for d in sorted(shared - pin.keys()):
            self.problem("pin", f"shared cluster {d:#x} is not pinned")
        index = set(self.container())
        for d in sorted(pin.keys() - shared - index):
            self.problem("pin", f"{d:#x} is pinned but not shared")
        for d in sorted(index):
            if d not in pin or self.refcount(d >> self.bits) != 1:
                self.problem("pin", f"cluster {d:#x} of the index is not pinned, or something else refers to it")

    def run(self, fresh):
        found, stats = self.walk(self.l1_off, self.l1n, "active", active=True)
        pins = []
        for name, size, l1_off, l1n in list(self.snapshots()):
            is_pin = name == "qdedup" and size % 512 != 0
            f, _ = self.walk(l1_off, l1n, f"snapshot {name}", pin=is_pin)
            if is_pin or (fresh and name == "qdedup"):
                pins.append((f, size))
            else:
                found += f
        self.bitmaps()
        if EXT_CRYPTO in self.exts:
            self.own(*struct.unpack(">QQ", self.exts[EXT_CRYPTO]), "LUKS header")
        self.check_counts(fresh)
        if len(pins) > 1:
            self.problem("pin", f"there are {len(pins)}")
        pin = Counter()
        for f, size in pins:
            pin += f
            self.check_pin(f, size, found, fresh)
        index = {d for d in self.container() if d in pin}
        self.meta |= {d >> self.bits for d in index}
        if fresh and len(index) != len(self.container()):
            self.problem("pin", "there is an index and no pin that holds it")
        return {
            "cluster-size": self.cs, "refcount-bits": self.rbits, "version": self.version,
            "snapshots": self.nsnap, "data": len(found),
            "compressed": sum(1 for d in found if d & COMPRESSED),
            "references": sum(found.values()), "shared": sum(1 for n in found.values() if n > 1),
            "max-share": max(found.values(), default=0), "zero": stats["zero"],
            "prealloc": stats["prealloc"], "pin": len(pins), "pinned": len(pin) - len(index),
            "index": len(index), "metadata": len(self.meta),
        }


def main(args):
    fresh, keys = False, []
    while args and args[0].startswith("--"):
        opt = args.pop(0)
        if opt == "--fresh":
            fresh = True
        elif opt == "--get" and args:
            keys.append(args.pop(0))
        else:
            sys.exit(__doc__)
    if len(args) != 1:
        sys.exit(__doc__)
    try:
        image = Image(args[0])
        result = image.run(fresh)
    except (Broken, struct.error) as e:
        sys.exit(f"{args[0]}: {e}")
    if image.problems:
        for kind, n in image.problems.items():
            print(f"{args[0]}: {n} of kind {kind}", file=sys.stderr)
        sys.exit(1)
    for k in keys or result:
        print(result[k] if keys else f"{k} {result[k]}")


main(sys.argv[1:])
