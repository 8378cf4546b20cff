#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# --memory bounds what compact remembers of an image, however many clusters, streams and holes it has; with
# little memory it takes more rounds, and the file is as short in the end.
. "$(dirname "$0")/convert-lib.sh"

# Nothing but metadata: data is a hole of the file.
#	striped.py FILE CLUSTERS   64K; every second cluster is a stream, the last ten have better places
#	holes.py FILE              takes about half of the clusters out of an image of mkmeta
cat >striped.py <<'END'
import array, struct, sys
name, n, cs = sys.argv[1], int(sys.argv[2]), 65536
tables, blocks = n // 8192, n * 2 // cs + 1
first = 2 + blocks + tables + 1 + 10		# header, refcount table, blocks, L1, L2, hole of ten
end = first + n
def put(f, cluster, words):
    a = array.array("Q", words)
    a.byteswap()
    f.seek(cluster * cs)
    f.write(a.tobytes())
with open(name, "wb") as f:
    f.write(struct.pack(">4sIQIIQIIQQIIQQQQII", b"QFI\xfb", 3, 0, 0, 16, n * cs, 0, tables, (2 + blocks) * cs,
                        cs, 1, 0, 0, 0, 0, 0, 4, 104))
    put(f, 1, [(2 + i) * cs for i in range(blocks)])
    put(f, 2 + blocks, [1 << 63 | (3 + blocks + i) * cs for i in range(tables)])
    for i in range(tables):
        put(f, 3 + blocks + i, [1 << 62 | 127 << 54 | at * cs if at % 2 else 1 << 63 | at * cs
                                for at in range(first + i * 8192, first + (i + 1) * 8192)])
    counts = array.array("H", [1] * (first - 10) + [0] * 10 + [1] * n)
    counts.byteswap()
    f.seek(2 * cs)
    f.write(counts.tobytes())
    f.truncate(end * cs)
END
cat >holes.py <<'END'
import array, random, struct, sys
rnd, f = random.Random(727), open(sys.argv[1], "r+b")
head = f.read(112)
cs = 1 << struct.unpack(">I", head[20:24])[0]
l1_entries, l1 = struct.unpack(">IQ", head[36:48])
table, table_clusters = struct.unpack(">QI", head[48:60])
def get(kind, off, nbytes):
    f.seek(off)
    a = array.array(kind, f.read(nbytes).ljust(nbytes, b"\0"))
    a.byteswap()
    return a
def put(off, a):
    a.byteswap()
    f.seek(off)
    f.write(a.tobytes())
blocks = [(off, get("H", off, cs)) for off in get("Q", table, table_clusters * cs) if off]
for e in get("Q", l1, l1_entries * 8):
    off = e & (1 << 56) - 512
    entries = get("Q", off, cs)
    for i, e in enumerate(entries):
        if e and rnd.random() < .5:
            k = (e & (1 << 56) - 512) // cs
            blocks[k // (cs // 2)][1][k % (cs // 2)] = 0
            entries[i] = 0
    put(off, entries)
for off, counts in blocks:
    put(off, counts)
END

peak() {	# LIMIT-KIB COMMAND...
	local rss
	read -r _ rss _ < <("$QD_TOOLS/measure" "${@:2}")
	echo "peak of ${*:2}: $rss KiB"
	[ "$slower" -gt 1 ] || [ "${rss:-9999999}" -lt "$1" ] || die "peak of $rss KiB, not below $1: ${*:2}"
}

"$_python" striped.py striped.qcow2 1048576
cp --sparse=always striped.qcow2 again.qcow2
before=$(stat -c %s striped.qcow2)
peak $((40 << 10)) "$QDEDUP" compact -t unsafe --memory=16M striped.qcow2
is $((before - 10 * 65536)) "$(stat -c %s striped.qcow2)" "bytes of the file"
ok "$QDEDUP" check -q striped.qcow2
ok "$QDEDUP" compact -q -t unsafe again.qcow2
cmp -n 67108864 striped.qcow2 again.qcow2 || die "another result in little memory"
rm striped.qcow2 again.qcow2

"$QD_TOOLS/mkmeta" start.qcow2 16M 512 full random 727
"$_python" holes.py start.qcow2
for memory in 1M 1G; do
	cp --sparse=always start.qcow2 $memory.qcow2
	ok "$QDEDUP" compact --output=json -t unsafe --memory=$memory $memory.qcow2 >$memory.json
	check_clean -q $memory.qcow2
done
is "$(json 1G.json 'd["file-size-after"]')" "$(json 1M.json 'd["file-size-after"]')" "bytes of the file"
is true "$(json 1G.json 'd["clusters-moved"] > 6000 and d["file-size-after"] < .6 * d["file-size-before"]')" \
	"a test at all"

# Compressed clusters, packed in several passes, and their hashes, which follow.
mkdata text.raw 6M 727 text
ok "$QDEDUP" convert -q -t unsafe -c -o cluster_size=512 text.raw start.qcow2
"$_python" -c '
import random
rnd = random.Random(727)
for at in sorted(rnd.sample(range(1536), 700)):
    print(f"discard {at * 4096} 4096")' >list
ok "$QDEDUP" io -q -t unsafe start.qcow2 <list
ok "$QDEDUP" rehash -q -t unsafe start.qcow2
qemu-img convert -O raw start.qcow2 twin.raw
for memory in 1M 1G; do
	cp start.qcow2 $memory.qcow2
	ok "$QDEDUP" compact --output=json -t unsafe --memory=$memory $memory.qcow2 >$memory.json
	check_clean -q $memory.qcow2
	same twin.raw $memory.qcow2
	ok "$QDEDUP" verify --output=json $memory.qcow2 >$memory.verify
	is '["valid", 0, 0]' "$(json $memory.verify 'd["state"], d["unknown"], d["bad-clusters"]')" \
		"hashes with $memory"
done
is true "$(json 1M.json 'd["compressed-clusters-moved"] > 5500')" "a test at all"
is "$(json 1M.verify 'd["checked"]')" "$(json 1G.verify 'd["checked"]')" "clusters with a hash"
little=$(json 1M.json 'd["file-size-after"]') much=$(json 1G.json 'd["file-size-after"]')
[ $((little * 50)) -le $((much * 51)) ] || die "$little bytes in little memory, $much in much"
