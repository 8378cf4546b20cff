#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# After a guest wrote, rehash reads what the pin does not protect and no more, and what it makes is
# what a complete one makes.
. "$(dirname "$0")/rehash-lib.sh"

mkdup base.raw 4M 64K 24 511
for options in cluster_size=512 cluster_size=4K cluster_size=64K cluster_size=16K,extended_l2=on -c; do
	img=x${options//[,=]/_}.qcow2
	if [ "$options" = -c ]; then
		ok "$QDEDUP" convert -q -t unsafe -c -o cluster_size=4K base.raw "$img"
	else
		ok "$QDEDUP" convert -q -t unsafe -o "$options" base.raw "$img"
	fi
	rehash "$img"
	is 0 "$(value clusters-read)" "$img: read of a valid index"
	for user in none own; do
		[ $user = none ] || qemu-img snapshot -c own "$img"
		scribble "$img"
		is 0 "$(index bit "$img")" "$img: feature bit after QEMU wrote"
		layers "$img" before
		expected=$(index unproven "$img")
		cp "$img" full.qcow2
		rehash "$img"
		is partial "$(value previous-state)" "$img: state"
		is "$expected" "$(value clusters-read)" "$img: clusters read"
		[ "$expected" -lt "$(value clusters)" ] || die "$img: everything was read"
		ok "$QDEDUP" rehash -q --drop full.qcow2
		ok "$QDEDUP" rehash --output=json full.qcow2 >full.json
		is "$(value clusters)" "$(json full.json 'd["clusters-read"]')" "$img: read of a complete rehash"
		index records "$img" >partial.txt
		index records full.qcow2 >full.txt
		cmp partial.txt full.txt || die "$img: partial and full rehash differ"
		[ -s full.txt ] || die "$img: no records"
		same_layers "$img" before
		cp "$img" again.qcow2
		rehash "$img"
		is false "$(value written)" "$img: nothing changed"
		cmp "$img" again.qcow2 || die "$img: rehash wrote though nothing changed"
	done
done

# The same bytes with any number of threads and little memory.
for how in --threads=1 --threads=7 --memory=4M; do
	cp full.qcow2 how.qcow2
	ok "$QDEDUP" rehash -q --hash=blake2b $how how.qcow2
	[ -e first.qcow2 ] || cp how.qcow2 first.qcow2
	cmp first.qcow2 how.qcow2 || die "$how: other bytes"
done
