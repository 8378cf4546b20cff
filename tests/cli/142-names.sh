#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Names with spaces, a newline, UTF-8, a colon, a leading dash; as source, target and backing file.
. "$(dirname "$0")/convert-lib.sh"

mkdata in.raw 1M 142 dup50
names=('a b  c' $'two\nlines' 'größe-磁盘' 'percent%s%n' "quote's\"" './a:b' 'nbd:x' '*' '[x]?')
for name in "${names[@]}"; do
	case $name in
	nbd:x) name=./$name ;;
	esac
	ok "$QDEDUP" convert in.raw "$name.qcow2"
	[ -f "$name.qcow2" ] || die "no file named $name.qcow2"
	cp -- "$name.qcow2" plain.qcow2
	deduplicated plain.qcow2 in.raw 64K
	ok "$QDEDUP" convert "$name.qcow2" "$name.raw"
	cmp in.raw "$name.raw"
	ok "$QDEDUP" convert "$name.raw" "$name.qcow2"
	fails 1 "$QDEDUP" convert "$name.none" out.qcow2
	grep -qF -- "$(head -n 1 <<<"${name##*/}.none")" <<<"$ERR" || die "the error does not name $name.none: $ERR"
done
ok "$QDEDUP" convert in.raw 'a:c.qcow2'
[ -f a:c.qcow2 ] || die "a:c.qcow2 was taken for something else than a file"
ok "$QDEDUP" convert -- in.raw -dash.qcow2
[ -f ./-dash.qcow2 ] || die "no ./-dash.qcow2"
mkdir -p "dir with spaces/größe"
ok "$QDEDUP" convert in.raw "dir with spaces/größe/x y.qcow2"
check_clean -q "dir with spaces/größe/x y.qcow2"

cp in.raw $'base one\n2.raw'
qemu-img create -q -f qcow2 -b $'base one\n2.raw' -F raw over.qcow2
ok "$QDEDUP" convert over.qcow2 out.qcow2
same in.raw out.qcow2 raw qcow2

# as long as the file system takes, and longer
long=$(printf 'n%.0s' {1..249}).qcow2
ok "$QDEDUP" convert in.raw "$long"
check_clean -q "$long"
ok "$QDEDUP" convert in.raw "$long"
fails 1 "$QDEDUP" convert in.raw "x$long"
fails 1 "$QDEDUP" convert in.raw ''
fails 1 "$QDEDUP" convert '' out.qcow2
