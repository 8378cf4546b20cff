#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# io writes over one of many compressed clusters in a host cluster: the index is in order afterwards, and
# a repair finds nothing to do.
. "$(dirname "$0")/io-lib.sh"

mkdata base.raw 1M 537 text
ok "$QDEDUP" convert -q -t unsafe -c -o cluster_size=4K base.raw disk.qcow2
cp base.raw twin.raw
ok "$QDEDUP" io -q -t unsafe -c 'write -P 7 64K 4K' -c 'write -P 6 128K 4K' disk.qcow2
for n in 7/16 6/32; do
	head -c 4096 /dev/zero | tr '\0' "\\${n%/*}" | dd of=twin.raw bs=4K seek="${n#*/}" conv=notrunc status=none
done
judge disk.qcow2 twin.raw
ok "$QDEDUP" check --output=json disk.qcow2 >check.json
is valid/0 "$(json check.json 'd["index"]["state"] + "/" + str(d["index"]["errors"])')" "the index"
cp disk.qcow2 before
ok "$QDEDUP" check -q --repair disk.qcow2
cmp disk.qcow2 before || die "a repair of nothing wrote"
ok "$QDEDUP" verify --output=json disk.qcow2 >verify.json
is '[]/0' "$(json verify.json 'str(d["bad"]) + "/" + str(d["unknown"])')" "what verify finds"

# The same content again: the old stream, if it is still known, or a new cluster; never a wrong one.
ok "$QDEDUP" io -q -t unsafe -c 'write -s base.raw 0 1M' disk.qcow2
judge disk.qcow2 base.raw
ok "$QDEDUP" verify -q disk.qcow2
