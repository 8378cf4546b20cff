#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# info's JSON has every key and value of qemu-img's, for every kind of image.
. "$(dirname "$0")/kinds.sh"

# agrees IMAGE [OPTION]...
agrees() {
	local image=$1
	shift
	"$QIMG" info -U --output=json "$@" "$image" >qemu.json
	ok "$QDEDUP" info -U --output=json "$@" "$image" >ours.json
	python3 - "$image" <<-'END' || die "info of $image differs"
	import json, sys
	def same(path, q, o, external):
	    if isinstance(q, dict) and isinstance(o, dict):
	        extra = set(o) - set(q) - {"shared-clusters", "index"}
	        if extra or set(q) - set(o):
	            sys.exit(f"{path}: keys differ: {sorted(set(q) ^ set(o))}")
	        for k in q:
	            # qemu-img adds the external data file, which info does not open
	            if k != "actual-size" or not external:
	                same(f"{path}.{k}", q[k], o[k], external)
	    elif isinstance(q, list) and isinstance(o, list) and len(q) == len(o):
	        for i, (a, b) in enumerate(zip(q, o)):
	            same(f"{path}[{i}]", a, b, external)
	    elif q != o or type(q) != type(o):
	        sys.exit(f"{path}: qemu-img {q!r}, qdedup {o!r}")
	q, o = json.load(open("qemu.json")), json.load(open("ours.json"))
	same(sys.argv[1], q, o, "external" in sys.argv[1])
	END
}

make_kinds
for image in "${KINDS[@]}"; do
	case $image in
	*.raw) agrees "$image" -f raw ;;
	*) agrees "$image" ;;
	esac
done
for image in chain/top overlay short-backing sub-overlay base; do
	agrees "$image" --backing-chain
done

# encrypted images need no key
make_luks luks
qemu-img create -q --object secret,id=s,data=abc -f qcow2 -o encrypt.format=aes,encrypt.key-secret=s aes 3M
agrees luks
agrees aes

# bitmaps, and what is left of them after a writer that does not know them
kind bitmaps
qemu-img bitmap --add bitmaps one
qemu-img bitmap --add --disable -g 4k bitmaps two
agrees bitmaps
printf '\0\0\0\0\0\0\0\0' | dd of=bitmaps bs=1 seek=88 conv=notrunc status=none
"$QDEDUP" info --output=json bitmaps >j
is False "$(python3 -c 'import json; print("bitmaps" in json.load(open("j"))["format-specific"]["data"])')"

# dirty and corrupt images; names that are not files
kind dirty -o lazy_refcounts=on
printf '\0\0\0\0\0\0\0\1' | dd of=dirty bs=1 seek=72 conv=notrunc status=none
agrees dirty
kind corrupt
printf '\0\0\0\0\0\0\0\2' | dd of=corrupt bs=1 seek=72 conv=notrunc status=none
agrees corrupt
qemu-img create -q -u -f qcow2 -b nbd://localhost/x -F raw protocol 1M
agrees protocol
qemu-img create -q -u -f qcow2 -b 'json:{"driver":"null-co"}' -F raw described 1M
agrees described
qemu-img create -q -f qcow2 -b file:base -F qcow2 prefixed
agrees prefixed
