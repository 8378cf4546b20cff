#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# --version and the four ways to ask for help: on stdout, exit status 0.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

ok "$QDEDUP" --version >version
grep -Eqx 'qdedup [0-9]+\.[0-9]+\.[0-9]+' version || die "--version printed '$(cat version)'"
is '' "$ERR" "stderr of --version"

ok "$QDEDUP" --help >help
grep -q '^Usage: qdedup ' help || die "--help shows no usage"
ok "$QDEDUP" -h | cmp - help
ok "$QDEDUP" help | cmp - help
ok "$QDEDUP" help --help | cmp - help

commands=$(awk '/^Commands/ { on = 1; next } !/^ / { on = 0 } on { print $1 }' help)
for command in $commands; do
	ok "$QDEDUP" "$command" --help >one
	is '' "$ERR" "stderr of $command --help"
	grep -q "^Usage: qdedup $command \[OPTIONS\] " one || die "$command --help: $(head -n 1 one)"
	ok "$QDEDUP" help "$command" | cmp - one
	ok "$QDEDUP" "$command" -h | cmp - one
	# Whatever stands around it, but for an earlier mistake.
	ok "$QDEDUP" "$command" a b c d e --help | cmp - one
	fails "$(case $command in compare) echo 2 ;; *) echo 1 ;; esac)" "$QDEDUP" "$command" --nonsense --help
	awk '{ gsub(/\t/, "        ") } length > 80 { print; bad = 1 } END { exit bad }' one ||
		die "$command --help has lines of more than 80 characters"
done

ok "$QDEDUP" convert -o help >options
grep -Eq '^ +cluster_size +' options || die "-o help lists no cluster_size"
is './help ./one ./options ./version' "$(find . -type f ! -name '.*' | sort | xargs)" "files there are"
