#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# `qemu-img snapshot -a qdedup` is refused and harms nothing; `-d qdedup` leaves a clean image.
. "$(dirname "$0")/convert-lib.sh"

for options in cluster_size=512 cluster_size=4K cluster_size=64K cluster_size=2M; do
	case $options in
	*K | *512) mkdup in.raw 3M ${options#*=} 20 132 ;;
	*2M) mkdup in.raw 16M 2M 2 132 ;;
	esac
	for c in '' -c; do
		rm -f out.qcow2
		# shellcheck disable=SC2086
		ok "$QDEDUP" convert -t unsafe $c -o $options in.raw out.qcow2
		exits 1 qemu-img snapshot -a qdedup out.qcow2
		deduplicated out.qcow2 in.raw "${options#*=}"
		exits 0 qemu-img snapshot -d qdedup out.qcow2
		check_clean -q out.qcow2
		same in.raw out.qcow2 raw qcow2
		counted in.raw "${options#*=}"
		is "$data 0" "$(walk --get data --get pin out.qcow2 | xargs)" "data clusters and pins afterwards"
	done
done
