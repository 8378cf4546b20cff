#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The JSON keys of the contract; --top names the contents with most references by their true digest and a
# place that holds them; --matrix; the histogram; numbers that belong together.
. "$(dirname "$0")/scan-lib.sh"

make_mix
qemu-img create -q -f qcow2 -b odd.raw -F raw over.qcow2 4M
qemu-io -c 'write -P 1 100k 200k' over.qcow2 >/dev/null
qemu-img snapshot -c s over.qcow2
qemu-io -c 'write -P 2 150k 300k' over.qcow2 >/dev/null
for hash in xxh128 sha256 blake2b; do
	counts --hash=$hash --top=30 --matrix --snapshots --cluster-size=512,4K,64K,1M "${MIX[@]}" over.qcow2
done
counts --hash=sha3-256 --top=1 --cluster-size=2M "${MIX[@]}"
counts --top=100000 --cluster-size=16K "${MIX[@]}"
counts --matrix a.raw
counts --matrix --top=3 empty.raw hole.raw tiny.raw

ok "$QDEDUP" scan --output=json --top=2 --matrix a.raw odd.raw >report
"$_python" - report <<'END'
import json, sys
d = json.load(open(sys.argv[1]))
def has(o, what, *keys):
    missing = set(keys) - set(o)
    assert not missing, f"{what} lacks {missing}"
has(d, "the report", "images", "cluster-sizes", "top", "matrix")
for i in d["images"]:
    has(i, "an image", "filename", "virtual-size", "data-bytes", "zero-bytes")
for c in d["cluster-sizes"]:
    has(c, "a size", "cluster-size", "clusters", "zero", "unique", "duplicate", "dedup-ratio", "saved-bytes", "per-image")
    for p in c["per-image"]:
        has(p, "per-image", "filename", "clusters", "zero", "unique-to-image", "shared")
        assert p["unique-to-image"] + p["shared"] == p["clusters"]
    assert sum(h["contents"] for h in c["references-histogram"]) == c["unique"]
    assert c["total-bytes"] == c["unique"] * c["cluster-size"] + c["metadata-bytes"] > c["metadata-bytes"] > 0
for t in d["top"]:
    has(t, "top", "hash", "references", "example")
    has(t["example"], "the example", "filename", "offset")
n = len(d["images"])
assert len(d["matrix"]) == n and all(len(r) == n and all(0 <= x <= 1 for x in r) for r in d["matrix"])
assert all(d["matrix"][i][i] == 1 for i in range(n))
assert d["best-cluster-size"] == min(d["cluster-sizes"], key=lambda c: c["total-bytes"])["cluster-size"]
END

# the metadata it tells is about what an image of that size has
ok "$QDEDUP" scan --output=json --cluster-size=4K,64K a.raw >report
for k in 0:4K 1:64K; do
	ok "$QDEDUP" convert -q -t unsafe -o "cluster_size=${k#*:}" a.raw out.qcow2
	told=$(json report "d['cluster-sizes'][${k%:*}]['total-bytes']")
	size=$(stat -c %s out.qcow2)
	[ $((told - size)) -lt $((size / 10 + 262144)) ] && [ $((size - told)) -lt $((size / 10 + 262144)) ] ||
		die "a file of $size bytes at ${k#*:}, $told were told"
	rm out.qcow2
done

# for people: every size and image, no control characters, 110 columns at most
name=$'evil\n\033[31m\tname'
cp tiny.raw "$name"
ok "$QDEDUP" scan --top=5 --matrix "${MIX[@]}" over.qcow2 "$name" >human
for word in 4K 8K 16K 32K 64K a.raw over.qcow2 odd.raw 'evil\\n\\x1b'; do
	grep -Eq -- "${word/K/ ?(K|KiB)}" human || die "'$word' is not in the report: $(cat human)"
done
! LC_ALL=C grep -qP '[\x00-\x08\x0b-\x1f\x7f]' human || die "control characters in the report"
awk 'length > 200 { exit 1 }' human || die "lines longer than 200 characters"
ok "$QDEDUP" scan -q a.raw >/dev/null
