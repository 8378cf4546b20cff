#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# -p on a terminal is a live line, elsewhere a plain one; -q wins; --progress-fd is one
# JSON object a line, growing, the last one finished; SIGUSR1 prints a line without -p.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
mkdata in.raw 8M 1 dup50

ok "$QDEDUP" convert -p in.raw out.qcow2 >out
says '^convert: 100\.0 %'
! grep -q $'[\r\033]' <<<"$ERR" || die "terminal codes on something that is no terminal"
grep -q '^out.qcow2: ' out || die "the result is not on stdout: $(cat out)"

ok "$QDEDUP" convert in.raw out.qcow2 >/dev/null
is '' "$ERR" "stderr without -p"
ok "$QDEDUP" convert -pq in.raw out.qcow2 >out
is '' "$ERR$(cat out)" "everything with -pq"

ok "$QDEDUP" convert -q --progress-fd=5 in.raw out.qcow2 5>progress
$_python - progress <<'END'
import json, sys
rows = [json.loads(line) for line in open(sys.argv[1])]
assert rows, "no progress"
for row in rows:
    assert list(row) == ["operation", "current", "total", "finished"], row
    assert row["operation"] == "convert", row
    assert row["current"] <= row["total"], row
assert [row["finished"] for row in rows] == [False] * (len(rows) - 1) + [True], rows
assert sorted(row["current"] for row in rows) == [row["current"] for row in rows], rows
assert rows[-1]["current"] == rows[-1]["total"] > 0, rows[-1]
END

# A failure is never finished, and never 100 %.
fails 1 "$QDEDUP" convert -p --progress-fd=5 missing.raw out.qcow2 5>progress
! grep -q 'true' progress || die "a failure reported as finished"
! grep -q '100' <<<"$ERR" || die "a failure at 100 %: $ERR"

# A live line ends before anything else is printed.
$_python -c 'import os, pty, sys
out = b""
def read(fd):
    global out
    data = os.read(fd, 65536)
    out += data
    return data
status = pty.spawn([sys.argv[1], "convert", "-p", "in.raw", "tty.qcow2"], read)
assert os.waitstatus_to_exitcode(status) == 0, status
assert b"\rconvert: 100.0 %" in out and b"\x1b[K\r\ntty.qcow2: " in out, out
' "$QDEDUP" </dev/null >/dev/null

# SIGUSR1 does not kill, and tells where a command without -p is.
mkfifo input
"$QDEDUP" convert - usr1.qcow2 <input >out 2>err &
pid=$!
exec 7>input
said() {
	grep -q '^convert: ' err
}
for _ in $(seq 400); do
	head -c 1M in.raw >&7
	kill -USR1 "$pid"
	! said || break
done
exec 7>&-
wait "$pid" || die "stopped by SIGUSR1: $(cat err)"
said || die "SIGUSR1 printed nothing"
