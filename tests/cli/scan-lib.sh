# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What the tests of `qdedup scan` (600 to 699) share, on top of convert-lib.sh.
#
#	mix FILE SIZE SEED     a raw file with copies of 512 bytes to 2 MiB, zeros and holes, in which much
#	                       equals what other seeds of mix give
#	make_mix               images of every kind with such content; their names in MIX
#	brute ARG...           scancount.py: the same counts, made without the program under test
#	counts ARG...          scan --output=json ARG... gives what scancount.py ARG... counts; report.json is it
. "$(dirname "${BASH_SOURCE[0]}")/convert-lib.sh"

# shellcheck disable=SC2034  # for the tests
ALL_SIZES=512,1K,2K,4K,8K,16K,32K,64K,128K,256K,512K,1M,2M
MIX=()

# Runs of one unit size each, drawn from a pool that all seeds share: a position in an endless stream.
mix() {
	"$_python" - "$1" "$(bytes "$2")" "$3" <<-'END'
	import random, sys
	name, size, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
	rng = random.Random(seed)
	pool = random.Random(0).randbytes(1 << 21)
	units = [1 << b for b in range(9, 22)]
	with open(name, "wb") as f:
	    off = 0
	    while off < size:
	        unit = rng.choice([u for u in units if off % u == 0])
	        kind = rng.random()
	        if kind < 0.6:
	            at = rng.randrange(0, len(pool), unit)
	            f.write(pool[at:at + unit])
	        elif kind < 0.7:
	            f.write(rng.randbytes(unit))
	        elif kind < 0.8:
	            f.write(bytes(unit))
	        elif kind < 0.9:
	            f.seek(unit, 1)
	        else:
	            f.write(bytes([rng.randrange(1, 4)]) * unit)
	        off += unit
	    f.truncate(size)
	END
}

# mix_qcow2 NAME SEED SIZE [OPTIONS [convert OPTION...]]
mix_qcow2() {
	local name=$1 options=${4:-}
	mix "$name.tmp" "$3" "$2"
	qemu-img convert -q -f raw -O qcow2 ${options:+-o "$options"} "${@:5}" "$name.tmp" "$name"
	rm "$name.tmp"
}

make_mix() {
	local cs
	mix a.raw 5M 1
	mix odd.raw 3000001 2
	mix tiny.raw 700 3
	: >empty.raw
	truncate -s 3M hole.raw
	MIX=(a.raw odd.raw tiny.raw empty.raw hole.raw)
	for cs in 512 1K 2K 4K 8K 16K 32K 64K 128K 256K 512K 1M 2M; do
		mix_qcow2 "c$cs.qcow2" 4 2500K "cluster_size=$cs"
		qemu-io -c 'write -z 100k 300k' -c 'write -P 1 1M 3k' -c 'discard 1500k 64k' "c$cs.qcow2" >/dev/null
		MIX+=("c$cs.qcow2")
	done
	mix_qcow2 zlib.qcow2 5 3M cluster_size=64K -c
	mix_qcow2 zstd.qcow2 6 3M cluster_size=4K,compression_type=zstd -c
	mix_qcow2 sub.qcow2 7 3M extended_l2=on,cluster_size=32K
	scribble sub.qcow2 2>/dev/null || true
	mix_qcow2 old.qcow2 8 3M compat=0.10
	mix_qcow2 ext.qcow2 9 3M data_file=ext.data
	mix_qcow2 pre.qcow2 10 3M preallocation=metadata
	mix_qcow2 odd.qcow2 11 2999808 cluster_size=64K
	MIX+=(zlib.qcow2 zstd.qcow2 sub.qcow2 old.qcow2 ext.qcow2 pre.qcow2 odd.qcow2)
}

brute() {
	"$_python" "$_cli/scancount.py" "$@"
}

counts() {
	ok "$QDEDUP" scan --output=json "$@" >report.json
	brute --report=report.json "$@" || die "scan $* counts otherwise"
}
