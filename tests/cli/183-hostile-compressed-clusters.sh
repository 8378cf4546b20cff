#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Compressed streams that are garbage, end early, give less than a cluster: an error with the file's name,
# within a second; where QEMU takes a stream, so do we and the content is the same. Many entries that
# name one stream cost memory for one.
. "$(dirname "$0")/convert-lib.sh"

head -c 4M /dev/zero | tr '\0' 'c' >in.raw
# good IMG HOW CS: sets entry (the first), at (where it stands), off and len (its stream)
good() {
	local bits mask
	qemu-img convert -c -O qcow2 -o compression_type="$2",cluster_size="$3" in.raw "$1"
	at=$(($(peek "$1" "$(peek "$1" 40 8)" 8) & 0xfffffffffffe00))
	entry=$(peek "$1" "$at" 8)
	bits=$(peek "$1" 20 4)
	mask=$(((1 << (62 - (bits - 8))) - 1))
	off=$((entry & mask))
	len=$((($(peek "$1" $((at + 8)) 8) & mask) - off))
}
stream() {
	good model.qcow2 "$1" "$2"
	dd if=model.qcow2 bs=1 skip="$off" count="$len" status=none
}
refusals=0
for how in zlib zstd; do
	for cs in 4K 64K 2M; do
		n=$(bytes $cs)
		stream $how $cs >whole.stream
		stream $how $((n / 2)) >half.stream
		[ $cs = 2M ] || stream $how $((n * 2)) >double.stream
		head -c 9 whole.stream >cut.stream
		head -c 400 /dev/zero >zeros.stream
		tr '\0' '\377' <zeros.stream >garbage.stream
		tail -c +2 whole.stream >shifted.stream
		good good.qcow2 $how $cs
		for stream in *.stream; do
			name=${stream%.stream}
			cp good.qcow2 bad.qcow2
			# one sector of its own at the end of the file
			end=$((($(stat -c %s bad.qcow2) + 511) / 512 * 512))
			truncate -s $((end + 512)) bad.qcow2
			dd if="$stream" of=bad.qcow2 bs=1 seek=$end conv=notrunc status=none
			poke bad.qcow2 "$at" 8 $((1 << 62 | end))
			if qemu-img convert -O raw bad.qcow2 content.raw 2>/dev/null; then
				to_raw bad.qcow2
				continue
			fi
			refusals=$((refusals + 1))
			for target in new.qcow2 new.raw; do
				hostile 1 "$QDEDUP" convert bad.qcow2 $target
				says bad.qcow2
				[ ! -e $target ] || die "$how $name at $cs: left an output"
			done
		done
		rm ./*.stream
	done
done
[ $refusals -ge 18 ] || die "only $refusals of the streams are bad ones: this test tests too little"

for how in zlib zstd; do
	good same.qcow2 $how 64K
	for ((i = 1; i < 64; i++)); do
		poke same.qcow2 $((at + 8 * i)) 8 "$entry"
	done
	content same.qcow2
	to_raw same.qcow2
done

# a bomb: 2 MiB from a few hundred bytes, 4096 times over
good bomb.qcow2 zlib 2M
qemu-img resize -q bomb.qcow2 8G
"$_python" - bomb.qcow2 "$at" <<'END'
import sys
with open(sys.argv[1], "r+b") as f:
    f.seek(int(sys.argv[2]))
    e = f.read(8)
    f.seek(int(sys.argv[2]))
    f.write(e * 256)
END
ok timeout $((10 * slower)) "$_cli/bounded.sh" "$QDEDUP" convert -o cluster_size=2M --memory=64M bomb.qcow2 out.qcow2
is "1 256" "$(walk --fresh --get data --get references out.qcow2 | xargs)" "data clusters and references of the bomb"
