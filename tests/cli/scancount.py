#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""scancount.py [OPTION]... IMAGE...

Counts what `qdedup scan` counts, with whole clusters as keys of dictionaries and every image in memory.
What a guest reads comes from qemu-img convert, which layer of a chain holds it from qemu-img map.

  --cluster-size=LIST    as scan takes it
  --snapshots            internal snapshots, too
  --hash=ALG             of records and top: xxh128 (default), sha256, sha512-256, sha3-256, blake2b
  --matrix, --top=N      have been given to scan, too
  --report=FILE          compare with a report of scan --output=json; what differs is printed, status 1
  --records=FILE         compare with a file of records
Without these two, the counts are printed as JSON.
"""
import argparse
import ctypes
import ctypes.util
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict


def parse_size(text):
    return int(text.rstrip("KM")) * {"K": 1 << 10, "M": 1 << 20}.get(text[-1], 1)


def xxh128(data):
    class Hash(ctypes.Structure):
        _fields_ = [("low", ctypes.c_uint64), ("high", ctypes.c_uint64)]
    lib = ctypes.CDLL(ctypes.util.find_library("xxhash"))
    lib.XXH3_128bits.restype = Hash
    lib.XXH3_128bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
    h = lib.XXH3_128bits(data, len(data))
    return f"{h.high:016x}{h.low:016x}"


HASHES = {
    "xxh128": xxh128,
    "sha256": lambda data: hashlib.sha256(data).hexdigest(),
    "sha512-256": lambda data: hashlib.new("sha512_256", data).hexdigest(),
    "sha3-256": lambda data: hashlib.sha3_256(data).hexdigest(),
    "blake2b": lambda data: hashlib.blake2b(data).hexdigest()[:64],
}


def qemu_img(*args):
    return subprocess.run(["qemu-img", *args], check=True, stdout=subprocess.PIPE).stdout


class View:
    """What a guest sees of a disk, and which bytes of it the file at the top of the chain holds."""

    def __init__(self, name, snapshot, data, held, backing_size):
        self.name, self.snapshot, self.data = name, snapshot, data
        self.held = held                # sorted [start, end) ranges
        self.backing_size = backing_size

    def clusters(self, size):
        """(offset, content); None is inherited, b"" is zero."""
        zero, ranges, at = bytes(size), self.held, 0
        for off in range(0, len(self.data), size):
            while at < len(ranges) and ranges[at][1] <= off:
                at += 1
            holds = at < len(ranges) and ranges[at][0] < off + size
            if not holds:
                yield off, None if off < self.backing_size else b""
                continue
            content = self.data[off:off + size].ljust(size, b"\0")
            yield off, b"" if content == zero else content


class Image:
    def __init__(self, path, name, named):
        self.path, self.name, self.named, self.views, self.backing = path, name, named, [], None
        self.identity = os.stat(path).st_dev, os.stat(path).st_ino

    def load(self, fmt, snapshots):
        info = json.loads(qemu_img("info", "-U", "--output=json", *(["-f", fmt] if fmt else []), self.path))
        self.virtual_size = info["virtual-size"]
        if (fmt or info["format"]) == "raw":
            data = open(self.path, "rb").read()
            data = data.ljust(self.virtual_size, b"\0")
            self.views.append(View(self.name, None, data, [(0, len(data))], 0))
            return
        if "backing-filename" in info:
            self.backing = info.get("full-backing-filename", info["backing-filename"]), info.get("backing-filename-format")
        self.views.append(self.view(self.path, None))
        for s in info.get("snapshots", []) if snapshots else []:
            if s["name"] != "qdedup":
                self.views.append(self.reverted(s["id"]))

    def reverted(self, snapshot):
        copy = os.path.join(os.path.dirname(self.path) or ".", f".copy.{os.getpid()}")
        try:
            with open(copy, "wb") as f:
                f.write(open(self.path, "rb").read())
            qemu_img("snapshot", "-a", snapshot, copy)
            return self.view(copy, snapshot)
        finally:
            os.unlink(copy)

    def view(self, path, snapshot):
        with tempfile.TemporaryDirectory() as tmp:
            raw = os.path.join(tmp, "raw")
            qemu_img("convert", "-U", "-f", "qcow2", "-O", "raw", path, raw)
            data = open(raw, "rb").read()
        rows = json.loads(qemu_img("map", "-U", "-f", "qcow2", "--output=json", path))
        held = [(r["start"], r["start"] + r["length"]) for r in rows
                if r["depth"] == 0 and r.get("present", r["data"] or r["zero"])]
        backing_size = 0
        if self.backing:
            fmt = ["-f", self.backing[1]] if self.backing[1] else []
            backing_size = json.loads(qemu_img("info", "-U", "--output=json", *fmt, self.backing[0]))["virtual-size"]
        return View(self.name, snapshot, data, held, backing_size)


def load_all(paths, fmt, snapshots):
    """Every file of every chain once, by name; a name on the command line wins."""
    images, todo = {}, [(p, p, True, fmt) for p in paths]
    while todo:
        path, name, named, fmt = todo.pop(0)
        image = Image(path, name, named)
        if image.identity in images:
            continue
        images[image.identity] = image
        image.load(fmt, snapshots)
        if image.backing:
            todo.append((image.backing[0], os.path.normpath(image.backing[0]), False, image.backing[1]))
    return sorted(images.values(), key=lambda i: os.fsencode(i.name))


PER_IMAGE = "clusters", "zero", "inherited", "unique", "unique-to-image", "shared"


def count_size(images, size):
    where = defaultdict(Counter)        # content -> image number -> clusters
    per = [Counter() for _ in images]
    for n, image in enumerate(images):
        for view in image.views:
            for off, content in view.clusters(size):
                kind = "inherited" if content is None else "clusters" if content else "zero"
                per[n][kind] += 1
                if content:
                    where[content][n] += 1
    for content, counts in where.items():
        for n, c in counts.items():
            per[n]["unique-to-image" if len(counts) == 1 else "shared"] += c
            per[n]["unique"] += 1
    clusters = sum(p["clusters"] for p in per)
    references = {content: sum(counts.values()) for content, counts in where.items()}
    histogram = Counter(n.bit_length() - 1 for n in references.values())
    return references, {
        "cluster-size": size, "clusters": clusters, "zero": sum(p["zero"] for p in per),
        "inherited": sum(p["inherited"] for p in per),
        "unique": len(where), "duplicate": clusters - len(where), "saved-bytes": (clusters - len(where)) * size,
        "dedup-ratio": clusters / len(where) if where else 1.0,
        "shared-contents": sum(n > 1 for n in references.values()), "max-references": max(references.values(), default=0),
        "references-histogram": [{"from": 1 << k, "to": (2 << k) - 1, "contents": histogram[k]}
                                 for k in range(max(histogram, default=-1) + 1)],
        "per-image": [{"filename": shown(i.name), **{k: p[k] for k in PER_IMAGE}}
                      for i, p in zip(images, per)],
        "matrix": [[sum(c[a] for c in where.values() if a in c and b in c) / max(per[a]["clusters"], 1)
                    for b in range(len(images))] for a in range(len(images))],
    }


def shown(name):
    return os.fsencode(name).decode(errors="replace")


def wrong_top(top, images, size, references, hash_of, n):
    """The contents with most references, whichever of those with equally many."""
    if [t["references"] for t in top] != sorted((r for r in references.values() if r > 1), reverse=True)[:n]:
        yield f"top at {size}: other references"
    if len({t["hash"] for t in top}) != len(top):
        yield f"top at {size}: one content twice"
    for t in top:
        at = t["example"]
        content = next(data[at["offset"]:at["offset"] + size] for i in images if shown(i.name) == at["filename"]
                       for v in i.views if v.snapshot == at.get("snapshot") for data in [v.data])
        content = content.ljust(size, b"\0")
        if references.get(content) != t["references"] or hash_of(content) != t["hash"]:
            yield f"top at {size}: {t}, but that content has {references.get(content)} references and hash {hash_of(content)}"


def images_part(images, smallest):
    rows = []
    for image in images:
        nbytes = Counter()
        for view in image.views:
            for off, content in view.clusters(smallest):
                nbytes["inherited-bytes" if content is None else "data-bytes" if content else "zero-bytes"] += \
                    min(smallest, len(view.data) - off)
        rows.append({"filename": shown(image.name), "virtual-size": image.virtual_size,
                     **{k: nbytes[k] for k in ("data-bytes", "zero-bytes", "inherited-bytes")}})
    return rows



def label(image, snapshot):
    text = "".join({"\\": "\\\\", "\t": "\\t", "\n": "\\n"}.get(c, c if ord(c) >= 32 and c != "\x7f" else f"\\x{ord(c):02x}")
                   for c in image.name)
    return text + (f"\\@{snapshot}" if snapshot is not None else "")


def records(images, sizes, hash_of):
    known = {}
    for size in sizes:
        for image in images:
            for view in image.views:
                for off, content in view.clusters(size):
                    if content:
                        if content not in known:
                            known[content] = hash_of(content)
                        yield known[content], label(image, view.snapshot), off, size


def records_differ(path, images, sizes, hash_of):
    rows = []
    with open(path, encoding="utf-8", errors="surrogateescape", newline="\n") as f:
        for line in f:
            if not line.startswith("#"):
                h, name, off, length = line.rstrip("\n").split("\t")
                rows.append((h, name, int(off), int(length)))
    if [r[0] for r in rows] != sorted(r[0] for r in rows):
        yield "records: not sorted by hash"
    wanted, got = Counter(records(images, sizes, hash_of)), Counter(rows)
    for what, some in (("missing", wanted - got), ("too many", got - wanted)):
        if some:
            yield f"records: {sum(some.values())} {what}, one is {min(some)}"


def differences(wanted, got, path=""):
    if isinstance(wanted, dict) and isinstance(got, dict):
        for key, value in wanted.items():
            if key not in got:
                yield f"{path}.{key}: missing"
            else:
                yield from differences(value, got[key], f"{path}.{key}")
    elif isinstance(wanted, list) and isinstance(got, list):
        if len(wanted) != len(got):
            yield f"{path}: {len(got)} members, expected {len(wanted)}"
        for n, (a, b) in enumerate(zip(wanted, got)):
            yield from differences(a, b, f"{path}[{n}]")
    elif isinstance(wanted, float):
        if abs(wanted - got) > 1e-6 * wanted:
            yield f"{path}: {got}, expected {wanted}"
    elif wanted != got:
        yield f"{path}: {got}, expected {wanted}"


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--cluster-size", default="4K,8K,16K,32K,64K")
    p.add_argument("--snapshots", action="store_true")
    p.add_argument("--hash", default="xxh128")
    p.add_argument("-f", dest="format")
    p.add_argument("--matrix", action="store_true")
    p.add_argument("--top", type=int)
    p.add_argument("--report")
    p.add_argument("--records")
    p.add_argument("images", nargs="+")
    a = p.parse_args()
    sizes = sorted(parse_size(t) for t in a.cluster_size.split(","))
    images = load_all(a.images, a.format, a.snapshots)
    problems = []
    if a.records:
        problems += records_differ(a.records, images, sizes, HASHES[a.hash])
    if a.report or not a.records:
        counts = [count_size(images, size) for size in sizes]
        wanted = {"images": images_part(images, sizes[0]), "cluster-sizes": [c for _, c in counts]}
        if not a.report:
            print(json.dumps(wanted, indent=1))
            return 0
        got = json.load(open(a.report))
        for (references, count), g in zip(counts, got["cluster-sizes"]):
            if not a.matrix:
                del count["matrix"]
            if a.top:
                problems += wrong_top(g["top"], images, count["cluster-size"], references, HASHES[a.hash], a.top)
        problems += differences(wanted, got)
    for text in problems[:20]:
        print(text, file=sys.stderr)
    return 1 if problems else 0


sys.exit(main())
