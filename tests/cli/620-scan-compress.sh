#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# --compress tells what convert -c writes, exactly while all contents fit into the sample and within its
# bounds beyond; with any number of threads, memory and order of the images.
. "$(dirname "$0")/scan-lib.sh"

# what_convert_writes CLUSTER-SIZE TYPE FILE: bytes of the different contents, as compressed
what_convert_writes() {
	ok "$QDEDUP" convert -q -c --no-pin --no-index -t unsafe -o "cluster_size=$1,compression_type=$2" "$3" "$dir/out.qcow2"
	"$_python" - "$dir/out.qcow2" <<'PY'
import struct, sys
b = open(sys.argv[1], "rb").read()
bits, = struct.unpack_from(">I", b, 20)
l1_size, l1 = struct.unpack_from(">I", b, 36)[0], struct.unpack_from(">Q", b, 40)[0]
plain, packed = set(), set()
for i in range(l1_size):
    l2 = struct.unpack_from(">Q", b, l1 + 8 * i)[0] & 0x00fffffffffffe00
    for e in struct.unpack_from(">%dQ" % ((1 << bits) // 8), b, l2) if l2 else ():
        if e >> 62 & 1:
            packed.add(e & (1 << 62 - (bits - 8)) - 1)
        elif e & 0x00fffffffffffe00:
            plain.add(e)
# streams lie one behind the other: each ends where the next begins, but for plain clusters between
print(len(plain) << bits, len(packed), len(b))
PY
}

dir=$PWD
mkdata text.raw 3M 61 text
mkdata dup.raw 3M 61 dup50
noise noise.raw 2M 5
cat text.raw text.raw dup.raw noise.raw >all.raw
for type in zlib zstd; do
	ok "$QDEDUP" scan --output=json --compress=$type --cluster-size=4K,64K all.raw >report
	for k in 0:4K 1:64K; do
		at="d['cluster-sizes'][${k%:*}]"
		is true "$(json report "(${at}['compression']['sampled-contents'] == ${at}['unique']
			and ${at}['compression']['sampled-bytes'] == ${at}['unique'] * ${at}['cluster-size']
			and ${at}['compression']['data-bytes-low'] == ${at}['compression']['data-bytes'] == ${at}['compression']['data-bytes-high']
			and ${at}['compression']['total-bytes'] == ${at}['compression']['data-bytes'] + ${at}['metadata-bytes']
			and ${at}['compression']['saved-bytes'] == ${at}['unique'] * ${at}['cluster-size'] - ${at}['compression']['data-bytes']
			and ${at}['compression']['type'] == '$type')")" "what belongs together at ${k#*:}"
		told=$(json report "${at}['compression']['total-bytes']")
		read -r plain packed size < <(what_convert_writes "${k#*:}" $type all.raw)
		[ "$packed" -gt 40 ] && [ "$plain" -ge $((2 << 20)) ] || die "convert packed $packed, left $plain bytes"
		[ $((told - size)) -lt $((size / 50 + 140000)) ] && [ $((size - told)) -lt $((size / 50 + 140000)) ] ||
			die "$type at ${k#*:}: $told bytes told, convert -c writes $size"
	done
done

# what does not shrink costs what it costs; nothing is nothing
ok "$QDEDUP" scan --output=json --compress=zstd --cluster-size=512,64K,2M noise.raw >report
is true "$(json report "all(c['compression']['data-bytes'] == c['unique'] * c['cluster-size']
	and c['compression']['saved-bytes'] == 0 and c['compression']['ratio'] == 1 for c in d['cluster-sizes'])")" noise
truncate -s 1M hole.raw
ok "$QDEDUP" scan --output=json --compress=zlib hole.raw >report
is true "$(json report "all(c['compression']['data-bytes'] == 0 == c['compression']['sampled-contents'] for c in d['cluster-sizes'])")" hole

# more contents than fit: bounds that hold what all of them come to
"$_python" - <<'PY'
import random
rng = random.Random(3)
with open("many.raw", "wb") as f:
    for i in range(20000):
        n = rng.randrange(0, 1017)
        f.write(rng.randbytes(n) + b"%07d" % i + bytes(1017 - n))
PY
ok "$QDEDUP" scan --output=json --compress=zstd --cluster-size=1K,16K many.raw >report
is true "$(json report "(2000 <= d['cluster-sizes'][0]['compression']['sampled-contents'] <= 4096
	and d['cluster-sizes'][1]['compression']['sampled-contents'] == d['cluster-sizes'][1]['unique'])")" "size of the sample"
total=0
for part in 0 1 2 3 4 5 6 7; do
	dd if=many.raw of=part.raw bs=2560000 skip=$part count=1 status=none
	total=$((total + $("$QDEDUP" scan --output=json --compress=zstd --cluster-size=1K part.raw |
		json - "d['cluster-sizes'][0]['compression']['data-bytes']")))
done
is true "$(json report "(d['cluster-sizes'][0]['compression']['data-bytes-low'] <= $total
	<= d['cluster-sizes'][0]['compression']['data-bytes-high']
	<= $total * 1.1 and d['cluster-sizes'][0]['compression']['data-bytes-low'] >= $total * 0.9)")" "bounds around $total"

# nothing else in the report changes, and nothing in it depends on threads, memory, order
mix odd.raw 3000001 62
mix_qcow2 packed.qcow2 63 3M cluster_size=64K -c
images=(many.raw odd.raw packed.qcow2 text.raw)
ok "$QDEDUP" rehash -q packed.qcow2
ok "$QDEDUP" scan --output=json --compress=zstd "${images[@]}" >report
ok "$QDEDUP" scan --compress=zstd "${images[@]}" >human
grep -q 'ESTIMATE' human || die "an estimate that does not say so: $(cat human)"
for how in --threads=1 --threads=2 --threads=8 --memory=16M '--memory=1M --threads=5'; do
	# shellcheck disable=SC2086
	ok "$QDEDUP" scan $how --output=json --compress=zstd packed.qcow2 text.raw odd.raw many.raw | cmp report - || die "$how"
done
brute --report=report "${images[@]}" || die "other counts with --compress"

for bad in '' lzma ZSTD zlib,zstd; do
	fails 1 "$QDEDUP" scan --compress=$bad odd.raw
	says "see 'qdedup scan --help'\$"
done
ok "$QDEDUP" scan --records odd.raw >records
fails 1 "$QDEDUP" scan --merge --compress=zlib records
says 'merge'
