#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""layers.py SOUND DAMAGED REPAIRED REPORT

Compares what a guest reads in every layer of a repaired image with the image as it was
before it was damaged.  REPORT is what `check --repair --output=json -v` printed.  A
cluster may differ only where

  - the repaired image gives what the damaged one gave (the damage was such that nobody
    can know better), or
  - the report names its range, and it reads as zeros now;

a layer may be missing only if the report says that something was removed.  Prints the
actions of the report, each once, one per line.  Written from the qcow2 specification.
"""
import json
import os
import struct
import sys
import zlib

OFFSET = 0x00FFFFFFFFFFFE00
PIN = b"qdedup"     # the name of the pin's snapshot
INVALID = object()
BROKEN = object()    # a stream that cannot be decompressed: check reads no data


class Image:
    def __init__(self, path, via=None, at_its_places=False):
        """via: the image whose L1 tables are to be believed, or only the places of them"""
        with open(path, "rb") as f:
            self.data = f.read()
        d = self.data
        self.version, = struct.unpack_from(">I", d, 4)
        self.bits, = struct.unpack_from(">I", d, 20)
        l1_entries, l1_off = struct.unpack_from(">IQ", d, 36)
        count, off = struct.unpack_from(">IQ", d, 60)
        self.cs = 1 << self.bits
        self.ext = self.version >= 3 and struct.unpack_from(">Q", d, 72)[0] & 16
        self.step = 16 if self.ext else 8
        self.outside = self.pin = None
        if self.version >= 3 and struct.unpack_from(">Q", d, 72)[0] & 4:
            with open(os.path.join(os.path.dirname(path), "base.data"), "rb") as f:
                self.outside = f.read()
        self.per_table = self.cs // self.step
        self.tables, self.places = {}, {}
        self.names = {}     # (layer, L1 index): the table's offset
        if via and at_its_places:
            self.needed = via.needed
            self.layers = {name: self.layer(name, *place) for name, place in via.places.items()}
            return
        if via:
            self.layers = {name: self.tables_at(tables) for name, tables in via.tables.items()}
            return
        size, = struct.unpack_from(">Q", d, 24)
        self.needed = min(-(-size // (self.cs * self.per_table)), len(d) // 8)
        self.layers = {"active": self.layer("active", l1_off, l1_entries)}
        for _ in range(count):
            if off + 40 > len(d):
                break
            l1_off, l1_entries, id_len, name_len = struct.unpack_from(">QIHH", d, off)
            extra, = struct.unpack_from(">I", d, off + 36)
            name = d[off + 40 + extra:off + 40 + extra + id_len]
            self.layers[name] = self.layer(name, l1_off, l1_entries)
            if d[off + 40 + extra + id_len:off + 40 + extra + id_len + name_len] == PIN:
                self.pin = name
            off = (off + 40 + extra + id_len + name_len + 7) & ~7

    def tables_at(self, tables):
        clusters = {}
        for i, off in tables:
            if off < len(self.data):
                self.table(clusters, i * self.per_table, off)
        return clusters

    def layer(self, name, l1_off, entries):
        """guest cluster -> bytes, INVALID, or not there (zeros); None: no such table"""
        self.places[name] = (l1_off, entries)
        clusters = {}
        entries = self.needed if entries > 1 << 20 or (name == "active" and entries < self.needed) else entries
        if entries == 0 and l1_off % self.cs == 0:
            return clusters
        if l1_off % self.cs or l1_off == 0 or entries > 1 << 20 or l1_off + entries * 8 > len(self.data):
            return None
        for i, entry in enumerate(struct.unpack_from(f">{entries}Q", self.data, l1_off)):
            table = entry & OFFSET
            if entry and (table == 0 or table % self.cs or table >= len(self.data) or
                          entry & 0x7F000000000001FF):
                clusters[-1 - i] = INVALID
            elif entry:
                self.table(clusters, i * self.per_table, table)
                self.tables.setdefault(name, []).append((i, table))
                self.names[name, i] = table
        return clusters

    def table(self, clusters, first, off):
        words = struct.unpack(f">{self.cs // 8}Q", self.data[off:off + self.cs].ljust(self.cs, b"\0"))
        for k in range(self.per_table):
            entry = words[k * self.step // 8]
            bitmap = words[k * 2 + 1] if self.ext else 0
            if entry or bitmap:
                value = self.cluster(entry, bitmap, (first + k) * self.cs)
                if value is not None:
                    clusters[first + k] = value

    def cluster(self, entry, bitmap, guest):
        if entry >> 62 & 1:
            shift = 62 - (self.bits - 8)
            off = entry & ((1 << shift) - 1)
            n = (((entry & ((1 << 62) - 1)) >> shift) + 1) * 512 - off % 512
            if off >= -(-len(self.data) // self.cs) * self.cs or entry >> 63 or bitmap:
                return INVALID
            try:
                return zlib.decompressobj(-12).decompress(self.data[off:off + n].ljust(n, b"\0"), self.cs)
            except zlib.error:
                return BROKEN
        off = entry & OFFSET
        if self.outside is not None:
            if entry & 0x3F000000000001FE or (off != guest and entry & ~1):
                return INVALID
            data = self.outside[off:off + self.cs].ljust(self.cs, b"\0")
            return data if entry & ~1 and not entry & 1 and data.strip(b"\0") else None
        if off % self.cs or off >= len(self.data) or entry & 0x3F000000000001FE or bitmap >> 32 & bitmap:
            return INVALID
        if (off == 0 and bitmap & 0xFFFFFFFF) or (entry & 1 and (self.ext or self.version < 3)):
            return INVALID
        if off == 0 or (entry & 1 and not self.ext):
            return None
        data = self.data[off:off + self.cs].ljust(self.cs, b"\0")
        return struct.pack(">Q", bitmap) + data if data.strip(b"\0") else None

    def get(self, layer, cluster):
        clusters = self.layers.get(layer)
        if clusters is None:
            return INVALID
        if -1 - cluster // self.per_table in clusters:
            return INVALID
        return clusters.get(cluster)


def is_astray(sound, damaged, layer, cluster):
    """Does the way to the cluster's L2 entry lead through other tables than it should?"""
    index = layer, cluster // sound.per_table
    return sound.places[layer] != damaged.places.get(layer) or sound.names.get(index) != damaged.names.get(index)


