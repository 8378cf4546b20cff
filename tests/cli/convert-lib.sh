# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What the tests of `qdedup convert` (100 to 199) share, on top of lib.sh.
#
#	walk ARG...            qcow2walk.py: the rules of a deduplicated image, or its numbers
#	counted RAW CS [CAP]   count.py: sets data, references, shared, max_share
#	mkdup FILE SIZE UNIT DISTINCT SEED   units drawn from DISTINCT contents, half of which
#	                       compress, and zeros
#	noise FILE SIZE SEED   bytes that do not compress
#	scribble IMG [OPTION...]   overwrites parts of an image: data, zeros, discards
#	content IMG [OPTION...]    qemu-img's idea of its content, in content.raw
#	to_raw IMG [OPTION...]     qdedup's raw equals content.raw
#	from IMG [OPTION...]       to_raw, and to qcow2 at every cluster size and compression
#	deduplicated IMG RAW CS [CAP]   everything that holds for a fresh output of RAW
#	poke FILE OFFSET WIDTH VALUE, peek FILE OFFSET WIDTH   big-endian numbers
#	hostile STATUS CMD...  as fails, within seconds and bounded memory
#	hold NAME CMD...       a program that keeps running until release NAME
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

_cli=$_top/tests/cli
# A version manager's wrapper of python3 takes ten times as long as python3 itself.
_python=/usr/bin/python3
[ -x $_python ] || _python=$(command -v python3)
python3() {
	"$_python" "$@"
}
slower=${QD_TIMES_SLOWER:-1}

walk() {
	"$_python" "$_cli/qcow2walk.py" "$@"
}

# shellcheck disable=SC2034  # for the tests
counted() {
	local numbers
	numbers=$("$_python" "$_cli/count.py" "$1" "$(bytes "$2")" "${3:-0}")
	read -r data references shared max_share <<<"$numbers"
}

bytes() {
	case $1 in
	*K) echo $((${1%K} << 10)) ;;
	*M) echo $((${1%M} << 20)) ;;
	*) echo "$1" ;;
	esac
}

mkdup() {
	"$_python" - "$1" "$(bytes "$2")" "$(bytes "$3")" "$4" "$5" <<-'END'
	import random, sys
	name, (size, unit, distinct, seed) = sys.argv[1], map(int, sys.argv[2:])
	rng = random.Random(seed)
	def content(i):
	    return rng.randbytes(unit) if i % 2 else rng.randbytes((unit + 1) // 2).hex().encode()[:unit]
	contents = [content(i) for i in range(distinct)] + [bytes(unit)]
	with open(name, "wb") as f:
	    for off in range(0, size, unit):
	        f.write(rng.choice(contents)[:size - off])
	END
}

noise() {
	"$_python" -c 'import random, sys; sys.stdout.buffer.write(random.Random(int(sys.argv[2])).randbytes(int(sys.argv[1])))' \
		"$(bytes "$2")" "$3" >"$1"
}

# Whole clusters and parts of them, at places that hit every cluster size.
scribble() {
	local img=$1
	shift
	# shellcheck disable=SC2094
	qemu-io -d unmap "$@" "$img" >/dev/null <<-'END'
	write -P 0xa1 0 128k
	write -P 0xa1 300k 64k
	write -P 0xb2 1049088 1024
	write -P 0 1200k 100k
	write -z 1500k 200k
	write -z -u 1800k 64k
	discard 2M 192k
	write -P 0xa1 2500k 4k
	write -P 0xc3 2101248 512
	write -z 2105856 1536
	write -P 0xa1 3M 128k
	END
}

content() {
	local img=$1
	shift
	rm -f content.raw
	qemu-img convert "$@" -O raw "$img" content.raw
}

to_raw() {
	local img=$1
	shift
	rm -f out.raw
	ok "$QDEDUP" convert -t unsafe "$@" "$img" out.raw
	is "$(stat -c %s content.raw)" "$(stat -c %s out.raw)" "size of $img in raw"
	cmp content.raw out.raw || die "$img: raw content differs from qemu-img's"
}

from() {
	local img=$1 cs how
	shift
	to_raw "$img" "$@"
	for cs in 512 4K 64K 2M; do
		for how in plain zlib zstd; do
			rm -f out.qcow2
			case $how in
			plain) ok "$QDEDUP" convert -t unsafe "$@" -o cluster_size=$cs "$img" out.qcow2 ;;
			*) ok "$QDEDUP" convert -t unsafe "$@" -c -o cluster_size=$cs,compression_type=$how "$img" out.qcow2 ;;
			esac
			check_clean -q out.qcow2
			same content.raw out.qcow2 raw qcow2
		done
	done
}

