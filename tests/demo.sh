#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# make demo: a genuine ext4 disk image made from files of this machine, deduplicated
# at two cluster sizes, judged by stock QEMU.  DEMO_MIB (400) bounds the files taken;
# TMPDIR needs about five times as much for a moment.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin
QDEDUP=${QDEDUP:-$(cd "$(dirname "$0")/.." && pwd)/qdedup}
mib=${DEMO_MIB:-400}
work=$(mktemp -d)
trap 'cd /; chmod -R u+rwX "$work"; rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
cd "$work"

step() {
	printf '\n== %s\n' "$*"
}

# Shows a command as one would type it, and runs it.
run() {
	local word line='$'
	for word; do
		case $word in
		"$QDEDUP") line="$line qdedup" ;;
		*[!A-Za-z0-9_./=,:-]*) line="$line '$word'" ;;
		*) line="$line $word" ;;
		esac
	done
	printf '%s\n' "$line"
	"$@"
}

# Copies whole files from the given trees until `mib` is reached.  A file that goes away
# meanwhile does not matter.
collect() {
	local left=$((mib << 20)) size file
	mkdir -p files
	while read -r size file; do
		[ "$size" -le "$left" ] || continue
		left=$((left - size))
		printf '%s\0' "${file#/}"
	done < <(find "$@" -xdev -type f -readable -size +0 -size -32M -printf '%s %p\n' 2>/dev/null | LC_ALL=C sort -k2) |
		tar -C / --null --no-recursion -T - -cf - 2>/dev/null | tar -C files -xf - || true
}

step "A disk image from this machine's own files"
collect /usr/share/doc /usr/bin /usr/lib
run du -sh files
used=$(du -sm files | cut -f1)
truncate -s "$((used * 3 / 2 + 64))M" disk.raw
run mkfs.ext4 -q -F -N "$(($(find files | wc -l) + 1000))" -d files disk.raw
chmod -R u+rwX files
rm -rf files
run ls -lsh disk.raw

step "For comparison: what qemu-img convert makes of it"
run qemu-img convert -f raw -O qcow2 disk.raw plain.qcow2
run ls -lsh plain.qcow2

for size in 64K 4K; do
	step "qdedup convert, $size clusters"
	run "$QDEDUP" convert -f raw -o "cluster_size=$size" disk.raw "$size.qcow2"
	run qemu-img check "$size.qcow2"
	run qemu-img compare -f raw -F qcow2 disk.raw "$size.qcow2"
	run ls -lsh "$size.qcow2"
	run "$QDEDUP" stats "$size.qcow2"
done

step "A guest overwrites half a megabyte: stock QEMU still finds the image clean"
run qemu-io -f qcow2 -c 'write -P 0x5a 16M 512K' 4K.qcow2
run qemu-img check 4K.qcow2

step "Sizes on this disk"
for f in disk.raw plain.qcow2 64K.qcow2 4K.qcow2; do
	printf '%8s MiB  %s\n' "$(du -m "$f" | cut -f1)" "$f"
done
