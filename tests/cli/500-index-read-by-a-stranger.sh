#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A reader in another language, written from qdedup-format(5) alone, lists the hashes of an image,
# and they are those it computes over the content of the disk: every cluster size, hash and way to
# store clusters; the table in the image and beside it; the journal after writes.
. "$(dirname "$0")/convert-lib.sh"

reader() {
	"$_python" "$_cli/indexread.py" "$@"
}

# stored IMAGE RAW [FILE]: as many records as distinct clusters are stored, each with the right hash
stored() {
	local n
	n=$(reader compare "$@") || die "$1: the index is not what qdedup-format(5) says, or hashes differ"
	is "$(walk --get data "$1")" "$n" "records of $1"
}

reader page "$_top/man/qdedup-format.5"

mkdup in.raw 3000K 4K 300 500
for options in cluster_size=512 cluster_size=4K cluster_size=64K cluster_size=2M cluster_size=16K,extended_l2=on; do
	for c in '' -c; do
		# shellcheck disable=SC2086
		ok "$QDEDUP" convert -q $c -o $options in.raw out.qcow2
		stored out.qcow2 in.raw
		# shellcheck disable=SC2086
		ok "$QDEDUP" convert -q $c --index=out.idx -o $options in.raw out.qcow2
		stored out.qcow2 in.raw out.idx
	done
done
for hash in xxh128 sha256 sha512-256 sha3-256 blake2b; do
	ok "$QDEDUP" convert -q --hash=$hash -o cluster_size=4K in.raw out.qcow2
	stored out.qcow2 in.raw
	ok "$QDEDUP" convert -q --hash=$hash --trust-hash -c -o cluster_size=4K in.raw out.qcow2
	stored out.qcow2 in.raw
done

# Nothing to hash; more records than a block holds; the share cap.
: >empty.raw
ok "$QDEDUP" convert -q empty.raw out.qcow2
is '' "$(reader list out.qcow2)" "hashes of nothing"
mkdata many.raw 10M 500 random
ok "$QDEDUP" convert -q -o cluster_size=4K many.raw out.qcow2
stored out.qcow2 many.raw
ok "$QDEDUP" convert -q --max-share=2 -o cluster_size=4K in.raw out.qcow2
stored out.qcow2 in.raw

# The journal: what was written since is known, what went away is not.
ok "$QDEDUP" io -c 'write -P 1 0 64K' -c 'write -P 2 4K 4K' -c 'discard 100K 40K' -c 'write -P 2 1M 8K' out.qcow2 >/dev/null
ok "$QDEDUP" convert -q out.qcow2 now.raw
reader compare out.qcow2 now.raw >/dev/null || die "after writes the index does not tell what the disk holds"
reader list out.qcow2 >list
grep -q . list

# Which records hold: after somebody else wrote, of extended entries too; where the container lies now,
# a cluster was before; of a disk that was made smaller.
hold() {
	local n
	n=$(reader hold "$@") || die "$1: a record holds, says qdedup-format(5), whose hash is wrong"
	[ "$n" -gt 0 ] || die "$options $c: no record holds"
}
mkdup wide.raw 3000K 16K 60 500
for options in cluster_size=4K cluster_size=16K,extended_l2=on; do
	for c in '' -c; do
		# shellcheck disable=SC2086
		ok "$QDEDUP" convert -q $c -o $options wide.raw out.qcow2
		hold out.qcow2
		ok "$QIO" -c 'write -P 7 0 100K' -c 'write -z 200K 1K' -c 'discard 300K 600K' -c 'write -P 8 2M 600' out.qcow2 >/dev/null
		hold out.qcow2
		ok "$QDEDUP" journal -q --size=8K create out.qcow2
		ok "$QDEDUP" journal -q drop out.qcow2
		hold out.qcow2
		ok "$QDEDUP" rehash -q out.qcow2
		hold out.qcow2
		ok "$QIMG" resize -q --shrink out.qcow2 1000K
		ok "$QDEDUP" rehash -q out.qcow2
		hold out.qcow2
	done
done

ok "$QIMG" create -q -f qcow2 -o cluster_size=16K,extended_l2=on out.qcow2 1M
ok "$QIO" -c 'write -P 7 0 1K' -c 'write -P 7 64K 1K' -c 'write -P 9 32K 16K' -c 'write -P 9 48K 16K' out.qcow2 >/dev/null
ok "$QDEDUP" dedup -q out.qcow2
ok "$QIO" -c 'write -z 0 512' out.qcow2 >/dev/null
is 1 "$(reader hold out.qcow2)" "records of extended entries that hold"

# A reader that finds one byte changed says so.
ok "$QDEDUP" convert -q -o cluster_size=4K in.raw out.qcow2
"$_python" - out.qcow2 <<-'END'
	import struct, sys
	f = open(sys.argv[1], "r+b")
	f.seek(128)
	off, = struct.unpack(">Q", f.read(8))
	f.seek(off + 512 + 40)
	byte = f.read(1)
	f.seek(off + 512 + 40)
	f.write(bytes([byte[0] ^ 1]))
END
fails 1 reader list out.qcow2
says "a block's checksum"
