#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A source that may not be read, a directory that may not be written, a target that may not be replaced.
. "$(dirname "$0")/convert-lib.sh"

mkdata in.raw 1M 144 dup50
mkdir closed
chmod 755 .
cp in.raw secret.raw
chmod 000 secret.raw
cp in.raw closed/in.raw
as() { "$@"; }
if [ "$(id -u)" -eq 0 ]; then
	command -v setpriv >/dev/null || skip "needs root: setpriv, to be somebody else"
	mkdir open
	chmod 777 open
	as() { setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; }
	as test -x "$QDEDUP" -a -r in.raw || skip "needs root: nobody cannot reach $QDEDUP"
else
	mkdir open
fi
chmod 555 closed
as test ! -w closed || skip "needs a file system with permissions"

fails 1 as "$QDEDUP" convert secret.raw open/out.qcow2
says secret.raw 'ermission denied'
fails 1 as "$QDEDUP" convert in.raw closed/out.qcow2
says closed/out.qcow2 'ermission denied'
fails 1 as "$QDEDUP" convert closed/none.raw open/out.qcow2
says closed/none.raw 'No such file'
is '' "$(ls open)" "files in open"
is in.raw "$(ls closed)" "files in closed"

# a backing file that may not be read is named, not only the image
qemu-img create -q -f qcow2 -u -b secret.raw -F raw over.qcow2 1M
chmod 644 over.qcow2
fails 1 as "$QDEDUP" convert over.qcow2 open/out.qcow2
says secret.raw 'ermission denied'
is '' "$(ls open)" "files in open"
ok as "$QDEDUP" convert in.raw open/out.qcow2
check_clean -q open/out.qcow2
