#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What does not fit --memory goes to TMPDIR: when that is full, a message says how much is needed, and
# nothing is left; the peak stays under the ceiling.
. "$(dirname "$0")/scan-lib.sh"

mkdata in.raw 96M 60 random
limit=32
[ "$slower" -eq 1 ] || limit=1024	# an instrumented program has memory of its own
mkdir tmp
rss=$(TMPDIR=$PWD/tmp "$QD_TOOLS/measure" "$QDEDUP" scan --memory=16M --cluster-size=512 in.raw | cut -d ' ' -f 2)
echo "peak: $rss KiB with --memory=16M"
[ "$rss" -lt $((limit * 512)) ] || die "peak of $rss KiB under --memory=16M"
is '' "$(ls -A tmp)" "left in TMPDIR"

# a file that cannot grow
(
	ulimit -f 500
	trap '' XFSZ
	TMPDIR=$PWD/tmp fails 1 "$QDEDUP" scan --memory=1M --cluster-size=512 in.raw
	says "$PWD/tmp" '[Nn]o space left|File too large'
)
is '' "$(ls -A tmp)" "left in TMPDIR after a failure"

# a directory that is none
TMPDIR=$PWD/nowhere fails 1 "$QDEDUP" scan --memory=1M --cluster-size=512 in.raw
says "$PWD/nowhere"
# not needed, not looked at
TMPDIR=$PWD/nowhere ok "$QDEDUP" scan --memory=1G in.raw >/dev/null

mkdir disk
if [ "$(id -u)" -eq 0 ] && mount -t tmpfs -o size=2M,mode=755 none disk 2>/dev/null; then
	at_exit "umount '$PWD/disk'"
	TMPDIR=$PWD/disk fails 1 "$QDEDUP" scan --memory=1M --cluster-size=512 in.raw
	says "$PWD/disk" '[Nn]o space left' '[0-9.]+ ?(MiB|M|GiB|G|K|KiB|bytes)' TMPDIR
	is '' "$(ls -A disk)" "left in a full TMPDIR"
	# as much as it says is enough, but for the rounding
	need=$(grep -oE '[0-9.]+ [MK]iB' <<<"$ERR" | head -n 1 | tr -d ' Bi')
	mount -o "remount,size=$(($(numfmt --from=iec "$need") * 11 / 10))" "$PWD/disk"
	TMPDIR=$PWD/disk ok "$QDEDUP" scan --memory=1M --cluster-size=512 --output=json in.raw >report
	is $((96 << 11)) "$(json report 'd["cluster-sizes"][0]["unique"]')" "distinct clusters"
	# a file of records that does not fit either
	mount -o remount,size=2M "$PWD/disk"
	fails 1 "$QDEDUP" scan --cluster-size=512 --records=disk/file in.raw
	says 'disk/file' 'No space left'
	is '' "$(ls -A disk)" "left of records on a full disk"
fi
