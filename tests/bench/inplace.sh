#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# inplace.sh: qdedup dedup, page cache warm, beside what it is measured against in the same run.
#
#	unique CS      an image without duplicates        at most 1.5 times cat FILE >/dev/null, plus writing
#	                                                  the hash table (which convert of nothing costs too)
#	half CS        half of its clusters are duplicates   at most the time of qdedup convert of it
#	compact CS     the same image, dedup --compact       for comparison: it makes few holes
#	no-punch CS    the same image, dedup --no-punch      for comparison: it makes none
#	again CS       deduplicated before: the table is valid   reads no data that is alone
#
# Environment: QDEDUP, RUNS (3), SIZE (1G), BENCH_DIR (where the images go).  What a hole costs belongs to the
# file system there and is printed for each cluster size: 3 to 50 us are usual, and where freed clusters lie
# scattered it decides the row "half".  ext4 without a journal that is mounted with discard waits for the
# disk with every hole, 70 us and more: the row is missed there whatever dedup does.
#
# Exits 1 when a target is missed.
set -euo pipefail
export LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
qdedup=$(realpath "${QDEDUP:-$here/../../qdedup}")
tools=$(cd "$here/../../build/tools" && pwd)
runs=${RUNS:-3} size=${SIZE:-1G}
work=$(mktemp -d "${BENCH_DIR:-${TMPDIR:-/var/tmp}}/qdedup-bench.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
cd "$work"
missed=0

# seconds FILE CMD...: appends how long CMD takes
seconds() {
	local file=$1 begin
	shift
	begin=$(date +%s%N)
	"$@" >/dev/null
	echo $((($(date +%s%N) - begin) / 1000)) >>"$file"
}

median() {
	sort -n "$1" | awk '{ v[NR] = $1 / 1e6 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}

# row NAME THEIRS OURS [TARGET]
row() {
	local a b
	a=$(median "$2") b=$(median "$3")
	awk -v name="$1" -v a="$a" -v b="$b" -v t="${4:-0}" 'BEGIN {
		r = b / a
		printf " %-14s %8.3f s %8.3f s  %6.2f x", name, a, b, r
		if (t)
			printf "  target %.2f x  %s", t, r <= t ? "pass" : "MISS"
		print ""
		exit t && r > t
	}' || missed=1
}

# dedup_fresh FILE OPTION...: appends how long dedup of a fresh copy takes
dedup_fresh() {
	local file=$1
	shift
	cp dup50.qcow2 disk.qcow2
	warm disk.qcow2
	seconds "$file" "$qdedup" dedup -q -t unsafe "$@" disk.qcow2
}

warm() {
	sync "$1"
	cat "$1" >/dev/null
}

printf ' %-14s %10s %10s\n' row beside dedup
for cs in 64K 4K; do
	printf ' %-14s %s us\n' "a hole of $cs" "$("$tools/punch" hole $((${cs%K} * 1024)) 500)"
	for kind in random dup50; do
		"$tools/mkdata" data.raw "$size" 7 $kind
		qemu-img convert -f raw -O qcow2 -o cluster_size=$cs data.raw $kind.qcow2
		rm data.raw
	done
	for ((n = 0; n < runs; n++)); do
		cp random.qcow2 disk.qcow2
		warm disk.qcow2
		seconds theirs cat disk.qcow2
		seconds ours "$qdedup" dedup -q -t unsafe disk.qcow2
	done
	row "unique $cs" theirs ours 1.5
	rm theirs ours
	for ((n = 0; n < runs; n++)); do
		cp dup50.qcow2 disk.qcow2
		rm -f out.qcow2
		warm disk.qcow2
		seconds theirs "$qdedup" convert -q -t unsafe -o cluster_size=$cs disk.qcow2 out.qcow2
		seconds ours "$qdedup" dedup -q -t unsafe disk.qcow2
		dedup_fresh compact --compact
		dedup_fresh nopunch --no-punch
	done
	row "half $cs" theirs ours 1
	row "compact $cs" theirs compact
	row "no-punch $cs" theirs nopunch
	rm theirs ours compact nopunch
	cp dup50.qcow2 disk.qcow2
	"$qdedup" dedup -q -t unsafe disk.qcow2
	read -r read < <("$qdedup" dedup -n --output=json disk.qcow2 | sed -n 's/.*"bytes-read": \([0-9]*\).*/\1/p')
	printf ' %-14s %s bytes of data read\n' "again $cs" "$read"
	[ "$read" -eq 0 ] || missed=1
	rm -f ./*.qcow2
done
exit $missed
