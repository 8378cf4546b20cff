#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Random damage, one to three things at once: a slice of make check-campaign.
. "$(dirname "$0")/check-lib.sh"

QDEDUP=$QDEDUP QD_TOOLS=$QD_TOOLS "$_python" -B "$(dirname "$0")/../images/campaign.py" --first 1 --count 60
