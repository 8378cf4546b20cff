#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Backing chains: qcow2 on qcow2 on raw, names relative to the image that names them, in other
# directories, backing files shorter and longer than what lies over them.
. "$(dirname "$0")/convert-lib.sh"

mkdir -p 'a dir/deep' other
mkdata 'a dir/base.raw' 4M 105 dup50
(cd 'a dir/deep' && qemu-img create -q -f qcow2 -b ../base.raw -F raw mid.qcow2)
scribble 'a dir/deep/mid.qcow2'
(cd other && qemu-img create -q -f qcow2 -o cluster_size=4K -b '../a dir/deep/mid.qcow2' -F qcow2 top.qcow2)
qemu-io -c 'write -P 1 1M 100k' -c 'write -z 0 256k' -c 'write -P 2 3M 512' -c 'discard 2M 64k' \
	-d unmap other/top.qcow2 >/dev/null
content other/top.qcow2
from other/top.qcow2
(cd other && ok "$QDEDUP" convert top.qcow2 ../out.qcow2)
deduplicated out.qcow2 content.raw 64K

# a backing file that ends within a cluster of a longer overlay
mkdata short.raw 1000448 7 random
qemu-img create -q -f qcow2 -b short.raw -F raw long.qcow2 3M
qemu-io -c 'write -P 3 2M 64k' -c 'write -P 4 990k 1k' long.qcow2 >/dev/null
content long.qcow2
from long.qcow2

# a short overlay, and one of odd size between two longer ones
qemu-img create -q -f qcow2 -b 'a dir/base.raw' -F raw cut.qcow2 1537K
qemu-io -c 'write -P 5 0 3k' cut.qcow2 >/dev/null
content cut.qcow2
from cut.qcow2
qemu-img create -q -f qcow2 -b cut.qcow2 -F qcow2 over.qcow2 4M
qemu-io -c 'write -P 6 3M 3k' over.qcow2 >/dev/null
content over.qcow2
from over.qcow2

# an absolute name, no format recorded, a version 2 image with a compressed backing file
qemu-img convert -c -O qcow2 -o compat=0.10 'a dir/base.raw' packed.qcow2
qemu-img create -q -f qcow2 -o compat=0.10 -b "$PWD/packed.qcow2" -F qcow2 v2.qcow2
qemu-img rebase -u -b "$PWD/packed.qcow2" v2.qcow2 2>/dev/null || true
scribble v2.qcow2
content v2.qcow2
from v2.qcow2

# the snapshot of an overlay reads through the backing file too
qemu-img snapshot -c s other/top.qcow2
qemu-io -c 'write -P 9 0 4M' other/top.qcow2 >/dev/null
qemu-img convert -l s -O raw other/top.qcow2 at-s.raw
ok "$QDEDUP" convert -l s other/top.qcow2 out.raw
cmp at-s.raw out.raw || die "-l with a backing file"
