#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Inserts and deletes that fill a journal of 64 KiB over and over, while the table is almost empty:
# packed each time, never merged.  What lives for good is merged when it fills the log.
. "$(dirname "$0")/io-lib.sh"

truncate -s 8M base.raw
cp base.raw twin.raw
ok "$QDEDUP" convert -q -t unsafe -o cluster_size=4K base.raw disk.qcow2
ok "$QDEDUP" io -q -t unsafe -c 'write -P 1 0 4K' -c 'discard 0 4K' disk.qcow2
ok "$QDEDUP" journal -q -t unsafe --size=64K create disk.qcow2
ok "$QDEDUP" journal --output=json verify disk.qcow2 >start
for ((round = 0; round < 4; round++)); do
	"$_python" -c '
import random, sys
r = random.Random(int(sys.argv[1]))
for i in range(40):
    for k in range(6):
        print("write -P", r.randrange(1, 256), (k * 2048 + r.randrange(512)) * 512, 4096)
    print("discard 0 8M")
    print("flush")' $round >list
	ok "$QDEDUP" io -q -t unsafe disk.qcow2 <list
done
judge disk.qcow2 twin.raw
ok "$QDEDUP" journal --output=json verify disk.qcow2 >end
is "$(json start 'd["generation"]')" "$(json end 'd["generation"]')" "generation of the index: merged"
is true "$(json end 'd["log-generation"] >= 8')" "packed"
ok "$QDEDUP" verify -q disk.qcow2

# By hand; twice is nothing to do.
n=$(json end 'd["log-clusters"]')
ok "$QDEDUP" journal --output=json pack disk.qcow2 >pack
[ "$n" -eq 1 ] || is true "$(json pack 'd["changed"] and not d["merged"]')"
ok "$QDEDUP" journal --output=json pack disk.qcow2 >pack
is false "$(json pack 'd["changed"]')"
ok "$QDEDUP" journal -q -t unsafe verify disk.qcow2

# 2048 clusters that stay.
mkdata stay.raw 8M 9 random
ok "$QDEDUP" io -q -t unsafe -c 'write -s stay.raw 0 8M' disk.qcow2
judge disk.qcow2 stay.raw
ok "$QDEDUP" journal --output=json verify disk.qcow2 >end
[ "$(json end 'd["generation"]')" -gt "$(json start 'd["generation"]')" ] || die "never merged"
ok "$QDEDUP" verify --output=json disk.qcow2 >verify.out
is 2048 "$(json verify.out 'd["checked"]')"
is 0 "$(json verify.out 'd["unknown"]')"
