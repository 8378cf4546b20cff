#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# scan.sh: qdedup scan beside the speed of memory (cat of the same files), of the processors' SHA-256
# (openssl speed) and of tools that answer the same question (duperemove, borg, when they are installed).
#
# The files lie in the page cache.  A turn runs every command of a row once, and what counts is the median
# of the ratios within a turn: what else the machine does hits all of them.
#
# The last rows count contents that are all different and come from no file, under --memory: seconds and
# peak memory as their number grows.
#
# Environment: QDEDUP, QD_SYNTH (build/release/bench/scan_synth), SIZE (1G; of each of the two files),
# RUNS (5), CASES (a regular expression that picks rows), DISTINCT (20 22 24: powers of two of distinct 4K
# clusters), MEMORY (64M; for those), BENCH_DIR (where files go; about 4 times SIZE, with borg's repository).
#
# Exits 1 when a target is missed.
set -euo pipefail
export LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
qdedup=$(realpath "${QDEDUP:-$here/../../qdedup}")
tools=$(cd "$here/../../build/tools" && pwd)
synth=$(realpath "${QD_SYNTH:-$here/../../build/release/bench/scan_synth}")
size=$(numfmt --from=iec "${SIZE:-1G}")
runs=${RUNS:-5}
cases=${CASES:-.}
distinct=${DISTINCT:-20 22 24}
memory=${MEMORY:-64M}
work=$(mktemp -d "${BENCH_DIR:-${TMPDIR:-/var/tmp}}/qdedup-bench.XXXXXX")
trap 'cd /; rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
cd "$work"
missed=0 rows=0

die() {
	echo "bench: $*" >&2
	exit 1
}

wanted() {
	[[ $1 =~ $cases ]]
}

median() {
	sort -n | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}

# calc EXPRESSION FORMAT: numbers that the shell cannot handle
calc() {
	awk "BEGIN { printf \"${2:-%.3f}\", $1 }"
}

count() {
	rows=$((rows + 1))
	[ "$1" != MISS ] || missed=$((missed + 1))
}

# verdict CONDITION
verdict() {
	if awk "BEGIN { exit !($1) }"; then echo pass; else echo MISS; fi
}

fmt='%-22s %9s %9s %7s %6s  %-4s %9s\n'

# sources: half of one file's 64K units are copies; the other repeats nothing
sources() {
	[ ! -e dup50.raw ] || return 0
	"$tools/mkdata" dup50.raw "$size" 1 dup50
	"$tools/mkdata" uniq.raw "$size" 2 random
	cat dup50.raw uniq.raw >/dev/null
}

# turn KEY COMMAND...: its "SECONDS PEAK-KIB CPU-SECONDS" go to the file KEY
turn() {
	local key=$1
	shift
	"$tools/measure" "$@" >>"$key" || die "failed: $*"
}

# ratios A B: of the times in two files, turn by turn
ratios() {
	paste <(awk '{ print $1 }' "$1") <(awk '{ print $1 }' "$2") | awk '{ print $1 / $2 }'
}

# print_row NAME TARGET: from the files ours and theirs
print_row() {
	local ratio word
	ratio=$(ratios ours theirs | median)
	word=$(verdict "$ratio <= $2")
	count "$word"
	# shellcheck disable=SC2059
	printf "$fmt" "$1" "$(awk '{ print $1 }' theirs | median)" "$(awk '{ print $1 }' ours | median)" \
		"$(calc "$ratio")" "$2" "$word" "$(calc "$(awk '{ print $2 }' ours | median) / 1024" %.0f)"
}

# cat_row NAME TARGET OPTION...: seconds as a multiple of cat's
cat_row() {
	local name=$1 target=$2 i
	wanted "$name" || return 0
	shift 2
	sources
	rm -f ours theirs
	for ((i = 0; i <= runs; i++)); do
		turn theirs cat dup50.raw uniq.raw
		turn ours "$qdedup" scan "$@" dup50.raw uniq.raw
		[ $i -gt 0 ] || rm ours theirs	# the first one warms up
	done
	print_row "$name" "$target"
}

