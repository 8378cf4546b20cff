#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# make bench: qdedup beside qemu-img, on images made here, in one run.
#
# A row runs its commands in turns (A B C, A B C, ...), sources in the page cache, the
# previous output removed and the disk quiet.  Each turn gives one ratio, of qdedup's
# time to qemu-img's in the same turn, and the median of those counts: what else the
# machine does hits both.  Where qemu-img has several ways to do the work (with and
# without "-W -m 8"), the one with the smallest median is the one to beat.  Rows end in
# the cache mode, which is the same for both programs.  Every image that qdedup writes is
# checked and compared once, outside the measured time.
#
# Environment: SIZE (2G; of each source image: a smaller one is for trying the script, not
# for judging the program), RUNS (5; rows that take a moment get more turns), CASES (a
# regular expression that picks rows), BENCH_DIR (where the images go, else TMPDIR, else
# /var/tmp; a directory there is made and removed; needs about seven times SIZE).
#
# Exits 1 when a target is missed.  Rows and targets stand in the last part of this file.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin
export LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
qdedup=${QDEDUP:-$here/../../qdedup}
tools=$(cd "$here/../../build/tools" && pwd)
size=$(numfmt --from=iec "${SIZE:-2G}")
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
rows=0 missed=0

# ---- images --------------------------------------------------------------------------------

# make_ext4 FILE SIZE BYTES: a file system with so much of this machine's files in it
make_ext4() {
	local left=$3 length file
	mkdir files
	while read -r length file; do
		[ "$length" -le "$left" ] || continue
		left=$((left - length))
		printf '%s\0' "${file#/}"
	done < <(find /usr /opt /var/lib -xdev -type f -readable -size +0 -size -256M -printf '%s %p\n' 2>/dev/null |
		sort -k2) |
		tar -C / --null --no-recursion -T - -cf - 2>/dev/null | tar -C files -xf - || true
	truncate -s "$2" "$1"
	mkfs.ext4 -q -F -m 0 -N $(($(find files | wc -l) + 2000)) -d files "$1"
	chmod -R u+rwX files
	rm -rf files
}

# make_qcow2 FILE SOURCE [OPTIONS]
make_qcow2() {
	need "$2"
	qemu-img convert -q -f raw -O qcow2 ${3:+-o "$3"} "$2" "$1"
}

make_image() {
	case $1 in
	ext4.raw) make_ext4 ext4.raw "$size" $((size * 4 / 5)) ;;
	empty.raw) make_ext4 empty.raw 64G $((size / 16)) ;;
	uniq.raw) mkdata uniq.raw "$size" 1 random ;;
	dup50.raw) mkdata dup50.raw "$size" 2 dup50x64k ;;
	new.raw) truncate -s 64G new.raw && mkfs.ext4 -q -F new.raw ;;
	twice.raw) mkdata twice.raw $((2 * size)) 3 random ;;
	ext4.4k.qcow2) make_qcow2 "$1" ext4.raw cluster_size=4K ;;
	ext4.qcow2) make_qcow2 "$1" ext4.raw ;;
	*) die "no recipe for $1" ;;
	esac
}

describe() {
	case $1 in
	ext4.raw) echo "ext4 with files of this machine" ;;
	uniq.raw) echo "random, no two clusters alike" ;;
	dup50.raw) echo "half of its 64K units are copies of others, shuffled" ;;
	empty.raw) echo "ext4 with a few files of this machine" ;;
	new.raw) echo "new ext4, no files" ;;
	twice.raw) echo "random, no two clusters alike" ;;
	*) echo "by qemu-img from ext4.raw" ;;
	esac
}

die() {
	echo "bench: $*" >&2
	exit 1
}

mib() {
	awk -v n="$1" -v unit="$2" 'BEGIN { printf "%.0f", n * unit / 1048576 }'
}

# need FILE...: makes an image that is not there yet, and has it in the page cache.
need() {
	local file
	for file; do
		if [ ! -e "$file" ]; then
			make_image "$file" >make.log 2>&1 || { cat make.log >&2; die "making $file failed"; }
			printf '# %-14s %6s MiB, %5s allocated: %s\n' "$file" "$(mib "$(stat -c %s "$file")" 1)" \
				"$(mib "$(stat -c %b "$file")" 512)" "$(describe "$file")" >&3
		fi
		[ "$(stat -c %s "$file")" -ge $((64 << 30)) ] || cat "$file" >/dev/null
	done
}

# ---- measuring -----------------------------------------------------------------------------

median() {
	sort -n | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}

# column N of the file of results KEY
column() {
	awk -v n="$1" '{ print $n }' "results/$2"
}

# The median of ratios A/B of two keys, turn by turn.
pairwise() {
	paste <(column 1 "$1") <(column 1 "$2") | awk '{ print $1 / ($2 > 0 ? $2 : 0.0001) }' | median
}

at_most() {
	awk -v a="$1" -v b="$2" 'BEGIN { exit !(a <= b) }'
}

