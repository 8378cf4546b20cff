#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# repair.sh VARIANT LEAST [OPTIONS of crash_repair]: repairs of the damage cases of
# tests/images, on images of that kind, interrupted everywhere.  Fails unless at least
# LEAST crash states were tried, and QEMU repaired some of them.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../cli/lib.sh"

variant=$1 least=$2
shift 2
mkdir images
"$here/../images/run.sh" -k "$PWD/images" "$variant" >/dev/null
# Not images at all, for the library: an error is all that comes of them.
rm -f images/h-cut.* images/h-version.*
"${QD_CRASH:-$_top/build/release/crash}/crash_repair" -q 20 "$@" images/* | tee out
states=$(cut -d ' ' -f 1 out)
[ "$states" -ge "$least" ] || die "only $states crash states, expected at least $least"
[ "$(cut -d ' ' -f 6 out)" -ge 5 ] || die "QEMU judged next to none: $(cat out)"