deduplicated() {
	local img=$1 raw=$2 cs=$3 cap=${4:-0} numbers got_data got_references got_shared got_max
	check_clean -q "$img"
	same "$raw" "$img" raw qcow2
	counted "$raw" "$cs" "$cap"
	numbers=$(walk --fresh --get data --get references --get shared --get max-share "$img") ||
		die "$img breaks the rules of qcow2walk.py"
	read -r got_data got_references got_shared got_max <<<"${numbers//$'\n'/ }"
	is "$data" "$got_data" "data clusters of $img"
	is "$references" "$got_references" "references of $img"
	is "$shared" "$got_shared" "shared clusters of $img"
	is "$max_share" "$got_max" "most references to a cluster of $img"
}

poke() {
	local hex
	printf -v hex '%0*x' $(($3 * 2)) "$4"
	# shellcheck disable=SC2001
	printf '%b' "$(sed 's/../\\x&/g' <<<"$hex")" | dd of="$1" bs=1 seek="$(($2))" conv=notrunc status=none
}

peek() {
	local hex
	hex=$(dd if="$1" bs=1 skip="$(($2))" count="$3" status=none | od -An -v -tx1 | tr -d ' \n')
	echo $((16#$hex))
}

# An instrumented build reserves terabytes of address space.
hostile() {
	fails "$1" timeout -s KILL $((5 * slower)) "$_cli/bounded.sh" "${@:2}"
}

# hold NAME CMD...: CMD reads commands from its stdin; `tell NAME TEXT` sends one, `release` ends it.
declare -A _held_pid _held_fd
hold() {
	local name=$1 fd
	shift
	mkfifo "$name.in"
	(
		for fd in "${_held_fd[@]}"; do
			exec {fd}>&-
		done
		exec "$@"
	) <"$name.in" >"$name.out" 2>&1 &
	_held_pid[$name]=$!
	at_exit "kill $! 2>/dev/null"
	exec {fd}>"$name.in"
	_held_fd[$name]=$fd
}

tell() {
	printf '%s\n' "$2" >&"${_held_fd[$1]}"
}

# wait_for CMD...: until CMD succeeds
wait_for() {
	local n
	for ((n = 0; n < 200 * slower; n++)); do
		! "$@" >/dev/null 2>&1 || return 0
		sleep 0.05
	done
	die "waited in vain for: $*"
}

release() {
	local fd=${_held_fd[$1]} status=0
	exec {fd}>&-
	wait "${_held_pid[$1]}" || status=$?
	unset "_held_fd[$1]"
	rm -f "$1.in"
	return $status
}

# twin_write IMG RAW SEED CLUSTER COUNT: the same random writes to a qcow2 image and its raw twin
twin_write() {
	local size list
	size=$(stat -c %s "$2")
	"$_python" "$_cli/writes.py" "$3" "$size" "$(bytes "$4")" "$5" qcow2.list packed.list raw.list
	for list in qcow2 packed raw; do
		case $list in
		raw) qemu-io -d unmap -f raw "$2" ;;
		*) qemu-io -d unmap -f qcow2 "$1" ;;
		esac <$list.list >qemu-io.log 2>&1 || die "seed $3, $list: qemu-io: $(grep -m 3 -i 'fail\|error' qemu-io.log)"
	done
}

# feed NAME FILE: the file into the stdin of what `hold` keeps running; all but the last 64 KiB are read then
feed() {
	cat "$2" >&"${_held_fd[$1]}" || true
}

# What stands in the directory, with content, mode and inode: to be the same after a failure.
listing() {
	local f
	find . -mindepth 1 ! -name '*.in' ! -name '*.out' -printf '%P %i %m %l\n' | sort
	for f in "$@"; do
		sha256sum "$f"
	done
}
