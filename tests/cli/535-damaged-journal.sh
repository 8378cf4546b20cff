#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Every cluster of the log overwritten with zeros, ones, noise, the log of an older state and that of
# another image: journal verify sees it (2), nothing that it says is believed, the content is untouched, and
# rehash cures it.
. "$(dirname "$0")/io-lib.sh"

make() {
	mkdata $1.raw 1M "$2" random
	ok "$QDEDUP" convert -q -t unsafe -o cluster_size=4K $1.raw $1.qcow2
	ok "$QDEDUP" journal -q -t unsafe --size=32K create $1.qcow2
	for n in 1 2 3; do
		ok "$QDEDUP" io -q -t unsafe -c "write -P $n ${n}00K 90K" -c "discard ${n}50K 10K" $1.qcow2
		[ $n != 2 ] || cp $1.qcow2 older.qcow2
	done
}

log() {	# byte offset of log A: the container's last areas
	"$_python" -c '
import struct, sys
b = open(sys.argv[1], "rb").read(4096)
pos = struct.unpack(">I", b[100:104])[0]
while True:
    kind, n = struct.unpack(">II", b[pos:pos + 8])
    if kind == 0xcd8e819b:
        d = b[pos + 8:]
        print(struct.unpack(">Q", d[8:16])[0] + struct.unpack(">Q", d[64:72])[0])
        break
    pos += 8 + (n + 7) // 8 * 8' "$1"
}

make other 1
make good 2
cp older.qcow2 older-good.qcow2
"$QIMG" convert -O raw good.qcow2 twin.raw
at=$(log good.qcow2) other=$(log other.qcow2)
ok "$QDEDUP" journal --output=json verify good.qcow2 >state
clusters=$(json state 'd["log-clusters"]')
[ "$clusters" -ge 3 ] || die "only $clusters clusters"
for ((c = 0; c < clusters; c++)); do
	for how in zeros ones noise older other; do
		cp good.qcow2 bad.qcow2
		case $how in
		zeros) head -c 4096 /dev/zero ;;
		ones) head -c 4096 /dev/zero | tr '\0' '\377' ;;
		noise) mkdata noise 4096 $c random && cat noise ;;
		older) dd if=older-good.qcow2 bs=4096 skip=$((at / 4096 + c)) count=1 status=none ;;
		other) dd if=other.qcow2 bs=4096 skip=$((other / 4096 + c)) count=1 status=none ;;
		esac >piece
		dd if=piece of=bad.qcow2 bs=4096 seek=$((at / 4096 + c)) conv=notrunc status=none
		! cmp -s good.qcow2 bad.qcow2 || continue
		exits 2 "$QDEDUP" journal verify bad.qcow2 >verify.out
		grep -q 'damaged' verify.out || die "cluster $c, $how: not called damaged"
		exits 2 "$QDEDUP" journal -q -t unsafe replay bad.qcow2
		ok "$QDEDUP" journal -q -t unsafe dump bad.qcow2
		same twin.raw bad.qcow2
		[ $how = noise ] || continue
		status=0
		"$QDEDUP" verify bad.qcow2 >verify.out 2>&1 || status=$?
		[ $status -le 1 ] || die "verify exits $status: $(cat verify.out)"
		ok "$QDEDUP" io -q -t unsafe -c 'write -P 7 0 64K' bad.qcow2
		check_clean bad.qcow2
		ok "$QDEDUP" rehash -q -t unsafe bad.qcow2
		ok "$QDEDUP" journal -q -t unsafe verify bad.qcow2
		ok "$QDEDUP" verify -q bad.qcow2
		check_clean bad.qcow2
	done
done
