#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A reader of standard output that goes away ends the conversion with status 141.
. "$(dirname "$0")/convert-lib.sh"

mkdata in.raw 8M 161 random
set +e
env --default-signal=PIPE "$QDEDUP" convert in.raw - 2>err | head -c 100000 >part
status=${PIPESTATUS[0]}
set -e
is 141 "$status" "exit status"
cmp -n 100000 in.raw part

# with SIGPIPE ignored from the start too (some programs start their children so)
set +e
(
	trap '' PIPE
	exec "$QDEDUP" convert in.raw - 2>err
) | head -c 100000 >part
status=${PIPESTATUS[0]}
set -e
is 141 "$status" "exit status with SIGPIPE ignored"

# a standard output that cannot be written to is an error with a message
if [ -w /dev/full ]; then
	status=0
	"$QDEDUP" convert in.raw - >/dev/full 2>err || status=$?
	is 1 "$status" "exit status with /dev/full"
	grep -q 'No space left' err || die "no reason given: $(cat err)"
fi
