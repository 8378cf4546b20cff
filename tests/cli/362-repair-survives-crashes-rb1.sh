#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A repair that is interrupted anywhere loses nothing, and a second one finishes: images of the kind rb1.
exec "$(dirname "$0")/../crash/repair.sh" rb1 1500 -s 2
