#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What cannot have an index, or must not be changed, is refused by name and left untouched.
. "$(dirname "$0")/rehash-lib.sh"

noise base.raw 1M 512
refused() {
	local img=$1
	shift
	cp "$img" before
	fails 1 "$QDEDUP" rehash "$img"
	says "$@"
	cmp "$img" before || die "$img was changed"
}

qemu-img convert -O qcow2 -o compat=0.10 base.raw v2.qcow2
refused v2.qcow2 'compat=0.10'
qemu-img convert -O qcow2 -o data_file=data.raw base.raw ext.qcow2
refused ext.qcow2 'external data file'
qemu-img convert -O qcow2 base.raw plain.qcow2
cp plain.qcow2 aes.qcow2
poke aes.qcow2 32 4 1
refused aes.qcow2 'encrypted \(AES\)'
cp plain.qcow2 dirty.qcow2
poke dirty.qcow2 72 8 1
refused dirty.qcow2 'dirty bit' 'qdedup check --repair'
cp plain.qcow2 corrupt.qcow2
poke corrupt.qcow2 72 8 2
refused corrupt.qcow2 'marked corrupt' 'qdedup check --repair'
cp plain.qcow2 named.qcow2
qemu-img snapshot -c qdedup named.qcow2
refused named.qcow2 'snapshot named "qdedup"'
cp plain.qcow2 overlap.qcow2
poke overlap.qcow2 40 8 "$(peek overlap.qcow2 48 8)"
refused overlap.qcow2 'qdedup check'
fails 1 "$QDEDUP" rehash base.raw
fails 1 "$QDEDUP" rehash --hash=md5 plain.qcow2
says 'unknown hash "md5", expected xxh128, sha256, sha512-256, sha3-256 or blake2b$'
fails 1 "$QDEDUP" rehash missing.qcow2

# No room in a first cluster of 512 bytes.
touch "$(printf 'b%.0s' {1..240})"
qemu-img create -q -u -f qcow2 -o cluster_size=512 -b "$(printf 'b%.0s' {1..240})" -F raw tiny.qcow2 1M
refused tiny.qcow2 'no room'
# But a name in the way is moved.
qemu-img create -q -f qcow2 -o cluster_size=512 -b base.raw -F raw small.qcow2 1M
qemu-io -c 'write -P 7 0 64k' small.qcow2 >/dev/null
layers small.qcow2 was
rehash small.qcow2
same_layers small.qcow2 was

# A dry run says it all and changes nothing, an image in use is left alone.
cp plain.qcow2 before
ok "$QDEDUP" rehash -n --output=json plain.qcow2 >out.json
is true "$(value written)" 'written'
is 16 "$(value entries)" 'entries'
ok "$QDEDUP" rehash -n --drop plain.qcow2 >/dev/null
cmp plain.qcow2 before || die 'a dry run wrote'
hold writer qemu-io plain.qcow2
tell writer 'read 0 512'
wait_for grep -q 'read 512' writer.out
fails 1 "$QDEDUP" rehash plain.qcow2
release writer

# A signal while it reads leaves the image as it was.
noise much.raw 64M 512
qemu-img convert -O qcow2 much.raw long.qcow2
cp long.qcow2 before
"$QDEDUP" rehash -q --hash=sha3-256 --threads=1 long.qcow2 2>err &
sleep 0.1
kill -TERM $! 2>/dev/null || true
status=0
wait $! || status=$?
case $status in
0) echo 'it was done before the signal' ;;
143) cmp long.qcow2 before || die 'the image was changed' ;;
*) die "status $status after SIGTERM: $(cat err)" ;;
esac

# Where there is no space for the new table the image stays as it was, byte for byte.
mkdup many.raw 4M 512 9000 513
qemu-img convert -O qcow2 -o cluster_size=512 many.raw full.qcow2
cp full.qcow2 before
limited() {
	ulimit -f $((($(stat -c %s full.qcow2) + 65536) / 1024))
	trap '' XFSZ
	"$QDEDUP" rehash full.qcow2
}
_run limited >/dev/null
is 1 "$_status" 'exit status without space'
says 'full.qcow2' 'too large'
cmp full.qcow2 before || die 'the image was changed though there was no space'
