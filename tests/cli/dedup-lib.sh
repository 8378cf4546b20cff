# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What the tests of `qdedup dedup` (700 to 719, 728) share, on top of convert-lib.sh.
#
#	layers IMG DIR         the content of the active layer and of each snapshot but the pin, by stock QEMU
#	same_layers IMG DIR    are they what they were?
#	distinct_in DIR CS     distinct non-zero clusters in all layers together
#	in_place IMG CS [OPTION...]   deduplicates IMG: what holds of every such run; the JSON is in out.json
. "$(dirname "${BASH_SOURCE[0]}")/convert-lib.sh"

_snapshots() {
	qemu-img info --output=json "$1" |
		$_python -c 'import json, sys
for s in json.load(sys.stdin).get("snapshots", []):
    if s["name"] != "qdedup":
        print(s["id"])'
}

layers() {
	local id
	rm -rf "$2"
	mkdir "$2"
	qemu-img convert -O raw "$1" "$2/active"
	for id in $(_snapshots "$1"); do
		qemu-img convert -l "snapshot.id=$id" -O raw "$1" "$2/$id"
	done
}

same_layers() {
	local file
	layers "$1" now
	is "$(ls "$2")" "$(ls now)" "layers of $1"
	for file in "$2"/*; do
		cmp "$file" "now/${file##*/}" || die "$1: layer ${file##*/} has changed"
	done
}

# Clusters that a backing file gives are not the image's own: `in_place` does not count with one.
distinct_in() {
	$_python - "$1" "$(bytes "$2")" <<-'END'
	import os, sys
	folder, cluster = sys.argv[1], int(sys.argv[2])
	zero, seen = bytes(cluster), set()
	for name in os.listdir(folder):
	    with open(os.path.join(folder, name), "rb") as f:
	        while block := f.read(cluster):
	            seen.add(block.ljust(cluster, b"\0"))
	seen.discard(zero)
	print(len(seen))
	END
}

in_place() {
	local img=$1 before freed
	shift 2
	layers "$img" before
	before=$(($(stat -c %b "$img") * 512))
	ok "$QDEDUP" dedup --output=json "$@" "$img" >out.json
	check_clean -q "$img"
	ok "$QDEDUP" check -q "$img"
	same_layers "$img" before
	walk "$img" >/dev/null || die "$img breaks the rules of qcow2walk.py"
	freed=$(json out.json 'd["bytes-freed"]')
	[ "$freed" -eq 0 ] || [ $((before - $(stat -c %b "$img") * 512)) -ge "$freed" ] ||
		die "$img: $freed bytes freed, it says, but it took $before and takes $(($(stat -c %b "$img") * 512))"
	is "$(walk --get data "$img")" "$(json out.json 'd["data-clusters"]')" "data clusters that are reported"
}

# deduplicates IMG, which has no backing file: as many clusters as there are contents
in_place_exactly() {
	in_place "$@"
	is "$(distinct_in before "$2")" "$(walk --get data "$1")" "data clusters of $1"
}
