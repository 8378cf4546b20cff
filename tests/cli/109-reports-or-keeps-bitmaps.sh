#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Persistent bitmaps: a note on stderr without --bitmaps, kept with it, bit for bit.
. "$(dirname "$0")/convert-lib.sh"

mkdata base.raw 8M 109 dup50
qemu-img convert -O qcow2 base.raw in.qcow2
qemu-img bitmap --add -g 64K in.qcow2 b0
qemu-io -c 'write -P 1 0 64k' -c 'write -P 2 3M 200k' in.qcow2 >/dev/null
qemu-img bitmap --add -g 512 in.qcow2 'fine one'
qemu-io -c 'write -P 3 1M 512' -c 'write -P 4 7M 1M' in.qcow2 >/dev/null
qemu-img bitmap --add -g 2M --disable in.qcow2 off
content in.qcow2

# The dirty ranges of one bitmap as QEMU serves them over NBD.
dirty() {
	local pid n=0
	qemu-nbd -r -t -f qcow2 -k "$PWD/nbd.sock" -B "$2" "$1" &
	pid=$!
	at_exit "kill $pid 2>/dev/null"
	until [ -S nbd.sock ] || [ $((n += 1)) -gt 200 ]; do sleep 0.05; done
	qemu-img map --output=json --image-opts \
		"driver=nbd,server.type=unix,server.path=$PWD/nbd.sock,x-dirty-bitmap=qemu:dirty-bitmap:$2" |
		sed 's/"present": [a-z]*, //; s/, "offset": [0-9]*//; s/, "compressed": [a-z]*//'
	kill $pid
	wait $pid || true
	rm -f nbd.sock
}

names() {
	qemu-img info --output=json "$1" >info.json
	json info.json 'sorted((b["name"], b["granularity"], sorted(b["flags"])) for b in d["format-specific"]["data"].get("bitmaps", []))'
}

ok "$QDEDUP" convert in.qcow2 plain.qcow2
says bitmap in.qcow2
deduplicated plain.qcow2 content.raw 64K
is '[]' "$(names plain.qcow2)"
ok "$QDEDUP" convert -O raw in.qcow2 out.raw
cmp out.raw content.raw

for options in cluster_size=64K cluster_size=512 cluster_size=4K,refcount_bits=64 cluster_size=2M; do
	for c in '' -c; do
		rm -f kept.qcow2
		# shellcheck disable=SC2086
		ok "$QDEDUP" convert $c --bitmaps -o $options in.qcow2 kept.qcow2
		is '' "$ERR" "stderr of --bitmaps"
		cs=${options#cluster_size=}
		deduplicated kept.qcow2 content.raw "${cs%%,*}"
		is "$(names in.qcow2)" "$(names kept.qcow2)" "bitmaps with $options"
	done
	for b in b0 'fine one'; do
		is "$(dirty in.qcow2 "$b")" "$(dirty kept.qcow2 "$b")" "bitmap $b with $options"
	done
done
grep -q '"data": false' <<<"$(dirty kept.qcow2 b0)" || die "nothing dirty: this test tests nothing"

# QEMU goes on recording in a kept bitmap.
qemu-io -c 'write -P 5 5M 64k' kept.qcow2 >/dev/null
check_clean -q kept.qcow2
grep -q '"start": 5242880, "length": 65536.*"data": false' <<<"$(dirty kept.qcow2 b0)" ||
	die "QEMU recorded nothing: $(dirty kept.qcow2 b0)"

# A raw target cannot hold bitmaps: refused rather than lost.
fails 1 "$QDEDUP" convert --bitmaps -O raw in.qcow2 none.raw
says bitmap
[ ! -e none.raw ] || die "a failed --bitmaps left an output"

# Nor does a raw source have any.
for source in content.raw -; do
	fails 1 "$QDEDUP" convert --bitmaps $source none.qcow2 <content.raw
	says raw bitmap
	[ ! -e none.qcow2 ] || die "a failed --bitmaps left an output"
done

# They belong to the active layer; and where the autoclear bit is gone they say nothing any more.
ok qemu-img snapshot -c snap in.qcow2
fails 1 "$QDEDUP" convert --bitmaps -l snap in.qcow2 none.qcow2
says 'active layer'
printf '\0\0\0\0\0\0\0\0' | dd of=in.qcow2 bs=1 seek=88 conv=notrunc status=none
"$QDEDUP" convert --bitmaps in.qcow2 stale.qcow2 >out.txt 2>err.txt || die "stale bitmaps stop a conversion: $(cat err.txt)"
grep -q 'out of date' err.txt || die "stale bitmaps vanish without a word: $(cat err.txt)"
check_clean stale.qcow2

# 20 bitmaps of half a GiB each that say nothing at all, in a file of 12 MiB: not worked through.
python3 - <<'END'
import struct
bits, size, count = 21, 2 << 40, 20
cluster = 1 << bits
entries = (size >> 9 >> 3) // cluster
names = [b"b%06d" % i for i in range(count)]
table, directory = 3 * cluster, 4 * cluster
rows = b"".join(struct.pack(">QIIBBHI", table, entries, 2, 1, 9, 7, 0) + name + bytes(1) for name in names)
with open("many.qcow2", "wb") as f:
    f.write(struct.pack(">4sIQIIQIIQQIIQQQQIIQ", b"QFI\xfb", 3, 0, 0, bits, size, 0, 4, 2 * cluster, cluster, 1, 0, 0,
                        0, 0, 1, 4, 112, 0))
    f.write(struct.pack(">IIIIQQ", 0x23852875, 24, count, 0, len(rows), directory))
    f.seek(directory)
    f.write(rows)
    f.truncate(6 * cluster)
END
hostile 1 "$QDEDUP" convert --bitmaps -o cluster_size=2M many.qcow2 none.qcow2
says many.qcow2 'bitmaps: together'
[ ! -e none.qcow2 ] || die "too many bitmaps left an output"
