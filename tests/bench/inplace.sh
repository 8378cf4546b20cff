#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# inplace.sh: qdedup dedup, page cache warm, beside what it is measured against in the same run.
#
#	unique CS      an image without duplicates        at most 1.5 times cat FILE >/dev/null, plus writing
#	                                                  the hash table (which convert of nothing costs too)
#	half CS        half of its clusters are duplicates   at most the time of qdedup convert of it
#	again CS       deduplicated before: the table is valid   reads no data that is alone
#
# Environment: QDEDUP, RUNS (3), SIZE (1G), BENCH_DIR (where the images go).  What punching holes costs
# belongs to the file system; on some it is most of the time.
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

# row NAME THEIRS OURS TARGET
row() {
	local a b
	a=$(median "$2") b=$(median "$3")
	awk -v name="$1" -v a="$a" -v b="$b" -v t="$4" 'BEGIN {
		r = b / a
		printf " %-14s %8.3f s %8.3f s  %6.2f x  target %.2f x  %s\n", name, a, b, r, t, r <= t ? "pass" : "MISS"
		exit r > t
	}' || missed=1
	rm -f "$2" "$3"
}

warm() {
	sync "$1"
	cat "$1" >/dev/null
}

printf ' %-14s %10s %10s\n' row beside dedup
for cs in 64K 4K; do
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
	for ((n = 0; n < runs; n++)); do
		cp dup50.qcow2 disk.qcow2
		rm -f out.qcow2
		warm disk.qcow2
		seconds theirs "$qdedup" convert -q -t unsafe -o cluster_size=$cs disk.qcow2 out.qcow2
		seconds ours "$qdedup" dedup -q -t unsafe disk.qcow2
	done
	row "half $cs" theirs ours 1
	read -r read < <("$qdedup" dedup -n --output=json disk.qcow2 | sed -n 's/.*"bytes-read": \([0-9]*\).*/\1/p')
	printf ' %-14s %s bytes of data read\n' "again $cs" "$read"
	[ "$read" -eq 0 ] || missed=1
	rm -f ./*.qcow2
done
exit $missed
