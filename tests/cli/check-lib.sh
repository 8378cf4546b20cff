# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What tests of check share, on top of convert-lib.sh, which it brings along.
#
#	agrees IMG [STATUS]    qdedup check and qemu-img check: same exit status (and that
#	                       one, when given), same numbers
#	QEMU_OPTS              an array: how qemu-img must open IMG, instead of -f qcow2 IMG
#	damage IMG ARGS...     tests/tools/damage.c
#	finds IMG TYPE[=N]...  exactly these kinds of findings (not counting notes), N items
#	break_counts IMG HOW   makes refcounts too low (a row of BAD_COUNTS), of an image of at least
#	                       4 MiB of data in clusters of 1 KiB
#	leaves_alone IMG CMD.. CMD fails over IMG's refcounts, names the repair and writes nothing

. "$(dirname "${BASH_SOURCE[0]}")/convert-lib.sh"
QEMU_OPTS=()

# What differs between theirs.json and ours.json of what must agree.
_differs() {
	"$_python" - <<-'END'
	import json
	keys = ("check-errors", "image-end-offset", "total-clusters", "allocated-clusters",
	        "fragmented-clusters", "compressed-clusters", "corruptions", "leaks")
	theirs, ours = (json.load(open(f)) for f in ("theirs.json", "ours.json"))
	for k in keys:
	    if theirs.get(k, 0) != ours.get(k, 0):
	        print(f"{k}: {theirs.get(k, 0)} there, {ours.get(k, 0)} here")
	END
}

agrees() {
	local img=$1 theirs=0 ours=0
	if [ ${#QEMU_OPTS[@]} -eq 0 ]; then
		qemu-img check --output=json -f qcow2 "$img" >theirs.json 2>theirs.err || theirs=$?
	else
		qemu-img check --output=json "${QEMU_OPTS[@]}" >theirs.json 2>theirs.err || theirs=$?
	fi
	"$QDEDUP" check --output=json "$img" >ours.json 2>ours.err || ours=$?
	[ "$theirs" -eq "$ours" ] ||
		die "$img: qemu-img check exits $theirs, qdedup $ours: $(head -n 3 theirs.err ours.err; cat ours.json)"
	is '' "$(_differs)" "$img"
	[ $# -lt 2 ] || is "$2" "$ours" "$img: exit status"
}

damage() {
	"$QD_TOOLS/damage" "$@"
}

finds() {
	local img=$1
	shift
	"$QDEDUP" check --output=json "$img" >ours.json 2>ours.err || true
	"$_python" - "$img" "$@" <<-'END' || die "$img: not what was expected"
	import json, sys
	d = json.load(open("ours.json"))
	notes = {f["type"] for f in d["findings"] if f["severity"] == "note"}
	got = {k: n for k, n in d["finding-counts"].items() if k not in notes}
	want = dict((a.split("=") + [None])[:2] for a in sys.argv[2:])
	good = set(got) == set(want) and all(n is None or int(n) == got[k] for k, n in want.items())
	if not good:
	    print("expected", want, "found", got)
	sys.exit(not good)
	END
}

# Zeroed: clusters in use look free.  Lost: so do all of a refcount block.  Twice: one cluster, two
# entries, refcount 1.  Table: an entry names an L2 table.
# shellcheck disable=SC2034  # for the tests
BAD_COUNTS='zeroed lost twice table'
break_counts() {
	local k list=()
	case $2 in
	zeroed)
		for ((k = 10; k < 20; k++)); do
			list+=("refcount[host[${k}K]] = 0")
		done ;;
	lost) list=('reftable[1] = 0') ;;
	twice) list=('l2[1M] = l2[2M]') ;;
	table) list=('l2[1M] = table[0] | COPIED') ;;
	esac
	damage "$1" "${list[@]}"
}

leaves_alone() {
	local img=$1
	shift
	cp "$img" untouched
	fails 1 "$@"
	says 'not consistent' 'qdedup check --repair'
	cmp "$img" untouched || die "$* changed the image"
}

# break_half IMAGE WHAT: every second refcount 0 (counts), or every second L2 entry without COPIED (flags)
break_half() {
	"$_python" - "$1" "$2" <<-'END'
	import struct, sys
	f = open(sys.argv[1], "r+b")
	h = f.read(104)
	bits, = struct.unpack(">I", h[20:24])
	n_l1, l1, table, n = struct.unpack(">IQQI", h[36:60])
	size = 1 << bits

	def words(off, nbytes):
	    f.seek(off)
	    return [w & 0x00fffffffffffe00 for w, in struct.iter_unpack(">Q", f.read(nbytes))]

	if sys.argv[2] == "counts":
	    for block in filter(None, words(table, n * size)):
	        f.seek(block)
	        f.write(bytes([0, 1, 0, 0]) * (size // 4))
	    f.seek(72)
	    f.write(struct.pack(">Q", 1))
	else:
	    for table in filter(None, words(l1, n_l1 * 8)):
	        f.seek(table)
	        entries = bytearray(f.read(size))
	        for i in range(0, size, 16):
	            entries[i] &= 0x7f
	        f.seek(table)
	        f.write(entries)
	END
}
