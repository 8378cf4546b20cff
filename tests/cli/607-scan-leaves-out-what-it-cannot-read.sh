#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# An image that is missing, damaged or unreadable is reported once and left out; the others are counted as
# if it had not been named, and the exit status is 1.
. "$(dirname "$0")/scan-lib.sh"

mix good.raw 2M 70
mix_qcow2 good.qcow2 71 2M cluster_size=4K
qemu-img create -q -f qcow2 -b good.raw -F raw over.qcow2
qemu-io -c 'write -P 9 700k 30k' over.qcow2 >/dev/null
good=(good.raw good.qcow2 over.qcow2)
ok "$QDEDUP" scan --output=json --matrix --top=5 "${good[@]}" >wanted
brute --report=wanted "${good[@]}"
ok "$QDEDUP" scan --records "${good[@]}" >records

# without NAME...: the names are each in one line on stderr, the rest as wanted
without() {
	local name
	exits 1 "$QDEDUP" scan --output=json --matrix --top=5 "${good[@]}" "$@" >got
	for name; do
		is 1 "$(grep -c "^qdedup scan: \(.*[ /]\)\?$name: " <<<"$ERR")" "lines about $name in: $ERR"
	done
	"$_python" - wanted got <<-'END' || die "$*: another result: $(diff wanted got | head -n 5)"
	import json, sys
	a, b = (json.load(open(n)) for n in sys.argv[1:])
	sys.exit(any(b[k] != a[k] for k in ("images", "cluster-sizes", "top", "matrix") if k in a))
	END
	exits 1 "$QDEDUP" scan --records "$@" "${good[@]}" >got
	cmp records got || die "$*: other records"
	exits 1 "$QDEDUP" scan --threads=1 --memory=16M "$@" "${good[@]}" >human
	grep -q good.raw human || die "no report for people with $*"
}

without missing.raw
mkdir adir
without adir
head -c 100000 good.qcow2 >cut.qcow2		# tables or data past the end
without cut.qcow2
cp good.qcow2 header.qcow2
poke header.qcow2 20 4 40			# cluster_bits
without header.qcow2
cp good.qcow2 l1.qcow2
poke l1.qcow2 40 8 0x7ffffffffffff000		# L1 past the end
without l1.qcow2
cp good.qcow2 l2.qcow2
poke l2.qcow2 "$(peek l2.qcow2 40 8)" 8 $((1 << 63 | 0x1001))	# an L2 table that is not aligned
without l2.qcow2

# found only after much has been read
mix_qcow2 late.qcow2 72 2500K cluster_size=64K -c
l2=$(($(peek late.qcow2 "$(peek late.qcow2 40 8)" 8) & 0xfffffffffffe00))
for ((n = 39; n > 0; n--)); do
	entry=$(peek late.qcow2 $((l2 + 8 * n)) 8)
	[ $((entry >> 62 & 3)) -ne 1 ] || break
done
[ "$n" -gt 10 ] || die "no compressed cluster to damage"
off=$((entry & 0x3fffffffffffff))
head -c 64 /dev/zero | tr '\0' '\377' | dd of=late.qcow2 bs=1 seek=$off conv=notrunc status=none
without late.qcow2

# the backing file is missing, is no disk
qemu-img create -q -f qcow2 -b gone.raw -F raw -u lost.qcow2 2M
exits 1 "$QDEDUP" scan "${good[@]}" lost.qcow2 >/dev/null
says gone.raw
qemu-img create -q -f qcow2 -b good.raw -F qcow2 -u liar.qcow2 2M
exits 1 "$QDEDUP" scan --output=json good.qcow2 liar.qcow2 >got
is '["good.qcow2"]' "$(json got '[i["filename"] for i in d["images"] if not i.get("backing")]')" "images"

# a damaged file in the middle of a chain takes those over it along, not those below
cp good.qcow2 bottom.qcow2
qemu-img create -q -f qcow2 -b bottom.qcow2 -F qcow2 middle.qcow2
qemu-io -c 'write -P 9 700k 30k' middle.qcow2 >/dev/null
qemu-img create -q -f qcow2 -b middle.qcow2 -F qcow2 upper.qcow2
poke middle.qcow2 "$(peek middle.qcow2 40 8)" 8 $((1 << 63 | 0x1001))
exits 1 "$QDEDUP" scan --output=json upper.qcow2 good.raw >got
is '' "$(json got '" ".join(i["filename"] for i in d["images"] if i["filename"] in ("middle.qcow2",))')" "a damaged image is in the report"
is true "$(json got '"good.raw" in [i["filename"] for i in d["images"]]')"

# several, and nothing but
without missing.raw cut.qcow2 late.qcow2
exits 1 "$QDEDUP" scan missing.raw late.qcow2 >/dev/null
says missing.raw late.qcow2

# with JSON, errors are JSON, too
exits 1 "$QDEDUP" scan --output=json good.raw missing.raw >got
grep '^{' <<<"$ERR" >error.json
is missing.raw "$(json error.json 'd["error"]["file"]')"

# a device that stops halfway
if [ "$(id -u)" -eq 0 ]; then
	mix under.img 4M 73
	if dev=$(losetup -f --show under.img 2>/dev/null); then
		at_exit "losetup -d $dev"
		truncate -s 2M under.img
		blockdev --flushbufs "$dev"
		without "$dev"
	fi
fi

# hostile numbers end in an error, quickly, and in bounded memory
cp good.qcow2 evil.qcow2
poke evil.qcow2 24 8 0x7ffffffffffffe00		# the virtual size
hostile 1 "$QDEDUP" scan evil.qcow2
cp good.qcow2 evil.qcow2
poke evil.qcow2 36 4 0x7fffffff			# the size of L1
hostile 1 "$QDEDUP" scan evil.qcow2
qemu-img create -q -f qcow2 -o cluster_size=2M huge.qcow2 63T
ok timeout $((20 * slower)) "$_cli/bounded.sh" "$QDEDUP" scan --output=json huge.qcow2 >got
is $((63 << 28)) "$(json got 'd["cluster-sizes"][0]["zero"]')" "zero clusters"
truncate -s 7T huge.raw
ok timeout $((20 * slower)) "$_cli/bounded.sh" "$QDEDUP" scan --cluster-size=512 --output=json huge.raw >got
is $((7 << 31)) "$(json got 'd["cluster-sizes"][0]["zero"]')" "zero clusters"
