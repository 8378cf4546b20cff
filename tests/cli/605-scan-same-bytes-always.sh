#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Report and records are the same bytes with any number of threads, any --memory, in any order of the
# images.
. "$(dirname "$0")/scan-lib.sh"

mkdata big.raw 64M 50 dup50
mkdata text.raw 24M 51 text
mix odd.raw 3000001 52
mix_qcow2 packed.qcow2 53 3M cluster_size=64K -c
qemu-img create -q -f qcow2 -b odd.raw -F raw over.qcow2 6M
qemu-io -c 'write -P 9 700k 30k' over.qcow2 >/dev/null
images=(big.raw text.raw over.qcow2 packed.qcow2)
sizes=512,4K,8K,64K

ok "$QDEDUP" scan --cluster-size=$sizes --matrix --top=10 "${images[@]}" >human
ok "$QDEDUP" scan --cluster-size=$sizes --matrix --top=10 --output=json "${images[@]}" >report
ok "$QDEDUP" scan --cluster-size=$sizes --records "${images[@]}" >records
brute --cluster-size=$sizes --report=report "${images[@]}"
for how in --threads=1 --threads=2 --threads=3 --threads=8 --memory=16M '--memory=16M --threads=1' '--memory=16M --threads=8' \
	'--memory=1M --threads=4' --memory=8G; do
	# shellcheck disable=SC2086
	{
		ok "$QDEDUP" scan $how --cluster-size=$sizes --matrix --top=10 --output=json "${images[@]}" | cmp report - || die "$how: json"
		ok "$QDEDUP" scan $how --cluster-size=$sizes --records "${images[@]}" | cmp records - || die "$how: records"
	}
done
ok "$QDEDUP" scan --memory=16M --cluster-size=$sizes --matrix --top=10 "${images[@]}" | cmp human - || die "text in 16M"
ok "$QDEDUP" scan --cluster-size=64K,512,8K,4K --matrix --top=10 --output=json packed.qcow2 over.qcow2 text.raw big.raw |
	cmp report - || die "order"

# no file is touched, not even its times; nothing is left in TMPDIR
mkdir tmp
stat -c '%n %i %s %Y %Z' ./*.raw ./*.qcow2 >before
TMPDIR=$PWD/tmp ok "$QDEDUP" scan --memory=1M "${images[@]}" >/dev/null
stat -c '%n %i %s %Y %Z' ./*.raw ./*.qcow2 | cmp before -
is '' "$(ls -A tmp)" "left in TMPDIR"