# All processors hash at once, as scan may; bytes a second.
sha_speed() {
	openssl speed -mr -seconds 1 -bytes 65536 -multi "$(nproc)" -evp sha256 2>/dev/null |
		awk -F: '$1 == "+F" { rate = $NF } END { print rate + 0 }'
}

# sha_row NAME SIZES: SHA-256 done in a second, as a share of what the processors can do
sha_row() {
	local name=$1 sizes=$2 i speed share word
	wanted "$name" || return 0
	command -v openssl >/dev/null || die "openssl is not installed"
	sources
	rm -f ours share
	for ((i = 0; i <= runs; i++)); do
		speed=$(sha_speed)
		turn ours "$qdedup" scan --hash=sha256 "--cluster-size=$sizes" dup50.raw uniq.raw
		calc "2 * $size / $(tail -n 1 ours | cut -d ' ' -f 1) / $speed" '%.4f\n' >>share
		[ $i -gt 0 ] || rm share
	done
	share=$(median <share)
	word=$(verdict "$share >= 0.9")
	count "$word"
	printf '%-22s %.3f of the processors'\'' %.2f GB/s, at least 0.9  %s\n' "$name" "$share" "$(calc "$speed / 1e9")" "$word"
}

# other_row NAME SIZES PREPARE COMMAND...: against another tool, which is to be slower
other_row() {
	local name=$1 sizes=$2 prepare=$3 i
	wanted "$name" || return 0
	shift 3
	if ! command -v "$1" >/dev/null; then
		echo "$name: $1 is not installed"
		return 0
	fi
	sources
	rm -f ours theirs
	for ((i = 0; i < 3; i++)); do
		eval "$prepare"
		turn theirs "$@"
		turn ours "$qdedup" scan "--cluster-size=$sizes" dup50.raw uniq.raw
	done
	print_row "$name" 1
}

# shellcheck disable=SC2059
printf "$fmt" row theirs ours ratio most "" "ours MiB"
cat_row one-size-64K 1.3 --cluster-size=64K
cat_row one-size-4K 1.3 --cluster-size=4K
cat_row five-sizes 2.2
sha_row sha256-64K 64K
sha_row sha256-4K 4K
sha_row sha256-five 4K,8K,16K,32K,64K
for cs in 64K 4K; do
	other_row duperemove-$cs $cs 'rm -f hashes' \
		duperemove -q --dedupe-options=partial -b $cs --hashfile=hashes dup50.raw uniq.raw
done
export BORG_BASE_DIR=$work/borg BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes BORG_RELOCATED_REPO_ACCESS_IS_OK=yes
other_row borg 4K,8K,16K,32K,64K 'rm -rf repo borg; borg init -e none repo 2>/dev/null' \
	borg create --stats --compression none --files-cache disabled repo::a dup50.raw uniq.raw
rm -rf dup50.raw uniq.raw repo borg hashes

# distinct_rows: as many contents as 2^each of $distinct, all different, in $memory; time as a power of
# their number
distinct_rows() {
	local bits before='' seconds peak power word
	wanted distinct || return 0
	[ -x "$synth" ] || die "$synth is missing: make bench builds it"
	echo
	for bits in $distinct; do
		TMPDIR=$work "$synth" "$bits" "$bits" "$(numfmt --from=iec "$memory")" >one || die "2^$bits contents"
		read -r seconds peak _ <one
		word=$(verdict "$peak <= $(numfmt --from=iec "$memory") / 1024")
		count "$word"
		printf '%-22s %9s s, peak %s MiB, at most %s  %s\n' "distinct-2^$bits" "$seconds" "$(calc "$peak / 1024" %.0f)" \
			"$memory" "$word"
		if [ -n "$before" ]; then
			power=$(calc "log($seconds / ${before#* }) / log(2 ^ ($bits - ${before% *}))")
			word=$(verdict "$power <= 1.15")
			count "$word"
			printf '%-22s time grows as n^%s, at most 1.15  %s\n' '' "$power" "$word"
		fi
		before="$bits $seconds"
	done
}
distinct_rows

echo
[ "$rows" -gt 0 ] || die "no row matches CASES=$cases"
if [ "$missed" -gt 0 ]; then
	echo "$missed of $rows rows MISS a target"
	exit 1
fi
echo "$rows rows, no target missed"
