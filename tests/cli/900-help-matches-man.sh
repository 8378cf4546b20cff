#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Every option that --help shows stands in the OPTIONS of the manual page, and the other
# way round; every command has a page, every page a command; the pages are sound.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
man=$_top/man

help_options() {
	ok "$QDEDUP" "$@" --help | grep -oE '^ {2,6}(-[A-Za-z](, --[a-z][a-z0-9-]*)?|--[a-z][a-z0-9-]*)' |
		tr -d ' ' | tr , '\n' | sort
}

# The options that begin an item: the lines with the least indentation in OPTIONS.
man_options() {
	mandoc -T ascii -O width=400 "$1" | sed 's/.\x08//g' | awk '
		/^[A-Z]/ { inside = $0 == "OPTIONS" }
		inside && /^ +-/ {
			match($0, /^ +/)
			if (!least || RLENGTH < least)
				least = RLENGTH
			line[++n] = $0
			indent[n] = RLENGTH
		}
		END { for (i = 1; i <= n; i++) if (indent[i] == least) print line[i] }' |
		grep -oE '^ +(-[A-Za-z](, --[a-z][a-z0-9-]*)?|--[a-z][a-z0-9-]*)' | tr -d ' ' | tr , '\n' | sort
}

# compare_options PAGE [COMMAND]
compare_options() {
	local page=$1
	shift
	[ -e "$page" ] || die "qdedup $*: no manual page ${page#"$_top"/}"
	help_options "$@" >help
	man_options "$page" >paged
	[ "$(wc -l <help)" -ge 2 ] || die "qdedup $* --help: no options found"
	diff help paged || die "qdedup $* --help (<) and ${page#"$_top"/} (>) name different options"
}

commands=$(ok "$QDEDUP" --help | awk '/^Commands/ { on = 1; next } !/^ / { on = 0 } on { print $1 }')
is 1 "$(grep -cx convert <<<"$commands")" "'convert' among the commands"

compare_options "$man/qdedup.1"
for command in $commands; do
	compare_options "$man/qdedup-$command.1" "$command"
	mandoc -T ascii "$man/qdedup.1" | sed 's/.\x08//g' >qdedup.txt
	grep -Eq "qdedup-$command\(1\)" qdedup.txt || die "qdedup(1) does not mention qdedup-$command(1)"
done

for page in "$man"/*.[15]; do
	mandoc -T lint -W error "$page" || die "mandoc finds errors in ${page#"$_top"/}"
	name=$(basename "$page")
	case $name in
	qdedup.1 | qdedup-format.5) ;;
	qdedup-*.1)
		name=${name#qdedup-}
		grep -qx "${name%.1}" <<<"$commands" || die "${page#"$_top"/}: there is no such command"
		;;
	*) die "${page#"$_top"/}: named unlike any other" ;;
	esac
done

# Each image option too.
mandoc -T ascii "$man/qdedup-convert.1" | sed 's/.\x08//g' >convert.txt
ok "$QDEDUP" convert -o help | awk '/^  / { print $1 }' >names
[ "$(wc -l <names)" -ge 8 ] || die "-o help lists too few options"
while read -r name; do
	grep -Eq "(^|[ ,])$name( |,|$)" convert.txt || die "qdedup-convert(1) does not explain -o $name"
done <names
