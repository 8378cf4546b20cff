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
#include <base/err.h>
int main(void)
{
	struct qd_err err;

	qd_err_set(&err, QD_E_INVALID, "linked");
	return puts(err.msg) < 0;
}
END
# shellcheck disable=SC2046  # options, one a word
"${CC:-cc}" -o "$work/user" "$work/user.c" $(pkg-config --cflags --libs qdedup)
LD_LIBRARY_PATH=$root/lib "$work/user"

make uninstall DESTDIR="$work/root" PREFIX=/usr
left=$(find "$work/root" ! -type d)
if [ -n "$left" ]; then
	echo "distcheck: uninstall left: $left" >&2
	exit 1
fi
echo "distcheck: $name.tar.gz is fit to be released"
