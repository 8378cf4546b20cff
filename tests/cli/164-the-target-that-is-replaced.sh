#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A replaced target keeps its mode, a symbolic link stays one, another hard link keeps the old content;
# a new target has the umask's mode.
. "$(dirname "$0")/convert-lib.sh"

mkdata in.raw 1M 164 dup50
umask 027
ok "$QDEDUP" convert in.raw new.qcow2
is 640 "$(stat -c %a new.qcow2)" "mode of a new file"
umask 022
ok "$QDEDUP" convert in.raw new.raw
is 644 "$(stat -c %a new.raw)" "mode of a new raw file"

echo precious >old.qcow2
chmod 604 old.qcow2
ln old.qcow2 other
ok "$QDEDUP" convert in.raw old.qcow2
is 604 "$(stat -c %a old.qcow2)" "mode of a replaced file"
grep -qx precious other || die "the other link has changed"
deduplicated old.qcow2 in.raw 64K

mkdir dir
echo precious >dir/real.qcow2
ln -s dir/real.qcow2 link.qcow2
ok "$QDEDUP" convert in.raw link.qcow2
[ -L link.qcow2 ] || die "the symbolic link was replaced"
deduplicated dir/real.qcow2 in.raw 64K
is real.qcow2 "$(ls -A dir)" "files beside it"

ln -s dir/dangling.qcow2 dangling.qcow2
if "$QDEDUP" convert in.raw dangling.qcow2 2>err; then
	check_clean -q dir/dangling.qcow2
	[ -L dangling.qcow2 ] || die "the dangling link was replaced"
else
	[ ! -e dir/dangling.qcow2 ] || die "a failure left an output"
fi

# -n: into what exists, in place; never creates
ln old.qcow2 inplace.qcow2
mkdata second.raw 1M 1641 random
inode=$(stat -c %i old.qcow2)
ok "$QDEDUP" convert -n second.raw old.qcow2
is "$inode" "$(stat -c %i old.qcow2)" "inode after -n"
deduplicated inplace.qcow2 second.raw 64K
ok "$QDEDUP" convert -n in.raw old.qcow2
deduplicated inplace.qcow2 in.raw 64K
head -c 4M /dev/zero | tr '\0' 'z' >big.raw
ok "$QDEDUP" convert -n in.raw big.raw
cmp -n 1048576 in.raw big.raw
# the image that is there has its own options: others would be ignored
before=$(sha256sum old.qcow2)
for options in '-o cluster_size=4K' '-B second.raw -F raw' '--no-dedup -o preallocation=metadata' \
	'--no-dedup -o data_file=out.data'; do
	# shellcheck disable=SC2086
	fails 1 "$QDEDUP" convert -n $options in.raw old.qcow2
	says '-n:' '-o and -B'
done
is "$before" "$(sha256sum old.qcow2)" "target of a refused -n"
fails 1 "$QDEDUP" convert -n in.raw nosuch.qcow2
says nosuch.qcow2 'No such file'
[ ! -e nosuch.qcow2 ] || die "-n created its target"
fails 1 "$QDEDUP" convert -n in.raw nosuch.raw
[ ! -e nosuch.raw ] || die "-n created its raw target"
