#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# stats counts what an independent walker counts, and what qemu-img check says.
. "$(dirname "$0")/kinds.sh"

# agrees IMAGE
agrees() {
	local image=$1 status=0
	ok "$QDEDUP" stats --output=json "$image" >j
	python3 "$WALKER" "$image" >walk
	# 3 is leaks, 2 what QEMU leaves of a COPIED flag: the counts are there all the same
	"$QIMG" check --output=json "$image" >theirs 2>/dev/null || status=$?
	[ "$status" -eq 0 ] || [ "$status" -eq 3 ] || die "qemu-img check $image: $status"
	python3 - "$image" <<-'END' || die "stats of $image differ"
	import json, sys
	s, c = json.load(open("j")), json.load(open("theirs"))
	w = {k: int(v) for k, v in (line.split() for line in open("walk"))}
	g = s["guest-clusters"]
	want = {
	    "cluster-size": w["cluster-size"], "refcount-bits": w["refcount-bits"], "snapshots": w["snapshots"],
	    "references": w["references"], "data-clusters": w["data"], "shared-clusters": w["shared"],
	    "max-refcount": w["max-share"], "pinned-clusters": w["pinned"], "metadata-clusters": w["metadata"],
	    "leaked-clusters": c.get("leaks", 0),
	}
	for k, v in want.items():
	    if s[k] != v:
	        sys.exit(f"{k}: expected {v}, got {s[k]}")
	if abs(s["dedup-ratio"] - (w["references"] / w["data"] if w["data"] else 1)) > 1e-9:
	    sys.exit(f"dedup-ratio {s['dedup-ratio']}")
	allocated = c.get("allocated-clusters", 0)
	if abs(s["fragmentation"] - (c.get("fragmented-clusters", 0) / allocated if allocated else 0)) > 1e-9:
	    sys.exit(f"fragmentation {s['fragmentation']}, qemu-img {c.get('fragmented-clusters')} of {allocated}")
	if g["total"] != c.get("total-clusters", 0) or g["compressed"] != c.get("compressed-clusters", 0):
	    sys.exit(f"guest-clusters {g}, qemu-img {c}")
	if g["allocated"] + g["zero"] + g["unallocated"] != g["total"]:
	    sys.exit(f"guest-clusters do not add up: {g}")
	if w["prealloc"] == 0 and g["allocated"] != allocated:
	    sys.exit(f"allocated {g['allocated']}, qemu-img {allocated}")
	h = s["refcount-histogram"]
	if sum(b["clusters"] for b in h) != s["data-clusters"]:
	    sys.exit(f"histogram {h}")
	if w["compressed"] == 0 and s["saved-bytes"] != (w["references"] - w["data"]) * w["cluster-size"]:
	    sys.exit(f"saved-bytes {s['saved-bytes']}")
	END
}

make_kinds
mkdata unit.raw 1M 3 random
mkdata text.raw 1M 4 text
cat unit.raw text.raw unit.raw text.raw unit.raw >repeats.raw
"$QDEDUP" convert -q -t unsafe -o cluster_size=4k repeats.raw pinned
"$QDEDUP" convert -q -t unsafe --no-pin repeats.raw unpinned
"$QDEDUP" convert -q -t unsafe -c repeats.raw pinned-packed
"$QDEDUP" convert -q -t unsafe -o cluster_size=512,refcount_bits=32 repeats.raw pinned-small
cp pinned pinned-written
qemu-io -c 'write -P 0 0 1M' -c 'write -P 1 3M 1M' pinned-written >/dev/null
qemu-img snapshot -c user pinned-written
qemu-img create -q -f qcow2 bitmaps 3M
qemu-img bitmap --add -g 512 bitmaps one
qemu-img bitmap --add bitmaps two
fill bitmaps
qemu-img create -q -f qcow2 leaky 3M
fill leaky
python3 - <<-'END'
import struct
with open("leaky", "r+b") as f:
    f.seek(40)
    l1, = struct.unpack(">Q", f.read(8))
    f.seek(l1)
    l2, = struct.unpack(">Q", f.read(8))
    f.seek(l2 & ~(1 << 63))
    f.write(bytes(16))
END
python3 -c 'import sys; sys.stdout.buffer.write(b"y" * (4 << 20))' >yes.raw
"$QDEDUP" convert -q -t unsafe -o cluster_size=4k yes.raw many
for image in "${KINDS[@]}" pinned unpinned pinned-packed pinned-small pinned-written many bitmaps; do
	case $image in
	*.raw) ;;
	*) agrees "$image" ;;
	esac
done
is 2 "$(ok "$QDEDUP" stats --output=json leaky | json - 'd["leaked-clusters"]')"
is 1024 "$(ok "$QDEDUP" stats --output=json many | json - 'd["max-refcount"]')"

# what nobody but the pin references any more
"$QDEDUP" convert -q -t unsafe repeats.raw overwritten
qemu-io -c 'discard 0 5M' overwritten >/dev/null
ok "$QDEDUP" stats --output=json overwritten >j
is '[0, 32, 32]' "$(json j '[d["data-clusters"], d["pinned-clusters"], d["pinned-unused"]]')"

# more compressed clusters than fit are counted in several passes, with the same result
mkdata words.raw 20M 9 text
cat words.raw words.raw >twice.raw
"$QDEDUP" convert -q -t unsafe -c -o cluster_size=1k twice.raw packed
ok "$QDEDUP" stats --output=json packed >j
ok "$QDEDUP" stats --output=json --memory=1M packed >j2
cmp j j2
is '[40960, 20480, 20480]' "$(json j '[d["references"], d["data-clusters"], d["pinned-clusters"]]')"

# an encrypted image needs no key, and its header is metadata
make_luks luks
ok "$QDEDUP" stats --output=json luks >j
is "$(python3 "$WALKER" --get metadata luks)" "$(json j 'd["metadata-clusters"]')"
is 0 "$(json j 'd["leaked-clusters"]')"
