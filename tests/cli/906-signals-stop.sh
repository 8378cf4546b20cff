#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# SIGINT, SIGTERM and SIGHUP stop a command soon, even one that waits for its input;
# status 128 + signal, one line, no partial output.  SIGUSR1 prints progress.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
mkfifo input
echo old >out.qcow2

# start: a convert that has read 1M from its stdin, which stays open and silent
start() {
	# Background commands of a script ignore SIGINT unless told otherwise.
	/usr/bin/python3 -c 'import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])' "$QDEDUP" convert -p --progress-fd=5 - out.qcow2 \
		<input >out 2>err 5>progress &
	pid=$!
	exec 7>input
	# More than the pipe holds: when this returns, the command is at work.
	head -c 1M /dev/urandom >&7
}

finish() {
	local status=0
	wait "$pid" || status=$?
	exec 7>&-
	is "$1" "$status" "exit status"
	is old "$(cat out.qcow2)" "the older target"
	is '' "$(cat out)" "stdout"
}

for pair in INT:130 TERM:143 HUP:129; do
	start
	kill "-${pair%:*}" "$pid"
	finish "${pair#*:}"
	is "qdedup convert: interrupted by SIG${pair%:*}" "$(tail -n 1 err)"
	! grep -q '"finished": true' progress || die "progress says finished"
	is './err ./out ./out.qcow2 ./progress' \
		"$(find . -type f ! -name '.err.*' | sort | xargs)" "files there are"
done

# timeout(1) sends a signal twice at once: that is one request.
start
kill -TERM "$pid"
kill -TERM "$pid" 2>/dev/null || true
finish 143
is 1 "$(grep -c interrupted err)" "lines about the interruption"

# A signal that was ignored from the start stays ignored: nohup.
(trap '' HUP; exec "$QDEDUP" convert -q - hup.qcow2 <input) &
pid=$!
exec 7>input
head -c 64K /dev/urandom >&7
sleep 0.2
kill -HUP "$pid"
sleep 0.2
exec 7>&-
wait "$pid" || die "SIGHUP stopped a command that was to ignore it"
check_clean hup.qcow2