# A qcow2 file is as large as it is long; of a raw one, holes do not count.
file_bytes() {
	case $1 in
	*.raw) echo $(($(stat -c %b "$1") * 512)) ;;
	*) stat -c %s "$1" ;;
	esac
}

# measured KEY COMMAND: one run; an output file is called out.*
measured() {
	local key=$1
	rm -f out.*
	sync -f .
	# shellcheck disable=SC2086  # commands are lists of words without spaces
	measure $2 >>"results/$key" || die "failed: $2"
	echo - >"results/$key.size"
	[ ! -e "$(echo out.*)" ] || file_bytes out.* >"results/$key.size"
}

# What qdedup made must be right, or its speed means nothing.
judge_output() {
	local source=$1 out
	for out in out.*; do
		[ -e "$out" ] || return 0
		case $out in *.qcow2) qemu-img check -q "$out" || die "$out: qemu-img check finds errors" ;; esac
		qemu-img compare -q "$source" "$out" || die "$out differs from $source"
	done
}

# take_turns NAME SOURCE OUR-COMMAND QEMU-COMMAND...: until there are enough
take_turns() {
	local name=$1 source=$2 ours=$3 turn k ref start=$SECONDS
	shift 3
	for ((turn = 0; turn < runs || (turn < 5 * runs && SECONDS - start < 3); turn++)); do
		k=0
		for ref; do
			measured "$name.qemu$k" "$ref"
			k=$((k + 1))
		done
		measured "$name.qdedup" "$ours"
		[ "$turn" -gt 0 ] || judge_output "$source"
	done
	rm -f out.*
}

# fastest NAME COUNT: the number of qemu-img's quickest way
fastest() {
	local i best=0 time best_time=''
	for ((i = 0; i < $2; i++)); do
		time=$(column 1 "$1.qemu$i" | median)
		if [ -z "$best_time" ] || ! at_most "$best_time" "$time"; then
			best=$i best_time=$time
		fi
	done
	echo "$best"
}

# ---- the table -----------------------------------------------------------------------------

wanted() {
	[[ $1 =~ $cases ]]
}

line() {
	printf '%-29s %8s %8s %6s %5s  %6s %5s  %-4s  %6s %6s  %6s %6s\n' "$@"
}

headline() {
	echo
	line "" "qemu-img" qdedup time "at" size "at" "" "RSS, MiB" "" "file, MiB" ""
	line row "s" "s" ratio most ratio most "" qemu qdedup qemu qdedup
}

