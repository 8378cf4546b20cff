#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The rules that keep the tree what its picture says:
#
#	lib/ops > lib/dedup > lib/image > lib/space > lib/txn > lib/format > lib/base
#
# A file of lib/ includes only from its own layer and those to the right of it; cmd/
# includes only its own headers, lib/ops and lib/base; the library does not print,
# exit, start programs or read the environment (judged by the symbols its objects
# ask for: QD_LIB names the archive).
#
# And the documents must not point at what is not there.
set -u
cd "$(dirname "$0")/.." || exit 1
layers='base format txn space image dedup ops'
lib=${QD_LIB:-build/release/libqdedup.a}
bad=0

complain() {
	printf '%s\n' "$*"
	bad=1
}

# includes FILE: "line header" for each header in quotes
includes() {
	sed -n 's/^[[:space:]]*#[[:space:]]*include[[:space:]]*"\([^"]*\)".*/\1/;t p;b;:p;=;p' "$1" | paste -d ' ' - -
}

# check_includes FILE ALLOWED-DIRECTORY...
check_includes() {
	local file=$1 line header
	shift
	while read -r line header; do
		case " $* " in
		*" ${header%%/*} "*) ;;
		*) complain "$file:$line: includes \"$header\"; allowed here: $*" ;;
		esac
		[ -e "lib/$header" ] || complain "$file:$line: there is no lib/$header"
	done < <(includes "$file")
}

allowed=
for layer in $layers; do
	allowed="$allowed $layer"
	for file in lib/"$layer"/*.[ch]; do
		# shellcheck disable=SC2086  # a list of words
		[ ! -e "$file" ] || check_includes "$file" $allowed
	done
done

for dir in lib/*/; do
	dir=$(basename "$dir")
	case " $layers " in
	*" $dir "*) ;;
	*) complain "lib/$dir: not a layer; the layers are: $layers" ;;
	esac
done

for file in cmd/*.[ch]; do
	[ -e "$file" ] || continue
	while read -r line header; do
		case $header in
		ops/* | base/*) [ -e "lib/$header" ] || complain "$file:$line: there is no lib/$header" ;;
		*/*) complain "$file:$line: includes \"$header\"; a command needs lib/ops and lib/base only" ;;
		*) [ -e "cmd/$header" ] || complain "$file:$line: there is no cmd/$header" ;;
		esac
	done < <(includes "$file")
done

# Names in backquotes with a slash are files; "*" stands for anything, "<name>" and NNN are to be
# filled in.
for file in README tests/README; do
	dir=$(dirname "$file")
	while read -r name; do
		compgen -G "$name" >/dev/null || compgen -G "$dir/$name" >/dev/null ||
			complain "$file: there is no $name"
	done < <(grep -oE '`[a-z.]+/[^` <>]*`' "$file" | grep -v NNN | tr -d '`')
done

if [ -e "$lib" ]; then
	forbidden='_?printf|v?printf|__v?printf_chk|puts|putchar|perror|stdout|stderr|v?errx?|v?warnx?'
	forbidden="$forbidden|exit|_exit|_Exit|quick_exit|getenv|secure_getenv|environ|system|popen|execv.*|execl.*"
	calls=$(nm -A --undefined-only "$lib" | awk '{ print $1, $NF }' |
		grep -E "^[^ ]+ ($forbidden)(@.*)?\$")
	[ -z "$calls" ] || complain "the library must not use these:
$calls"
else
	complain "$lib: not built, so what the library calls is not known"
fi

exit "$bad"
