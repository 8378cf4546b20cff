#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# SIGINT, SIGTERM and SIGHUP end a scan with 128 + signal and leave nothing, in TMPDIR or under the name of
# the records; so does a closed pipe.  Progress counts over all images; SIGUSR1 prints a line.
. "$(dirname "$0")/scan-lib.sh"

mkdata big.raw 256M 120 random
mkdata small.raw 8M 121 dup50
mkdir tmp
export TMPDIR=$PWD/tmp
# a command that has begun to read; little memory: it spills
# shellcheck disable=SC2120
started() {
	mkfifo progress.in
	env --default-signal=INT,TERM,HUP "$QDEDUP" scan --threads=1 --hash=sha3-256 --cluster-size=512,4K --memory=4M \
		--progress-fd=7 --records=records "$@" big.raw 7>progress.in >out 2>err &
	pid=$!
	exec 8<progress.in
	read -r line <&8
	rm progress.in
}
for pair in INT:130 TERM:143 HUP:129; do
	started
	kill "-${pair%:*}" $pid
	status=0
	wait $pid || status=$?
	exec 8<&-
	case $line in
	*'"finished": true'*) die "too fast for this test: $line" ;;
	esac
	is ${pair#*:} $status "exit status after SIG${pair%:*}: $(cat err)"
	is "qdedup scan: interrupted by SIG${pair%:*}" "$(tail -n 1 err)"
	is 1 "$(wc -l <err)" "lines on stderr"
	is '' "$(cat out)" "stdout"
	is '' "$(ls -A tmp)" "left in TMPDIR"
	[ ! -e records ] || die "a file of records after SIG${pair%:*}"
	is '' "$(find . -name '*records*')" "left beside"
done
# killed outright, there is nothing in TMPDIR either
started
kill -KILL $pid
wait $pid 2>/dev/null || true
exec 8<&-
is '' "$(ls -A tmp)" "left in TMPDIR after SIGKILL"

# nobody reads
set +e
env --default-signal=PIPE "$QDEDUP" scan --cluster-size=512 --records big.raw 2>err | head -n 3 >lines
status=${PIPESTATUS[0]}
set -e
is 141 "$status" "exit status"
is 3 "$(wc -l <lines)" "lines before the end"
is '' "$(ls -A tmp)" "left in TMPDIR"
full() {
	"$@" >/dev/full
}
fails 1 full "$QDEDUP" scan small.raw
says 'standard output: No space left'
fails 1 full "$QDEDUP" scan --records small.raw
says 'standard output'
fails 1 full "$QDEDUP" scan --output=json small.raw

# progress over all images
mix_qcow2 b.qcow2 122 3M
qemu-img create -q -f qcow2 -b b.qcow2 -F qcow2 over.qcow2
truncate -s 1G hole.raw
for list in "small.raw b.qcow2 hole.raw" over.qcow2 "hole.raw small.raw" "small.raw missing.raw"; do
	status=0
	# shellcheck disable=SC2086
	"$QDEDUP" scan --progress-fd=5 $list 5>progress >/dev/null 2>&1 || status=$?
	"$_python" - progress <<-'END' || die "progress of $list: $(cat progress)"
	import json, sys
	rows = [json.loads(line) for line in open(sys.argv[1])]
	assert rows and all(set(r) == {"operation", "current", "total", "finished"} for r in rows)
	assert all(r["operation"] == "scan" for r in rows)
	current = [r["current"] for r in rows]
	assert current == sorted(current) and all(r["current"] <= r["total"] for r in rows if r["total"]), current
	assert len({r["total"] for r in rows}) == 1, "the total changes"
	assert rows[-1]["finished"] and rows[-1]["current"] == rows[-1]["total"]
	END
done
ok "$QDEDUP" scan -p small.raw b.qcow2 >/dev/null
says '^scan: 100\.0 %'
ok "$QDEDUP" scan -q -p small.raw b.qcow2 >/dev/null
is '' "$ERR" "stderr with -q"
ok "$QDEDUP" scan small.raw b.qcow2 >/dev/null
is '' "$ERR" "stderr without a word to say"

started
kill -USR1 $pid
printed() { grep -q '^scan: .*%' err; }
wait_for printed
kill -TERM $pid
wait $pid || true
exec 8<&-

# started without stdout or stderr
if "$QDEDUP" scan small.raw >&- 2>&-; then
	die "the result went to a closed stdout, and that was success"
fi
