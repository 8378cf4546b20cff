#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# One bit flipped in each of 200 random clusters, plain and compressed: verify names exactly those, by
# layer and offset; qemu-img check sees none of them.
. "$(dirname "$0")/rehash-lib.sh"

seed=${SEED:-$((RANDOM * 1000))}
echo "seed $seed"
mkdup base.raw 6M 4K 700 514
for how in plain packed snapshots extended; do
	case $how in
	plain) ok "$QDEDUP" convert -q -t unsafe -o cluster_size=4K base.raw $how.qcow2 ;;
	packed) ok "$QDEDUP" convert -q -t unsafe -c -o cluster_size=4K base.raw $how.qcow2 ;;
	snapshots)
		ok "$QDEDUP" convert -q -t unsafe -c -o cluster_size=4K base.raw $how.qcow2
		qemu-img snapshot -c first $how.qcow2
		scribble $how.qcow2
		qemu-img snapshot -c second $how.qcow2
		qemu-io -c 'write -P 0x71 1M 100k' -c 'write -P 0x72 4M 200k' $how.qcow2 >/dev/null
		ok "$QDEDUP" rehash -q $how.qcow2 ;;
	extended)
		qemu-img convert -O qcow2 -o cluster_size=16K,extended_l2=on base.raw $how.qcow2
		scribble $how.qcow2
		ok "$QDEDUP" rehash -q $how.qcow2 ;;
	esac
	judge_index $how.qcow2
	index clusters $how.qcow2 >clusters
	"$_python" - $how.qcow2 clusters $seed >expected <<-'END'
	import random, sys, zlib
	name, listing, seed = sys.argv[1:]
	rng = random.Random(int(seed))
	lines = [l.split() for l in open(listing)]
	flipped, n = [], 200
	with open(name, "r+b") as f:
	    rng.shuffle(lines)
	    for off, length, kind, mask, *places in lines:
	        if len(flipped) == n:
	            break
	        off, length = int(off), int(length)
	        f.seek(off)
	        data = bytearray(f.read(length))
	        if kind == "compressed":        # a bit of the stream that changes what comes out
	            d = zlib.decompressobj(-12)
	            good = d.decompress(bytes(data), 4096)
	            used = len(data) - len(d.unused_data) - len(d.unconsumed_tail)
	            at = rng.randrange(max(used - 8, 1))
	        elif "extended" in name:
	            sub = length // 32
	            at = rng.choice([i for i in range(32) if int(mask, 0) >> i & 1]) * sub + rng.randrange(sub)
	        else:
	            at = rng.randrange(length)
	        data[at] ^= 1 << rng.randrange(8)
	        if kind == "compressed":
	            try:
	                if zlib.decompressobj(-12).decompress(bytes(data), 4096) == good:
	                    continue
	            except zlib.error:
	                pass
	        f.seek(off)
	        f.write(data)
	        flipped += places
	if len(flipped) < 150:
	    sys.exit("too few clusters to flip bits in")
	print("\n".join(sorted(flipped)))
	END
	check_clean -q $how.qcow2
	exits 2 "$QDEDUP" verify --output=json $how.qcow2 >verify.json
	"$_python" -c 'import json
print("\n".join(sorted("%s:%d" % (b["layer"], b["offset"]) for b in json.load(open("verify.json"))["bad"])))' >found
	diff expected found || die "$how: verify does not name (<) exactly what rotted"
	exits 2 "$QDEDUP" verify $how.qcow2 >text
	grep -q 'are not what was stored' text || die "$how: no text"
done
