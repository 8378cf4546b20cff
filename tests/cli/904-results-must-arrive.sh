#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A result that cannot be written is a failure; a closed pipe is status 141; a closed
# descriptor is never given to an image.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
mkdata in.raw 256K 1 random

to_full() {
	"$@" >/dev/full
}
fails 1 to_full "$QDEDUP" --help
says 'standard output: No space left'
fails 1 to_full "$QDEDUP" --version
fails 1 to_full "$QDEDUP" convert --help
fails 1 to_full "$QDEDUP" convert in.raw out.qcow2
says 'standard output'
fails 1 to_full "$QDEDUP" convert in.raw -
says 'No space left'

# Nobody reads: what is written meets a closed pipe.
mkfifo pipe
to_closed() {
	local status=0
	: <pipe &
	"$@" >pipe || status=$?
	wait
	return "$status"
}
mkdata big.raw 1M 2 random
fails 141 to_closed "$QDEDUP" convert big.raw -
says 'interrupted by SIGPIPE'
is 1 "$(wc -l <<<"$ERR")" "lines on stderr"

# Also where the caller ignores SIGPIPE.
ignoring() {
	trap '' PIPE
	to_closed "$@"
}
fails 141 ignoring "$QDEDUP" convert big.raw -

# Started without stdout or stderr: the first files opened must not get their numbers.
closed() {
	"$@" >&- 2>&-
}
rm -f out.qcow2
if closed "$QDEDUP" convert in.raw out.qcow2; then
	die "the result went to a closed stdout, and that was success"
fi
check_clean out.qcow2
same in.raw out.qcow2
ok "$QDEDUP" convert -q in.raw out2.qcow2 >&- 2>&- <&-
same in.raw out2.qcow2
mkfifo input
"$QDEDUP" convert -q - out3.qcow2 <input >&- 2>&- &
pid=$!
exec 7>input
head -c 1M big.raw >&7		# more than a pipe holds: the files are open now
for fd in 1 2; do
	is /dev/null "$(readlink "/proc/$pid/fd/$fd")" "what took the place of descriptor $fd"
done
exec 7>&-
wait "$pid" || die "no result is printed with -q, so closed descriptors do no harm"
same big.raw out3.qcow2
