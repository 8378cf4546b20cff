#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What an abort left in the redo log, damaged: every cluster of the batch and its mark, by zeros, ones, one bit, what
# was there before, and what a copy of the image has there.  journal verify says so (2), check finds it,
# replay refuses, writes nothing and names the way, which leads back to the content of the last flush.
. "$(dirname "$0")/io-lib.sh"

mkdata base.raw 1M 536 random
mkdata other.raw 1M 537 random
ok "$QDEDUP" convert -q -t unsafe -o cluster_size=512 base.raw start.qcow2
ok "$QDEDUP" journal -q -t unsafe --size=128K create start.qcow2
cp start.qcow2 copy.qcow2

# leave IMG RAW: one batch that was replayed, and one that was not
leave() {
	_run "$QDEDUP" io -q -t unsafe -c "write -s $2 0 400K" -c abort "$1"
	is 137 "$_status" "exit status of abort"
	cp "$1" older.qcow2
	ok "$QDEDUP" journal -q -t unsafe replay "$1"
	"$QIMG" convert -O raw "$1" now.raw
	_run "$QDEDUP" io -q -t unsafe -c "write -s $2 300K 600K" -c abort "$1"
	is 137 "$_status" "exit status of abort"
}
mkdata third.raw 1M 538 random
leave copy.qcow2 other.raw
leave start.qcow2 third.raw

at=$(ok "$QDEDUP" journal --output=json dump start.qcow2 >dump.json && json dump.json \
	'" ".join(str(i["offset"]) for i in d["items"] if i["area"] == "redo" and i["type"] in ("cluster", "mark") and i["counts"])')
echo "$at"
[ "$(wc -w <<<"$at")" -ge 3 ] || die "the batch has too few clusters"
exits 3 "$QDEDUP" journal verify start.qcow2 >text
mark=${at##* }

piece_of() {	# IMG OFFSET
	dd if="$1" bs=4096 skip="$2" iflag=skip_bytes count=1 status=none
}

hurt() {	# HOW OFFSET
	case $1 in
	zeros) head -c 4096 /dev/zero ;;
	ones) head -c 4096 /dev/zero | tr '\0' '\377' ;;
	bit) piece_of start.qcow2 "$2" | "$_python" -c '
import sys
d = bytearray(sys.stdin.buffer.read())
d[60] ^= 4
sys.stdout.buffer.write(d)' ;;
	*) piece_of $1.qcow2 "$2" ;;
	esac >piece
	cp start.qcow2 bad.qcow2
	dd if=piece of=bad.qcow2 bs=4096 seek="$2" oflag=seek_bytes conv=notrunc status=none
}

n=0
for off in $at; do
	for how in zeros ones bit older copy; do
		hurt $how "$off"
		! cmp -s start.qcow2 bad.qcow2 || continue
		n=$((n + 1))
		# A whole batch without its mark is what a crash right behind it leaves.
		if [ "$off" = "$mark" ] && cmp -s -n 4096 piece /dev/zero; then
			exits 3 "$QDEDUP" journal verify bad.qcow2 >text
			continue
		fi
		exits 2 "$QDEDUP" journal verify bad.qcow2 >text
		grep -q 'damaged' text || die "$off, $how: not called damaged"
		cp bad.qcow2 before
		fails 2 "$QDEDUP" journal replay bad.qcow2
		says 'check --repair' 'rehash'
		cmp bad.qcow2 before || die "$off, $how: a refused replay wrote"
		[ "$how" = bit ] || continue
		"$QDEDUP" check bad.qcow2 >text || true
		grep -q 'journal is damaged' text || die "$off: check does not say so: $(cat text)"
		ok "$QDEDUP" check --repair bad.qcow2 >text
		judge bad.qcow2 now.raw
		ok "$QDEDUP" rehash -q -t unsafe bad.qcow2
		ok "$QDEDUP" verify -q bad.qcow2
	done
done
[ $n -ge 12 ] || die "only $n"
