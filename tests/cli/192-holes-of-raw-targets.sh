#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A raw target is sparse where the source reads as zeros; -S says how long a run must be, 0 means none.
. "$(dirname "$0")/convert-lib.sh"

truncate -s 16M in.raw
qemu-io -f raw -c 'write -P 1 0 4k' -c 'write -P 2 8k 4k' -c 'write -P 0 1M 1M' -c 'write -P 3 10M 64k' in.raw >/dev/null
blocks() { echo $(($(stat -c %b "$1") / 2)); }
ok "$QDEDUP" convert in.raw out.qcow2
ok "$QDEDUP" convert out.qcow2 sparse.raw
cmp in.raw sparse.raw
[ "$(blocks sparse.raw)" -le 256 ] || skip "needs a file system with holes: $(blocks sparse.raw) KiB"

ok "$QDEDUP" convert in.raw from-raw.raw
cmp in.raw from-raw.raw
[ "$(blocks from-raw.raw)" -le 256 ] || die "zeros of a raw source are not holes: $(blocks from-raw.raw) KiB"
ok "$QDEDUP" convert -S 0 out.qcow2 full.raw
cmp in.raw full.raw
[ "$(blocks full.raw)" -ge 16384 ] || die "-S 0 left holes: $(blocks full.raw) KiB"
for s in 512 3K 4K 64K 1M; do
	ok "$QDEDUP" convert -S $s out.qcow2 s.raw
	cmp in.raw s.raw
	[ "$(blocks s.raw)" -le 4096 ] || die "-S $s: $(blocks s.raw) KiB"
done

# over a longer, denser old file
head -c 20M /dev/zero | tr '\0' 'o' >old.raw
ok "$QDEDUP" convert out.qcow2 old.raw
cmp in.raw old.raw
for bad in x -1 1KB 1000 17M; do
	fails 1 "$QDEDUP" convert -S $bad in.raw none.raw
	says "-S|$bad"
done
