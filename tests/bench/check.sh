#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# check.sh: qdedup check beside qemu-img check, on sparse images of terabytes whose
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

# row NAME SIZE CLUSTER PART ORDER TARGET MEMORY: "0.3x" is a ratio to qemu-img's, "2s" seconds,
# "1x" its memory, "300M" MiB
row() {
	local name=$1 target=$6 memory=$7 i theirs=- ours ratio=- rss peak=- word rss_word
	[[ $name =~ $cases ]] || return 0
	rm -f theirs ours
	"$tools/mkmeta" image "$2" "$3" "$4" "$5"
	"$qdedup" check -q image >/dev/null
	for ((i = 0; i < runs; i++)); do
		if [ "$5" = order ] || { [ -n "${SLOW-}" ] && [ "$i" -eq 0 ]; }; then
			"$tools/measure" qemu-img check image >>theirs
		fi
		"$tools/measure" "$qdedup" check image >>ours
	done
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
	1x) rss_word=$(verdict "$rss" "$peak") ;;
	*) rss_word=$(verdict "$rss" "${memory%M}") ;;
	esac
	[ "$word$rss_word" = passpass ] || missed=$((missed + 1))
	# shellcheck disable=SC2059
	printf "$fmt" "$name" "$theirs" "$ours" "$ratio" "$target" "$word" "$peak" "$rss" "$memory" "$rss_word"
	rm -f image
}

row 1T-64K-order 1T 64K full order 0.3x 1x
row 8T-64K-order 8T 64K full order 0.3x 1x
row 1T-64K-random 1T 64K half random 2s 39M
row 1T-4K-order 1T 4K half order 6s 300M
row 1T-4K-random 1T 4K half random 6s 300M

if [ "$missed" -gt 0 ]; then
	echo "$missed targets missed"
	exit 1
fi
echo "all targets met"
