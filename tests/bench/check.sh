#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# check.sh: qdedup check and check --repair beside qemu-img's, on sparse images of terabytes whose
# metadata alone is written (tests/tools/mkmeta.c), page cache warm.
#
# In order, qemu-img is run in turns with qdedup and a ratio is the target; in random
# order it takes minutes to hours, so seconds and memory are, and it runs only when SLOW
# is set.
#
# Environment: QDEDUP, RUNS (3), CASES (a regular expression that picks rows), SLOW,
# BENCH_DIR (where the images go; up to 3 GiB at a time).
#
# Exits 1 when a target is missed.
set -euo pipefail
export LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
qdedup=$(realpath "${QDEDUP:-$here/../../qdedup}")
tools=$(cd "$here/../../build/tools" && pwd)
runs=${RUNS:-3}
cases=${CASES:-.}
work=$(mktemp -d "${BENCH_DIR:-${TMPDIR:-/var/tmp}}/qdedup-bench.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
cd "$work"
missed=0

fmt=' %-18s %9s %9s %6s %7s %-5s %8s %8s %7s %-5s\n'
# shellcheck disable=SC2059
printf "$fmt" row "qemu s" "qdedup s" ratio target "" "qemu MiB" "ours MiB" target ""

# column N of a result file: its median
median() {
	awk -v n="$1" '{ print $n }' "$2" | sort -n |
		awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}

verdict() {
	if awk -v a="$1" -v b="$2" 'BEGIN { exit !(a <= b) }'; then echo pass; else echo MISS; fi
}

# judge NAME TARGET MEMORY: the medians of the files theirs (which may be missing) and ours.
# TARGET: "0.3x" is a ratio to qemu-img's time, "2s" seconds; MEMORY: "1x" its memory, "300M" MiB,
# "-" anything
judge() {
	local name=$1 target=$2 memory=$3 theirs=- ours ratio=- rss peak=- word rss_word=
	ours=$(median 1 ours) rss=$(awk -v k="$(median 2 ours)" 'BEGIN { printf "%.0f", k / 1024 }')
	if [ -e theirs ]; then
		theirs=$(median 1 theirs) peak=$(awk -v k="$(median 2 theirs)" 'BEGIN { printf "%.0f", k / 1024 }')
		ratio=$(awk -v a="$ours" -v b="$theirs" 'BEGIN { printf "%.3f", a / b }')
	fi
	case $target in
	*x) word=$(verdict "$ratio" "${target%x}") ;;
	*) word=$(verdict "$ours" "${target%s}") ;;
	esac
	case $memory in
	-) ;;
	1x) rss_word=$(verdict "$rss" "$peak") ;;
	*) rss_word=$(verdict "$rss" "${memory%M}") ;;
	esac
	case $word$rss_word in *MISS*) missed=$((missed + 1)) ;; esac
	# shellcheck disable=SC2059
	printf "$fmt" "$name" "$theirs" "$ours" "$ratio" "$target" "$word" "$peak" "$rss" "$memory" "$rss_word"
}

# row NAME SIZE CLUSTER PART ORDER TARGET MEMORY: a sound image is checked
row() {
	local i
	[[ $1 =~ $cases ]] || return 0
	rm -f theirs ours
	"$tools/mkmeta" image "$2" "$3" "$4" "$5"
	"$qdedup" check -q image >/dev/null
	for ((i = 0; i < runs; i++)); do
		if [ "$5" = order ] || { [ -n "${SLOW-}" ] && [ "$i" -eq 0 ]; }; then
			"$tools/measure" qemu-img check image >>theirs
		fi
		"$tools/measure" "$qdedup" check image >>ours
	done
	judge "$1" "$6" "$7"
	rm -f image
}

# dirty NAME SIZE CLUSTER TARGET: lazy refcounts, none of them written, then a crash: repaired, a
# copy each time
dirty() {
	local i off nbytes
	[[ $1 =~ $cases ]] || return 0
	rm -f theirs ours
	"$tools/mkmeta" crashed "$2" "$3" full order
	off=$("$tools/damage" crashed 'print refblock[0]')
	nbytes=$(($("$tools/damage" crashed 'print header.l1_off') - off))
	"$tools/damage" crashed 'header.incompatible = 1' 'header.compatible = 1' "fill $off, $nbytes, 0"
	for ((i = 0; i < runs; i++)); do
		cp --sparse=always crashed image && sync image
		"$tools/measure" qemu-img check -q -r all image >>theirs
		cp --sparse=always crashed image && sync image
		"$tools/measure" "$qdedup" check -q --repair image >>ours
		qemu-img check -q image
	done
	judge "$1" "$4" -
	rm -f image crashed
}

row 1T-64K-order 1T 64K full order 0.3x 1x
row 8T-64K-order 8T 64K full order 0.3x 1x
row 1T-64K-random 1T 64K half random 2s 39M
row 1T-4K-order 1T 4K half order 6s 300M
row 1T-4K-random 1T 4K half random 6s 300M
dirty dirty-256G-64K 256G 64K 0.3x

if [ "$missed" -gt 0 ]; then
	echo "$missed targets missed"
	exit 1
fi
echo "all targets met"
