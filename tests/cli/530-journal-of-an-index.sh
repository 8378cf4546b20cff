#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A journal is created, resized and dropped; the image stays clean for stock QEMU and keeps its index.
. "$(dirname "$0")/lib.sh"

mkdata a.raw 6M 1 dup50
ok "$QDEDUP" convert -q -o cluster_size=4K a.raw a.qcow2
fails 1 "$QDEDUP" journal verify a.qcow2
says 'no journal'
cp a.qcow2 before
ok "$QDEDUP" journal -n create a.qcow2 >/dev/null
cmp a.qcow2 before || die "a dry run wrote"
for size in 64K 256K 8K; do
	ok "$QDEDUP" journal --output=json --size=$size create a.qcow2 >out
	is true "$(json out 'd["changed"]')"
	check_clean a.qcow2
	same a.raw a.qcow2
	ok "$QDEDUP" journal --output=json verify a.qcow2 >out
	is "$(numfmt --from=iec $size)" "$(json out 'd["log-size"]')"
	is clean "$(json out 'd["state"]')"
	ok "$QDEDUP" verify --output=json a.qcow2 >out
	is 0 "$(json out 'd["unknown"]')"
	is valid "$(json out 'd["state"]')"
	ok "$QIMG" snapshot -l a.qcow2 | prints qdedup || die "the pin is gone"
done
ok "$QDEDUP" journal --output=json create a.qcow2 >out
is false "$(json out 'd["changed"]')" "created again"
ok "$QDEDUP" journal drop a.qcow2 >/dev/null
check_clean a.qcow2
fails 1 "$QDEDUP" journal dump a.qcow2
says 'journal create'
ok "$QDEDUP" journal --output=json drop a.qcow2 >out
is false "$(json out 'd["changed"]')" "dropped again"
fails 1 "$QDEDUP" journal --size=5000 create a.qcow2
says 'multiple of 4096'
fails 1 "$QDEDUP" journal --size=64K verify a.qcow2
fails 1 "$QDEDUP" journal frob a.qcow2
fails 1 "$QDEDUP" journal verify a.raw
says 'not a qcow2'
ok "$QDEDUP" rehash --drop a.qcow2 >/dev/null
fails 1 "$QDEDUP" journal create a.qcow2
says 'rehash'

# Beside the image.
ok "$QDEDUP" rehash -q --index=a.idx a.qcow2
ok "$QDEDUP" journal -q --index=a.idx --size=64K create a.qcow2
ok "$QDEDUP" journal -q --index=a.idx verify a.qcow2
fails 1 "$QDEDUP" journal verify a.qcow2
says '--index'
check_clean a.qcow2
ok "$QDEDUP" verify -q --index=a.idx a.qcow2
