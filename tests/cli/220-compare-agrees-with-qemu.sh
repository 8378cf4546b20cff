#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# compare says what qemu-img compare says of every pair of images: verdict, exit status, first offset.
. "$(dirname "$0")/kinds.sh"

# agrees A B [OPTION]...
agrees() {
	local a=$1 b=$2 f=qcow2 g=qcow2 status=0 theirs ours
	shift 2
	case $a in *.raw) f=raw ;; esac
	case $b in *.raw) g=raw ;; esac
	theirs=$("$QIMG" compare "$@" -f $f -F $g "$a" "$b" 2>&1) || status=$?
	ours=$(exits "$status" "$QDEDUP" compare "$@" -f $f -F $g "$a" "$b" 2>/dev/null) ||
		die "compare $* $a $b: qemu-img exits $status"
	theirs=$(grep -Eo '[Oo]ffset [0-9]+' <<<"$theirs" || true)
	ours=$(grep -Eo '[Oo]ffset [0-9]+' <<<"$ours" || true)
	case " $* " in
	# qemu-img 7.2 takes "the run ends with the disk" for a difference of allocation
	*' -s '*) [ "${theirs#* }" = "${ours#* }" ] || [ "${theirs#* }" -lt "${ours#* }" ] ;;
	*) [ "$theirs" = "$ours" ] ;;
	esac || die "compare $* $a $b: qemu-img says '$theirs', qdedup '$ours'"
}

make_kinds
some=(plain.raw source.raw odd.raw empty.raw default c512 c2m sub nothing size0 packed-zlib-64k packed-mixed snapshots \
	chain/top short-backing external prealloc-metadata)
for a in "${some[@]}"; do
	for b in "${some[@]}"; do
		agrees "$a" "$b"
		agrees "$a" "$b" -s
	done
done

# the same disk in every format is identical
for image in "${KINDS[@]}"; do
	case $image in
	huge | *.raw) continue ;;
	esac
	qemu-img convert -O raw "$image" copy.raw
	agrees "$image" copy.raw
	agrees copy.raw "$image"
	agrees "$image" "$image" -s
done

# the first of many differences, whoever finds one first
mkdata a.raw 24M 1 random
for threads in 1 2 5; do
	for at in 0 1048575 1048576 13000000 25165823; do
		cp a.raw b.raw
		for ((i = at; i < 24 << 20; i += 999999)); do
			printf '\0\1\2' | dd of=b.raw bs=1 seek="$i" conv=notrunc status=none
		done
		truncate -s 24M b.raw
		exits 1 "$QDEDUP" compare --threads=$threads --output=json a.raw b.raw >j
		is "$(cmp a.raw b.raw | sed 's/.*[er] \([0-9]*\), line.*/\1/')" "$(json j 'd["byte-offset"] + 1')"
		is "$(json j 'd["byte-offset"] // 512 * 512')" "$(json j 'd["offset"]')"
	done
done
