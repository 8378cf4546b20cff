#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The same with internal snapshots, and with images that were deduplicated before and written to since:
# every layer reads what it did.
. "$(dirname "$0")/dedup-crash.sh"

make_images snapshots
make_images again
crash_all 1900 180 '' ./*.qcow2
crash_all 1800 120 lazy ./*.qcow2
crash_all 500 0 small ./*.qcow2
crash_all 300 0 nopin ./*.qcow2
