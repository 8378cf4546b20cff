#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# -o cluster_size=auto takes the size that makes the smallest file, and says so; a plain convert hints at a size
# that would save 3 % more, and only then.
. "$(dirname "$0")/lib.sh"

# Duplicates of pieces of SIZE: half of the file.
"$_python" - <<'EOP'
import random
rnd = random.Random(640)
for name, piece in ('a4', 4096), ('a16', 16384), ('a64', 65536), ('none', 0):
    pool = [rnd.randbytes(piece) for _ in range(max(1, (2 << 20) // max(piece, 1) // 4))]
    with open(name + '.raw', 'wb') as f:
        while f.tell() < 16 << 20:
            f.write(rnd.choice(pool) if piece and rnd.random() < .5 else rnd.randbytes(piece or 65536))
EOP

for name in a4:4096 a16:16384 a64:65536 none:65536; do
	raw=${name%:*}.raw
	best=0
	for size in 4 8 16 32 64; do
		ok "$QDEDUP" convert -q -t unsafe -o cluster_size=${size}K "$raw" $size.qcow2
		nbytes=$(stat -c %s $size.qcow2)
		[ $best -ne 0 ] && [ "$nbytes" -gt "$least" ] || least=$nbytes best=$size
	done
	for threads in 1 3; do
		ok "$QDEDUP" convert --threads=$threads -t unsafe -o cluster_size=auto --output=json "$raw" auto-$threads.qcow2 \
			>auto.json
	done
	cmp auto-1.qcow2 auto-3.qcow2 || die "threads change the image"
	is "$best" "$(($(json auto.json 'd["cluster-size"]') / 1024))" "the size taken for $raw, beside the smallest file"
	is '4096 8192 16384 32768 65536' "$(json auto.json '" ".join(str(s["cluster-size"]) for s in d["cluster-sizes"])')"
	same "$raw" auto-1.qcow2 raw qcow2
	check_clean auto-1.qcow2
	# What was foretold is what it became, but for rounding to clusters.
	json auto.json 'abs(min(s["total-bytes"] for s in d["cluster-sizes"]) - d["file-size"]) < 12 * 65536' |
		grep -q true || die "foretold and done: $(cat auto.json)"

	ok "$QDEDUP" convert -t unsafe "$raw" plain.qcow2 >out
	ok "$QDEDUP" convert -t unsafe --output=json "$raw" plain.qcow2 >plain.json
	case $raw in
	a4.raw | a16.raw)
		grep -q "hint: clusters of $((${name#*:} / 1024)) KiB" out || die "no hint for $raw: $(cat out)"
		is "${name#*:}" "$(json plain.json 'd["hint"]["cluster-size"]')"
		;;
	*) ! grep hint out || die "a hint for $raw" ;;
	esac
done

# What it cannot be combined with.
for args in '--no-dedup a4.raw' '-' '-B a4.raw -F raw a16.raw'; do
	# shellcheck disable=SC2086
	fails 1 "$QDEDUP" convert -O qcow2 -o cluster_size=auto $args refused.qcow2 </dev/null
	says 'cluster_size=auto'
	[ ! -e refused.qcow2 ] || die "an output after a refusal"
done
fails 1 "$QDEDUP" create -o cluster_size=auto refused.qcow2 1M

# A chain and a snapshot are weighed as the guest sees them.
qemu-img create -q -f qcow2 -F raw -b a4.raw over.qcow2
is 4096 "$(ok "$QDEDUP" convert -t unsafe -o cluster_size=auto --output=json over.qcow2 out.qcow2 | json - 'd["cluster-size"]')"
qemu-img convert -O qcow2 a16.raw snap.qcow2
qemu-img snapshot -c one snap.qcow2
qemu-io -c 'write -P 1 0 16M' snap.qcow2 >/dev/null
want=$(ok "$QDEDUP" convert -t unsafe -o cluster_size=auto --output=json a16.raw out.qcow2 | json - 'd["cluster-size"]')
is "$want" "$(ok "$QDEDUP" convert -t unsafe -l one -o cluster_size=auto --output=json snap.qcow2 out.qcow2 |
	json - 'd["cluster-size"]')"
