#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# dedup -n counts the journal that the new index has, too: it promises no more than dedup frees, but for
# the place of the redo area, four times --size, and a few tables.
. "$(dirname "$0")/dedup-lib.sh"

mkdup base.raw 16M 4K 2000 730
qemu-img create -q -f qcow2 -o cluster_size=4K disk.qcow2 32M
qemu-io -c 'write -P 3 0 4K' disk.qcow2 >/dev/null
ok "$QDEDUP" rehash -q -t unsafe disk.qcow2
ok "$QDEDUP" journal -q -t unsafe --size=8K create disk.qcow2
qemu-io -c 'write -s base.raw 1M 16M' disk.qcow2 >/dev/null
ok "$QDEDUP" dedup -n --output=json disk.qcow2 >dry.json
ok "$QDEDUP" dedup --output=json disk.qcow2 >real.json
dry=$(json dry.json 'd["bytes-freed"]') real=$(json real.json 'd["bytes-freed"]')
echo "$dry bytes foretold, $real freed"
[ "$real" -gt 9000000 ] || die "too little is freed: no test"
[ $((dry - real)) -le $((4 * 8192 + 4 * 4096)) ] || die "$dry bytes foretold, $real freed"
