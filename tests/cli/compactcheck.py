#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""An image of stock QEMU, made from a seed, compacted, and judged by stock QEMU.

    compactcheck.py QDEDUP FIRST-SEED LAST-SEED [none|dedup|rehash|convert [OPTION...]]

The image has holes: discarded ranges, overwritten clusters, a deleted snapshot.  It is first
deduplicated, given a hash table, or written anew by convert and then to by QEMU, which leaves
a table in state partial.  Options are for compact.
"""
import hashlib
import json
import os
import random
import subprocess
import sys

QDEDUP, HOW, OPTIONS = sys.argv[1], sys.argv[4] if len(sys.argv) > 4 else 'none', sys.argv[5:]


def run(*args, ok=(0,)):
    r = subprocess.run(args, capture_output=True, text=True)
    if r.returncode not in ok:
        sys.exit(f'{args[:4]}: status {r.returncode}\n{r.stdout[-500:]}{r.stderr[-500:]}')
    return r


def status(*args):
    return run(*args, ok=range(0, 64)).returncode


def options(rnd):
    cs = rnd.choice([512, 4096, 4096, 65536, 65536, 2 << 20])
    opts = [f'cluster_size={cs}', f'refcount_bits={rnd.choice([16, 16, 1, 4, 64, 8])}']
    extended = cs >= 16384 and rnd.random() < .3
    if extended:
        opts.append('extended_l2=on')
    elif rnd.random() < .3:
        opts.append('compression_type=zstd')
    if rnd.random() < .2:
        opts.append('lazy_refcounts=on')
    return cs, opts, extended


def commands(rnd, cs, nclusters, extended, compress):
    for _ in range(rnd.randint(5, 40)):
        at, k, byte = rnd.randrange(nclusters), rnd.random(), rnd.randint(1, 40)
        n = min(rnd.randint(1, 8), nclusters - at)
        if k < .5:
            yield f'write -P {byte} {at * cs} {n * cs}'
        elif k < .6:
            yield f'write -P {byte} {at * cs} 512'
        elif k < .75 and not extended:
            if compress:
                yield from (f'write -c -P {byte} {(at + i) * cs} {cs}' for i in range(n))
        elif k < .9:
            if not compress:
                yield f'discard {at * cs} {n * cs}'
        else:
            yield f'write -z {at * cs} {n * cs}'


def qemu_io(image, cmds):
    run('qemu-io', '-f', 'qcow2', *(a for c in cmds for a in ('-c', c)), image, ok=(0, 1))


def make(image, rnd):
    """Returns the names of its snapshots, or None when QEMU itself made a mess of it."""
    cs, opts, extended = options(rnd)
    size = {512: 1 << 20, 4096: 4 << 20, 65536: 16 << 20, 2 << 20: 128 << 20}[cs]
    size += rnd.choice([0, 512, 1536])
    run('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', ','.join(opts), image, str(size))
    snapshots = []
    for i in range(rnd.randint(1, 3)):
        qemu_io(image, commands(rnd, cs, size // cs, extended, rnd.random() < .5))
        if rnd.random() < .6 and not status('qemu-img', 'snapshot', '-c', f's{i}', image):
            snapshots.append(f's{i}')
        if rnd.random() < .3 and cs >= 4096:
            run('qemu-img', 'bitmap', '--add', '-g', '65536', image, f'b{i}')
    at = rnd.randrange(size // cs)
    qemu_io(image, [f'discard {at * cs} {rnd.randint(1, size // cs - at) * cs}'])
    if snapshots and rnd.random() < .4:
        if status('qemu-img', 'snapshot', '-d', snapshots.pop(0), image):
            return None
    return None if status('qemu-img', 'check', '-q', image) else snapshots


def layers(image, snapshots):
    found = []
    for name in [None] + snapshots:
        run('qemu-img', 'convert', *(['-l', name] if name else []), '-O', 'raw', image, 'layer.raw')
        with open('layer.raw', 'rb') as f:
            found.append(hashlib.sha256(f.read()).hexdigest())
    return found


def compact(image, *args):
    return json.loads(run(QDEDUP, 'compact', '--output=json', *OPTIONS, *args, image).stdout)


def used_clusters(image):
    """Clusters of the file that anything refers to, by qemu-img's own refcounts: the file's end
    when there is no hole left."""
    return json.loads(run('qemu-img', 'check', '--output=json', image).stdout)['image-end-offset']


def check_index(seed, image, snapshots):
    state = json.loads(run(QDEDUP, 'stats', '--output=json', image).stdout)['index']['state']
    if HOW == 'none' or state == 'absent':
        return
    verified = json.loads(run(QDEDUP, 'verify', '--output=json', image).stdout)
    if (snapshots or HOW == 'convert') and state == 'partial':
        return
    if state != 'valid' or verified['unknown'] or not verified['checked']:
        sys.exit(f'seed {seed}: the hash table is {state}, {verified}')


def convert(image, rnd):
    """As convert makes it, with writes by QEMU after that."""
    with open('noise', 'wb') as f:
        f.write(rnd.randbytes(400000))
    qemu_io(image, ['write -s noise 0 400000'])
    compressed = ['-c'] if rnd.random() < .5 else []
    run(QDEDUP, 'convert', '-q', *compressed, '-o', f'cluster_size={rnd.choice([512, 4096, 65536])}', image, 'new.qcow2')
    os.rename('new.qcow2', image)
    size = json.loads(run('qemu-img', 'info', '--output=json', image).stdout)['virtual-size']
    for _ in range(rnd.randint(0, 12)):
        at = rnd.randrange(min(size, 500000) // 512) * 512
        n = min(rnd.choice([512, 4096, 70000, 300000]), size - at) // 512 * 512
        qemu_io(image, [f'{rnd.choice(["write -P 77", "discard", "write -z"])} {at} {n}'])


def one(seed):
    rnd = random.Random(seed)
    image = f'{seed}.qcow2'
    snapshots = make(image, rnd)
    if snapshots is None:
        return 0
    if HOW == 'convert':
        convert(image, rnd)
        snapshots = []
    elif HOW != 'none':
        run(QDEDUP, HOW, '-q', image, ok=(0, 1))
    before, length = layers(image, snapshots), os.path.getsize(image)
    foretold = compact(image, '-n')
    if os.path.getsize(image) != length:
        sys.exit(f'seed {seed}: -n changed the file')
    done = compact(image)
    run('qemu-img', 'check', '-q', image)
    run(QDEDUP, 'check', '-q', image)
    if layers(image, snapshots) != before:
        sys.exit(f'seed {seed}: the content changed')
    if os.path.getsize(image) != done['file-size-after'] or done['file-size-after'] > length:
        sys.exit(f'seed {seed}: a file of {os.path.getsize(image)} bytes, {done}')
    if used_clusters(image) > done['file-size-after'] and done['changed']:
        sys.exit(f'seed {seed}: the file was cut too short')
    if foretold['changed'] != done['changed'] or compact(image)['changed']:
        sys.exit(f'seed {seed}: foretold {foretold}, done {done}')
    check_index(seed, image, snapshots)
    os.unlink(image)
    return done['clusters-moved'] + done['compressed-clusters-moved'] + done['metadata-clusters-moved']


moved = [one(seed) for seed in range(int(sys.argv[2]), int(sys.argv[3]) + 1)]
print(f'{sum(map(bool, moved))} of {len(moved)} images had something to move, {sum(moved)} clusters')
if not any(moved):
    sys.exit('no image had anything to move: no test')
