#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# -p, --progress-fd, SIGUSR1, -q, --output=json: progress on stderr or the given descriptor, one JSON
# document on stdout, errors in JSON on stderr.
. "$(dirname "$0")/convert-lib.sh"

mkdata in.raw 8M 196 dup50
ok "$QDEDUP" convert --output=json in.raw out.qcow2 >result.json
is '' "$ERR" "stderr without a failure"
counted in.raw 64K
is "qcow2 8388608 65536 $references $data $shared $(stat -c %s out.qcow2)" "$(json result.json \
	'" ".join(str(d[k]) for k in ("target-format", "virtual-size", "cluster-size", "guest-clusters", "data-clusters", "shared-clusters", "file-size"))')"
ok "$QDEDUP" convert --output=json --no-dedup in.raw out.qcow2 >result.json
is "$references $references 0" "$(json result.json '" ".join(str(d[k]) for k in ("guest-clusters", "data-clusters", "shared-clusters"))')"
ok "$QDEDUP" convert --output=json out.qcow2 out.raw >result.json
is raw "$(json result.json 'd["target-format"]')"
is 77 "$(ok "$QDEDUP" convert -q in.raw out.qcow2; echo 77)" "output of -q"
is '' "$ERR" "stderr of -q"
ok "$QDEDUP" convert in.raw out.qcow2 >human
[ -s human ] || die "nothing to read for people"

# progress: JSON lines that grow, on the descriptor alone
ok "$QDEDUP" convert --progress-fd=5 in.raw out.qcow2 5>progress >/dev/null
is '' "$ERR" "stderr with --progress-fd"
"$_python" - progress <<'END'
import json, sys
rows = [json.loads(line) for line in open(sys.argv[1])]
assert rows, "no line"
assert all(set(r) >= {"operation", "current", "total", "finished"} for r in rows), rows[0]
assert all(r["operation"] == "convert" for r in rows), rows[0]
current = [r["current"] for r in rows]
assert current == sorted(current), "progress goes back"
assert all(r["current"] <= r["total"] for r in rows if r["total"]), "more than all"
assert rows[-1]["finished"] is True and not any(r["finished"] for r in rows[:-1]), "finished"
assert rows[-1]["current"] == rows[-1]["total"], rows[-1]
END
ok "$QDEDUP" convert -p in.raw out.qcow2 >/dev/null
says '100'
"$QDEDUP" convert -p in.raw - 2>err | cmp - in.raw || die "progress on stdout"

# SIGUSR1: a line, and the conversion goes on
hold run "$QDEDUP" convert - usr1.qcow2
feed run in.raw
before=$(wc -l <run.out)
kill -USR1 "${_held_pid[run]}"
printed() { [ "$(wc -l <run.out)" -gt "$before" ]; }
cat in.raw >&"${_held_fd[run]}"
wait_for printed
release run
cat in.raw in.raw >twice.raw
deduplicated usr1.qcow2 twice.raw 64K

# failures: nothing on stdout, one message and one JSON line on stderr
fails 1 "$QDEDUP" convert --output=json nosuch.raw none.qcow2
is 2 "$(wc -l <<<"$ERR")" "lines on stderr: $ERR"
tail -n 1 <<<"$ERR" >error.json
is nosuch.raw "$(json error.json 'd["error"]["file"]')"
head -n 1 <<<"$ERR" | prints '^qdedup convert: nosuch.raw: ' || die "message: $ERR"
fails 1 "$QDEDUP" convert --output=xml in.raw none.qcow2
says xml
fails 1 "$QDEDUP" convert --progress-fd=99 in.raw none.qcow2
says 99
[ ! -e none.qcow2 ] || die "a failure left an output"

# stdout carries the disk or the result, not both
ok "$QDEDUP" convert in.raw - >disk.raw
cmp in.raw disk.raw
fails 1 "$QDEDUP" convert --output=json in.raw -
