#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Deduplicating plain and compressed images interrupted everywhere: each state reads what the image did, is
# marked dirty or leaks at worst, and each way back leads to a clean image with the same content.
. "$(dirname "$0")/dedup-crash.sh"

make_images plain
make_images packed
make_images journal
crash_all 2800 230 '' ./*.qcow2
crash_all 2800 110 lazysmall ./*.qcow2
crash_all 800 0 noindex ./*.qcow2
crash_all 800 0 nopinsmall ./*.qcow2
crash_all 3000 110 compact ./*.qcow2
