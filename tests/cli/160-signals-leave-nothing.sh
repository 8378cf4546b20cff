#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# SIGINT, SIGTERM and SIGHUP in the middle of a conversion: exit status 128 + signal, no partial or
# temporary file, an old target as it was; the same while waiting for standard input.
. "$(dirname "$0")/convert-lib.sh"

mkdata in.raw 8M 160 random
mkdata big.raw 96M 161 text
echo precious >old.qcow2
chmod 640 old.qcow2
echo precious >old.raw
interrupted() {
	local signal=$1 wanted=$2 status=0
	shift 2
	before=$(listing old.*)
	hold run env --default-signal=INT,TERM,HUP "$QDEDUP" convert "$@"
	feed run in.raw
	kill "-$signal" "${_held_pid[run]}"
	wait "${_held_pid[run]}" || status=$?
	is "$wanted" $status "exit status after SIG$signal: $(cat run.out)"
	release run || true
	is "$before" "$(listing old.*)" "files after SIG$signal"
}
for signal in INT:130 TERM:143 HUP:129; do
	for target in new.qcow2 old.qcow2 new.raw old.raw; do
		interrupted ${signal%:*} ${signal#*:} - $target
	done
	interrupted ${signal%:*} ${signal#*:} -c - new.qcow2
done
[ -s run.out ] || die "an interruption without a word"

# nothing can be done about SIGKILL, but the target is the old one or none
before=$(sha256sum old.*)
for target in new.qcow2 old.qcow2 new.raw old.raw; do
	hold run "$QDEDUP" convert - $target
	feed run in.raw
	kill -KILL "${_held_pid[run]}"
	release run 2>/dev/null || true
	is "$before" "$(sha256sum old.*)" "old targets after SIGKILL"
	! ls new.* 2>/dev/null || die "a target after SIGKILL"
done

# in the middle of a file, as soon as there is progress to speak of
for signal in INT:130 TERM:143; do
	for c in '' '-c --compress-level=9'; do
		before=$(listing old.*)
		mkfifo progress.in
		# shellcheck disable=SC2086
		env --default-signal=INT,TERM "$QDEDUP" convert $c --threads=1 --progress-fd=7 big.raw new.qcow2 \
			7>progress.in 2>err.out &
		pid=$!
		exec 8<progress.in
		read -r line <&8
		kill "-${signal%:*}" $pid
		status=0
		wait $pid || status=$?
		exec 8<&-
		rm progress.in
		case $line in
		*'"finished": true'* | *'"finished":true'*) die "too fast for this test: $line" ;;
		esac
		is ${signal#*:} $status "exit status after SIG${signal%:*}: $(cat err.out)"
		is "$before" "$(listing old.*)" "files after SIG${signal%:*}"
	done
done

# while holes are filled for preallocation=full
truncate -s 2G empty.raw
filling() {
	env --default-signal=INT,TERM "$QDEDUP" "$@" 2>err.out >/dev/null &
	pid=$!
	wrote() { [ "$(sed -n 's/^wchar: //p' /proc/$pid/io)" -gt 40000000 ]; }
	wait_for wrote
}
for signal in INT:130 TERM:143; do
	for command in convert create; do
		before=$(listing old.*)
		case $command in
		convert) filling convert -t unsafe --no-dedup -o preallocation=full empty.raw new.qcow2 ;;
		create) filling create -o preallocation=full new.qcow2 2G ;;
		esac
		kill "-${signal%:*}" $pid
		status=0
		wait $pid || status=$?
		is ${signal#*:} $status "exit status of $command after SIG${signal%:*}: $(cat err.out)"
		is "$before" "$(listing old.*)" "files of $command after SIG${signal%:*}"
	done
done
