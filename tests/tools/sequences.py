#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""sequences.py [--seed N] [--runs N] [--steps N] [--seconds S] [--keep DIR] [--verbose]

Random sequences of operations on one image, by qdedup and by stock QEMU, because what
goes wrong in combination does not in each alone.  A seed says all that is done, and a
failure is seen again with --seed SEED --runs 1; --keep DIR leaves the files there.

A raw twin of the active layer and of each internal snapshot is kept in memory.  After
each step:

  - qemu-img check and qdedup check find nothing, stats and info say what QEMU says;
  - every layer reads as its twin, by qemu-img convert;
  - verify finds no rot where there is none (after a bit was flipped: exactly that);
  - who refuses has not touched the file, says why, and is allowed to refuse that.

After a kill or an abort the image is first brought back by one of the ways of rule 3.
What was written since the last flush may then be there or not, nothing else may differ.

Kept away from, for stock QEMU goes wrong there: compressed writes and discards in one
session of qemu-io (7.2: refcounts, when there is a snapshot), amend -o compat=0.10
(zeroes shared clusters in place later), compressed writes over what is there already,
check -r of an image with bitmaps and snapshots (7.2: the snapshots are gone), and amend
-o refcount_bits with clusters of 2M (takes minutes).

QDEDUP and QD_TOOLS name the program and the directory of killat.so.
"""
import argparse
import collections
import filecmp
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time

QDEDUP = os.path.abspath(os.environ.get("QDEDUP", "./qdedup"))
TOOLS = os.path.abspath(os.environ.get("QD_TOOLS", "build/tools"))
SECONDS = 120
HASHES = ["xxh128", "sha256", "sha512-256", "sha3-256", "blake2b"]
WAYS = ["replay", "repair", "qemu-check", "qemu-open"]
refusals = collections.Counter()
counts = collections.Counter()


class Failure(Exception):
    pass


class Done:
    def __init__(self, argv, status, out, err):
        self.argv, self.status, self.out, self.err = argv, status, out, err

    def __str__(self):
        return f"{' '.join(self.argv)}: status {self.status}\n{self.out[-1500:]}{self.err[-3000:]}"


class Sequence:
    def __init__(self, seed, folder, verbose):
        self.rng, self.dir, self.verbose = random.Random(seed), folder, verbose
        self.log = []
        self.snaps = {}             # name: content, of internal snapshots but the pin
        self.file = None            # of an index that is not in the image
        self.sure = True            # has nobody but qdedup written since the index was?
        self.loose = False          # shared clusters without a pin: QEMU may leave COPIED off
        self.killed = False         # was the last thing that happened a kill?
        self.mess = False           # the index may be gone: a kill, or a repair
        self.bitmaps = set()
        self.backed = False
        self.names = 0

    def path(self, name):
        return os.path.join(self.dir, name)

    # ---- running programs ----

    def run(self, *argv, env=None):
        argv = [str(a) for a in argv]
        self.log.append(" ".join([f"{k}={v}" for k, v in (env or {}).items()] + [os.path.basename(argv[0])] +
                                 [repr(a) if " " in a else a for a in argv[1:]]))
        if self.verbose:
            print("   ", self.log[-1][:400], flush=True)
        full = dict(os.environ, TMPDIR=self.dir)
        if env:
            full.update(env, LD_PRELOAD=os.path.join(TOOLS, "killat.so"))
            full["ASAN_OPTIONS"] = ":".join(filter(None, [full.get("ASAN_OPTIONS"), "verify_asan_link_order=0"]))
        try:
            r = subprocess.run(argv, cwd=self.dir, env=full, stdin=subprocess.DEVNULL, capture_output=True,
                               text=True, errors="replace", timeout=SECONDS)
        except subprocess.TimeoutExpired:
            raise Failure(f"{' '.join(argv)}: still runs after {SECONDS} s")
        done = Done(argv, r.returncode, r.stdout, r.stderr)
        if re.search(r"Sanitizer|runtime error:", r.stderr) or (r.returncode < 0 and r.returncode != -9):
            raise Failure(f"crashed: {done}")
        return done

    def must(self, *argv, ok=(0,)):
        done = self.run(*argv)
        if done.status not in ok:
            raise Failure(str(done))
        return done

    def json(self, *argv, ok=(0,)):
        return json.loads(self.must(*argv, ok=ok).out)

    def info(self, image="disk"):
        return self.json("qemu-img", "info", "--output=json", image)

    def snapshot_names(self, image="disk"):
        return [s["name"] for s in self.info(image).get("snapshots", [])]

    def qdedup(self, *argv, allowed=(), statuses=(0,), env=None):
        """Runs a command that may write: True when it was done.  What refuses must leave all as it was."""
        for name in ("disk", self.file):
            if name and os.path.exists(self.path(name)):
                shutil.copyfile(self.path(name), self.path(name + ".before"))
        done = self.run(QDEDUP, *argv, env=env)
        if done.status in statuses:
            return done
        if done.status != 1 or not done.err.startswith("qdedup "):
            raise Failure(str(done))
        message = re.sub(r"0x[0-9a-f]+|\d+", "N", done.err.split("disk: ", 1)[-1].splitlines()[0])
        refusals[argv[0] + ": " + message] += 1
        if not any(re.search(a, done.err) for a in allowed):
            raise Failure(f"refused: {done}")
        for name in ("disk", self.file):
            if name and os.path.exists(self.path(name + ".before")) and \
                    not filecmp.cmp(self.path(name), self.path(name + ".before"), shallow=False):
                raise Failure(f"refused, but {name} was changed: {done}")
        return None

    # ---- content ----

    def block(self):
        """What a cluster may hold: often what others hold too."""
        k = self.rng.random()
        if k < .5:
            return self.rng.choice(self.pool)
        if k < .65:
            return bytes(self.cs)
        if k < .8:
            return self.rng.randbytes(self.cs)
        return bytes([self.rng.randrange(256)]) * self.cs

    def content(self, size):
        out = bytearray()
        while len(out) < size:
            out += self.block() if self.rng.random() < .8 else bytes(self.cs * self.rng.randrange(1, 8))
        return out[:size]

    def write_file(self, name, data):
        with open(self.path(name), "wb") as f:
            f.write(data)

    def read_layer(self, snapshot=None):
        if os.path.exists(self.path("layer")):
            os.unlink(self.path("layer"))
        self.must("qemu-img", "convert", "-t", "unsafe", *(["-l", f"snapshot.name={snapshot}"] if snapshot else []),
                  "-O", "raw", "disk", "layer")
        with open(self.path("layer"), "rb") as f:
            return f.read()

    # ---- the image ----

    def make(self):
        rng = self.rng
        self.cs = rng.choice([512, 4096, 4096, 4096, 65536, 65536, 65536, 16384, 2 << 20])
        size = {512: 1 << 18, 4096: 1 << 20, 16384: 1 << 21, 65536: 1 << 22, 2 << 20: 12 << 20}[self.cs]
        size += rng.choice([0, 0, 512, 1536, self.cs * rng.randrange(20)])
        self.pool = [rng.randbytes(self.cs), rng.randbytes(self.cs), rng.randbytes(self.cs // 4) * 4,
                     b"text and more of it\n" * (self.cs // 20) + bytes(self.cs % 20)]
        for i, block in enumerate(self.pool):
            self.write_file(f"p{i}", block)
        self.active = self.content(size)
        self.v2 = rng.random() < .06
        self.rb = rng.choice([16, 16, 16, 16, 1, 2, 4, 8, 32, 64]) if not self.v2 else 16
        self.ext = self.cs >= 16384 and not self.v2 and rng.random() < .3
        options = [f"cluster_size={self.cs}"]
        if self.v2:
            options.append("compat=0.10")
        else:
            if rng.random() < .3:
                options.append("compression_type=zstd")
            if rng.random() < .2:
                options.append("lazy_refcounts=on")
            if self.ext:
                options.append("extended_l2=on")
        self.backed = rng.random() < .2
        self.write_file("base.raw", self.active)
        if self.backed or rng.random() < .6:
            options += [f"refcount_bits={self.rb}"]
            self.make_stock(options)
        else:
            self.make_converted(options)
        self.judge("made")

    def make_stock(self, options):
        if self.backed:
            form = self.rng.choice(["raw", "qcow2"])
            length = self.rng.choice([len(self.active), len(self.active) // 1024 * 512])
            self.must("qemu-img", "convert", "-t", "unsafe", "-O", form, "base.raw", "backing")
            if length < len(self.active):
                self.must("qemu-img", "resize", "-q", "-f", form, "--shrink", "backing", length)
                self.active[length:] = bytes(len(self.active) - length)
            self.must("qemu-img", "create", "-q", "-f", "qcow2", "-o", ",".join(options), "-b", "backing", "-F", form,
                      "disk", len(self.active))
            return
        self.must("qemu-img", "convert", "-t", "unsafe", *(["-c"] if self.rng.random() < .3 else []), "-O", "qcow2",
                  "-o", ",".join(options), "base.raw", "disk")

    def make_converted(self, options):
        more = []
        if self.rng.random() < .3:
            more.append("-c")
        if self.rb > 1:
            options = options + [f"refcount_bits={self.rb}"]
        else:
            self.rb = 16
        if self.rng.random() < .2:
            more.append("--no-pin")
        more += self.index_options(.2)
        if self.rng.random() < .15:
            more.append(f"--max-share={self.rng.choice([1, 2, 3])}")
        done = self.qdedup("convert", "-q", "-t", "unsafe", *more, "-o", ",".join(options), "base.raw", "disk",
                           allowed=["."] if self.v2 else ["max-share"])
        if not done:
            self.must("qemu-img", "convert", "-O", "qcow2", "-o", ",".join(options), "base.raw", "disk")
            return
        self.loose = "--no-pin" in more
        self.took_index(more)

    def index_options(self, share):
        rng = self.rng
        more = []
        if rng.random() < .15:
            more.append("--no-index")
        elif rng.random() < share:
            self.names += 1
            more.append(f"--index={self.file or 'index%d' % self.names}")
        if rng.random() < .25:
            more.append(f"--hash={rng.choice(HASHES)}")
        return more

    def took_index(self, more):
        files = [m[8:] for m in more if m.startswith("--index=")]
        self.file = files[0] if files else None
        self.sure, self.mess = True, False

    def index_arg(self):
        return [f"--index={self.file}"] if self.file else []

    # ---- judges ----

    def judge(self, what):
        info = self.info()
        self.judge_check()
        self.judge_content(info)
        self.judge_stats(info)
        self.judge_pin()
        self.judge_verify()

    def judge_pin(self):
        """Is each plain cluster pinned that a layer refers to more than once?"""
        if self.loose or self.v2:
            return
        image = Image(self.path("disk"))
        pinned = image.pinned()
        for layer, l1off, l1n in image.layers():
            n = collections.Counter(e for _, e, _ in image.entries(l1off, l1n) if not e >> 62 & 1)
            bare = [hex(e) for e in n if n[e] > 1 and e not in pinned]
            if bare and self.killed:            # check notes it, the next dedup or rehash adds it
                counts["unpinned by a kill"] += 1
                self.loose = True
            elif bare:
                raise Failure(f"not pinned, but shared by clusters of {layer}: {bare[:5]}")

    def judge_check(self):
        done = self.run("qemu-img", "check", "disk")
        ours = self.run(QDEDUP, "check", "disk")
        lines = [x for x in done.out.splitlines() + done.err.splitlines() if x.startswith(("ERROR", "Leaked", "Repair"))]
        if done.status == 2 and self.loose and all("OFLAG_COPIED data cluster" in x and "refcount=1" in x for x in lines):
            if ours.status != 2:
                raise Failure(f"qemu-img check exits 2, but {ours}")
            counts["COPIED left off, unpinned"] += 1
            if self.rng.random() < .5:
                self.must("qemu-img", "check", "-q", "-r", "leaks", "disk")
            else:
                self.must(QDEDUP, "check", "-q", "--repair", "disk")
            self.mess = True
            done = self.run("qemu-img", "check", "disk")
            ours = self.run(QDEDUP, "check", "disk")
        if done.status:
            raise Failure(str(done))
        if ours.status:
            raise Failure(str(ours))
        index = self.json(QDEDUP, "check", "--output=json", "disk").get("index")
        if index and index["errors"] and not self.mess:
            raise Failure(f"check finds errors in the index: {self.run(QDEDUP, 'check', '-v', 'disk')}")

    def judge_content(self, info):
        if info["virtual-size"] != len(self.active):
            raise Failure(f"virtual size {info['virtual-size']}, not {len(self.active)}")
        names = [s["name"] for s in info.get("snapshots", [])]
        if sorted(n for n in names if n != "qdedup") != sorted(self.snaps):
            raise Failure(f"snapshots are {names}, not {list(self.snaps)}")
        self.equal("the active layer", self.read_layer(), self.active)
        for name, wanted in self.snaps.items():
            n = min(len(wanted), len(self.active))
            self.equal(f"snapshot {name}", self.read_layer(name)[:n], wanted[:n])

    def equal(self, what, got, wanted):
        if got != wanted:
            at = next((i for i, (a, b) in enumerate(zip(got, wanted)) if a != b), min(len(got), len(wanted)))
            raise Failure(f"{what} differs at {at} (cluster {at // self.cs}): {got[at:at + 16].hex()}, "
                          f"not {bytes(wanted[at:at + 16]).hex()}; {len(got)} and {len(wanted)} bytes")

    def judge_stats(self, info):
        s = self.json(QDEDUP, "stats", "--output=json", "disk")
        self.stats = s
        data = info["format-specific"]["data"]
        users = [n for n in self.snaps]
        wanted = {"virtual-size": info["virtual-size"], "cluster-size": info["cluster-size"], "leaked-clusters": 0,
                  "refcount-bits": data["refcount-bits"], "dirty": False}
        for key, value in wanted.items():
            if s[key] != value:
                raise Failure(f"stats: {key} is {s[key]}, not {value}")
        if s["snapshots"] - len(users) not in (0, 1):
            raise Failure(f"stats: {s['snapshots']} snapshots, {users}")
        state = s["index"]["state"]
        if state == "stale" and not self.mess:
            raise Failure("the index is stale")
        if state == "valid" and (self.snaps or not self.sure):
            raise Failure("the index is called valid")
        journal = s["journal"]["state"]
        if journal not in ("absent", "clean"):
            verified = self.json(QDEDUP, "journal", "--output=json", *self.index_arg(), "verify", "disk", ok=(0, 2))
            if not self.mess or verified["state"] != "obsolete":
                raise Failure(f"the journal is {s['journal']}, {verified}")

    def judge_verify(self):
        state = self.stats["index"]["state"]
        if state == "absent":
            self.must(QDEDUP, "verify", "disk", ok=(1,))
            return None
        ok = (0, *((1,) if self.mess else ()), *(() if self.sure else (2,)))
        done = self.must(QDEDUP, "verify", "--output=json", *self.index_arg(), "disk", ok=ok)
        if done.status == 1:
            return None
        v = json.loads(done.out)
        for bad in v["bad"]:
            if bad["certain"] or not self.snaps:
                raise Failure(f"verify calls rotten what is not: {bad}")
        if v["index-damaged"]:
            raise Failure(str(v))
        return v

    # ---- steps of stock QEMU ----

    def spot(self, whole=False):
        """A range of the disk, mostly where others were."""
        size, unit = len(self.active), min(self.cs, 65536)
        if not hasattr(self, "places"):
            self.places = [self.rng.randrange(size) for _ in range(5)]
        at = self.rng.choice(self.places) if self.rng.random() < .6 else self.rng.randrange(size)
        at = min(at, size - 1)
        if whole or self.rng.random() < .5:
            at = at // self.cs * self.cs
            return at, min(self.rng.choice([1, 1, 2, 3, 9]) * self.cs, size - at)
        return at, min(self.rng.choice([1, 512, 4096, unit, self.rng.randrange(1, 3 * unit)]), size - at)

    def a_write(self):
        """Words of a write command, and what it writes."""
        at, n = self.spot()
        if self.rng.random() < .6:
            k = self.rng.randrange(len(self.pool))
            return f"write -s p{k} {at} {n}", at, (self.pool[k] * (n // self.cs + 1))[:n]
        byte = self.rng.choice([0, 0, 1, self.rng.randrange(256)])
        return f"write -P {byte} {at} {n}", at, bytes([byte]) * n

    def qemu_io(self, commands):
        self.sure = False
        cache = self.rng.choice(["unsafe", "writeback"])
        done = self.must("qemu-io", "-t", cache, "-f", "qcow2", *(w for c in commands for w in ("-c", c)), "disk")
        if "failed" in done.out + done.err:
            raise Failure(f"stock QEMU: {done}")

    def step_qemu_write(self):
        commands = []
        for _ in range(self.rng.randrange(1, 8)):
            k = self.rng.random()
            if k < .6:
                words, at, data = self.a_write()
                self.active[at:at + len(data)] = data
            else:
                at, n = self.spot(whole=True)
                if k < .8:
                    words = self.rng.choice(["write -z", "write -z -u"]) + f" {at} {n}"
                elif self.v2 and self.backed:
                    continue
                else:
                    words = f"discard {at} {n}"
                self.active[at:at + n] = bytes(n)
            commands.append(words)
        if commands:
            self.qemu_io(commands)

    def step_qemu_compressed(self):
        if self.v2 and self.backed:
            return
        spots = [self.spot(whole=True)[0] for _ in range(self.rng.randrange(1, 6))]
        spots = sorted({at for at in spots if at + self.cs <= len(self.active)})
        if not spots:
            return
        self.qemu_io([f"discard {at} {self.cs}" for at in spots])
        commands = []
        for at in spots:
            k = self.rng.randrange(len(self.pool))
            commands.append(f"write -c -s p{k} {at} {self.cs}")
            self.active[at:at + self.cs] = self.pool[k]
        self.qemu_io(commands)

    def qemu_img(self, *argv, may_fail=False):
        self.sure = False
        done = self.run("qemu-img", *argv)
        if done.status and not may_fail:
            raise Failure(f"stock QEMU: {done}")
        if done.status:
            counts["qemu-img failed: " + argv[0]] += 1
            if not (self.bitmaps and self.snaps):
                self.qemu_check()
            else:
                self.must(QDEDUP, "check", "-q", "--repair", "disk")
            self.mess = True
        return not done.status

    def step_snapshot(self):
        if len(self.snaps) >= 2:
            return self.step_snapshot_delete()
        if self.rb == 1:
            return None
        self.names += 1
        name = f"s{self.names}"
        if self.qemu_img("snapshot", "-c", name, "disk", may_fail=self.rb <= 8 or True):
            self.snaps[name] = bytes(self.active)

    def step_snapshot_apply(self):
        if self.snaps:
            name = self.rng.choice(sorted(self.snaps))
            if self.bitmaps or (self.v2 and len(self.snaps[name]) != len(self.active)):
                return      # refused
            if self.qemu_img("snapshot", "-a", name, "disk", may_fail=self.rb <= 8):
                self.active = bytearray(self.snaps[name])

    def step_snapshot_delete(self):
        if self.snaps:
            name = self.rng.choice(sorted(self.snaps))
            self.qemu_img("snapshot", "-d", name, "disk")
            del self.snaps[name]

    def step_unpin(self):
        if "qdedup" in self.snapshot_names():
            self.qemu_img("snapshot", "-d", "qdedup", "disk")
            self.loose = self.mess = True

    def step_resize(self):
        if self.bitmaps or (self.v2 and (self.snaps or "qdedup" in self.snapshot_names())):
            return
        size = len(self.active)
        new = max(512, size + self.rng.choice([-1, 1]) * self.rng.choice([512, self.cs, self.cs * 7, 4096]))
        self.qemu_img("resize", "-q", "--shrink", "disk", new)
        self.active = self.active[:new] + bytes(max(0, new - size))
        if new > size:      # QEMU shows again what it cut off within a cluster
            tail = min(-(-size // self.cs) * self.cs, new)
            self.active[size:tail] = self.read_layer()[size:tail]

    def step_bitmap(self):
        if self.v2:
            return
        if self.bitmaps and self.rng.random() < .7:
            name = self.rng.choice(sorted(self.bitmaps))
            verb = self.rng.choice(["--remove", "--remove", "--clear", "--disable", "--enable"])
            self.qemu_img("bitmap", verb, "disk", name)
            if verb == "--remove":
                self.bitmaps.remove(name)
        elif len(self.bitmaps) < 2:
            self.names += 1
            name = f"b{self.names}"
            self.qemu_img("bitmap", "--add", "-g", self.rng.choice([4096, 65536]), "disk", name)
            self.bitmaps.add(name)

    def step_amend(self):
        k = self.rng.random()
        if self.v2:
            self.qemu_img("amend", "-o", "compat=1.1", "disk")
            self.v2 = False
        elif k < .5 or self.cs == 2 << 20:      # refcounts of large clusters take QEMU minutes
            self.qemu_img("amend", "-o", f"lazy_refcounts={self.rng.choice(['on', 'off'])}", "disk")
        else:
            bits = self.rng.choice([8, 16, 32, 64])
            if self.qemu_img("amend", "-o", f"refcount_bits={bits}", "disk", may_fail=bits < self.rb):
                self.rb = bits

    def step_rebase(self):
        if self.backed and not self.snaps and not self.bitmaps:
            # Only the active layer gets what the backing file gave.
            self.qemu_img("rebase", "-t", "unsafe", "-f", "qcow2", "-b", "", "disk")
            self.backed = False

    # ---- steps of qdedup ----

    def common(self):
        more = []
        if self.rng.random() < .6:
            more += ["-t", "unsafe"]
        if self.rng.random() < .2:
            more.append(f"--memory={self.rng.choice([8, 16, 64])}M")
        if self.rng.random() < .3:
            more.append(f"--threads={self.rng.choice([1, 2, 4])}")
        return more

    def unready(self):
        """Why a command that stores an index or shares may refuse."""
        found = ["--memory"]
        if self.v2:
            found.append("compat=0.10|version 2")
        if self.rb <= 4:
            found.append("refcount")
        return found

    def writing(self, *argv, allowed=(), statuses=(0,), kill=True):
        """Runs a writing command, now and then with a kill; None when refused, False when killed."""
        env = None
        if kill and self.rng.random() < .25:
            env = {"KILL_AT": str(int(2 ** self.rng.uniform(0, 7))), "KILL_HALF": str(self.rng.randrange(2))}
            statuses = (*statuses, -9, 137)
        done = self.qdedup(*argv, allowed=allowed, statuses=statuses, env=env)
        if done and done.status in (-9, 137):
            counts["killed: " + argv[0]] += 1
            shutil.copyfile(self.path("disk"), self.path("disk.killed"))
            self.bring_back(self.rng.choice(WAYS))
            return False
        return done

    def bring_back(self, way):
        """By one of the four ways; True when it was replay that did."""
        self.mess = self.killed = True
        self.sure = self.sure and way in ("replay", "repair")
        if way == "qemu-check" and self.bitmaps and self.snaps:
            way = "qemu-open"       # all snapshots would be gone
        self.log.append(f"# way back: {way}")
        if way == "replay":
            done = self.run(QDEDUP, "journal", *self.index_arg(), "replay", "disk")
            if done.status == 0:
                self.leaks_left()
                self.caught_up()
                return True
            if done.status not in (1, 2) or not done.err.startswith("qdedup "):
                raise Failure(str(done))
            refusals["replay: " + re.sub(r"0x[0-9a-f]+|\d+", "N", done.err.splitlines()[0].split("disk: ", 1)[-1])] += 1
            if "KILL" in self.log[-3]:
                counts["replay refused"] += 1
            way = "repair"
        if way == "repair":
            self.must(QDEDUP, "check", "-q", "--repair", "disk")
            self.caught_up()
        elif way == "qemu-check":
            self.qemu_check()
        else:
            self.must("qemu-io", "-f", "qcow2", "-c", "read 0 512", "disk")
            self.leaks_left()
        return False

    def caught_up(self):
        """replay and repair may read what others wrote, as rehash does."""
        state = self.json(QDEDUP, "stats", "--output=json", "disk")["index"]["state"]
        self.sure = self.sure or state == "valid"

    def qemu_check(self):
        """QEMU forgets all snapshots meanwhile when the feature bit is set, which it is only on
        images that have none but the pin."""
        pinned = "qdedup" in self.snapshot_names()
        self.must("qemu-img", "check", "-q", "-r", "all", "disk", ok=(0, 3))
        if pinned and "qdedup" not in self.snapshot_names():
            counts["qemu-img check -r took the pin"] += 1
            self.loose = True

    def leaks_left(self):
        """What is not marked dirty is not mended when it is opened: leaks may be left."""
        done = self.must("qemu-img", "check", "-q", "disk", ok=(0, 3))
        if done.status:
            counts["leaks left"] += 1
            self.must(QDEDUP, "check", "-q", "--repair=leaks", "disk")

    def step_rehash(self):
        more = self.common()
        drop = self.rng.random() < .1
        if drop:
            more.append("--drop")
        else:
            more += [m for m in self.index_options(.2) if m != "--no-index"]
        if self.rng.random() < .1:
            more.append("-n")
        done = self.writing("rehash", "--output=json", *more, "disk", allowed=self.unready() + (["no index"] if drop else []))
        if done and "-n" in more:
            self.unchanged(done)
        elif done and drop:
            self.file, self.mess = None, True
        elif done:
            self.took_index(more)
            if not self.file:       # the pin is made for an index in the image
                self.loose = False
            self.indexed(done)
        elif done is False:
            self.after_kill(more)

    def indexed(self, done):
        """After a rehash all clusters are known."""
        s = self.json(QDEDUP, "stats", "--output=json", "disk")
        wanted = "partial" if self.snaps else "valid"
        if s["index"]["state"] != wanted:
            raise Failure(f"the index is {s['index']}, not {wanted}, after {done}")
        v = self.json(QDEDUP, "verify", "--output=json", *self.index_arg(), "disk")
        if v["unknown"] or v["bad"]:
            raise Failure(f"{v} after {done}")

    def unchanged(self, done):
        if not filecmp.cmp(self.path("disk"), self.path("disk.before"), shallow=False):
            raise Failure(f"a dry run wrote: {done}")

    def after_kill(self, more):
        """Which index there is now, the old or the new one, is for the next rehash to say."""
        files = [m[8:] for m in more if m.startswith("--index=")]
        if files and not self.file:
            self.file = files[0]
        if self.file and not os.path.exists(self.path(self.file)):
            self.file = None

    def step_dedup(self):
        rng, more = self.rng, self.common() + self.index_options(.15)
        for option, share in [("-n", .1), ("--compact", .3), ("--no-pin", .1), ("--lazy-refcounts", .2),
                              ("--no-punch", .1), ("--upgrade", .5 if self.v2 else 0)]:
            if rng.random() < share and not (option == "--compact" and "-n" in more):
                more.append(option)
        if rng.random() < .15:
            more.append(f"--max-share={rng.choice([2, 3])}")
        allowed = ["--memory"] + (["compat=0.10|version 2"] if self.v2 else [])
        if self.rb <= 4:
            allowed.append("refcount")
        if "--no-pin" in more:
            allowed.append("pin")
        done = self.writing("dedup", "--output=json", *more, "disk", allowed=allowed)
        if "--upgrade" in more and done is not None and "-n" not in more:
            version = self.info()["format-specific"]["data"]["compat"]
            self.v2 = version == "0.10"
        if done is False:
            return self.after_kill(more)
        if not done:
            return None
        if "-n" in more:
            return self.unchanged(done)
        self.loose = "--no-pin" in more
        state = self.json(QDEDUP, "stats", "--output=json", "disk")["index"]
        if "--no-index" not in more and state["state"] != "absent":
            self.took_index([] if state["location"] == "image" else more + self.index_arg())
        elif state["state"] == "absent":
            self.file = None
        self.sure = True
        return self.deduplicated(json.loads(done.out), more)

    def deduplicated(self, d, more):
        if os.path.getsize(self.path("disk")) != d["file-size-after"]:
            raise Failure(f"the file has {os.path.getsize(self.path('disk'))} bytes: {d}")
        limited = [m for m in more if m.startswith("--max-share")] or self.rb < 16
        sizes = [len(self.active)] + [len(s) for s in self.snaps.values()]
        if not limited and not self.backed and not self.ext and not any(n % self.cs for n in sizes):
            seen = set()
            for layer in [self.active, *self.snaps.values()]:
                for at in range(0, len(layer), self.cs):
                    seen.add(bytes(layer[at:at + self.cs]))
            seen.discard(bytes(self.cs))
            if d["data-clusters"] != len(seen):
                raise Failure(f"{len(seen)} contents, {d}")
        if not limited and self.rng.random() < .3:
            shutil.copyfile(self.path("disk"), self.path("disk.once"))
            again = self.must(QDEDUP, "dedup", "--output=json", *more, "disk")
            if not filecmp.cmp(self.path("disk"), self.path("disk.once"), shallow=False):
                raise Failure(f"a second run wrote: {again}")

    def step_compact(self):
        more = self.common() + self.index_arg()
        if self.rng.random() < .1:
            more.append("-n")
        done = self.writing("compact", "--output=json", *more, "disk", allowed=["--memory"])
        if done and "-n" in more:
            return self.unchanged(done)
        if done and os.path.getsize(self.path("disk")) != json.loads(done.out)["file-size-after"]:
            raise Failure(str(done))
        return None

    def step_journal(self):
        verb = self.rng.choice(["create", "create", "create", "pack", "drop", "verify", "dump", "replay"])
        more = ["-t", "unsafe"] + self.index_arg()
        if verb == "create":
            more.append(f"--size={self.rng.choice(['8K', '16K', '64K', '256K'])}")
        if self.rng.random() < .1:
            more.append("-n")
        allowed = ["no index", "no journal", "journal", "index", "stale", "partial"]
        # They look at the header only, and do not see that the clusters of the index were freed.
        statuses = (0, 2, 3) if self.mess and verb in ("verify", "replay") else (0,)
        done = self.writing("journal", *more, verb, "disk", allowed=allowed, statuses=statuses)
        if done and (verb in ("verify", "dump") or "-n" in more):
            self.unchanged(done)

    def io_commands(self):
        """Commands for qdedup io, and the content after each; how many are certain at the least."""
        commands, states, certain = [], [bytes(self.active)], 0
        now = bytearray(self.active)
        for _ in range(self.rng.randrange(1, 25)):
            k = self.rng.random()
            if k < .55:
                words, at, data = self.a_write()
                now[at:at + len(data)] = data
            elif k < .7:
                at, n = self.spot()
                words = f"write -z {at} {n}"
                now[at:at + n] = bytes(n)
            elif k < .85:
                at, n = self.spot()
                words = f"discard {at} {n}"
                first = -(-at // self.cs) * self.cs
                end = at + n if at + n == len(now) else (at + n) // self.cs * self.cs
                if first < end and not (self.v2 and self.backed):
                    now[first:end] = bytes(end - first)
            elif k < .93:
                at, n = self.spot()
                end = at
                while end < at + n and now[end] == now[at]:
                    end += 1
                commands.append(f"read -P {now[at]} {at} {end - at}")
                continue
            else:
                commands.append("flush")
                certain = len(states) - 1
                continue
            commands.append(words)
            states.append(bytes(now))
        return commands, states, certain

    def step_io(self):
        commands, states, certain = self.io_commands()
        kill = self.rng.random()
        args = ["io", "-q", *(["-t", "unsafe"] if self.rng.random() < .6 else [])]
        env, statuses = None, (0,)
        if kill < .2:
            commands.append("abort")
            statuses = (-9, 137)
        elif kill < .35:
            env = {"KILL_AT": str(int(2 ** self.rng.uniform(0, 6))), "KILL_HALF": str(self.rng.randrange(2))}
            statuses, certain = (0, -9, 137), 0
        allowed = ["bitmaps"] if self.bitmaps else []
        if self.rb <= 4:
            allowed.append("refcount")
        before = self.stats["index"]["state"]
        done = self.qdedup(*args, *(w for c in commands for w in ("-c", c)), "disk", allowed=allowed, statuses=statuses,
                           env=env)
        if not done:
            return
        if before != "valid":
            self.sure = False
        if done.status == 0:
            self.active = bytearray(states[-1])
            return
        counts["abort" if kill < .2 else "killed: io"] += 1
        shutil.copyfile(self.path("disk"), self.path("disk.killed"))
        self.one_of(self.read_layer(), states[certain:], "after the crash")
        replayed = self.bring_back(self.rng.choice(WAYS))
        got = self.read_layer()
        if kill < .2 and replayed:
            self.equal("the active layer, replayed,", got, states[-1])
        self.one_of(got, states[certain:], "brought back")
        self.active = bytearray(got)

    def one_of(self, got, states, when):
        """Does each 512 bytes read as in one of these states?"""
        if len(got) != len(states[0]):
            raise Failure(f"{when}: {len(got)} bytes, not {len(states[0])}")
        if got == states[-1] or got == states[0]:
            return
        for at in range(0, len(got), 512):
            part = got[at:at + 512]
            if part == states[-1][at:at + 512] or part == states[0][at:at + 512]:
                continue
            may = {s[at:at + 512] for s in states}
            if part not in may and any(c not in {m[i] for m in may} for i, c in enumerate(part)):
                raise Failure(f"{when}: at {at} (cluster {at // self.cs}) is {part[:16].hex()}, which was never there: "
                              f"{[m[:16].hex() for m in may]}")

    def step_repair(self):
        how = self.rng.choice(["--repair", "--repair=leaks", "-n"])
        shutil.copyfile(self.path("disk"), self.path("disk.once"))
        self.must(QDEDUP, "check", "-q", *([how] if how != "-n" else ["--repair", "-n"]), "disk")
        if not filecmp.cmp(self.path("disk"), self.path("disk.once"), shallow=False):
            raise Failure("a repair of nothing wrote")

    def step_look(self):
        """Commands that only look."""
        shutil.copyfile(self.path("disk"), self.path("disk.once"))
        self.write_file("twin.raw", self.active)
        self.must(QDEDUP, "compare", "-q", "disk", "twin.raw")
        theirs = self.json("qemu-img", "map", "--output=json", "disk")
        ours = self.json(QDEDUP, "map", "--output=json", "disk")
        for e in theirs + ours:
            e.pop("compressed", None)
        if theirs != ours:
            raise Failure(f"map: {[x for x in zip(theirs, ours) if x[0] != x[1]][:3]}")
        theirs, ours = self.info(), self.json(QDEDUP, "info", "--output=json", "disk")
        for key in theirs:
            if key not in ("children", "dirty-flag", "actual-size") and theirs[key] != ours.get(key):
                raise Failure(f"info: {key}: {theirs[key]}, but {ours.get(key)}")
        if not filecmp.cmp(self.path("disk"), self.path("disk.once"), shallow=False):
            raise Failure("looking wrote")
        if self.backed:
            return
        s = self.json(QDEDUP, "scan", "--output=json", f"--cluster-size={max(self.cs, 4096)}", "disk")
        unit = max(self.cs, 4096)
        parts = [bytes(self.active[i:i + unit]).ljust(unit, b"\0") for i in range(0, len(self.active), unit)]
        unique = len(set(parts) - {bytes(unit)})
        if s["cluster-sizes"][0]["unique"] != unique:
            raise Failure(f"scan: {s['cluster-sizes'][0]}, but {unique} contents")

    def step_convert(self):
        """A new image of it; now and then it takes the place of the old one."""
        more = self.common() + self.index_options(.0)
        cs = self.rng.choice([512, 4096, 65536])
        if self.rng.random() < .3:
            more.append("-c")
        for name in ("new",):
            if os.path.exists(self.path(name)):
                os.unlink(self.path(name))
        self.must(QDEDUP, "convert", "-q", *more, "-o", f"cluster_size={cs}", "disk", "new")
        self.must("qemu-img", "check", "-q", "new")
        self.write_file("twin.raw", self.active)
        self.must("qemu-img", "compare", "-q", "-f", "qcow2", "-F", "raw", "new", "twin.raw")
        if self.rng.random() < .3 and cs <= self.cs:
            os.replace(self.path("new"), self.path("disk"))
            self.backed = self.ext = self.v2 = self.loose = False
            self.snaps, self.bitmaps, self.file, self.rb = {}, set(), None, 16
            self.pool = [p[:cs] for p in self.pool]
            for i, block in enumerate(self.pool):
                self.write_file(f"p{i}", block)
            self.cs = cs
            self.took_index(more)

    def step_flip(self):
        """One bit of what a cluster holds."""
        if self.v2:
            return
        found, masks = clusters(Image(self.path("disk")))
        known = self.judge_verify()
        if not found or known is None:
            return
        entry = self.rng.choice(sorted(found))
        sizes = {name: len(disk) for name, disk in [("active", self.active), *self.snaps.items()]}
        if any(int(p.rsplit(":", 1)[1]) + self.cs > sizes[p.rsplit(":", 1)[0]] for p in found[entry]):
            return      # what is past the end of a disk has a hash, too
        image = Image(self.path("disk"))
        off, n = image.stream(entry) if entry >> 62 & 1 else (entry, image.cs)
        at, bit = off + self.rng.randrange(n), 1 << self.rng.randrange(8)
        if at >= os.path.getsize(self.path("disk")):
            return
        self.log.append(f"# flip bit {bit} at {at} of entry {entry:#x}, {found[entry][:3]}")
        shutil.copyfile(self.path("disk"), self.path("disk.sound"))
        self.poke(at, bit)
        rotten = self.rotten(image.cs)
        done = self.run(QDEDUP, "verify", "--output=json", *self.index_arg(), "disk")
        if done.status not in (0, 2):
            raise Failure(str(done))
        v = json.loads(done.out)
        bad = {f"{b['layer']}:{b['offset']}" for b in v["bad"]}
        before = {f"{b['layer']}:{b['offset']}" for b in known["bad"]}
        if rotten is None:
            rotten = bad or {"something"}
        if not known["unknown"] and not known["bad"] and bad != rotten:
            raise Failure(f"verify finds {sorted(bad)}, but {rotten} rotted")
        if not bad - before <= rotten:
            raise Failure(f"verify finds {sorted(bad)}, before {sorted(before)}, but {rotten} rotted")
        self.poke(at, bit)
        counts["flips"] += 1
        counts["flips found"] += bool(bad - before)

    def poke(self, at, bit):
        with open(self.path("disk"), "r+b") as f:
            f.seek(at)
            old = f.read(1)[0]
            f.seek(at)
            f.write(bytes([old ^ bit]))

    def rotten(self, cs):
        """layer:offset of clusters that read differently now; None when QEMU cannot read them."""
        found = set()
        for layer, wanted in [("active", self.active), *self.snaps.items()]:
            try:
                got = self.read_layer(None if layer == "active" else layer)
            except Failure:
                return None
            for at in range(0, len(wanted), cs):
                end = min(at + cs, len(wanted), len(got))
                if got[at:end] != wanted[at:end]:
                    found.add(f"{layer}:{at}")
        return found

    STEPS = [("qemu_write", 14), ("qemu_compressed", 4), ("snapshot", 5), ("snapshot_apply", 2), ("snapshot_delete", 2),
             ("unpin", 1), ("resize", 2), ("bitmap", 2), ("amend", 1), ("rebase", 1), ("rehash", 12), ("dedup", 12),
             ("compact", 9), ("journal", 10), ("io", 20), ("repair", 2), ("look", 3), ("convert", 2), ("flip", 4)]

    def step(self):
        name = self.rng.choices([n for n, _ in self.STEPS], [w for _, w in self.STEPS])[0]
        self.log.append(f"# {name}")
        self.killed = False
        counts["step " + name] += 1
        getattr(self, "step_" + name)()
        self.judge(name)


def one(seed, args):
    folder = os.path.abspath(tempfile.mkdtemp(prefix="sequence.", dir=args.keep))
    s = Sequence(seed, folder, args.verbose)
    try:
        s.make()
        for _ in range(args.steps):
            s.step()
    except (Failure, ValueError, KeyError, OSError) as e:
        print(f"seed {seed}: FAILED: {type(e).__name__ if not isinstance(e, Failure) else ''} {e}")
        print("".join(f"    {x[:2000]}\n" for x in s.log if re.match("#|[A-Z_]*=|qemu-io|qdedup (convert|rehash|dedup|compact|journal|io)|"
                                                             "qemu-img (create|snapshot|resize|bitmap|amend|rebase|check -q -r)", x)))
        if args.keep:
            print(f"    files: {folder}", flush=True)
            if not isinstance(e, Failure):
                raise
            return False
        shutil.rmtree(folder)
        if not isinstance(e, Failure):
            raise
        return False
    shutil.rmtree(folder)
    return True


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--runs", type=int, default=20)
    p.add_argument("--steps", type=int, default=15)
    p.add_argument("--seconds", type=float, default=1e9)
    p.add_argument("--keep")
    p.add_argument("--verbose", action="store_true")
    args = p.parse_args()
    end, failed, seed = time.monotonic() + args.seconds, [], args.seed
    while seed < args.seed + args.runs and time.monotonic() < end:
        if not one(seed, args):
            failed.append(seed)
        seed += 1
    if args.verbose or args.keep:
        for name, n in sorted((counts + refusals).items()):
            print(f"{n:6} {name}")
    print(f"sequences: {seed - args.seed} runs, {len(failed)} failed: {failed}")
    sys.exit(bool(failed))


sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cli"))
from index import Image, clusters  # noqa: E402  (the reader that shares nothing with qdedup)

if __name__ == "__main__":
    main()
