#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# An image that a running QEMU writes is left out with a message, -U reads it; other readers do no harm, and
# none are harmed.  --untrusted opens nothing that an image names.
. "$(dirname "$0")/scan-lib.sh"

mix base.raw 2M 80
mix_qcow2 disk.qcow2 81 2M
mix other.raw 1M 82
qemu-img create -q -f qcow2 -b disk.qcow2 -F qcow2 top.qcow2
# only_other WHAT: the report "got" is that of other.raw alone
only_other() {
	is "$(json alone '[d["images"], d["cluster-sizes"]]')" "$(json got '[d["images"], d["cluster-sizes"]]')" "$*"
}
ok "$QDEDUP" scan --output=json other.raw >alone
ok "$QDEDUP" scan --output=json disk.qcow2 base.raw other.raw >all

for pair in disk.qcow2:qcow2 base.raw:raw; do
	img=${pair%:*}
	hold io qemu-io -f "${pair#*:}" "$img"
	tell io 'read 0 512'
	wait_for grep -q 'read 512' io.out
	exits 1 timeout $((10 * slower)) "$QDEDUP" scan --output=json "$img" other.raw >got
	says "$img: .*(in use|lock)" force-share
	only_other "the free image beside $img"
	ok "$QDEDUP" scan -U --output=json disk.qcow2 base.raw other.raw | cmp - all
	if [ $img = disk.qcow2 ]; then
		exits 1 "$QDEDUP" scan --output=json top.qcow2 other.raw >got
		says disk.qcow2
		only_other "beside an overlay of what is in use"
	fi
	tell io quit
	release io
done

# readers share; while a scan reads, QEMU may not write
hold io qemu-io -r -f qcow2 disk.qcow2
tell io 'read 0 512'
wait_for grep -q 'read 512' io.out
ok "$QDEDUP" scan --output=json disk.qcow2 base.raw other.raw | cmp - all
tell io quit
release io

# read-only files in a read-only directory
mkdir ro
cp base.raw disk.qcow2 ro
chmod 444 ro/*
chmod 555 ro
ok "$QDEDUP" scan --output=json ro/base.raw ro/disk.qcow2 other.raw | json - '[c["unique"] for c in d["cluster-sizes"]]' >got
json all '[c["unique"] for c in d["cluster-sizes"]]' | cmp - got

# --untrusted
qemu-img create -q -f qcow2 -o data_file=ext.data ext.qcow2 1M
qemu-io -c 'write -P 3 0 300k' ext.qcow2 >/dev/null
ok "$QDEDUP" scan ext.qcow2 top.qcow2 >/dev/null
exits 1 "$QDEDUP" scan --untrusted --output=json ext.qcow2 top.qcow2 other.raw >got
says 'ext.qcow2: ' 'top.qcow2: ' 'untrusted'
only_other "--untrusted"
ok "$QDEDUP" scan --untrusted --output=json disk.qcow2 base.raw other.raw | cmp - all
for name in json:{} nbd://localhost/x fat:. ; do
	qemu-img create -q -f qcow2 -b "$name" -F raw -u evil.qcow2 1M
	exits 1 "$QDEDUP" scan --output=json evil.qcow2 other.raw >got
	says evil.qcow2
	only_other "beside a backing file $name"
done
