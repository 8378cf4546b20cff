#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# External data files, raw and not. (QEMU takes a relative name from the current directory, not from
# the image's, so the image is read from where both agree.)
. "$(dirname "$0")/convert-lib.sh"

mkdir sub
mkdata base.raw 4M 107 dup50
for raw in on off; do
	(
		cd sub
		rm -f ./*
		qemu-img create -q -f qcow2 -o data_file=the.data,data_file_raw=$raw in.qcow2 4M
		qemu-img convert -n -O qcow2 ../base.raw in.qcow2
		scribble in.qcow2
		content in.qcow2
		from in.qcow2
	)
done

qemu-img create -q -f qcow2 -o "data_file=$PWD/other.data,data_file_raw=on,cluster_size=4K" sub/abs.qcow2 4M
qemu-img convert -n -O qcow2 base.raw sub/abs.qcow2
content sub/abs.qcow2
to_raw sub/abs.qcow2
ok "$QDEDUP" convert sub/abs.qcow2 out.qcow2
deduplicated out.qcow2 base.raw 64K

rm sub/the.data
(
	cd sub
	fails 1 "$QDEDUP" convert in.qcow2 none.qcow2
	says the.data 'No such file'
	[ ! -e none.qcow2 ] || die "an output without data file"
)
fails 1 "$QDEDUP" convert --untrusted sub/abs.qcow2 none.qcow2
says other.data
[ ! -e none.qcow2 ] || die "--untrusted opened a data file"

# QEMU looks in its current directory, we beside the image first: either will do, two files will not.
mkdir -p apart/images
(
	cd apart
	ok qemu-img create -q -f qcow2 -o data_file=d.bin images/i.qcow2 2M
	ok qemu-io -c 'write -P 7 0 1M' images/i.qcow2
	ok qemu-img convert -O raw images/i.qcow2 want.raw
	[ -e d.bin ] || die "QEMU made the data file elsewhere: this test tests nothing"
	ok "$QDEDUP" convert images/i.qcow2 here.raw
	cmp want.raw here.raw
	cp d.bin images/d.bin
	fails 1 "$QDEDUP" convert images/i.qcow2 none.raw
	says d.bin both
	rm d.bin
	ok "$QDEDUP" convert images/i.qcow2 beside.raw
	cmp want.raw beside.raw
)
