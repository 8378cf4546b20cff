#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# --index=FILE keeps the index beside the image: for that image only, and for that state of it.
. "$(dirname "$0")/rehash-lib.sh"

mkdup base.raw 2M 4K 200 517
mkdup other.raw 2M 4K 200 518
for name in base other; do
	ok "$QDEDUP" convert -q -t unsafe -o cluster_size=4K $name.raw $name.qcow2
	ok "$QDEDUP" rehash -q --index=$name.idx $name.qcow2
	check_clean -q $name.qcow2
	same $name.raw $name.qcow2
	ok "$QDEDUP" verify -q --index=$name.idx $name.qcow2
done
fails 1 "$QDEDUP" verify base.qcow2
says '--index=FILE'
fails 1 "$QDEDUP" verify --index=other.idx base.qcow2
says 'stale' 'another image'
fails 1 "$QDEDUP" verify --index=missing.idx base.qcow2

qemu-io -c 'write -P 3 1M 64k' base.qcow2 >/dev/null
cp base.idx old.idx
cp base.qcow2 old.qcow2
ok "$QDEDUP" rehash --output=json --index=base.idx base.qcow2 >out.json
is partial "$(value previous-state)" 'state'
[ "$(value clusters-read)" -lt "$(value clusters)" ] || die 'everything was read'
ok "$QDEDUP" verify -q --index=base.idx base.qcow2
fails 1 "$QDEDUP" verify --index=old.idx base.qcow2
fails 1 "$QDEDUP" verify --index=base.idx old.qcow2
check_clean -q base.qcow2

# Into the image, out of it again, and dropped.
ok "$QDEDUP" rehash -q base.qcow2
judge_index base.qcow2
cp base.qcow2 embedded.qcow2
ok "$QDEDUP" rehash -q --index=base.idx base.qcow2
check_clean -q base.qcow2
ok "$QDEDUP" rehash -q --drop base.qcow2
fails 1 "$QDEDUP" verify --index=base.idx base.qcow2
[ -e base.idx ] || die 'the file of the index is gone'
check_clean -q base.qcow2

# Nothing is left of a file that could not be written.
mkdir closed
chmod a-w closed
if [ "$(id -u)" -ne 0 ]; then
	cp base.qcow2 before
	fails 1 "$QDEDUP" rehash --index=closed/x.idx base.qcow2
	cmp base.qcow2 before || die 'the image was changed'
fi
fails 1 "$QDEDUP" rehash --index=nowhere/x.idx base.qcow2

# Only an index is replaced, never another file, least of all the image.
cp base.qcow2 before
for file in other.raw base.qcow2 other.qcow2; do
	cp $file kept
	fails 1 "$QDEDUP" rehash --index=$file base.qcow2
	says "$file"
	cmp $file kept || die "$file was replaced"
	cmp base.qcow2 before || die 'the image was changed'
done
: >empty.idx
ok "$QDEDUP" rehash -q --index=empty.idx base.qcow2
ok "$QDEDUP" verify -q --index=empty.idx base.qcow2

# Its journal is there, and it is noticed when the file was cut short.
ok "$QDEDUP" journal create -q --index=empty.idx base.qcow2
ok "$QDEDUP" journal verify -q --index=empty.idx base.qcow2
truncate -s -4096 empty.idx
exits 2 "$QDEDUP" journal verify --index=empty.idx base.qcow2 >/dev/null
fails 1 "$QDEDUP" verify --index=empty.idx base.qcow2
