#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# make bench: qdedup beside qemu-img, on images made here, in one run.
#
# Every row runs its commands in turns (A B C A B C ...), page cache warm, the
# previous output removed and the disk quiet; medians count.  Where qemu-img has
# several ways to do the work, the fastest of them is the one to compare with.  Every
# image that qdedup writes is checked and compared once, outside the measured time.
#
# Environment: SIZE (2G; of each source image), RUNS (5), CASES (a regular expression
# that picks rows), BENCH_DIR (where the images go; needs about six times SIZE).
#
# Exits 1 when a target is missed.  Targets stand in the last part of this file.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin
export LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
qdedup=${QDEDUP:-$here/../../qdedup}
tools=$(cd "$here/../../build/tools" && pwd)
size=${SIZE:-2G}
runs=${RUNS:-5}
cases=${CASES:-.}
work=$(mktemp -d "${BENCH_DIR:-${TMPDIR:-/var/tmp}}/qdedup-bench.XXXXXX")
trap 'cd /; chmod -R u+rwX "$work"; rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
cd "$work"
mkdir bin results
ln -s "$(realpath "$qdedup")" bin/qdedup
PATH=$work/bin:$tools:$PATH
missed=0

# ---- images --------------------------------------------------------------------------------

bytes() {
	numfmt --from=iec "$1"
}

# A file system full of this machine's files, four fifths of the size.
make_ext4() {
	local left=$(($(bytes "$size") * 4 / 5)) length file
	mkdir files
	while read -r length file; do
		[ "$length" -le "$left" ] || continue
		left=$((left - length))
		printf '%s\0' "${file#/}"
	done < <(find /usr /opt /var/lib -xdev -type f -readable -size +0 -size -256M -printf '%s %p\n' 2>/dev/null |
		sort -k2) |
		tar -C / --null --no-recursion -T - -cf - 2>/dev/null | tar -C files -xf - || true
	truncate -s "$size" ext4.raw
	mkfs.ext4 -q -F -m 0 -N $(($(find files | wc -l) + 2000)) -d files ext4.raw
	chmod -R u+rwX files
	rm -rf files
}

make_image() {
	case $1 in
	ext4.raw) make_ext4 ;;
	uniq.raw) mkdata uniq.raw "$size" 1 random ;;
	dup50.raw) mkdata dup50.raw "$size" 2 dup50x64k ;;
	empty.raw) truncate -s 64G empty.raw && mkfs.ext4 -q -F empty.raw ;;
	twice.raw) mkdata twice.raw $((2 * $(bytes "$size"))) 3 random ;;
	*.4k.qcow2) need "${1%.4k.qcow2}.raw" && qemu-img convert -f raw -O qcow2 -o cluster_size=4K "${1%.4k.qcow2}.raw" "$1" ;;
	*.qcow2) need "${1%.qcow2}.raw" && qemu-img convert -f raw -O qcow2 "${1%.qcow2}.raw" "$1" ;;
	esac >make.log 2>&1 || { cat make.log >&2; echo "bench: making $1 failed" >&2; exit 1; }
}

# Makes an image once and has it in the page cache.
need() {
	[ -e "$1" ] || make_image "$1"
	[ "$1" = empty.raw ] || cat "$1" >/dev/null
}

# ---- measuring -----------------------------------------------------------------------------

median() {
	sort -n | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}

# column N of result files
column() {
	awk -v n="$1" '{ print $n }' "$2"
}

allocated() {
	if [ -e "$1" ]; then echo $(($(stat -c '%b' "$1") / 2048)); else echo -; fi
}

# measured KEY COMMAND: one run; the output file is called out.*
measured() {
	local key=$1
	shift
	rm -f out.*
	sync -f .
	# shellcheck disable=SC2048,SC2086  # commands are lists of words without spaces
	measure $* >>"results/$key" || { echo "bench: failed: $*" >&2; exit 1; }
	allocated "$(echo out.*)" >"results/$key.size"
}

# What qdedup made must be right, or its speed means nothing.
judge_output() {
	local source=$1 out
	for out in out.*; do
		[ -e "$out" ] || return 0
		case $out in *.qcow2) qemu-img check -q "$out" ;; esac
		qemu-img compare -q "$source" "$out"
	done
}

fmt=' %-22s %9s %9s %6s %6s %-5s %7s %7s %8s %8s\n'
headline() {
	# shellcheck disable=SC2059
	printf "$fmt" row "qemu s" "qdedup s" ratio target "" "qemu" "qdedup" "qemu" "qdedup"
	# shellcheck disable=SC2059
	printf "$fmt" "" "" "" "" "" "" "RSS MiB" "RSS MiB" "out MiB" "out MiB"
}

verdict() {
	[ "$2" != - ] || { echo -; return; }
	if awk -v a="$1" -v b="$2" 'BEGIN { exit !(a <= b) }'; then echo pass; else echo MISS; fi
}

mib() {
	awk -v k="$1" 'BEGIN { printf "%.0f", k / 1024 }'
}

