#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# map gives the entries of qemu-img map, for every kind of image.
. "$(dirname "$0")/kinds.sh"

# agrees IMAGE [OPTION]...
agrees() {
	local image=$1
	shift
	"$QIMG" map --output=json "$@" "$image" >qemu.json
	ok "$QDEDUP" map --output=json "$@" "$image" >ours.json
	python3 - "$image $*" <<-'END' || die "map of $image differs"
	import json, sys
	q, o = json.load(open("qemu.json")), json.load(open("ours.json"))
	for e in q + o:
	    e.pop("compressed", None)
	for i, (a, b) in enumerate(zip(q, o)):
	    if a != b:
	        sys.exit(f"{sys.argv[1]}: entry {i}: qemu-img {a}, qdedup {b}")
	if len(q) != len(o):
	    sys.exit(f"{sys.argv[1]}: qemu-img has {len(q)} entries, qdedup {len(o)}")
	END
}

make_kinds
for image in "${KINDS[@]}"; do
	case $image in
	*.raw) format=raw ;;
	*) format=qcow2 ;;
	esac
	agrees "$image" -f $format
	agrees "$image" -f $format --start-offset=301k --max-length=1500k
	agrees "$image" -f $format --start-offset=1234567
	agrees "$image" -f $format --max-length=0
done
agrees default -f qcow2 --start-offset=1G

# a compressed cluster is named so, and has no offset
ok "$QDEDUP" map --output=json packed-zlib-64k >j
is true "$(json j 'all(e["compressed"] and "offset" not in e for e in d if e["data"])')"
is true "$(json j 'any(e["compressed"] for e in d)')"
is false "$(ok "$QDEDUP" map --output=json default | json - 'any(e["compressed"] for e in d)')"

ok "$QDEDUP" map overlay >text
grep -Eq '^0 +0x10000 +data +0x[0-9a-f]+ +base$' text || die "no line for the backing file in: $(cat text)"

fails 1 "$QDEDUP" map nowhere
says nowhere
fails 1 "$QDEDUP" map --start-offset=1MB default
says start-offset
fails 1 "$QDEDUP" map --untrusted overlay
says untrusted
cp default broken
python3 - <<-'END'
import struct
with open("broken", "r+b") as f:
    f.seek(40)
    l1, = struct.unpack(">Q", f.read(8))
    f.seek(l1)
    f.write(struct.pack(">Q", 1 << 63 | 1 << 50))
END
fails 1 "$QDEDUP" map --output=json broken
says 'L1 entry 0'
