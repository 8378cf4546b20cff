#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# SIGINT and SIGTERM: exit status 128 + N, the image clean, nothing lost; the next run does the rest.
. "$(dirname "$0")/dedup-lib.sh"

mkdup base.raw 24M 512 20000 714
qemu-img convert -f raw -O qcow2 -o cluster_size=512 base.raw whole.qcow2
stopped=0
for signal in 2 15; do
	for delay in 0.05 0.2 0.4 0.6 0.8 1.2; do
		cp whole.qcow2 disk.qcow2
		status=0
		timeout -s $signal $delay "$QDEDUP" dedup --memory=8M disk.qcow2 >out 2>err || status=$?
		case $status in
		0 | $((128 + signal))) ;;
		124) stopped=$((stopped + 1)) ;;
		*) die "signal $signal after $delay s: status $status: $(cat err)" ;;
		esac
		check_clean -q disk.qcow2
		same base.raw disk.qcow2 raw qcow2
	done
done
[ $stopped -gt 0 ] || die "it was never interrupted: no test"
status=0
"$QDEDUP" dedup --memory=8M disk.qcow2 >out 2>err &
pid=$!
sleep 0.2
kill -TERM $pid 2>/dev/null || true
wait $pid || status=$?
[ $status -eq 0 ] || [ $status -eq 143 ] || die "SIGTERM: status $status"
ok "$QDEDUP" dedup -q disk.qcow2
check_clean -q disk.qcow2
same base.raw disk.qcow2 raw qcow2
