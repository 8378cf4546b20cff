#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A target that is the source, by name, hard link, symbolic link, or as a file of its backing chain, is
# refused and nothing changes.
. "$(dirname "$0")/convert-lib.sh"

mkdata base.raw 2M 143 dup50
qemu-img convert -O qcow2 base.raw mid.qcow2
mkdata other.raw 2M 1431 random
ln base.raw hard.raw
ln -s base.raw soft.raw
ln -s mid.qcow2 soft.qcow2
mkdir sub
qemu-img create -q -f qcow2 -b mid.qcow2 -F qcow2 top.qcow2
qemu-io -c 'write -P 1 0 64k' top.qcow2 >/dev/null
qemu-img create -q -f qcow2 -o data_file=ext.data,data_file_raw=on ext.qcow2 1M
before=$(sha256sum ./*.*)

refused() {
	fails 1 "$QDEDUP" convert "$@"
	says "${*: -1}"
	is "$before" "$(sha256sum ./*.*)" "files after convert $*"
}
refused base.raw base.raw
refused base.raw ./base.raw
refused base.raw sub/../base.raw
refused base.raw hard.raw
refused base.raw soft.raw
refused soft.raw base.raw
refused -O qcow2 base.raw base.raw
refused -n -O raw base.raw hard.raw
refused mid.qcow2 mid.qcow2
refused mid.qcow2 soft.qcow2
refused -U mid.qcow2 mid.qcow2
refused top.qcow2 mid.qcow2
refused top.qcow2 soft.qcow2
refused -n top.qcow2 mid.qcow2
refused -U top.qcow2 mid.qcow2
refused -O raw ext.qcow2 ext.data

# nor is it the backing file that -B names
refused -B mid.qcow2 -F qcow2 top.qcow2 mid.qcow2
refused -B mid.qcow2 -F qcow2 other.raw mid.qcow2
refused -O qcow2 -B hard.raw -F raw other.raw base.raw
refused -B top.qcow2 -F qcow2 other.raw mid.qcow2

# nor is the data file of the new image any of them, or the new image itself
data_file() {
	fails 1 "$QDEDUP" convert --no-dedup -o "data_file=$1" "${@:2}" other.raw new.qcow2
	says "$(basename "$1")"
	is "$before" "$(sha256sum ./*.*)" "files after convert -o data_file=$*"
}
data_file other.raw
data_file mid.qcow2 -U -B top.qcow2 -F qcow2
for name in new.qcow2 ./new.qcow2 sub/../new.qcow2 "$PWD/new.qcow2"; do
	data_file "$name"
	says itself
done
