#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What compact leaves alone, byte for byte, with a message that says what to do.
. "$(dirname "$0")/lib.sh"

refused() {	# IMAGE PATTERN [OPTION...]
	local before image=$1 pattern=$2
	shift 2
	before=$(sha256sum <"$image")
	fails 1 "$QDEDUP" compact "$@" "$image"
	says "$pattern"
	is "$before" "$(sha256sum <"$image")" "the image"
}

qemu-img create -q -f qcow2 disk.qcow2 1M
qemu-io -c 'write -P 1 0 1M' disk.qcow2 >/dev/null
cp disk.qcow2 full.qcow2
qemu-io -c 'discard 0 512k' disk.qcow2 >/dev/null

# Nothing to do, and the dry run, write nothing.
for args in 'full.qcow2' '-n disk.qcow2'; do
	image=${args#-n }
	before=$(stat -c '%Y.%y %s' "$image"; sha256sum <"$image")
	# shellcheck disable=SC2086
	ok "$QDEDUP" compact $args >out
	is "$before" "$(stat -c '%Y.%y %s' "$image"; sha256sum <"$image")" "the image after compact $args"
done
grep -q 'would be moved' out || die "-n says: $(cat out)"
ok "$QDEDUP" compact full.qcow2 >out
grep -q 'nothing to do' out || die "a full image: $(cat out)"

cp disk.qcow2 dirty.qcow2
qemu-img amend -o lazy_refcounts=on dirty.qcow2
qemu-io -c 'write -P 2 0 64k' -c abort dirty.qcow2 >/dev/null 2>&1 || true
refused dirty.qcow2 'dirty.*qdedup check --repair'

cp disk.qcow2 leak.qcow2
printf '\0\1' | dd of=leak.qcow2 bs=1 seek=$((2 * 65536 + 2 * 6)) conv=notrunc status=none
exits 3 "$QDEDUP" check -q leak.qcow2
refused leak.qcow2 'leaked.*qdedup check --repair'

qemu-img create -q -f qcow2 -o data_file=data.bin,data_file_raw=on external.qcow2 1M
refused external.qcow2 'external data file'
qemu-img create -q --object secret,id=s,data=abc -f qcow2 -o encrypt.format=aes,encrypt.key-secret=s secret.qcow2 1M \
	2>/dev/null
refused secret.qcow2 'AES'
mkdata raw.raw 64K 1 random
refused raw.raw 'qcow2'
fails 1 "$QDEDUP" compact missing.qcow2
fails 1 "$QDEDUP" compact
fails 1 "$QDEDUP" compact disk.qcow2 full.qcow2

# In use by QEMU.
qemu-nbd -r -k "$PWD/socket" -f qcow2 disk.qcow2 &
pid=$!
at_exit "kill $pid; wait $pid"
for ((i = 0; i < 100; i++)); do
	[ ! -S socket ] || break
	sleep 0.05
done
refused disk.qcow2 'lock|use'
