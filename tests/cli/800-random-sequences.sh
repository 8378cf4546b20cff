#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Random sequences of operations by qdedup and stock QEMU on one image: a slice of make check-campaign.
. "$(dirname "$0")/lib.sh"

QDEDUP=$QDEDUP QD_TOOLS=$QD_TOOLS "$_python" -B "$(dirname "$0")/../tools/sequences.py" --seed 1 --runs 10 --steps 12 --keep .
