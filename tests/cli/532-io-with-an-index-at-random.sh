#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Random commands on images of many kinds that have an index: content, refcounts and every hash
# are right after each session, for stock QEMU too.
. "$(dirname "$0")/io-lib.sh"

session() {
	rounds 1 disk.qcow2 twin.raw "$1"
	ok "$QDEDUP" verify -q --output=json disk.qcow2 >verify.out
	is $2 "$(json verify.out 'd["state"]')" "seed $seed: state"
	[ $2 = valid ] || return 0
	is 0 "$(json verify.out 'd["unknown"]')" "seed $seed: clusters without a hash"
	ok "$QDEDUP" journal -q -t unsafe verify disk.qcow2
}

mkdup base.raw 3M 4K 60 532
for kind in 512 4K 64K 4K,refcount_bits=2 4K,refcount_bits=64 4K,lazy_refcounts=on packed snapshot backing; do
	cs=4K state=valid
	case $kind in
	packed) options=(-c -o cluster_size=4K) ;;
	backing | snapshot) options=(-o cluster_size=4K) ;;
	*) options=(-o "cluster_size=$kind") cs=${kind%%,*} ;;
	esac
	rm -f disk.qcow2
	cp base.raw twin.raw
	if [ $kind = backing ]; then
		ok "$QDEDUP" create -q -b base.raw -F raw -o cluster_size=4K disk.qcow2 >/dev/null
		ok "$QDEDUP" rehash -q -t unsafe disk.qcow2
	else
		ok "$QDEDUP" convert -q -t unsafe "${options[@]}" base.raw disk.qcow2
	fi
	ok "$QDEDUP" journal -q -t unsafe --size=64K create disk.qcow2
	if [ $kind = snapshot ]; then	# whose index is never more than partial
		state=partial
		qemu-img snapshot -c one disk.qcow2
		ok "$QDEDUP" rehash -q -t unsafe disk.qcow2
	fi
	for _ in 1 2 3; do
		session $cs $state
	done
done