# verdict RATIO MOST [RATIO MOST]: "-" is no target
verdict() {
	local word=-
	while [ $# -gt 0 ]; do
		if [ "$2" != - ]; then
			[ "$word" != - ] || word=pass
			at_most "$1" "$2" || word=MISS
		fi
		shift 2
	done
	echo "$word"
}

count() {
	rows=$((rows + 1))
	[ "$1" != MISS ] || missed=$((missed + 1))
}

sizes_in_mib() {
	local n
	for n; do
		if [ "$n" = - ]; then echo -; else echo "$(mib "$n" 1)"; fi
	done
}

# print_row NAME TIME-TARGET SIZE-TARGET NUMBER-OF-QEMU-COMMANDS
print_row() {
	local name=$1 best ratio our_size their_size size_ratio=- word
	best=$name.qemu$(fastest "$name" "$4")
	ratio=$(printf %.3f "$(pairwise "$name.qdedup" "$best")")
	our_size=$(cat "results/$name.qdedup.size")
	their_size=$(sort -n "results/$name".qemu*.size | head -n 1)
	[ "$our_size" = - ] || size_ratio=$(awk -v a="$our_size" -v b="$their_size" 'BEGIN { printf "%.3f", a / b }')
	word=$(verdict "$ratio" "$2" "$size_ratio" "$3")
	count "$word"
	# shellcheck disable=SC2046  # two words
	line "$name" "$(printf %.3f "$(column 1 "$best" | median)")" \
		"$(printf %.3f "$(column 1 "$name.qdedup" | median)")" "$ratio" "$2" "$size_ratio" "$3" "$word" \
		"$(mib "$(column 2 "$best" | median)" 1024)" "$(mib "$(column 2 "$name.qdedup" | median)" 1024)" \
		$(sizes_in_mib "$their_size" "$our_size")
}

# row NAME TIME-TARGET SIZE-TARGET SOURCES OUR-COMMAND QEMU-COMMAND...
# Targets are ratios, at most; "-" is none.  The output must equal the first of SOURCES.
row() {
	local name=$1 time_target=$2 size_target=$3 sources=$4
	wanted "$name" || return 0
	shift 4
	# shellcheck disable=SC2086  # a list of words
	need $sources
	take_turns "$name" "${sources%% *}" "$@"
	print_row "$name" "$time_target" "$size_target" $(($# - 1))
}

# convert_rows NAME TIME-TARGET SIZE-TARGET SOURCE OUR-OPTIONS QEMU-OPTIONS: to qcow2, in both cache modes
convert_rows() {
	local mode
	for mode in unsafe writeback; do
		row "$1-$mode" "$2" "$3" "$4" \
			"qdedup convert -q -t $mode $5 $4 out.qcow2" \
			"qemu-img convert -f raw -O qcow2 -t $mode $6 $4 out.qcow2" \
			"qemu-img convert -f raw -O qcow2 -t $mode -W -m 8 $6 $4 out.qcow2"
	done
}

# memory_row NAME MIB SOURCE OPTIONS: with --memory=MIB the process stays below it, and writes the same
memory_row() {
	local name=$1 most=$2 source=$3 options=$4 i peak word same=yes
	wanted "$name" || return 0
	need "$source"
	measured "$name.free" "qdedup convert -q -t unsafe $options $source out.qcow2"
	judge_output "$source"
	mv out.qcow2 free.qcow2
	for ((i = 0; i < 3; i++)); do
		measured "$name.tight" "qdedup convert -q -t unsafe --memory=${most}M $options $source out.qcow2"
		cmp -s free.qcow2 out.qcow2 || same=NO
	done
	rm -f out.qcow2 free.qcow2
	peak=$(column 2 "$name.tight" | sort -n | tail -n 1)
	word=$(verdict "$peak" $((most * 1024)))
	[ "$same" = yes ] || word=MISS
	count "$word"
	printf '%-29s peak RSS %s KiB, at most %s; %s s; without the ceiling %s KiB, %s s; same output: %s  %s\n' \
		"$name" "$peak" $((most * 1024)) "$(column 1 "$name.tight" | median)" \
		"$(column 2 "$name.free")" "$(column 1 "$name.free")" "$same" "$word"
}

# ---- the machine ---------------------------------------------------------------------------

machine() {
	local model
	model=$(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -n 1)
	echo "# $(date -u +%F); $(nproc) x ${model:-$(uname -m)}; $(awk '/^MemTotal/ { printf "%.0f", $2 / 1048576 }' \
		/proc/meminfo) GiB; Linux $(uname -r); $(df --output=fstype . | tail -n 1); load $(cut -d ' ' -f 1 /proc/loadavg)"
	echo "# $(qemu-img --version | head -n 1); $(qdedup --version | head -n 1)"
	echo "# sources of $(mib "$size" 1) MiB; medians of $runs turns or more"
	[ "$size" -ge 1073741824 ] || echo "# less than 1 GiB: mostly start-up is measured, so misses mean little"
}

room() {
	local free
	free=$(df --output=avail -B1 . | tail -n 1)
	[ "$free" -ge $((7 * size)) ] ||
		die "$(dirname "$work"): $(mib "$free" 1) MiB free, $(mib $((7 * size)) 1) needed; set BENCH_DIR or SIZE"
}

exec 3>&1
room
machine
headline

# ---- the rows and their targets ------------------------------------------------------------

convert_rows uniq 0.75 - uniq.raw "" ""
rm -f uniq.raw

convert_rows dup50 0.45 - dup50.raw "" ""
convert_rows dup50-sha256 1.0 - dup50.raw "--hash=sha256" ""
convert_rows dup50-sha256-trust 1.0 - dup50.raw "--hash=sha256 --trust-hash" ""
rm -f dup50.raw

convert_rows empty 1.0 - empty.raw "" ""
convert_rows new 1.0 - new.raw "" ""
rm -f empty.raw new.raw

convert_rows ext4 - - ext4.raw "" ""
convert_rows ext4-4k - - ext4.raw "-o cluster_size=4K" "-o cluster_size=4K"
convert_rows ext4-zlib 0.25 1.07 ext4.raw "-c" "-c"
convert_rows ext4-zlib9 1.0 1.0 ext4.raw "-c --compress-level=9" "-c"
convert_rows ext4-zstd - - ext4.raw "-c -o compression_type=zstd" "-c -o compression_type=zstd"

for mode in unsafe writeback; do
	row "to-raw-$mode" 1.0 - ext4.qcow2 \
		"qdedup convert -q -t $mode -O raw ext4.qcow2 out.raw" \
		"qemu-img convert -O raw -t $mode ext4.qcow2 out.raw" \
		"qemu-img convert -O raw -t $mode -W -m 8 ext4.qcow2 out.raw"
done
row compare 1.0 - "ext4.raw ext4.qcow2" \
	"qdedup compare -f raw -F qcow2 ext4.raw ext4.qcow2" \
	"qemu-img compare -f raw -F qcow2 ext4.raw ext4.qcow2"
row map 1.0 - ext4.qcow2 \
	"qdedup map --output=json ext4.qcow2" \
	"qemu-img map --output=json ext4.qcow2"
row map-4k 1.0 - ext4.4k.qcow2 \
	"qdedup map --output=json ext4.4k.qcow2" \
	"qemu-img map --output=json ext4.4k.qcow2"
rm -f ext4.*

memory_row memory-64M 64 twice.raw "-o cluster_size=4K"

echo
[ "$rows" -gt 0 ] || die "no row matches CASES=$cases"
if [ "$missed" -gt 0 ]; then
	echo "$missed of $rows rows MISS a target"
	exit 1
fi
echo "$rows rows, no target missed"
