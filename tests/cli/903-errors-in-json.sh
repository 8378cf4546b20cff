#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# With --output=json a failure also prints {"error": {"message", "file"}} on stderr.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# last EXPR: of the JSON line in $ERR
last() {
	tail -n 1 <<<"$ERR" >error.json
	json error.json "$1"
}

fails 1 "$QDEDUP" convert --output=json missing.raw out.qcow2
says '^qdedup convert: missing.raw: .*No such file'
is 2 "$(wc -l <<<"$ERR")" "lines on stderr"
is missing.raw "$(last 'd["error"]["file"]')"
is true "$(last '"No such file" in d["error"]["message"]')"
is '["error"]' "$(last 'sorted(d)')"
is '["file", "message"]' "$(last 'sorted(d["error"])')"

# The two-word form; a usage error, wherever --output stands.
fails 1 "$QDEDUP" convert --output json missing.raw out.qcow2
is missing.raw "$(last 'd["error"]["file"]')"
fails 1 "$QDEDUP" convert --nonsense a b --output=json
is null "$(last 'd["error"]["file"]')"
is true "$(last '"--nonsense" in d["error"]["message"]')"

# After "--" it is a file name.
fails 1 "$QDEDUP" convert -- --output=json out.qcow2
is 1 "$(wc -l <<<"$ERR")" "lines on stderr without JSON"
fails 1 "$QDEDUP" convert missing.raw out.qcow2
is 1 "$(wc -l <<<"$ERR")" "lines on stderr without JSON"

# A name that is not UTF-8, with a newline and an escape character.
name=$(printf 'a\nb\033[31m\377\303\251')
fails 1 "$QDEDUP" convert --output=json "$name" out.qcow2
is 2 "$(wc -l <<<"$ERR")" "lines on stderr"
is true "$(last 'd["error"]["file"] == "a\nb\x1b[31m\ufffd\u00e9"')"

# The image on stdout leaves no room for a result.
mkdata in.raw 64K 1 random
fails 1 "$QDEDUP" convert --output=json in.raw -
says 'standard output'

ok "$QDEDUP" convert --output=json in.raw out.qcow2 >result.json
is qcow2 "$(json result.json 'd["target-format"]')"
is 'cluster-size data-clusters file-size guest-clusters saved-bytes shared-clusters target-format virtual-size' \
	"$(json result.json '" ".join(sorted(d))')"
is 65536 "$(json result.json 'd["virtual-size"]')"
is '' "$ERR" "stderr of a success"
