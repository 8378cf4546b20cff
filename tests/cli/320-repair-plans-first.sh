#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# -n says what a repair would do and writes nothing; a repair does just that; a sound image is left alone.
. "$(dirname "$0")/check-lib.sh"

state() {
	sha256sum "$1"
	stat -c '%y %s %b %i' "$1"
}

make_bad() {
	qemu-img create -q -f qcow2 "$1" 64M
	qemu-io -c 'write -P 1 0 1M' "$1" >/dev/null
	damage "$1" 'refcount[host[64K]] = 0' 'l2[128K] = END + 10 * CLUSTER' 'byte[new] = 0' \
		'refcount[END - CLUSTER] = 1'
	touch -d '2020-01-01' "$1"
}

make_bad bad.img
before=$(state bad.img)
chmod a-w bad.img
for option in -n '--repair -n' '-r all -n' '--repair=leaks -n' '-n --output=json -v' '-n -v'; do
	# shellcheck disable=SC2086  # several words
	exits 2 "$QDEDUP" check $option bad.img >/dev/null
done
exits 2 "$QDEDUP" check --dry-run bad.img | grep '^repair' | sed 's/:.*//' >plan
chmod u+w bad.img
is "$before" "$(state bad.img)" bad.img
grep -q 'repair dropped' plan
grep -q 'repair freed' plan
exits 0 "$QDEDUP" check --repair bad.img | grep '^repair' | sed 's/:.*//' | diff plan -
check_clean bad.img

# nothing to do
touch -d '2020-01-01' bad.img
before=$(state bad.img)
for option in --repair '-r all' '-r leaks' '--repair=all' '--repair --save-metadata=saved'; do
	# shellcheck disable=SC2086
	ok "$QDEDUP" check $option bad.img >/dev/null
done
is "$before" "$(state bad.img)" bad.img
[ ! -e saved ] || die "metadata saved although nothing changes"

# what cannot be repaired is not touched
damage bad.img 'header.backing_off = CLUSTER - 4' 'header.backing_len = 100'
before=$(state bad.img)
exits 2 "$QDEDUP" check --repair bad.img >/dev/null
is "$before" "$(state bad.img)" bad.img

for option in -rsome --repair=x -r --repair=; do
	fails 1 "$QDEDUP" check $option bad.img
done
fails 1 "$QDEDUP" check --save-metadata=x bad.img
says 'save-metadata'
fails 1 "$QDEDUP" check --repair missing.img
