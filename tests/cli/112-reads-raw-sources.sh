#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Raw from a file, a sparse file, a pipe, standard input that is a file, through a symbolic link.
. "$(dirname "$0")/convert-lib.sh"

mkdata dense.raw 4M 1120 dup50
mkdata sparse.raw 16M 1121 sparse
mkdata odd.raw 1000001 1122 random
for f in dense sparse odd; do
	content $f.raw -f raw
	from $f.raw
	for cs in 4K 64K; do
		rm -f ./*.qcow2
		ok "$QDEDUP" convert -o cluster_size=$cs $f.raw file.qcow2
		deduplicated file.qcow2 $f.raw $cs
		cat $f.raw | ok "$QDEDUP" convert -o cluster_size=$cs - pipe.qcow2
		deduplicated pipe.qcow2 $f.raw $cs
		ok "$QDEDUP" convert -o cluster_size=$cs - stdin.qcow2 <$f.raw
		deduplicated stdin.qcow2 $f.raw $cs
		ok "$QDEDUP" convert -c -o cluster_size=$cs - packed.qcow2 <$f.raw
		deduplicated packed.qcow2 $f.raw $cs
	done
	ok "$QDEDUP" convert - out.raw <$f.raw
	cmp out.raw content.raw
	ok "$QDEDUP" convert $f.raw - | cmp - content.raw || die "$f to stdout"
	cat $f.raw | ok "$QDEDUP" convert - - | cmp - content.raw || die "$f from stdin to stdout"
done

ln -s dense.raw 'a link'
ok "$QDEDUP" convert 'a link' linked.qcow2
same dense.raw linked.qcow2 raw qcow2

# -f decides over the content: a qcow2 file as bytes, and raw bytes that are no qcow2
ok "$QDEDUP" convert -f raw linked.qcow2 wrapped.qcow2
ok "$QDEDUP" convert wrapped.qcow2 unwrapped.raw
content linked.qcow2 -f raw
cmp unwrapped.raw content.raw
# standard input is raw whatever it holds, a file as well as a pipe; -f qcow2 takes a file
ok "$QDEDUP" convert - from-file.raw <linked.qcow2
cmp from-file.raw content.raw || die "a qcow2 file on standard input was not read as raw"
cat linked.qcow2 | ok "$QDEDUP" convert - from-pipe.raw
cmp from-pipe.raw content.raw
ok "$QDEDUP" convert -f qcow2 - from-file.raw <linked.qcow2
cmp from-file.raw dense.raw
qemu-img create -q -f qcow2 -b linked.qcow2 -F qcow2 over.qcow2
fails 1 "$QDEDUP" convert -f qcow2 - none.qcow2 <over.qcow2
says linked.qcow2

fails 1 "$QDEDUP" convert -f qcow2 dense.raw none.qcow2
says dense.raw qcow2
fails 1 "$QDEDUP" convert -O qcow2 dense.raw -
says 'standard output'
fails 1 "$QDEDUP" convert -f qcow2 - none.qcow2 < <(cat linked.qcow2)
fails 1 "$QDEDUP" convert -f vmdk dense.raw none.qcow2
says vmdk
[ ! -e none.qcow2 ] || die "a failure left an output"