# row NAME TARGET-RATIO SOURCE OUR-COMMAND QEMU-COMMAND...
row() {
	local name=$1 target=$2 source=$3 ours=$4 i best=0 time best_time='' our_time ratio word
	[[ $name =~ $cases ]] || return 0
	shift 4
	need "$source"
	for ((i = 0; i < runs; i++)); do
		local k=0 ref
		for ref; do
			measured "$name.qemu$k" "$ref"
			k=$((k + 1))
		done
		measured "$name.qdedup" "$ours"
		[ "$i" -gt 0 ] || judge_output "$source"
	done
	rm -f out.*
	for ((i = 0; i < $#; i++)); do
		time=$(column 1 "results/$name.qemu$i" | median)
		if [ -z "$best_time" ] || awk -v a="$time" -v b="$best_time" 'BEGIN { exit !(a < b) }'; then
			best=$i best_time=$time
		fi
	done
	our_time=$(column 1 "results/$name.qdedup" | median)
	ratio=$(awk -v a="$our_time" -v b="$best_time" 'BEGIN { printf "%.2f", (b > 0 ? a / b : 0) }')
	word=$(verdict "$ratio" "$target")
	[ "$word" != MISS ] || missed=$((missed + 1))
	# shellcheck disable=SC2059
	printf "$fmt" "$name" "$(printf %.3f "$best_time")" "$(printf %.3f "$our_time")" "$ratio" "$target" "$word" \
		"$(mib "$(column 2 "results/$name.qemu$best" | median)")" "$(mib "$(column 2 "results/$name.qdedup" | median)")" \
		"$(cat "results/$name.qemu$best.size")" "$(cat "results/$name.qdedup.size")"
}

# memory_row NAME TARGET-MIB SOURCE OUR-COMMAND: the ceiling is kept
memory_row() {
	local name=$1 target=$2 source=$3 ours=$4 peak word
	[[ $name =~ $cases ]] || return 0
	need "$source"
	measured "$name.qdedup" "$ours"
	judge_output "$source"
	peak=$(mib "$(column 2 "results/$name.qdedup" | sort -n | tail -n 1)")
	word=$(verdict "$peak" "$target")
	[ "$word" != MISS ] || missed=$((missed + 1))
	# shellcheck disable=SC2059
	printf "$fmt" "$name" - "$(column 1 "results/$name.qdedup")" - "${target}M" "$word" \
		- "$peak" - "$(cat "results/$name.qdedup.size")"
	rm -f out.* "$source"
}

# ---- the rows and their targets ------------------------------------------------------------

echo "$(qemu-img --version | head -n 1); $("$qdedup" --version); $(nproc) processors; sources of $size; medians of $runs runs"
headline

# convert_rows SOURCE TARGET-UNSAFE TARGET-WRITEBACK
convert_rows() {
	local src=$1.raw mode target
	for mode in unsafe writeback; do
		if [ "$mode" = unsafe ]; then target=$2; else target=$3; fi
		row "convert-$1-$mode" "$target" "$src" \
			"qdedup convert -t $mode $src out.qcow2" \
			"qemu-img convert -f raw -O qcow2 -t $mode $src out.qcow2" \
			"qemu-img convert -f raw -O qcow2 -t $mode -W -m 8 $src out.qcow2"
	done
}
convert_rows ext4 1.0 1.0
convert_rows uniq 1.0 1.0
convert_rows dup50 1.0 1.0
convert_rows empty 1.0 1.0

row convert-ext4-4k 1.0 ext4.raw \
	"qdedup convert -t unsafe -o cluster_size=4K ext4.raw out.qcow2" \
	"qemu-img convert -f raw -O qcow2 -t unsafe -o cluster_size=4K ext4.raw out.qcow2" \
	"qemu-img convert -f raw -O qcow2 -t unsafe -o cluster_size=4K -W -m 8 ext4.raw out.qcow2"
row sha256-dup50 1.0 dup50.raw \
	"qdedup convert -t unsafe --hash=sha256 dup50.raw out.qcow2" \
	"qemu-img convert -f raw -O qcow2 -t unsafe dup50.raw out.qcow2" \
	"qemu-img convert -f raw -O qcow2 -t unsafe -W -m 8 dup50.raw out.qcow2"
row compress-ext4 1.0 ext4.raw \
	"qdedup convert -t unsafe -c ext4.raw out.qcow2" \
	"qemu-img convert -f raw -O qcow2 -t unsafe -c ext4.raw out.qcow2" \
	"qemu-img convert -f raw -O qcow2 -t unsafe -c -W -m 8 ext4.raw out.qcow2"
row compress9-ext4 - ext4.raw \
	"qdedup convert -t unsafe -c --compress-level=9 ext4.raw out.qcow2" \
	"qemu-img convert -f raw -O qcow2 -t unsafe -c ext4.raw out.qcow2" \
	"qemu-img convert -f raw -O qcow2 -t unsafe -c -W -m 8 ext4.raw out.qcow2"
row to-raw-ext4 1.0 ext4.qcow2 \
	"qdedup convert -t unsafe -O raw ext4.qcow2 out.raw" \
	"qemu-img convert -O raw -t unsafe ext4.qcow2 out.raw" \
	"qemu-img convert -O raw -t unsafe -W -m 8 ext4.qcow2 out.raw"
row compare-ext4 1.0 ext4.qcow2 \
	"qdedup compare ext4.raw ext4.qcow2" \
	"qemu-img compare -f raw -F qcow2 ext4.raw ext4.qcow2"
row map-ext4-4k 1.0 ext4.4k.qcow2 \
	"qdedup map --output=json ext4.4k.qcow2" \
	"qemu-img map --output=json ext4.4k.qcow2"
memory_row memory-64M 64 twice.raw \
	"qdedup convert -t unsafe -o cluster_size=4K --memory=64M twice.raw out.qcow2"

if [ "$missed" -gt 0 ]; then
	echo "$missed targets missed"
	exit 1
fi
echo "all targets met"
