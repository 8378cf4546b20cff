#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Each damage case is found for what it is, in images of the kind data.
exec "$(dirname "$0")/../images/run.sh" data
