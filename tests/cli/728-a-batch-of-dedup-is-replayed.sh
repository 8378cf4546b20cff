#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# dedup killed while a batch is on its way, with its redo records committed: a replay finishes it, and the
# check afterwards has nothing to repair.  check --repair brings it back, too.  Where QEMU opens the image
# first, a replay refuses; check --repair and rehash bring everything back.  Which runs have records, and that
# the redo area is given back.
. "$(dirname "$0")/dedup-lib.sh"

mkdup base.raw 12M 512 9000 717
qemu-img convert -f raw -O qcow2 -o cluster_size=512 base.raw whole.qcow2
layers whole.qcow2 before

# pending IMG: does it hold writes that are not applied?
pending() {
	"$QDEDUP" journal verify "$1" >verify.out 2>&1 || true
	prints 'writes are pending' <verify.out
}

cp whole.qcow2 disk.qcow2
begin=$(date +%s%N)
ok "$QDEDUP" dedup --memory=8M --output=json disk.qcow2 >out.json
took=$((($(date +%s%N) - begin) / 1000))
[ "$(json out.json 'd["batches"]')" -gt 1 ] || die "one batch: no test"
is "$(json out.json 'd["batches"]')" "$(json out.json 'd["batches-logged"]')" "batches with records"
fails 1 "$QDEDUP" journal verify disk.qcow2
says 'no journal'

found=0
for ((n = 0; n < 80 && found < 2; n++)); do
	cp whole.qcow2 disk.qcow2
	at=$((took * (30 + n * 7 % 70) / 100))
	printf -v delay '%d.%06d' $((at / 1000000)) $((at % 1000000))
	"$QDEDUP" dedup -q --memory=8M disk.qcow2 2>/dev/null &
	pid=$!
	sleep "$delay"
	kill -KILL $pid 2>/dev/null || true
	wait $pid 2>/dev/null || true
	pending disk.qcow2 || continue
	found=$((found + 1))
	same_layers disk.qcow2 before

	cp disk.qcow2 replayed.qcow2
	ok "$QDEDUP" journal replay --output=json replayed.qcow2 >out.json
	is 0 "$(json out.json 'd["wrong"]')" "what was wrong when the batch was replayed"
	check_clean -q replayed.qcow2
	ok "$QDEDUP" check -q replayed.qcow2
	ok "$QDEDUP" verify --output=json replayed.qcow2 >out.json
	is valid "$(json out.json 'd["state"]')" "the index of what was replayed"
	fails 1 "$QDEDUP" journal verify replayed.qcow2
	in_place_exactly replayed.qcow2 512

	cp disk.qcow2 repaired.qcow2
	ok "$QDEDUP" check -q --repair repaired.qcow2 >out
	check_clean -q repaired.qcow2
	in_place_exactly repaired.qcow2 512

	qemu-io -c 'read 0 512' disk.qcow2 >out 2>&1 || die "QEMU does not open it: $(cat out)"
	check_clean -q disk.qcow2
	fails 1 "$QDEDUP" journal replay disk.qcow2
	says 'check --repair' 'rehash'
	ok "$QDEDUP" check -q --repair disk.qcow2 >out
	ok "$QDEDUP" rehash -q disk.qcow2 >out
	fails 1 "$QDEDUP" journal verify disk.qcow2
	in_place_exactly disk.qcow2 512
done
[ $found -gt 0 ] || die "it was never killed within a batch: no test"

# Without a place for records, or without anybody to vouch for them: the dirty bit and the order of writes.
mkdup small.raw 256K 4K 20 718
for how in --no-index --no-pin --index=side.idx --lazy-refcounts --upgrade snapshot; do
	compat=1.1
	[ "$how" != --upgrade ] || compat=0.10
	qemu-img convert -f raw -O qcow2 -o cluster_size=4K,compat=$compat small.raw disk.qcow2
	option=$how
	[ "$how" != snapshot ] || {
		qemu-img snapshot -c one disk.qcow2
		option=--memory=64M
	}
	in_place disk.qcow2 4K "$option"
	logged=0
	[ "$how" != --upgrade ] || logged=1
	is $logged "$(json out.json 'd["batches-logged"]')" "batches with records, $how"
done
