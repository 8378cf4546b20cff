#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# check looks at table, journal and pin, without changing its status for them; --repair drops a damaged
# index, or makes it anew where a part of it is damaged, and does nothing else.
. "$(dirname "$0")/rehash-lib.sh"

mkdup base.raw 4M 64K 24 519
ok "$QDEDUP" convert -q -t unsafe -o cluster_size=4K base.raw img.qcow2
ok "$QDEDUP" rehash -q img.qcow2

# checked IMG STATE ERRORS
checked() {
	ok "$QDEDUP" check --output=json "$1" >check.json
	is "$2" "$(json check.json 'd["index"]["state"]')" "$1: state"
	is "$3" "$(json check.json 'd["index"]["errors"]')" "$1: errors"
}
checked img.qcow2 valid 0
is '{}' "$(json check.json 'd["finding-counts"]')" 'findings'

# repairs IMG VERB: after the repair there is no index, or one without fault, and all else is as it was
repairs() {
	local img=$1
	layers "$img" before
	cp "$img" dry.qcow2
	ok "$QDEDUP" check -n "$img" >text
	grep -q "would be $2" text || die "$img: no word of that it would be $2"
	cmp "$img" dry.qcow2 || die "$img: a dry run wrote"
	ok "$QDEDUP" check --repair=leaks -q "$img"
	cmp "$img" dry.qcow2 || die "$img: giving back leaks wrote"
	ok "$QDEDUP" check --repair "$img" >text
	check_clean -q "$img"
	same_layers "$img" before
	if [ $2 = rebuilt ]; then
		checked "$img" valid 0
		judge_index "$img"
		return
	fi
	grep -q 'qdedup rehash' text || die "$img: no word of rehash"
	checked "$img" absent 0
	# Nothing of it is kept by the pin.
	is "$clusters" "$(walk --get pinned "$img")" "$img: pinned clusters"
	rehash "$img"
	checked "$img" valid 0
}
cp img.qcow2 plain.qcow2
ok "$QDEDUP" rehash -q --drop plain.qcow2
clusters=$(walk --get pinned plain.qcow2)
index regions img.qcow2 >regions
while read -r name off length; do
	cp img.qcow2 hurt.qcow2
	poke hurt.qcow2 $((off + length / 2)) 8 0x0123456789abcdef
	case $name in
	block*)
		checked hurt.qcow2 valid 1
		repairs hurt.qcow2 rebuilt
		;;
	*)
		checked hurt.qcow2 stale 1
		repairs hurt.qcow2 dropped
		;;
	esac
done <regions

# What a guest did is no damage; with the bit set by hand the records of freed clusters are.
cp img.qcow2 freed.qcow2
qemu-io -c 'write -s base.raw 2000K 64k' -c 'write -P 7 2M 4k' freed.qcow2 >/dev/null
ok "$QDEDUP" rehash -q freed.qcow2
qemu-io -d unmap -c 'discard 2000k 160k' freed.qcow2 >/dev/null
checked freed.qcow2 partial 0
poke freed.qcow2 88 8 $((1 << 48))
ok "$QDEDUP" check --output=json freed.qcow2 >check.json
[ "$(json check.json 'd["finding-counts"]["index-record"]')" -ge 16 ] || die 'too few records of freed clusters'
repairs freed.qcow2 rebuilt

# A repair of counts and flags alone leaves the index as it is; one of tables makes it partial, and what
# verify then says is right.
cp img.qcow2 low.qcow2
table=$(($(peek low.qcow2 "$(peek low.qcow2 40 8)" 8) & 0x00fffffffffffe00))
poke low.qcow2 $table 8 $(($(peek low.qcow2 $table 8) ^ (1 << 63)))
exits 2 "$QDEDUP" check -q low.qcow2
ok "$QDEDUP" check --repair -q low.qcow2
is 1 "$(index bit low.qcow2)" 'feature bit after a flag was set'
cp img.qcow2 lost.qcow2
poke lost.qcow2 $table 8 "$(peek lost.qcow2 48 8)"
exits 2 "$QDEDUP" check -q lost.qcow2
exits 0 "$QDEDUP" check --repair -q lost.qcow2
is 0 "$(index bit lost.qcow2)" 'feature bit after a table was changed'
checked lost.qcow2 partial 0
judge_index lost.qcow2
rehash lost.qcow2
checked lost.qcow2 valid 0

# No index, a raw file, a damaged image.
qemu-img convert -O qcow2 base.raw none.qcow2
checked none.qcow2 absent 0