def reported(report, image, kinds=()):
    """Guest clusters, [first, end), that repairs of other kinds are about."""
    ranges = []
    for r in report.get("repairs", []):
        if "guest-offset" in r:
            first = r["guest-offset"] >> image.bits
            n = image.per_table if r["type"].startswith(("l1-", "l2-garbage")) else r["count"]
            if r["type"] in kinds:
                continue
            ranges.append((first, first + n))
    return ranges


def is_right(now, was, sound, is_reported, strict):
    """What a guest cluster reads now, after was (damaged) and sound."""
    if now == sound or (was is not INVALID and now == was):
        return True
    return now is None and is_reported and not (strict and was == sound)


def compare(sound, damaged, repaired, report, strict, inner=(), elsewhere=None):
    """How many clusters and layers are not what they must be; strict: nothing that was readable may be given up.

    inner: the damaged image with sound L1 tables, or places of them; what their entries
    said is right, too, where the damaged image gave nothing or led through other tables.
    elsewhere: the sound image with the damaged L1 tables.  Where an L1 entry names another
    entry's table, and of that an entry is damaged, it is right that the table says again
    what it did.
    """
    ranges = reported(report, sound)
    guessed = [r for r in reported(report, sound) if r not in reported(report, sound, ("subclusters",))]
    actions = {r["action"] for r in report.get("repairs", [])}
    bad = 0
    for layer, clusters in sound.layers.items():
        # The pin is no guest's: it, or what it has of the index, goes with an index that is dropped.
        if layer == sound.pin and report.get("index", {}).get("dropped"):
            continue
        if layer not in repaired.layers:
            if layer in damaged.layers and (strict or "removed" not in actions):
                print(f"layer {layer} is gone", file=sys.stderr)
                bad += 1
            continue
        for k in sorted(set(clusters) | set(repaired.layers[layer] or {})):
            is_reported = damaged.layers.get(layer) is None or any(a <= k < b for a, b in ranges)
            now, was = repaired.get(layer, k), damaged.get(layer, k)
            astray = is_astray(sound, damaged, layer, k)
            if was is INVALID and any(a <= k < b for a, b in guessed):
                continue
            if now is not INVALID and (was is INVALID or astray) and any(now == i.get(layer, k) for i in inner):
                continue
            if was is INVALID and astray and elsewhere and now is not None and now == elsewhere.get(layer, k):
                continue
            if not is_right(now, was, sound.get(layer, k), is_reported, strict):
                print(f"layer {layer}: guest cluster {k:#x} is not what it was", file=sys.stderr)
                bad += 1
    return bad


def main(paths, report_path):
    with open(report_path) as f:
        report = json.load(f)
    bad = compare(*(Image(p) for p in paths), report, False)
    print("\n".join(sorted({r["action"] for r in report.get("repairs", [])})))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:4], sys.argv[4]))
