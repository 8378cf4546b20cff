#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# What --save-metadata keeps puts the image back, byte for byte, by the commands that it contains.
. "$(dirname "$0")/check-lib.sh"

for options in cluster_size=64K cluster_size=4K cluster_size=512; do
	rm -f disk.img saved
	qemu-img create -q -f qcow2 -o $options disk.img 2M
	qemu-io -c 'write -P 1 0 1M' disk.img >/dev/null
	damage disk.img 'l2[0] = header.l1_off | COPIED' 'l2[CLUSTER] = 0' 'reftable[0] = END + CLUSTER'
	cp disk.img was.img
	exits 0 "$QDEDUP" check --repair --save-metadata=saved disk.img >/dev/null
	! cmp -s disk.img was.img || die "nothing was repaired"
	python3 - <<-'END'
	import zlib
	d = open("saved", "rb").read()
	at, records = 0, 0
	while at < len(d):
	    head = dict(line.split(" ", 1) for line in d[at:at + 512].rstrip(b"\0").decode().splitlines())
	    n = int(head["length"])
	    assert head["qdedup-metadata"] == "1" and zlib.crc32(d[at + 512:at + 512 + n]) == int(head["crc32"], 16)
	    at, records = at + 512 + n, records + 1
	assert n == 0 and records > 2, records
	END
	strings -n 8 saved | sed -n 's/^restore //p' | sed 's/SAVED/saved/; s/IMAGE/disk.img/' >undo
	sh -e undo 2>/dev/null
	cmp disk.img was.img || die "$options: not put back"
done

# a file that is there already is replaced only when it is complete
fails 1 "$QDEDUP" check --repair --save-metadata=/nowhere/saved disk.img
cmp disk.img was.img
