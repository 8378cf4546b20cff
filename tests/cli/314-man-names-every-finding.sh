#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# qdedup-check(1) names the kinds of findings that there are, each under its severity.
. "$(dirname "$0")/lib.sh"

kinds() {
	sed -nE "s/^	\[QD_F_[A-Z0-9_]+\] = \{ \"([a-z0-9-]+)\", $1,.*/\1/p" "$_top/lib/ops/finding.c" | sort
}

# The items of the list behind the line that begins so.
listed() {
	awk -v head="$1" 'index($0, head) == 1 { on = 1 } /^\.El/ { on = 0 } on && /^\.It Cm/ { print $3 }' \
		"$_top/man/qdedup-check.1" | sort
}

for pair in ERRO:Errors CORR:Corruptions LEAK:Leaks NOTE:Notes; do
	kinds "${pair%%:*}" >there
	[ -s there ] || die "no kinds found of ${pair%%:*}"
	listed "${pair#*:}" | diff there - || die "finding.c (<) and the page (>) differ: ${pair#*:}"
done
