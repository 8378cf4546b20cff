#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""indexread.py list IMAGE [FILE]          a line for each record that holds: entry, guest cluster, hash
indexread.py compare IMAGE RAW [FILE]   computes the hashes from RAW, the content of the disk; prints
                                        how many records there are
indexread.py hold IMAGE [FILE]          computes the hashes of the records that hold from the clusters in
                                        IMAGE; prints how many there are
indexread.py page PAGE                  the bytes shown in qdedup-format(5) keep the rules it states

A reader of the index written from qdedup-format(5) alone; FILE is a container beside the
image.  It believes nothing whose checksum it has not computed.
"""
import hashlib
import re
import struct
import sys
import zlib

import xxhash

COPIED, COMPRESSED, OFFSET = 1 << 63, 1 << 62, 0x00FFFFFFFFFFFE00
ALL = {0xFFFFFFFF}      # subclusters


def crc_table():
    for i in range(256):
        for _ in range(8):
            i = i >> 1 ^ (0x82F63B78 if i & 1 else 0)
        yield i


CRC = list(crc_table())


def crc(data):
    c = 0x51644431
    for b in data:
        c = CRC[(c ^ b) & 255] ^ c >> 8
    return c


HASHES = {
    1: (16, lambda d: xxhash.xxh3_128_digest(d)),
    2: (32, lambda d: hashlib.sha256(d).digest()),
    3: (32, lambda d: hashlib.new("sha512_256", d).digest()),
    4: (32, lambda d: hashlib.sha3_256(d).digest()),
    5: (32, lambda d: hashlib.blake2b(d).digest()[:32]),
}


def need(truth, what):
    if not truth:
        sys.exit(f"indexread: {what}")


class Extension:
    def __init__(self, data):
        need(len(data) == 112, "the extension has no 112 bytes")
        need(crc(data[:108]) == int.from_bytes(data[108:], "big"), "the extension's checksum")
        (version, self.flags, self.off, self.nbytes, self.generation) = struct.unpack(">IIQQQ", data[:32])
        self.identity = data[32:48]
        (self.pin, self.hash, self.hash_nbytes, self.bits, zero, self.dir_nbytes, self.dir_crc, self.journal,
         self.log, self.redo, self.log_generation, self.log_clusters, self.log_crc,
         journal_id) = struct.unpack(">IBBBBIIQIIQIIQ", data[48:104])
        self.journal_identity = self.identity[:8] + journal_id.to_bytes(8, "big")
        need(version == 1 and self.flags < 2 and zero == 0 and not any(data[104:108]), "version 1 and zeros")
        need(HASHES[self.hash][0] == self.hash_nbytes, "bytes of a hash")


def directory(x, data):
    """Rows: (first host offset, checksum, records)."""
    need(crc(data) == x.dir_crc and data[:4] == b"QDdr", "the directory is that of the extension")
    need(crc(data[8:]) == int.from_bytes(data[4:8], "big"), "the directory's checksum")
    generation, identity, n, blocks, zero = struct.unpack(">Q16sQII", data[8:48])
    need((generation, identity, zero) == (x.generation, x.identity, 0), "generation and identity of the directory")
    need(x.dir_nbytes == 48 + 16 * blocks, "length of the directory")
    rows = [struct.unpack(">QII", data[48 + 16 * i:64 + 16 * i]) for i in range(blocks)]
    need(sum(r[2] for r in rows) == n, "records in all blocks")
    return rows


def block_nbytes(x, n):
    used = 32 + n * (14 + x.hash_nbytes)
    full = (65536 - 32) // (14 + x.hash_nbytes)
    return 65536 if n == full else (used + 511) // 512 * 512


def block(x, number, row, data):
    need(data[:4] == b"QDtk" and row[1] == int.from_bytes(data[4:8], "big") == crc(data[8:]), "a block's checksum")
    generation, half, no, n = struct.unpack(">Q8sII", data[8:32])
    need((generation, half, no, n) == (x.generation, x.identity[:8], number, row[2]), "a block's place")
    size = 14 + x.hash_nbytes
    need(not any(data[32 + n * size:]), "zeros behind the records")
    return [data[32 + i * size:32 + (i + 1) * size] for i in range(n)]


def decode(x, r):
    entry, flags = struct.unpack(">QB", r[:9])
    need(flags < 8 and not entry & COPIED, "flags and entry of a record")
    return entry, int.from_bytes(r[9:14], "big"), flags, r[14:14 + x.hash_nbytes]


def host_off(x, entry):
    return entry & ((1 << 62 - (x.bits - 8)) - 1) if entry & COMPRESSED else entry


def journal_cluster(x, data, kind, sequence):
    """(generation, batch, entries) of a valid one, else None."""
    if len(data) < 4096 or data[:4] != b"QDjc" or crc(data[8:]) != int.from_bytes(data[4:8], "big"):
        return None
    identity, container, generation, batch, no, k, zero, used = struct.unpack(">16sQQQIBBH", data[8:56])
    if (identity, container, no, k, zero) != (x.journal_identity, x.generation, sequence, kind, 0) or not generation or not batch \
            or not 56 <= used <= 4096:
        return None
    entries, pos = [], 56
    while pos < used and data[pos] != 0xFF:
        size, kind_of_entry = data[pos], data[pos + 1]
        need(pos + 2 + size <= used, "an entry runs past the bytes in use")
        entries.append((kind_of_entry, data[pos + 2:pos + 2 + size]))
        pos += 2 + size
        if kind_of_entry == 1:
            break
    return generation, batch, entries


def committed(x, read, kind):
    """(generation, entries that count) of an area; read(i) gives its journal cluster i."""
    first = journal_cluster(x, read(0), kind, 0)
    if not first or first[1] != 1:
        return 0, []
    count, waiting, batch, i = [], [], 1, 0
    while (c := journal_cluster(x, read(i), kind, i)) and c[0] == first[0] and c[1] == batch:
        waiting += c[2]
        if any(t == 4 and int.from_bytes(p, "big") == batch for t, p in c[2]):
            count, waiting, batch = count + waiting, [], batch + 1
        i += 1
    return first[0], count


class Image:
    def __init__(self, path, beside=None):
        self.f = open(path, "rb")
        h = self.read(self.f, 0, 112)
        self.bits, self.size = struct.unpack(">IQ", h[20:32])
        self.l1n, self.l1 = struct.unpack(">IQ", h[36:48])
        self.incompat, self.autoclear, self.hlen = (struct.unpack(">Q", h[72:80])[0], struct.unpack(">Q", h[88:96])[0],
                                                    struct.unpack(">I", h[100:104])[0])
        self.cs = 1 << self.bits
        self.x, data = self.find_extension()
        need(self.x.bits == self.bits, "cluster_bits")
        self.g, self.at = self.f, self.x.off
        if self.x.flags & 1:
            self.g, self.at = open(beside, "rb"), 4096
            head = self.read(self.g, 0, 4096)
            need(head[:8] == b"QDEDUPIX" and head[8:120] == data and not any(head[120:]), "the head of the file")

    @staticmethod
    def read(f, off, n):
        f.seek(off)
        return f.read(n).ljust(n, b"\0")

    def find_extension(self):
        first, pos = self.read(self.f, 0, self.cs), self.hlen
        while pos + 8 <= self.cs:
            kind, n = struct.unpack(">II", first[pos:pos + 8])
            if kind == 0xCD8E819B:
                return Extension(first[pos + 8:pos + 8 + n]), first[pos + 8:pos + 8 + n]
            if kind == 0:
                break
            pos += 8 + (n + 7) // 8 * 8
        sys.exit("indexread: no index")

    def container(self, off, n):
        return self.read(self.g, self.at + off, n)

    def table(self):
        x, out, identity, last = self.x, [], xxhash.xxh3_128(), (-1, -1)
        off = (x.dir_nbytes + 511) // 512 * 512
        for number, row in enumerate(directory(x, self.container(0, x.dir_nbytes))):
            raws = block(x, number, row, self.container(off, block_nbytes(x, row[2])))
            need(host_off(x, decode(x, raws[0])[0]) == row[0], "a block's first host offset")
            for raw in raws:
                identity.update(raw)
                record = decode(x, raw)
                key = (host_off(x, record[0]), record[0])
                need(key > last, "the order of the records")
                last = key
                out.append(record)
            off += 65536
        need(identity.digest() == x.identity, "the identity")
        return out

    def log(self):
        x, best = self.x, (0, [])
        for area in range(2 if x.journal else 0):
            start = x.journal + area * x.log
            found = committed(x, lambda i, s=start: self.container(s + i * 4096, 4096) if i < x.log // 4096 else b"", 1)
            if any(t == 8 for t, _ in found[1]) and found[0] > best[0]:
                best = found
        return best[1]

    def records(self):
        held = {r[0]: r for r in self.table()}
        for kind, payload in self.log():
            if kind == 2:
                record = decode(self.x, payload)
                held[record[0]] = record
            elif kind == 3:
                held.pop(int.from_bytes(payload, "big"), None)
        return sorted(held.values(), key=lambda r: (host_off(self.x, r[0]), r[0]))

    def entries(self, l1, l1n):
        """(guest cluster, entry, bitmap) of a layer; the bitmap of entries that are not extended is None."""
        step = 16 if self.incompat & 16 else 8
        for i, e in enumerate(struct.unpack(f">{l1n}Q", self.read(self.f, l1, l1n * 8))):
            table = self.read(self.f, e & OFFSET, self.cs) if e & OFFSET else b""
            for k in range(0, len(table), step):
                e, guest = int.from_bytes(table[k:k + 8], "big"), (i * self.cs + k) // step
                bitmap = int.from_bytes(table[k + 8:k + 16], "big") if step == 16 else None
                if e & COMPRESSED:
                    yield guest, e & ~COPIED, None
                elif e & OFFSET and (not e & 1 if bitmap is None else bitmap & 0xFFFFFFFF):
                    yield guest, e & OFFSET, bitmap

    def mapped(self):
        """guest cluster -> entry, of the active layer."""
        return {guest: entry for guest, entry, _ in self.entries(self.l1, self.l1n)}

    def snapshots(self):
        """(L1 offset, L1 entries, is it the pin?) of each."""
        h = self.read(self.f, 60, 12)
        n, at = struct.unpack(">IQ", h)
        for _ in range(n):
            l1, l1n, nid, nname = struct.unpack(">QIHH", self.read(self.f, at, 16))
            extra = int.from_bytes(self.read(self.f, at + 36, 4), "big")
            disk = int.from_bytes(self.read(self.f, at + 48, 8), "big") if extra >= 16 else 0
            name = self.read(self.f, at + 40 + extra + nid, nname)
            yield l1, l1n, name == b"qdedup" and disk % 512 != 0
            at += (40 + extra + nid + nname + 7) // 8 * 8

    def stream(self, entry):
        off = host_off(self.x, entry)
        return off, ((entry & COMPRESSED - 1) >> 62 - (self.bits - 8)) * 512 + 512 - off % 512

    def refcounts(self, entry):
        """Those of the clusters that it touches."""
        h = self.read(self.f, 0, 104)
        table, bits = int.from_bytes(h[48:56], "big"), 1 << int.from_bytes(h[96:100], "big")
        off, n = self.stream(entry) if entry & COMPRESSED else (entry, 1)
        need(bits >= 8, "reference counts of a byte or more: others are not read here")
        for cluster in range(off // self.cs, (off + n - 1) // self.cs + 1):
            i, k = divmod(cluster, self.cs * 8 // bits)
            at = int.from_bytes(self.read(self.f, table + i * 8, 8), "big")
            yield int.from_bytes(self.read(self.f, at + k * bits // 8, bits // 8), "big") if at else 0

    def holding(self):
        """(entry, hash, subclusters that count) of the records that hold."""
        bitmaps, pinned = {}, set()
        for l1, l1n, pin in [(self.l1, self.l1n, False), *self.snapshots()]:
            for _, entry, bitmap in self.entries(l1, l1n):
                if pin:
                    pinned.add(entry)
                elif bitmap is not None:
                    bitmaps.setdefault(entry, set()).add(bitmap & 0xFFFFFFFF)
        for entry, _, flags, digest in self.records():
            if self.autoclear >> 48 & 1:
                holds = all(self.refcounts(entry))
            else:
                inside = not self.x.flags & 1 and 0 <= entry - self.x.off < self.x.nbytes
                holds = entry in pinned and not inside and not flags & 2 and bitmaps.get(entry, ALL) == ALL
            if holds:
                yield entry, digest, min(bitmaps.get(entry, ALL)) if flags & 2 else 0xFFFFFFFF

    def content(self, entry, mask):
        if entry & COMPRESSED:
            return zlib.decompressobj(-12).decompress(self.read(self.f, *self.stream(entry)), self.cs)
        data, sub = self.read(self.f, entry, self.cs), self.cs // 32
        return data if mask == 0xFFFFFFFF else b"".join(
            data[i * sub:(i + 1) * sub] if mask >> i & 1 else bytes(sub) for i in range(32))


def compare(img, raw):
    f, compute, first, known = open(raw, "rb"), HASHES[img.x.hash][1], {}, set()
    mapped = img.mapped()
    for guest in sorted(mapped):
        first.setdefault(mapped[guest], guest)
    for entry, guest, flags, digest in img.records():
        known.add(entry)
        if entry not in first:
            continue
        need(guest == first[entry] or img.x.journal, f"guest cluster {guest} of {entry:#x}")
        guest = first[entry]
        need(digest == compute(img.read(f, guest * img.cs, img.cs)), f"hash of guest cluster {guest}")
    need(not first.keys() - known, "clusters without a hash")
    need(img.autoclear >> 48 & 1, "the autoclear bit")
    return len(known)


def hold(img):
    n, compute = 0, HASHES[img.x.hash][1]
    for n, (entry, digest, mask) in enumerate(img.holding(), 1):
        need(digest == compute(img.content(entry, mask)), f"hash of {entry:#x}")
    return n


def check_page(path):
    lines = re.findall(r"^([0-9a-f]{8}): ((?:[0-9a-f]{4} ?)+)$", open(path).read(), re.M)
    dump = {int(at, 16): bytes.fromhex(text) for at, text in lines}

    def piece(at, n, fill=0):
        data = b""
        while len(data) < n and at + len(data) in dump:
            data += dump[at + len(data)]
        return data[:n].ljust(n, bytes([fill]))

    x = Extension(piece(0x70, 120)[8:])
    rows = directory(x, piece(x.off, x.dir_nbytes))
    raws = block(x, 0, rows[0], piece(x.off + 512, 512))
    need(xxhash.xxh3_128_digest(b"".join(raws)) == x.identity, "the page's identity")
    for raw, letter in zip(raws, b"AB"):
        need(decode(x, raw)[3] == xxhash.xxh3_128_digest(bytes([letter]) * 4096), "the page's hashes")
    generation, entries = committed(x, lambda i: b"" if i else piece(x.off + x.journal, 4096, 0xFF), 1)
    need(crc(piece(x.off + x.journal, 4096, 0xFF)) == x.log_crc, "the closed log's checksum")
    m = piece(x.off + x.journal + 2 * x.log + x.redo - 4096, 512)
    need(m[:4] == b"QDjm" and crc(m[8:]) == int.from_bytes(m[4:8], "big") and m[8:24] == x.journal_identity and
         struct.unpack(">QQII", m[24:48]) == (x.generation, 1, 2, 1), "the page's mark")
    need(generation == 1 and [t for t, _ in entries] == [2, 2, 3, 8, 4, 1], "the page's journal")
    need(decode(x, entries[0][1])[3] == xxhash.xxh3_128_digest(b"C" * 4096), "the page's hash in the journal")


def main(what, path, *rest):
    if what == "page":
        check_page(path)
    elif what == "compare":
        print(compare(Image(path, *rest[1:]), rest[0]))
    elif what == "hold":
        print(hold(Image(path, *rest)))
    elif what == "list":
        for entry, guest, _, digest in Image(path, *rest).records():
            print(f"{entry:#x}\t{guest}\t{digest.hex()}")
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(*sys.argv[1:])
