#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# index.sh: qdedup rehash and verify beside `cat FILE >/dev/null`, and with SHA-256 beside what the
# processors can do (openssl speed), page cache warm, in turns; convert with the index beside
# convert without; stats of an image of a tebibyte (tests/tools/mkmeta.c) beside qemu-img map.
#
# Environment: QDEDUP, SIZE (1G), RUNS (5), CASES (a regular expression that picks rows), BENCH_DIR.
#
# Exits 1 when a target is missed.
set -euo pipefail
export LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
qdedup=$(realpath "${QDEDUP:-$here/../../qdedup}")
tools=$(cd "$here/../../build/tools" && pwd)
size=$(numfmt --from=iec "${SIZE:-1G}")
runs=${RUNS:-5}
cases=${CASES:-.}
cpus=$(nproc)
work=$(mktemp -d "${BENCH_DIR:-${TMPDIR:-/var/tmp}}/qdedup-bench.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
cd "$work"
missed=0

# seconds CMD...: what it took
seconds() {
	local from=$EPOCHREALTIME
	"$@" >/dev/null
	awk -v a="$from" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.4f\n", b - a }'
}

median() {
	sort -n | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}

# verdict NAME VALUE OP TARGET
verdict() {
	local word=pass
	awk -v a="$2" -v b="$4" "BEGIN { exit !(a $3 b) }" || { word=MISS; missed=1; }
	printf ' %-24s %8.3f %2s %-5s %s\n' "$1" "$2" "$3" "$4" "$word"
}

# beside_cat NAME FILE CMD...: the ratio of times
beside_cat() {
	local name=$1 file=$2 i a b
	shift 2
	[[ $name =~ $cases ]] || return 0
	cat "$file" >/dev/null
	for ((i = 0; i < runs; i++)); do
		a=$(seconds cat "$file")
		b=$(seconds "$@" "$file")
		awk -v a="$a" -v b="$b" 'BEGIN { print b / a }'
	done | median >ratio
	verdict "$name" "$(cat ratio)" '<=' 1.5
}

# beside_sha NAME FILE CMD...: the share of the processors' rate
beside_sha() {
	local name=$1 file=$2 i rate b
	shift 2
	[[ $name =~ $cases ]] || return 0
	cat "$file" >/dev/null
	for ((i = 0; i < runs; i++)); do
		rate=$(openssl speed -multi "$cpus" -evp sha256 -bytes 65536 -seconds 1 2>/dev/null |
			awk '/^sha256/ { sub("k$", "", $2); print $2 * 1000 }')
		b=$(seconds "$@" "$file")
		awk -v r="$rate" -v n="$(stat -c %s "$file")" -v b="$b" 'BEGIN { print n / b / r }'
	done | median >ratio
	verdict "$name" "$(cat ratio)" '>=' 0.9
}

# convert_row CLUSTER: with the index and without, in turns
convert_row() {
	local i a b
	[[ "convert $1" =~ $cases ]] || return 0
	cat disk.raw >/dev/null
	for ((i = 0; i < runs; i++)); do
		a=$(seconds "$qdedup" convert -q -t unsafe --no-index -o cluster_size="$1" disk.raw without.qcow2)
		b=$(seconds "$qdedup" convert -q -t unsafe -o cluster_size="$1" disk.raw with.qcow2)
		awk -v a="$a" -v b="$b" 'BEGIN { print b / a }'
	done | median >ratio
	verdict "convert $1" "$(cat ratio)" '<=' 1.03
	rm without.qcow2 with.qcow2
}

# stats_row CLUSTER ORDER
stats_row() {
	local i a b
	[[ "stats 1T $1 $2" =~ $cases ]] || return 0
	"$tools/mkmeta" huge.qcow2 1T "$1" half "$2"
	"$qdedup" stats huge.qcow2 >/dev/null
	for ((i = 0; i < runs; i++)); do
		a=$(seconds qemu-img map huge.qcow2)
		b=$(seconds "$qdedup" stats huge.qcow2)
		awk -v a="$a" -v b="$b" 'BEGIN { print b / a }'
	done | median >ratio
	verdict "stats 1T $1 $2" "$(cat ratio)" '<=' 1
	rm huge.qcow2
}

printf ' %-24s %8s %2s %-5s\n' row ratio '' target
stats_row 64K order
stats_row 64K random
head -c "$size" /dev/urandom >disk.raw
for cs in 64K 4K; do
	convert_row $cs
done
for cs in 64K 4K; do
	"$qdedup" convert -q -t unsafe --no-index -o cluster_size=$cs disk.raw disk-$cs.qcow2
done
rm disk.raw
for cs in 64K 4K; do
	beside_cat "rehash $cs" disk-$cs.qcow2 "$qdedup" rehash -n
	beside_sha "rehash sha256 $cs" disk-$cs.qcow2 "$qdedup" rehash -n --hash=sha256
	"$qdedup" rehash -q disk-$cs.qcow2
	beside_cat "verify $cs" disk-$cs.qcow2 "$qdedup" verify
	"$qdedup" rehash -q --hash=sha256 disk-$cs.qcow2
	beside_sha "verify sha256 $cs" disk-$cs.qcow2 "$qdedup" verify
done
exit $missed
