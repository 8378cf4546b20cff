#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Unknown incompatible feature bits and versions are refused with their number, the corrupt bit by name;
# unknown compatible and autoclear bits and header extensions are no obstacle.
. "$(dirname "$0")/convert-lib.sh"

mkdata in.raw 1M 181 dup50
qemu-img convert -O qcow2 in.raw good.qcow2
with() {
	cp good.qcow2 bad.qcow2
	poke bad.qcow2 "$@"
}
refused() {
	fails 1 "$QDEDUP" convert bad.qcow2 out.qcow2
	says bad.qcow2 "$@"
	[ ! -e out.qcow2 ] || die "an output of what was refused"
}
for version in 0 1 4 77; do
	with 4 4 $version
	refused version "\\b$version\\b"
done
with 72 8 $((1 << 5))
refused feature '\b5\b|0x20'
with 72 8 $((1 << 62))
refused feature '\b62\b|0x4000000000000000'
with 96 4 7
refused refcount '\b7\b'
with 20 4 8
refused cluster '\b8\b'
with 20 4 22
refused cluster '\b22\b'
with 32 4 3
refused crypt '\b3\b'
# a feature that the image itself gives a name
qemu-img amend -o compat=1.1 good.qcow2
with 72 8 $((1 << 5))
refused feature

with 80 8 $((1 << 40))
ok "$QDEDUP" convert bad.qcow2 out.qcow2
deduplicated out.qcow2 in.raw 64K
rm out.qcow2
with 88 8 $((1 << 41))
before=$(sha256sum bad.qcow2)
ok "$QDEDUP" convert bad.qcow2 out.qcow2
deduplicated out.qcow2 in.raw 64K
is "$before" "$(sha256sum bad.qcow2)" "the source"
# Only the bit of the stored hash table: those of the source mean nothing here.
is $((1 << 48)) "$(peek out.qcow2 88 8)" "autoclear bits of the output"

# an extension nobody knows, in front of the others
"$_python" - good.qcow2 ext.qcow2 <<'END'
import struct, sys
d = bytearray(open(sys.argv[1], "rb").read())
n = struct.unpack(">I", d[100:104])[0]
ext = struct.pack(">II", 0x12345678, 11) + b"hello world".ljust(16, b"\0")
d[n:65536] = (bytes(ext) + d[n:65536])[:65536 - n]
open(sys.argv[2], "wb").write(d)
END
check_clean -q ext.qcow2
ok "$QDEDUP" convert ext.qcow2 out.qcow2
deduplicated out.qcow2 in.raw 64K
