#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What a name contains does not reach the terminal as control characters, nor end the
# line: in errors, in results, in usage errors.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

bytes_are_harmless() {
	local file=$1 what=$2
	[ "$(wc -l <"$file")" -le 2 ] || die "$what: more than two lines: $(cat -v "$file")"
	! LC_ALL=C grep -qP '[\x00-\x08\x0b-\x1f\x7f]' "$file" || die "$what: control bytes: $(cat -v "$file")"
}

evil=$(printf 'new\nline \033]0;title\007 \033[31mred \r\t\177 \302\233 \377 \342\200\256 \303\251')
shown='new\\nline \\x1b]0;title\\x07 \\x1b\[31mred \\r\\t\\x7f \\xc2\\x9b \\xff \\xe2\\x80\\xae '

fails 1 "$QDEDUP" convert "$evil" out.qcow2
printf '%s\n' "$ERR" >err
bytes_are_harmless err "error"
is 1 "$(wc -l <err)" "lines of the error"
grep -q "$shown$(printf '\303\251'): " err || die "not shown as expected: $(cat -v err)"

fails 1 "$QDEDUP" "$evil"
printf '%s\n' "$ERR" >err
bytes_are_harmless err "unknown command"
fails 1 "$QDEDUP" convert -o "$evil=1" in.raw out.qcow2
printf '%s\n' "$ERR" >err
bytes_are_harmless err "usage error"

mkdata "$evil" 64K 1 random
ok "$QDEDUP" convert "$evil" "$evil.qcow2" >out
bytes_are_harmless out "result"
grep -q "$shown" out || die "not shown as expected: $(cat -v out)"
same "$evil" "$evil.qcow2" raw qcow2

# Names that look like options or protocols are names.
mkdata ./-q 64K 2 random
ok "$QDEDUP" convert -q -f raw -- -q a:b.qcow2
same ./-q ./a:b.qcow2 raw qcow2
