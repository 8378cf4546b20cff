#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""index.py WHAT IMAGE

Reads the index of an image, written from qdedup-format(5) and the qcow2 specification
and sharing nothing with qdedup.  WHAT:

  records   a line for each record of the table: entry, guest cluster, flags, hash
  regions   a line for each part of the index: name, offset, length
  hashes    compares every record with the cluster in the file (SHA-256
            tables); prints how many there are
  unproven  how many referenced clusters the pin does not reference, or the table does not
            know, or not in whole
  clusters  a line for each referenced distinct cluster: offset in the file, length,
            compressed or plain, mask of the subclusters in use, every layer:offset that shows it
  bit       1 when the autoclear bit is set
"""
import hashlib
import struct
import sys
import zlib
from collections import defaultdict

OFFSET = 0x00FFFFFFFFFFFE00
COPIED, COMPRESSED = 1 << 63, 1 << 62
EXT = 0xCD8E819B


class Image:
    def __init__(self, path):
        self.f = open(path, "rb")
        h = self.read(0, 112)
        (self.bits, self.size, _, self.l1n, self.l1off) = struct.unpack(">IQIIQ", h[20:48])
        self.nsnap, self.snapoff = struct.unpack(">IQ", h[60:72])
        self.incompat, _, self.autoclear, _, self.hlen = struct.unpack(">QQQII", h[72:104])
        self.compression = h[104] if self.hlen > 104 else 0
        self.cs = 1 << self.bits
        self.ext_l2 = bool(self.incompat & 16)
        self.exts = []
        first, pos = self.read(0, self.cs), self.hlen
        end = struct.unpack(">Q", h[8:16])[0] or self.cs
        while pos + 8 <= end:
            kind, n = struct.unpack(">II", first[pos:pos + 8])
            if kind == 0:
                break
            self.exts.append((kind, pos, first[pos + 8:pos + 8 + n]))
            pos += 8 + (n + 7) // 8 * 8
        self.load_snapshots()

    def read(self, off, n):
        self.f.seek(off)
        return self.f.read(n).ljust(n, b"\0")

    def load_snapshots(self):
        self.snapshots, at = [], self.snapoff
        for _ in range(self.nsnap):
            l1off, l1n, idlen, namelen = struct.unpack(">QIHH", self.read(at, 16))
            extra = struct.unpack(">I", self.read(at + 36, 4))[0]
            disk = struct.unpack(">Q", self.read(at + 48, 8))[0] if extra >= 16 else self.size
            name = self.read(at + 40 + extra + idlen, namelen).decode()
            pin = name == "qdedup" and disk % 512 != 0
            self.snapshots.append((name, l1off, l1n, disk, pin))
            at += (40 + extra + idlen + namelen + 7) // 8 * 8

    def entries(self, l1off, l1n):
        esize = 16 if self.ext_l2 else 8
        per = self.cs // esize
        for i, l1 in enumerate(struct.unpack(f">{l1n}Q", self.read(l1off, l1n * 8))):
            if not l1 & OFFSET:
                continue
            table = self.read(l1 & OFFSET, self.cs)
            for k in range(per):
                e = struct.unpack(">Q", table[k * esize:k * esize + 8])[0]
                bitmap = struct.unpack(">Q", table[k * 16 + 8:k * 16 + 16])[0] if self.ext_l2 else 0xFFFFFFFF
                if e & COMPRESSED:
                    yield i * per + k, e & ~COPIED, 0xFFFFFFFF
                elif e & OFFSET and (bitmap & 0xFFFFFFFF if self.ext_l2 else not e & 1):
                    yield i * per + k, e & OFFSET, bitmap

    def layers(self):
        yield "active", self.l1off, self.l1n
        for name, l1off, l1n, _, pin in self.snapshots:
            if not pin:
                yield name, l1off, l1n

    def pinned(self):
        for _, l1off, l1n, _, pin in self.snapshots:
            if pin:
                return {e for _, e, _ in self.entries(l1off, l1n)}
        return set()

    def stream(self, entry):
        shift = 62 - (self.bits - 8)
        off = entry & ((1 << shift) - 1)
        sectors = ((entry & (COMPRESSED - 1)) >> shift) + 1
        return off, sectors * 512 - (off & 511)

    def content(self, entry, mask=0xFFFFFFFF):
        if entry & COMPRESSED:
            off, n = self.stream(entry)
            return zlib.decompressobj(-12).decompress(self.read(off, n), self.cs)
        data = bytearray(self.read(entry, self.cs))
        sub = self.cs // 32
        for i in range(32):
            if self.ext_l2 and not mask >> i & 1:
                data[i * sub:(i + 1) * sub] = bytes(sub)
        return bytes(data)

    # ---- the index ----

    def index(self):
        for kind, pos, data in self.exts:
            if kind == EXT:
                v = struct.unpack(">IIQQQQQIBBBBIIQIIQII", data[:96])
                assert v[0] == 1 and len(data) == 112
                return {"pos": pos, "off": v[2], "nbytes": v[3], "generation": v[4], "digest": v[8], "hlen": v[9],
                        "dir_nbytes": v[12], "journal": v[14], "log": v[15], "redo": v[16]}
        sys.exit("no index")

    def blocks(self, x):
        d = self.read(x["off"], x["dir_nbytes"])
        n = struct.unpack(">I", d[40:44])[0]
        start = x["off"] + (x["dir_nbytes"] + 511) // 512 * 512
        for i in range(n):
            count = struct.unpack(">I", d[48 + i * 16 + 12:48 + i * 16 + 16])[0]
            yield start + i * 65536, count

    def records(self):
        x = self.index()
        size = 14 + x["hlen"]
        for off, count in self.blocks(x):
            block = self.read(off, 32 + count * size)
            for i in range(count):
                r = block[32 + i * size:32 + (i + 1) * size]
                yield struct.unpack(">Q", r[:8])[0], int.from_bytes(r[9:14], "big"), r[8], r[14:]


def clusters(img):
    found, masks = defaultdict(list), defaultdict(int)
    for name, l1off, l1n in img.layers():
        for guest, e, mask in img.entries(l1off, l1n):
            found[e].append(f"{name}:{guest << img.bits}")
            masks[e] |= mask & 0xFFFFFFFF
    return found, masks


def main():
    what, path = sys.argv[1:]
    img = Image(path)
    if what == "bit":
        print(img.autoclear >> 48 & 1)
    elif what == "records":
        for entry, guest, flags, h in img.records():
            print(f"{entry:#x} {guest} {flags} {h.hex()}")
    elif what == "regions":
        x = img.index()
        print("extension", x["pos"] + 8, 112)
        print("directory", x["off"], x["dir_nbytes"])
        for i, (off, count) in enumerate(img.blocks(x)):
            print(f"block{i}", off, 32 + count * (14 + x["hlen"]))
    elif what == "hashes":
        x, n = img.index(), 0
        algorithm = {2: hashlib.sha256}[x["digest"]]
        found, masks = clusters(img)
        for entry, guest, flags, h in img.records():
            n += 1
            if algorithm(img.content(entry, masks[entry])).digest() != h:
                sys.exit(f"record {entry:#x}: another hash than its cluster")
            places = found.pop(entry)
            active = [int(p.split(":")[1]) >> img.bits for p in places if p.startswith("active:")]
            if guest != min(active or [int(p.rsplit(":", 1)[1]) >> img.bits for p in places]):
                sys.exit(f"record {entry:#x}: guest cluster {guest} is not the first of {places}")
            if bool(flags & 4) == bool(active):
                sys.exit(f"record {entry:#x}: the snapshot flag is wrong")
        if found:
            sys.exit(f"{len(found)} clusters have no record")
        print(n)
    elif what == "unproven":
        known = {entry for entry, _, flags, _ in img.records() if not flags & 2}
        least = {}
        for _, l1off, l1n in img.layers():
            for _, e, bitmap in img.entries(l1off, l1n):
                least[e] = min(bitmap, least.get(e, bitmap))
        whole = {e for e, bitmap in least.items() if bitmap & 0xFFFFFFFF == 0xFFFFFFFF}
        print(len(set(least) - (img.pinned() & known & whole)))
    elif what == "clusters":
        found, masks = clusters(img)
        for e in sorted(found):
            off, n = img.stream(e) if e & COMPRESSED else (e, img.cs)
            print(off, n, "compressed" if e & COMPRESSED else "plain", f"{masks[e]:#x}", " ".join(found[e]))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
