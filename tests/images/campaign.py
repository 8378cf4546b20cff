#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""campaign.py [--first N] [--count N] [--seconds S] [--variant V] [--keep DIR]

Random damage, one to three things at once, on images of every kind.  A seed says all
that is done to an image, so a failure is seen again with --first SEED --count 1.  For
each seed:

  - where qemu-img check finds something, qdedup check does;
  - check --repair ends with 0, or refuses by name and has not touched the image, or
    names what it cannot repair;
  - then a second check finds nothing, nor does qemu-img check, and a second repair
    changes nothing;
  - no layer is gone, and what the guest could read in any of them it still reads
    (layers.py); what it could not is as before the damage, or zeros and reported.

QDEDUP and QD_TOOLS name the program and the directory of `damage` and `mkdata`.
"""
import argparse
import contextlib
import hashlib
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time

import layers

QDEDUP = os.environ.get("QDEDUP", "./qdedup")
TOOLS = os.environ.get("QD_TOOLS", "build/tools")
VARIANTS = ["64k", "4k", "v2", "rb1", "rb64", "extl2", "snap", "snap4k", "2m", "dedup", "bitmap"]
OPTIONS = {"4k": "cluster_size=4K", "v2": "compat=0.10", "rb1": "refcount_bits=1", "rb64": "refcount_bits=64",
           "extl2": "extended_l2=on", "snap4k": "cluster_size=4K", "2m": "cluster_size=2M"}
SECONDS = 120


def run(*argv):
    done = subprocess.run(["timeout", "-k", "3", str(SECONDS), *map(str, argv)], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, errors="replace")
    return done.returncode, done.stdout, done.stderr


def must(*argv):
    status, out, err = run(*argv)
    if status:
        sys.exit(f"campaign: {' '.join(map(str, argv))}: {out}{err}")
    return out


def qemu_io(path, *commands):
    must("qemu-io", "-t", "unsafe", "-f", "qcow2", *(w for c in commands for w in ("-c", c)), path)


class Base:
    """A sound image: L1 entries of which the last is empty, data at the start of the others."""

    def __init__(self, variant, folder):
        self.variant = variant
        self.path = os.path.join(folder, "base." + variant)
        self.nsnaps = 0
        if variant == "dedup":
            self.dedup()
        else:
            self.plain()
        self.image = layers.Image(self.path)
        self.cluster = self.image.cs
        self.span = self.image.per_table * self.cluster

    def dedup(self):
        raw = self.path + ".raw"
        must(os.path.join(TOOLS, "mkdata"), raw, "5M", "7", "dup50")
        must("truncate", "-s", "8M", raw)
        must(QDEDUP, "convert", "-q", "-o", "cluster_size=4K", raw, self.path)
        self.nsnaps = 1

    def plain(self):
        v, p = self.variant, self.path
        c = {"4k": 4096, "snap4k": 4096, "2m": 2 << 20}.get(v, 65536)
        s = c * c // (16 if v == "extl2" else 8)
        options = ["-o", OPTIONS[v]] if v in OPTIONS else []
        must("qemu-img", "create", "-q", "-f", "qcow2", *options, p, 4 * s)
        if v == "2m":
            qemu_io(p, f"write -P 1 0 {2 * c}", f"write -P 2 {s} {c}", f"write -P 3 {2 * s} {c}")
        else:
            qemu_io(p, f"write -P 1 0 {4 * c}", f"write -P 2 {s} {2 * c}", f"write -P 3 {2 * s} {c}",
                    f"write -c -P 4 {8 * c} {c}", f"write -c -P 5 {9 * c} {c}")
        if v != "v2":
            qemu_io(p, f"write -z {5 * c} {c}")
        if v == "bitmap":
            must("qemu-img", "bitmap", "--add", p, "one")
            qemu_io(p, f"write -P 9 {c} {c}")
        if v.startswith("snap"):
            must("qemu-img", "snapshot", "-c", "one", p)
            qemu_io(p, f"write -P 6 0 {2 * c}", f"write -P 7 {2 * s} {c}")
            must("qemu-img", "snapshot", "-c", "two", p)
            qemu_io(p, f"write -P 8 {c} {2 * c}")
            self.nsnaps = 2


def structure(rng):
    """Where something of the image is."""
    return rng.choice(["header.l1_off", "header.reftable_off", "refblock[0]", "table[0]", "table[1]", "table[2]",
                       "host[0]", "host[CLUSTER]", "host[SPAN]", "0", "END", "END + CLUSTER * 7", "new",
                       "END - CLUSTER", "CLUSTER", "CLUSTER * 2"])


def wrong(rng, place):
    """A wrong value for what is at `place`."""
    kind = rng.randrange(8)
    if kind == 0:
        return "0"
    if kind == 1:
        return "0xffffffffffffffff"
    if kind == 2:
        bit = 1 << rng.randrange(64)
        return f"(({place} | {bit:#x}) - ({place} & {bit:#x}))"
    if kind == 3:
        return f"{place} + {rng.choice([1, 8, 512, 1 << 30, 1 << 45])}"
    if kind == 4:
        return f"{rng.getrandbits(64):#x}"
    if kind == 5:
        return f"({place} & ~0xff0000) | {rng.getrandbits(8) << 16:#x}"
    return structure(rng) + rng.choice(["", " | COPIED"])


def small(rng):
    return rng.choice(["0", "1", "0xffffffff", str(rng.randrange(1000)), f"{rng.getrandbits(32):#x}"])


def guest(rng):
    return f"{rng.choice(['0', 'SPAN', 'SPAN * 2'])} + CLUSTER * {rng.choice([0, 0, 1, 2, 3, 5, 8, 9, 12])}"


def layer(rng, base):
    n = rng.randrange(base.nsnaps + 1)
    return f"snap[{n - 1}]." if n else ""


def damage(rng, base):
    """One thing that is wrong: a statement of `damage`."""
    at = layer(rng, base)
    kind = rng.choice(["l1", "l1", "l1", "l2", "l2", "l2", "bitmap", "header", "header", "reftable", "refcount", "refcount",
                       "snap", "snap", "fill", "fill", "truncate", "byte"])
    if kind == "l1":
        place = f"{at}l1[{rng.randrange(4)}]"
    elif kind in ("l2", "bitmap"):
        place = f"{at}{kind}[{guest(rng)}]"
    elif kind == "reftable":
        place = f"reftable[{rng.randrange(3)}]"
    elif kind == "header":
        name = rng.choice(["l1_off", "l1_entries", "reftable_off", "reftable_clusters", "snapshot_count",
                           "snapshots_off", "autoclear", "header_length", "incompatible"])
        place = "header." + name
        if name in ("l1_entries", "reftable_clusters", "snapshot_count", "header_length"):
            return f"{place} = {small(rng)}"
        if name == "incompatible":
            return f"{place} = {place} | {rng.choice([1, 2, 3])}"
    elif kind == "refcount":
        return f"refcount[{structure(rng)}] = {rng.choice([0, 1, 2, 3, 255, 65535])}"
    elif kind == "snap" and base.nsnaps:
        name = rng.choice(["l1_off", "l1_off", "l1_entries", "id_len", "name_len", "extra_len", "disk_size"])
        place = f"snap[{rng.randrange(base.nsnaps)}].{name}"
        if name not in ("l1_off", "disk_size"):
            return f"{place} = {small(rng)}"
    elif kind == "fill":
        what = rng.choice(["header.reftable_off", "refblock[0]", "header.l1_off", "table[0]", "table[1]", "table[2]",
                           "header.snapshots_off" if base.nsnaps else "refblock[0]"])
        return f"fill {what} + {rng.choice(['0', '0', 'CLUSTER / 2', '64'])}, " \
               f"{rng.choice(['CLUSTER / 2', '64', '512'])}, {rng.choice([0, 255, rng.randrange(256)])}"
    elif kind == "truncate":
        return f"truncate = END - CLUSTER * {rng.choice([1, 1, 2, 3, 6])}"
    else:
        return f"byte[{structure(rng)} + {rng.randrange(256)}] = {rng.randrange(256)}"
    return f"{place} = {wrong(rng, place)}"


def digest(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).digest()


class Case:
    def __init__(self, seed, base, folder):
        self.seed, self.base = seed, base
        self.img, self.was = (os.path.join(folder, n) for n in ("img", "damaged"))
        self.report = os.path.join(folder, "report.json")
        self.problems = []
        self.how = "not damaged"

    def make(self, rng):
        must("cp", "--sparse=always", self.base.path, self.img)
        self.done = []
        for _ in range(rng.choice([1, 2, 2, 3])):
            statement = damage(rng, self.base)
            status, _, _ = run(os.path.join(TOOLS, "damage"), self.img, statement)
            if status == 0:
                self.done.append(statement)
        # what a huge offset would make of the file is not what this is about
        if os.path.getsize(self.img) > 1 << 27:
            os.truncate(self.img, os.path.getsize(self.base.path))
        must("cp", "--sparse=always", self.img, self.was)

    def expect(self, good, text):
        if not good:
            self.problems.append(text)

    def check(self):
        with open(self.img, "rb") as f:
            if f.read(4) != b"QFI\xfb":
                self.how = "not qcow2 any more"
                return False
        theirs, _, err = run("qemu-img", "check", "-q", "-f", "qcow2", self.img)
        ours, _, ours_err = run(QDEDUP, "check", "--memory=64M", self.img)
        self.expect(ours in (0, 1, 2, 3), f"check exits {ours}: {ours_err}")
        self.expect(theirs == 0 or ours != 0, f"qemu-img check exits {theirs}, check {ours}: {err}")
        return True

    def repair(self):
        status, out, err = run(QDEDUP, "check", "--repair", "--output=json", "-v", "--memory=64M", self.img)
        with open(self.report, "w", encoding="utf-8") as f:
            f.write(out)
        try:
            report = json.loads(out)
        except ValueError:
            report = {}
        if status == 0:
            return self.repaired(report)
        why = report.get("refused")
        self.how = "refused" if why else "repaired in part"
        self.expect(why or report.get("not-repaired") or (status == 1 and err), f"repair exits {status} and does not say why: {err}")
        self.expect(status in (1, 2, 3), f"repair exits {status}: {err}")
        self.expect(not why or digest(self.img) == digest(self.was), "a repair that is refused has changed the image")
        return None

    def repaired(self, report):
        self.how = "repaired" if report.get("repairs") else "sound"
        status, out, _ = run(QDEDUP, "check", "--memory=64M", self.img)
        self.expect(status == 0, f"the second check exits {status}: {out}")
        status, out, err = run("qemu-img", "check", "-f", "qcow2", self.img)
        self.expect(status == 0, f"qemu-img check of the repaired image exits {status}: {out[:400]}{err[:400]}")
        before = digest(self.img)
        status, out, _ = run(QDEDUP, "check", "--repair", "--memory=64M", self.img)
        self.expect(status == 0 and digest(self.img) == before, f"the second repair exits {status} or changes something")
        self.compare(report)

    def compare(self, report):
        said = io.StringIO()
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            was = layers.Image(self.was)
            bad = layers.compare(self.base.image, was, layers.Image(self.img), report, True,
                                 [layers.Image(self.was, self.base.image, at) for at in (False, True)],
                                 layers.Image(self.base.path, was))
        self.expect(not bad, said.getvalue()[:2000])


def arguments():
    p = argparse.ArgumentParser()
    p.add_argument("--first", type=int, default=1)
    p.add_argument("--count", type=int, default=0)
    p.add_argument("--seconds", type=float, default=0)
    p.add_argument("--variant", choices=VARIANTS)
    p.add_argument("--keep")
    return p.parse_args()


def one(seed, args, bases, folder):
    rng = random.Random(seed)
    variant = rng.choice(VARIANTS)
    variant = args.variant or variant
    if variant not in bases:
        bases[variant] = Base(variant, folder)
    case = Case(seed, bases[variant], folder)
    case.make(rng)
    if case.check():
        case.repair()
    if case.problems:
        print(f"FAILED seed {seed} ({variant}): {'; '.join(case.done)}")
        for problem in case.problems:
            print("    " + problem.strip().replace("\n", "\n    "), flush=True)
        if args.keep:
            shutil.copy(case.was, os.path.join(args.keep, f"{seed}.{variant}"))
    elif args.count == 1:
        print(f"seed {seed} ({variant}): {'; '.join(case.done)}: {case.how}")
    return case


def main():
    args = arguments()
    count = args.count or (1 << 60 if args.seconds else 200)
    end = time.monotonic() + args.seconds if args.seconds else float("inf")
    how, failed, bases, seed = {}, 0, {}, args.first
    with tempfile.TemporaryDirectory() as folder:
        while seed < args.first + count and time.monotonic() < end:
            case = one(seed, args, bases, folder)
            failed += bool(case.problems)
            how[case.how] = how.get(case.how, 0) + 1
            seed += 1
    text = ", ".join(f"{n} {k}" for k, n in sorted(how.items()))
    print(f"seeds {args.first}..{seed - 1}: {text}; {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
