#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Small images whose counts are known: scan gives them, and so does scancount.py, the judge of the
# tests that follow.
. "$(dirname "$0")/scan-lib.sh"

# blocks FILE LETTER...: 4 KiB of each letter; "-" is zeros
blocks() {
	local name=$1 letter
	shift
	for letter; do
		case $letter in
		-) head -c 4096 /dev/zero ;;
		*) head -c 4096 /dev/zero | tr '\0' "$letter" ;;
		esac
	done >"$name"
}

# expect SIZE "CLUSTERS ZERO INHERITED UNIQUE DUPLICATE SAVED" "NAME:CLUSTERS:ZERO:INHERITED:UNIQUE-TO-IMAGE:SHARED ..." ARG...
expect() {
	local size=$1 numbers=$2 per=$3 who
	shift 3
	ok "$QDEDUP" scan --output=json --cluster-size="$size" "$@" >ours
	brute --cluster-size="$size" "$@" >theirs
	for who in ours theirs; do
		is "$numbers" "$(json $who '" ".join(str(d["cluster-sizes"][0][k]) for k in
			("clusters", "zero", "inherited", "unique", "duplicate", "saved-bytes"))')" "$who, scan $*"
		is "$per" "$(json $who '" ".join(":".join(str(p[k]) for k in ("filename", "clusters", "zero", "inherited",
			"unique-to-image", "shared")) for p in d["cluster-sizes"][0]["per-image"])')" "$who, scan $*, per image"
	done
}

blocks a.raw a b - a c -
blocks b.raw c c - d
expect 4K '7 3 0 4 3 12288' 'a.raw:4:2:0:3:1 b.raw:3:1:0:1:2' a.raw b.raw
is '1.75' "$(json ours 'd["cluster-sizes"][0]["dedup-ratio"]')" "ratio"
# ab -a c- | cc -d
expect 8K '5 0 0 5 0 0' 'a.raw:3:0:0:3:0 b.raw:2:0:0:2:0' a.raw b.raw
# one 512-byte cluster is like the next: a, b, c, d
expect 512 '56 24 0 4 52 26624' 'a.raw:32:16:0:24:8 b.raw:24:8:0:8:16' b.raw a.raw
is '[{"data-bytes": 16384, "filename": "a.raw", "virtual-size": 24576, "zero-bytes": 8192}, {"data-bytes": 12288, "filename": "b.raw", "virtual-size": 16384, "zero-bytes": 4096}]' \
	"$(json ours '[{k: i[k] for k in ("filename", "virtual-size", "data-bytes", "zero-bytes")} for i in d["images"]]')" "images"

# the last cluster is padded: 100 bytes of "a" and zeros are not 4096 of "a", but equal 100 of "a" and written zeros
blocks long.raw a a
head -c 4196 long.raw >short.raw
{ head -c 100 long.raw; head -c 3996 /dev/zero; } >pad.raw
expect 4K '5 0 0 2 3 12288' 'long.raw:2:0:0:0:2 pad.raw:1:0:0:0:1 short.raw:2:0:0:0:2' short.raw long.raw pad.raw

# an overlay counts what it holds: clusters 1 (new), 2 (zeros over data), 5 (equal to the base) and 7, past
# the end of the base; 6 lies past the end, too, and is nowhere
blocks base.raw a b c d e f
qemu-img create -q -f qcow2 -o cluster_size=4K -b base.raw -F raw top.qcow2 32K
qemu-io -c 'write -P 0x78 4k 4k' -c 'write -z 8k 4k' -c 'write -P 0x66 20k 4k' -c 'write -P 0x61 28k 4k' top.qcow2 >/dev/null
expect 4K '9 2 3 7 2 8192' 'base.raw:6:0:0:4:2 top.qcow2:3:2:3:1:2' top.qcow2
expect 4K '9 2 3 7 2 8192' 'base.raw:6:0:0:4:2 top.qcow2:3:2:3:1:2' base.raw top.qcow2
# at 8K it holds 0 (a x), 1 (- d), 2 (e f), 3 (- a): a half is completed from the base, where 2 is the same
expect 8K '7 0 0 6 1 8192' 'base.raw:3:0:0:2:1 top.qcow2:4:0:0:3:1' top.qcow2

# two overlays over one base: the base counts once
qemu-img create -q -f qcow2 -o cluster_size=4K -b base.raw -F raw two.qcow2
qemu-io -c 'write -P 0x78 0 4k' two.qcow2 >/dev/null
expect 4K '10 2 8 7 3 12288' 'base.raw:6:0:0:4:2 top.qcow2:3:2:3:0:3 two.qcow2:1:0:5:0:1' top.qcow2 two.qcow2
# one file by many names counts once, under the first
ln top.qcow2 hard.qcow2
ln -s base.raw link.raw
expect 4K '9 2 3 7 2 8192' 'link.raw:6:0:0:4:2 top.qcow2:3:2:3:1:2' link.raw base.raw top.qcow2 hard.qcow2 top.qcow2

# nothing at all
: >empty.raw
truncate -s 1M hole.raw
expect 64K '0 16 0 0 0 0' 'empty.raw:0:0:0:0:0 hole.raw:0:16:0:0:0' empty.raw hole.raw
