#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# --upgrade makes version 3 of version 2 first, with backing files of short and long names, snapshots, small
# clusters; every state of that a crash can leave is one of the two.
. "$(dirname "$0")/dedup-lib.sh"

long=$(printf '%0400d' 7).raw
mkdup base.raw 1M 4K 40 760
mkdup back.raw 1M 4K 40 761
cp back.raw "${long:0:200}.raw"
mkdir -p "${long:0:200}" && cp back.raw "${long:0:200}/$(printf '%0190d' 8).raw"
for cs in 512 4K 64K; do
	for back in '' back.raw "${long:0:200}.raw" "${long:0:200}/$(printf '%0190d' 8).raw"; do
		if [ -z "$back" ]; then
			qemu-img convert -f raw -O qcow2 -o compat=0.10,cluster_size=$cs base.raw disk.qcow2
		else
			[ $cs != 512 ] || [ ${#back} -lt 300 ] || continue
			qemu-img create -q -f qcow2 -o compat=0.10,cluster_size=$cs -b "$back" -F raw disk.qcow2
			qemu-io -c 'write -P 3 64k 128k' -c 'write -P 0 300k 64k' disk.qcow2 >/dev/null
			qemu-img snapshot -c one disk.qcow2
			qemu-io -c 'write -P 4 64k 64k' disk.qcow2 >/dev/null
		fi
		in_place disk.qcow2 $cs --upgrade
		is true "$(json out.json 'd["upgraded"]')"
		is 3 "$(walk --get version disk.qcow2)" version
		is "$back" "$(qemu-img info --output=json disk.qcow2 | json - 'd.get("backing-filename", "")')" "backing file"
		ok "$QDEDUP" dedup --upgrade -t unsafe disk.qcow2 >out
		grep -q 'nothing to do' out || die "the second run: $(cat out)"
		twin_write disk.qcow2 before/active 762 $cs 20
		check_clean -q disk.qcow2
		same before/active disk.qcow2 raw qcow2
	done
done

# Nothing to free: the version alone.
noise alone.raw 300K 763
qemu-img convert -f raw -O qcow2 -o compat=0.10,cluster_size=64K alone.raw disk.qcow2
ok "$QDEDUP" dedup -n --upgrade --output=json disk.qcow2 >plan.json
is true "$(json plan.json 'd["changed"]')"
is 2 "$(walk --get version disk.qcow2)" "version after -n"
in_place_exactly disk.qcow2 64K --upgrade --no-index
is 3 "$(walk --get version disk.qcow2)" version

# Crashes.
rm -f disk.qcow2
qemu-img convert -f raw -O qcow2 -o compat=0.10,cluster_size=4K base.raw disk.qcow2
cp disk.qcow2 snapshots.qcow2
qemu-img snapshot -c one snapshots.qcow2
qemu-io -c 'write -P 4 64k 64k' snapshots.qcow2 >/dev/null
"${QD_CRASH:-$_top/build/release/crash}/crash_dedup" -m 150 -q 75 disk.qcow2 snapshots.qcow2
