#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What guest clusters share is read once, a valid stored hash table stands for the data, unallocated parts
# and holes are not read, nor is a backing file once for each overlay; a sample reads its part.
. "$(dirname "$0")/scan-lib.sh"

# reads COMMAND...: bytes it asked for; what a shell has waited for is counted as its own
reads() {
	local me=$BASHPID before
	before=$(awk '/^rchar/ { print $2 }' "/proc/$me/io")
	"$@" >/dev/null || die "failed: $*"
	echo $(($(awk '/^rchar/ { print $2 }' "/proc/$me/io") - before))
}

# at_most BYTES COMMAND...
at_most() {
	local n
	n=$(reads "${@:2}")
	echo "$n bytes: ${*:2}"
	[ "$n" -le "$1" ] || die "${*:2} reads $n bytes, more than $1"
}

# at_least BYTES COMMAND...: so that the counts above mean something
at_least() {
	local n
	n=$(reads "${@:2}")
	[ "$n" -ge "$1" ] || die "${*:2} reads $n bytes, not even $1"
}

base=$(reads "$QDEDUP" --version)
slack=$((base + 1500000))		# tables, and files opened more than once
M=$((1 << 20))

# 16 MiB of disk, in 1 MiB of different clusters
mkdata one 1M 1 random
for ((i = 0; i < 16; i++)); do cat one; done >copies.raw
"$QDEDUP" convert -q -t unsafe --no-index copies.raw copies.qcow2
at_least $((16 * M)) "$QDEDUP" scan copies.raw
at_most $((M + slack)) "$QDEDUP" scan copies.qcow2
at_most $((M + slack)) "$QDEDUP" scan --threads=1 --cluster-size=64K --records copies.qcow2
counts --cluster-size=4K,64K,256K copies.qcow2
# in snapshots, too
qemu-img snapshot -c s copies.qcow2
qemu-io -c 'write -P 9 3M 128k' copies.qcow2 >/dev/null
at_most $((2 * M + slack)) "$QDEDUP" scan --snapshots copies.qcow2
counts --snapshots copies.qcow2

# 8 MiB of data, hashes stored
mkdata data.raw 8M 2 random
"$QDEDUP" convert -q -t unsafe -o cluster_size=4K data.raw data.qcow2
at_least $((8 * M)) "$QDEDUP" scan --hash=sha256 data.qcow2
at_least $((8 * M)) "$QDEDUP" scan --cluster-size=512 data.qcow2
at_most $slack "$QDEDUP" scan data.qcow2
counts data.qcow2 data.raw
for sizes in 4K 4K,64K,2M; do
	"$QDEDUP" scan --cluster-size=$sizes --output=json --top=3 data.qcow2 >stored
	"$QDEDUP" scan -U --cluster-size=$sizes --output=json --top=3 data.qcow2 | cmp - stored || die "$sizes: hashes count otherwise"
done
"$QDEDUP" scan --cluster-size=4K --records data.qcow2 >stored
"$QDEDUP" scan -U --cluster-size=4K --records data.qcow2 | cmp - stored || die "other records"
# somebody else writes: the hashes no longer hold
qemu-io -c 'write -P 7 2M 1M' data.qcow2 >/dev/null
counts --top=2 data.qcow2

# nothing where there is nothing
truncate -s 64G hole.raw
qemu-img create -q -f qcow2 empty.qcow2 64G
at_most $slack "$QDEDUP" scan hole.raw empty.qcow2

# the file below once
for n in 1 2 3 4; do
	qemu-img create -q -f qcow2 -b data.raw -F raw over$n.qcow2
	qemu-io -c "write -P $n 1M 64k" over$n.qcow2 >/dev/null
done
at_most $((8 * M + slack + 400000)) "$QDEDUP" scan over1.qcow2 over2.qcow2 over3.qcow2 over4.qcow2

mkdata much.raw 64M 3 random
at_most $((24 * M)) "$QDEDUP" scan --sample=1/8 much.raw
