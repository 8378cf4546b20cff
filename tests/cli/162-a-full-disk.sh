#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A disk that fills up, a file size limit: a message, no partial output, the old target untouched.
. "$(dirname "$0")/convert-lib.sh"

mkdata in.raw 8M 162 random
mkdata zeros.raw 64M 1 zeros
mkdir disk
if [ "$(id -u)" -eq 0 ] && mount -t tmpfs -o size=3M,mode=755 none disk 2>/dev/null; then
	at_exit "cd / && umount '$PWD/disk'"
	cd disk
	echo precious >old.qcow2
	echo precious >old.raw
	before=$(listing old.*)
	for target in new.qcow2 old.qcow2 new.raw old.raw; do
		for c in '' -c; do
			[ "$c${target#*.}" != -craw ] || continue
			# shellcheck disable=SC2086
			fails 1 "$QDEDUP" convert $c ../in.raw $target
			says "$target" 'No space left on device'
			is "$before" "$(listing old.*)" "files after $target"
		done
	done
	# with room for it, it goes through, and what fills up last is metadata
	ok "$QDEDUP" convert ../zeros.raw old.qcow2
	check_clean -q old.qcow2
	for ((size = 2700; size <= 3072; size += 31)); do
		head -c "${size}K" ../in.raw >../part.raw
		if "$QDEDUP" convert ../part.raw new.qcow2 2>../err; then
			check_clean -q new.qcow2
			same ../part.raw new.qcow2 raw qcow2
		else
			grep -q 'No space left' ../err || die "size $size: $(cat ../err)"
			[ ! -e new.qcow2 ] || die "size $size: partial output"
		fi
		rm -f new.qcow2
	done
	grep -q 'No space left' ../err || die "the disk never filled up"
	cd ..
fi

echo precious >old.qcow2
before=$(listing old.qcow2)
(
	ulimit -f 1000
	trap '' XFSZ
	fails 1 "$QDEDUP" convert in.raw old.qcow2
	says old.qcow2 'File too large'
	fails 1 "$QDEDUP" convert in.raw new.raw
	says new.raw 'File too large'
)
is "$before" "$(listing old.qcow2)" "files after the limit"
