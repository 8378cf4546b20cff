#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# setup.sh [--print] [build|check|demo|bench|html|lint|fuzz|coverage|valgrind]
#
# Installs what the given purpose needs and the machine lacks, and nothing when it
# lacks nothing: then no network is used.  Where it cannot install (not root, no
# apt-get) it prints the command to run and exits 1; --print always only prints.
#
# What counts is whether the thing itself is there (a program, a library that
# pkg-config finds), not the name of a package, so that a machine that is not Debian
# but has everything is content.
set -u
PATH=$PATH:/usr/sbin:/sbin

print_only=
[ "${1-}" = --print ] && { print_only=1; shift; }
purpose=${1:-check}
missing=

lacks() {
	case " $missing " in
	*" $1 "*) ;;
	*) missing="$missing $1" ;;
	esac
}

# program PROGRAM PACKAGE
program() {
	command -v "$1" >/dev/null 2>&1 || lacks "$2"
}

# library PKG-CONFIG-NAME PACKAGE
library() {
	pkg-config --exists "$1" 2>/dev/null || lacks "$2"
}

# python_module MODULE PACKAGE: of the python3 that the tests use (tests/cli/lib.sh)
python_module() {
	python=/usr/bin/python3
	[ -x "$python" ] || python=python3
	"$python" -c "import $1" >/dev/null 2>&1 || lacks "$2"
}

# Any compiler will do ($CC, else cc); without a C library's headers it compiles nothing.
compiles() {
	printf '#include <stdio.h>\nint main(void) { return 0; }\n' |
		"${CC:-cc}" -x c -o /dev/null - >/dev/null 2>&1
}

need_build() {
	compiles || { lacks gcc; lacks libc6-dev; }
	program ar binutils
	program make make
	program pkg-config pkg-config
	library zlib zlib1g-dev
	library libcrypto libssl-dev
	library popt libpopt-dev
	library libzstd libzstd-dev
	library libxxhash libxxhash-dev
	library jansson libjansson-dev
	library libisal libisal-dev
	library libdeflate libdeflate-dev
}

need_judges() {
	program qemu-img qemu-utils
	program qemu-io qemu-utils
	program qemu-nbd qemu-utils
	program mkfs.ext4 e2fsprogs
	program python3 python3
}

need_check() {
	need_build
	need_judges
	library cunit libcunit1-dev
	program cmp diffutils
	program parallel parallel
	program flock util-linux
	program losetup mount
	program mandoc mandoc
	python_module xxhash python3-xxhash
}

# clang's runtimes come in a package of their own, named after its version
need_clang_runtime() {
	printf 'int LLVMFuzzerTestOneInput(const char *p, unsigned long n) { return p && n == 9999; }\n' |
		clang -fsanitize=fuzzer,address -x c -o /dev/null - >/dev/null 2>&1 || lacks libclang-rt-14-dev
}

case $purpose in
build) need_build ;;
check) need_check ;;
demo | bench) need_build; need_judges ;;
valgrind) need_check; program valgrind valgrind ;;
coverage) need_check; program gcovr gcovr ;;
html)
	need_build
	program python3 python3
	command -v chromium >/dev/null 2>&1 || program chromium-headless-shell chromium-headless-shell
	[ -d /usr/share/fonts ] || lacks fonts-dejavu-core
	;;
fuzz) need_check; program clang clang; need_clang_runtime ;;
lint)
	need_check
	program clang-tidy clang-tidy
	program cppcheck cppcheck
	program shellcheck shellcheck
	;;
*) echo "setup.sh: $purpose: unknown purpose" >&2; exit 1 ;;
esac

[ -n "$missing" ] || exit 0
command="apt-get update && apt-get install -y --no-install-recommends$missing"

if [ -n "$print_only" ] || [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
	[ "$purpose" != build ] || purpose=all
	echo "Something is missing that 'make $purpose' needs.  As root, on Debian or Ubuntu, run:"
	echo
	echo "    $command"
	echo
	command -v apt-get >/dev/null 2>&1 ||
		echo "(This system has no apt-get: install the same things in its own way.)"
	exit 1
fi >&2

echo "Installing what is missing:$missing" >&2
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp) || exit 1
# shellcheck disable=SC2086  # a list of words
if ! { apt-get update && apt-get install -y --no-install-recommends $missing; } >"$log" 2>&1; then
	cat "$log" >&2
	rm -f "$log"
	echo "setup.sh: installing failed; the command was: $command" >&2
	exit 1
fi
rm -f "$log"
