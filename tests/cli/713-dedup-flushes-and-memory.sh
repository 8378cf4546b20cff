#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Hundreds of thousands of duplicates need tens of flushes, and no more memory than --memory allows; with
# little memory the result is the same.
. "$(dirname "$0")/dedup-lib.sh"

mkdup base.raw 96M 512 50000 713
qemu-img convert -f raw -O qcow2 -o cluster_size=512 base.raw disk.qcow2
cp disk.qcow2 little.qcow2
cp disk.qcow2 logged.qcow2
in_place disk.qcow2 512 --no-index
freed=$(json out.json 'd["clusters-freed"]')
[ "$freed" -gt 100000 ] || die "only $freed clusters were freed: no test"
[ "$(json out.json 'd["flushes"]')" -le 30 ] || die "$freed clusters took $(json out.json 'd["flushes"]') flushes"
in_place little.qcow2 512 --no-index --memory=8M
is "$freed" "$(json out.json 'd["clusters-freed"]')" "clusters freed with --memory=8M"
[ "$(json out.json 'd["batches"]')" -gt 3 ] || die "little memory, but few batches: no test"
[ "$(json out.json 'd["flushes"]')" -le 100 ] ||
	die "$freed clusters took $(json out.json 'd["flushes"]') flushes with --memory=8M"
qemu-img map --output=json disk.qcow2 >disk.map
qemu-img map --output=json little.qcow2 | cmp disk.map - || die "another result with little memory"

# With redo records of everything.
in_place logged.qcow2 512
is "$(json out.json 'd["batches"]')" "$(json out.json 'd["batches-logged"]')" "batches with records"
[ "$(json out.json 'd["flushes"]')" -le 60 ] ||
	die "$freed clusters took $(json out.json 'd["flushes"]') flushes with redo records"
