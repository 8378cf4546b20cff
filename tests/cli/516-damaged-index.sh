#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Every part of the index overwritten with zeros, ones, noise, the same part of another image and of an
# older generation: it is noticed, no hash is believed that is not right, no guest byte changes, and
# rehash cures it.
. "$(dirname "$0")/rehash-lib.sh"

mkdup base.raw 2M 4K 300 516
mkdup other.raw 2M 4K 300 517
for name in base other; do
	ok "$QDEDUP" convert -q -t unsafe -o cluster_size=4K $name.raw $name.qcow2
	ok "$QDEDUP" rehash -q --hash=sha256 $name.qcow2
done
cp base.qcow2 older.qcow2
qemu-io -c 'write -P 9 1M 8k' base.qcow2 >/dev/null
ok "$QDEDUP" rehash -q base.qcow2
qemu-img convert -O raw base.qcow2 content.raw
for name in base other older; do
	index regions $name.qcow2 >$name.regions
done

cat >overwrite.py <<'E2'
import random, sys
# TARGET WHAT REGION PART SEED: prints whether anything changed
target, what, region, part, seed = sys.argv[1:]
rng = random.Random(int(seed))
def place(name):
    for line in open(name + ".regions"):
        r, off, n = line.split()
        if r == region:
            return int(off), int(n)
off, n = place("base")
start, length = (0, n) if part == "all" else (rng.randrange(n), rng.choice((1, 8, 64)))
length = min(length, n - start)
if what in ("other", "older"):
    with open(what + ".qcow2", "rb") as f:
        f.seek(place(what)[0] + start)
        new = f.read(length)
else:
    new = {"zeros": bytes(length), "ones": b"\xff" * length, "noise": rng.randbytes(length)}[what]
with open(target, "r+b") as f:
    f.seek(off + start)
    old = f.read(length)
    f.seek(off + start)
    f.write(new)
print("changed" if old != new else "same")
E2

n=0 changed=0
for region in $(cut -d ' ' -f 1 base.regions); do
	for what in zeros ones noise other older; do
		for part in all 1 2 3; do
			n=$((n + 1))
			cp base.qcow2 hurt.qcow2
			how=$("$_python" overwrite.py hurt.qcow2 $what "$region" $part $n)
			[ "$how" = changed ] || continue
			changed=$((changed + 1))
			exits 1 "$QDEDUP" verify hurt.qcow2 >text
			says 'stale|damaged' 'qdedup rehash'
			[ $part = all ] || continue
			check_clean -q hurt.qcow2
			ok "$QDEDUP" rehash -q hurt.qcow2
			judge_index hurt.qcow2
			same content.raw hurt.qcow2
		done
	done
done
echo "$changed of $n"
[ "$changed" -ge 40 ] || die 'too little was changed'

# What fills up the directory's last sector is part of it.
read -r _ off length <<<"$(grep directory base.regions)"
cp base.qcow2 hurt.qcow2
poke hurt.qcow2 $((off + length)) 1 1
exits 1 "$QDEDUP" verify hurt.qcow2 >text
says 'stale' 'behind the directory'
ok "$QDEDUP" rehash -q hurt.qcow2
judge_index hurt.qcow2

# One damaged block of several: the clusters of the others are compared all the same, and only its own are read again.
mkdup many.raw 4M 512 6000 516
qemu-img convert -O qcow2 -o cluster_size=512 many.raw many.qcow2
ok "$QDEDUP" rehash -q many.qcow2
total=$(index records many.qcow2 | wc -l)
index regions many.qcow2 | grep block >blocks
[ "$(wc -l <blocks)" -ge 3 ] || die 'too few blocks'
while read -r name off length; do
	cp many.qcow2 hurt.qcow2
	poke hurt.qcow2 $((off + length / 2)) 8 0x0123456789abcdef
	own=$(((length - 32) / 30))
	exits 1 "$QDEDUP" verify --output=json hurt.qcow2 >verify.json
	is $own "$(json verify.json 'd["unknown"]')" "$name: unknown"
	is $((total - own)) "$(json verify.json 'd["checked"]')" "$name: checked"
	rehash hurt.qcow2
	is $own "$(value clusters-read)" "$name: clusters read"
done <blocks

# io writes all the same, whether the damage comes up when it makes a journal or when it loads the index.
for journal in no yes; do
	mkdata content.raw 2M 516 random
	ok "$QDEDUP" convert -q -t unsafe -o cluster_size=4K content.raw hurt.qcow2
	[ $journal = no ] || ok "$QDEDUP" journal -q -t unsafe create hurt.qcow2
	read -r _ off _ <<<"$(index regions hurt.qcow2 | grep block0)"
	poke hurt.qcow2 $((off + 1000)) 8 0x0123456789abcdef
	ok "$QDEDUP" io -q -t unsafe -c 'write -P 7 0 10000' -c 'write -P 7 1M 4K' hurt.qcow2
	"$_python" -c 'f = open("content.raw", "r+b")
f.write(b"\7" * 10000); f.seek(1 << 20); f.write(b"\7" * 4096)'
	same content.raw hurt.qcow2
	check_clean hurt.qcow2
	is 0 "$(index bit hurt.qcow2)" "feature bit after writing without the index"
	rehash hurt.qcow2
done
