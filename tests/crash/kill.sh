#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# kill.sh [COUNT]: dedup and compact killed for real (SIGKILL) at random moments, COUNT times (200).
#
# After each kill the image reads what it did, in all layers; by turns qdedup check --repair, qemu-img check
# -r all, a read-write open by qemu-io, and qdedup journal replay where there is a journal (dedup has one of
# its own where there are no snapshots) bring it back; then a run that is not killed ends with a
# clean image, as many data clusters as there are contents, and the same layers.
#
# SEED (environment) is printed, and random unless given.
. "$(dirname "$0")/../cli/dedup-lib.sh"

count=${1:-200}
RANDOM=${SEED:=$RANDOM}
echo "seed $SEED"

make_image() {
	mkdup base.raw 4M 512 3000 $((SEED + 1))
	case $1 in
	0) qemu-img convert -f raw -O qcow2 -o cluster_size=512 base.raw whole.qcow2 ;;
	1) qemu-img convert -c -f raw -O qcow2 -o cluster_size=4K base.raw whole.qcow2 ;;
	2) qemu-img convert -f raw -O qcow2 -o cluster_size=1K,refcount_bits=32 base.raw whole.qcow2 ;;
	esac
	[ "$1" -eq 0 ] || qemu-img snapshot -c one whole.qcow2
	qemu-io -c 'write -P 3 1M 700K' -c 'write -P 0 2M 100K' whole.qcow2 >/dev/null
	layers whole.qcow2 wanted
}

mend() {
	local way=$(($1 % 4))
	case $way in
	0) ok "$QDEDUP" check -q --repair disk.qcow2 >check.out ;;
	1) qemu-img check -q -r all disk.qcow2 >check.out 2>&1 || [ $? -eq 3 ] || die "$(head -n 20 check.out)" ;;
	2) qemu-io -c 'read 0 512' disk.qcow2 >check.out 2>&1 ;;
	3)
		status=0
		"$QDEDUP" journal replay --output=json disk.qcow2 >check.out 2>&1 || status=$?
		if [ $status -ne 0 ]; then
			grep -Eq 'no (index|journal)|somebody else wrote' check.out || die "replay: $(cat check.out)"
			ok "$QDEDUP" check -q --repair disk.qcow2 >check.out
		elif [ "$(json check.out 'd["pending-writes"]')" -gt 0 ]; then
			replayed=$((replayed + 1))
		fi
		;;
	esac
	# What is not marked dirty QEMU does not mend when it opens it: leaks may be left.
	qemu-img check -q disk.qcow2 >check.out 2>&1 || {
		[ $? -eq 3 ] && [ $way -eq 2 ] || die "after it was mended: $(head -n 5 check.out)"
		ok "$QDEDUP" check -q --repair=leaks disk.qcow2 >check.out
		echo "leaks were left"
	}
}

killed=0 replayed=0
for ((n = 0; killed < count; n++)); do
	[ $n -lt $((20 * count)) ] || die "only $killed of $n runs were killed"
	if [ $((n % 50)) -eq 0 ]; then
		make_image $((n / 50 % 3))
		cp whole.qcow2 disk.qcow2
		begin=$(date +%s%N)
		ok "$QDEDUP" dedup -q --compact disk.qcow2
		most=$((($(date +%s%N) - begin) / 1000))
		cp whole.qcow2 holes.qcow2
		ok "$QDEDUP" dedup -q holes.qcow2
	fi
	status=0 from=whole.qcow2
	case $((n % 3)) in
	0) what=dedup ;;
	1) what='dedup --compact' ;;
	2) what=compact from=holes.qcow2 ;;
	esac
	cp $from disk.qcow2
	printf -v delay '0.%06d' $(((RANDOM * 32768 + RANDOM) % (most < 900000 ? most : 900000)))
	# shellcheck disable=SC2086
	"$QDEDUP" $what -q --memory=8M disk.qcow2 2>err &
	pid=$!
	sleep "$delay"
	kill -KILL $pid 2>/dev/null || true
	{ wait $pid || status=$?; } 2>/dev/null
	case $status in
	0) continue ;;
	137) killed=$((killed + 1)) ;;
	*) die "run $n: status $status: $(cat err)" ;;
	esac
	same_layers disk.qcow2 wanted
	mend $((n / 3))
	same_layers disk.qcow2 wanted
	ok "$QDEDUP" dedup -q disk.qcow2
	check_clean -q disk.qcow2
	same_layers disk.qcow2 wanted
	is "$(distinct_in wanted "$(walk --get cluster-size disk.qcow2)")" "$(walk --get data disk.qcow2)" "data clusters"
done
echo "$killed of $n runs killed, $replayed batches replayed, nothing lost"
