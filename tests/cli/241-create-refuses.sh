#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# create says why it cannot, and leaves what was there as it was.
. "$(dirname "$0")/lib.sh"

# refused PATTERN CREATE-ARGUMENT...: no new file, old ones unchanged
refused() {
	local pattern=$1 before
	shift
	before=$(find . -type f -name '[!.]*' -exec md5sum {} + | sort)
	fails 1 "$QDEDUP" create "$@"
	says "$pattern"
	is "$before" "$(find . -type f -name '[!.]*' -exec md5sum {} + | sort)" "files after create $*"
}

qemu-img create -q -f qcow2 base 1M
qemu-io -c 'write 0 64k' base >/dev/null
qemu-img create -q -f qcow2 -b base -F qcow2 middle
echo text >text

refused 'size is missing' new
refused 'size' new 1MB
refused 'size' new -- -5
refused 'twice' -o size=1M new 1M
refused 'too large|larger clusters' -o cluster_size=512 new 1T
refused 'nowhere' -b nowhere -F qcow2 new 1M
refused 'not a qcow2' -b text -F qcow2 new 1M
refused 'its own backing' -b base -F qcow2 base
refused 'its own backing' -b middle -F qcow2 base 1M
refused 'format of the backing file' -u -b base new 1M
refused 'size is missing' -u -b base -F qcow2 new
refused 'data file' -o data_file=new new 1M
refused 'data file' -b base -F qcow2 -o data_file=base new
refused 'cluster_size.*raw' -f raw -o cluster_size=4k new 1M
refused 'backing.*raw' -b base -F qcow2 new.raw
refused 'preallocation=metadata' -o preallocation=metadata new.raw 1M
refused 'auto' -o cluster_size=auto new 1M
refused 'extended_l2|16K' -o extended_l2=on,cluster_size=4k new 1M
refused 'nosuch' -o nosuch=1 new 1M
refused 'nodir' nodir/new 1M
refused 'vmdk' -f vmdk new 1M

# in use
mkfifo to-qemu
"$QIO" base <to-qemu >said 2>&1 &
at_exit "kill $!; wait $!"
exec 9>to-qemu
echo 'write 0 64k' >&9
for ((i = 0; i < 200; i++)); do
	! grep -q wrote said || break
	sleep 0.1
done
fails 1 "$QDEDUP" create base 1M
says 'in use|lock'

# a backing file without a format gets the one its content says, and a note
qemu-img create -q -f qcow2 other 1M
ok "$QDEDUP" create -b other new >text
says 'recorded as qcow2'
is qcow2 "$(qemu-img info --output=json new | json - 'd["backing-filename-format"]')"
is '' "$(ok "$QDEDUP" create -q -b other new; echo "$ERR")"

ok "$QDEDUP" create -q -u -b nowhere -F qcow2 orphan 1M
is nowhere "$(qemu-img info --output=json orphan | json - 'd["backing-filename"]')"

# -o help
ok "$QDEDUP" create -o help >text
grep -q '^  size ' text
