#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# --memory bounds what dedup remembers of an image with very many clusters, hash table included; with little
# memory as many clusters are freed.
. "$(dirname "$0")/dedup-lib.sh"

peak() {	# IMG OPTIONS...: sets rss, KiB
	read -r _ rss _ < <("$QD_TOOLS/measure" "$QDEDUP" dedup -q -t unsafe "${@:2}" "$1")
	echo "peak with ${*:2}: $rss KiB"
}

mkdup base.raw 48M 512 25000 731
qemu-img convert -f raw -O qcow2 -o cluster_size=512 base.raw little.qcow2
cp little.qcow2 much.qcow2
peak much.qcow2 --memory=1G
much=$rss
peak little.qcow2 --memory=8M
[ "$slower" -gt 1 ] || [ "$rss" -lt $((20 << 10)) ] || die "peak of $rss KiB with --memory=8M"
[ "$slower" -gt 1 ] || [ "$much" -gt $((25 << 10)) ] || die "peak of only $much KiB with much memory: no test"
check_clean -q little.qcow2
same base.raw little.qcow2 raw qcow2
qemu-img map --output=json much.qcow2 >much.map
qemu-img map --output=json little.qcow2 | cmp much.map - || die "another result with little memory"
