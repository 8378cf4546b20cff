#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# distcheck.sh NAME-VERSION: unpacks NAME-VERSION.tar.gz elsewhere, builds, tests and
# installs from it, compiles a program against what was installed, and takes
# everything back.
set -euo pipefail
name=$1
tarball=$PWD/$name.tar.gz
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unset MAKEFLAGS MAKELEVEL

tar -xzf "$tarball" -C "$work"
cd "$work/$name"
make -j"$(nproc)"
make check
make install DESTDIR="$work/root" PREFIX=/usr
root=$work/root/usr
"$root/bin/qdedup" --version
"$root/bin/qdedup" help >/dev/null

export PKG_CONFIG_SYSROOT_DIR=$work/root PKG_CONFIG_PATH=$root/lib/pkgconfig
cat >"$work/user.c" <<'END'
#include <stdio.h>
#include <ops/convert.h>

int main(int argc, char **argv)
{
	struct qd_convert_opts opts = { .source = argv[argc - 2], .target = argv[argc - 1] };
	struct qd_convert_result result;
	struct qd_err err;

	qd_layout_init(&opts.layout);
	if (qd_convert(&opts, NULL, &result, &err))
		return fprintf(stderr, "%s: %s\n", err.file, err.msg), 1;
	return printf("%s\n", result.target_format) < 0;
}
END
cc="${CC:-cc} -std=c11 -Wall -Wextra -Werror"
# Each header alone, as strict C.
(cd "$root/include/qdedup" && find . -name '*.h') | while read -r header; do
	# shellcheck disable=SC2046,SC2086  # options, one a word
	echo "#include <${header#./}>" | $cc -pedantic -fsyntax-only $(pkg-config --cflags qdedup) -x c -
done
# shellcheck disable=SC2046,SC2086
$cc -o "$work/user" "$work/user.c" $(pkg-config --cflags --libs qdedup)
# shellcheck disable=SC2046,SC2086
$cc -o "$work/user-static" "$work/user.c" $(pkg-config --cflags --libs --static qdedup |
	sed 's/-lqdedup/-l:libqdedup.a/')
head -c 200000 "$root/bin/qdedup" >"$work/in.raw"
LD_LIBRARY_PATH=$root/lib "$work/user" "$work/in.raw" "$work/shared.qcow2"
"$work/user-static" "$work/in.raw" "$work/static.qcow2"
cmp "$work/shared.qcow2" "$work/static.qcow2"
qemu-img compare -f raw -F qcow2 "$work/in.raw" "$work/static.qcow2"

make uninstall DESTDIR="$work/root" PREFIX=/usr
left=$(find "$work/root" ! -type d)
if [ -n "$left" ]; then
	echo "distcheck: uninstall left: $left" >&2
	exit 1
fi
echo "distcheck: $name.tar.gz is fit to be released"
