#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Records that do not belong together: two images of one name are refused, missing shards are told.
. "$(dirname "$0")/scan-lib.sh"

mkdir one two
mkdata one/disk.raw 256K 1 random
mkdata two/disk.raw 256K 2 random
records() {
	(cd "$1" && ok "$QDEDUP" scan --cluster-size=4K,64K --records "${@:2}" disk.raw)
}
records one >r1
records two >r2
fails 1 "$QDEDUP" scan --merge r1 r2
says 'disk.raw'
LC_ALL=C sort -m r1 r2 >both
fails 1 "$QDEDUP" scan --merge both
says 'disk.raw'
# one of them twice is no contradiction
ok "$QDEDUP" scan --merge --output=json r1 >once
ok "$QDEDUP" scan --merge --output=json r1 r1 >twice
cmp once twice
is '' "$ERR" "stderr"

for k in 1 2 3; do
	records one --shard=$k/3 >s$k
done
ok "$QDEDUP" scan --merge --output=json s3 s1 s2 | cmp once -
ok "$QDEDUP" scan --merge s1 s3 >/dev/null
says 'disk.raw' 'missing|shard'
ok "$QDEDUP" scan --merge s1 s3 s1 >/dev/null
says 'missing|shard'
head -n -2 r1 >short
ok "$QDEDUP" scan --merge short >/dev/null
says missing
ok "$QDEDUP" scan -q --merge short >/dev/null
