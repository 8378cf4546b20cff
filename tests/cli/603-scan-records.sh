#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# --records: a line for each cluster that holds data, its hash that of the padded cluster, sorted by hash;
# on stdout instead of the report, or in a file beside it.
. "$(dirname "$0")/scan-lib.sh"

mix a.raw 1200001 31
mix_qcow2 b.qcow2 32 1M cluster_size=64K -c
qemu-img create -q -f qcow2 -o cluster_size=4K -b a.raw -F raw over.qcow2
qemu-io -c 'write -P 7 100k 20k' over.qcow2 >/dev/null
qemu-img snapshot -c s over.qcow2
qemu-io -c 'write -P 8 104k 20k' over.qcow2 >/dev/null

for hash in sha256 xxh128 sha512-256 sha3-256 blake2b; do
	ok "$QDEDUP" scan --hash=$hash --cluster-size=512,4K,64K,2M --snapshots --records a.raw b.qcow2 over.qcow2 >lines
	brute --hash=$hash --cluster-size=512,4K,64K,2M --snapshots --records=lines a.raw b.qcow2 over.qcow2 || die "$hash"
done
ok "$QDEDUP" scan --cluster-size=4K --records a.raw >lines
brute --hash=xxh128 --cluster-size=4K --records=lines a.raw || die "the default"

# by another program, the last one included
ok "$QDEDUP" scan --hash=sha256 --cluster-size=64K --records a.raw >lines
truncate -s $((19 * 65536)) a.raw
split -b 64K -d -a 3 a.raw part.
for part in 000 003 018; do
	sum=$(sha256sum <part.$part)
	grep -Fqx "${sum%% *}"$'\ta.raw\t'"$((10#$part * 65536))"$'\t65536' lines || die "part $part is not in: $(head -n 3 lines)"
done
truncate -s 1200001 a.raw

# sorted as sort(1) has it, so that its -m merges them
ok "$QDEDUP" scan --records a.raw b.qcow2 >lines
LC_ALL=C sort -c -s -k1,1 -t $'\t' lines || die "not sorted by hash"

# the report does not change for records written to a file, nor do they
ok "$QDEDUP" scan --output=json a.raw b.qcow2 >plain
ok "$QDEDUP" scan --output=json --records=file a.raw b.qcow2 >report
cmp plain report
cmp lines file
brute --report=report a.raw b.qcow2
ok "$QDEDUP" scan --records=- a.raw b.qcow2 | cmp - lines

# names that would break a line or a column
name=$'tab\there new\nline back\\slash \001\177 \303\251 \377 sp ace'
cp a.raw "$name"
ok "$QDEDUP" scan --hash=sha256 --cluster-size=4K --records -- "$name" b.qcow2 >lines
! grep -Pv '^#' lines | prints -Pv '^[0-9a-f]{64}\t[^\t]+\t[0-9]+\t4096$' || die "lines of another shape"
brute --hash=sha256 --cluster-size=4K --records=lines -- "$name" b.qcow2
ok "$QDEDUP" scan --hash=sha256 --cluster-size=4K --output=json -- "$name" b.qcow2 >one
ok "$QDEDUP" scan --hash=sha256 --cluster-size=4K --output=json --merge lines >two
cmp one two

# a file of records appears when it is whole
ok "$QDEDUP" scan --records=file a.raw
echo old >file
fails 1 "$QDEDUP" scan --records=file missing.raw
is old "$(cat file)" "records after a failure"
fails 1 "$QDEDUP" scan --records=nowhere/file a.raw
says 'nowhere/file: '
fails 1 "$QDEDUP" scan --records=a.raw a.raw
brute --hash=xxh128 --records=<(ok "$QDEDUP" scan --records a.raw) a.raw
