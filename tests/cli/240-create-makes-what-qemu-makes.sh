#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# create makes images that equal qemu-img's in everything that info and map tell, and that QEMU can use.
. "$(dirname "$0")/lib.sh"

# told IMAGE: what is to be equal
told() {
	{
		qemu-img info --output=json "$1"
		echo ,
		qemu-img map --output=json "$1"
	} | python3 -c 'import json, sys
i, m = json.loads("[" + sys.stdin.read() + "]")
i.pop("actual-size")
i["filename"] = ""
for e in m:
    e.pop("offset", None)
print(json.dumps([i, m], sort_keys=True))'
}

# equal CREATE-ARGUMENT...: the file is "img" for both
equal() {
	rm -rf theirs ours
	mkdir theirs ours
	cp base.qcow2 base.raw theirs
	cp base.qcow2 base.raw ours
	(cd theirs && "$QIMG" create -q "$@") || die "qemu-img create $* failed"
	(cd ours && ok "$QDEDUP" create "$@" >/dev/null 2>&1) || die "create $* failed"
	(cd theirs && told img) >t
	(cd ours && told img) >o
	# a raw file of qemu-img's begins with a block of written zeros
	case " $* " in
	*' -f raw '*)
		is "$(json t 'd[0]')" "$(json o 'd[0]')"
		is "$(stat -c %s theirs/img)" "$(stat -c %s ours/img)"
		;;
	*)
		cmp t o || die "create $*: qemu-img and qdedup make $(cat t o)"
		(cd ours && check_clean img)
		case $* in
		*' 0' | *' 1000') ;;
		*) (cd ours && qemu-io -c 'write -P 7 12k 50k' -c 'read -P 7 12k 50k' img >/dev/null) ;;
		esac
		(cd ours && check_clean img)
		;;
	esac
}

qemu-img create -q -f qcow2 base.qcow2 2M
qemu-io -c 'write -P 1 100k 1M' base.qcow2 >/dev/null
mkdata base.raw 300K 1 random

for options in '' -ocompat=0.10 -ocluster_size=512 -ocluster_size=2M -orefcount_bits=1 -orefcount_bits=64 \
	-olazy_refcounts=on -oextended_l2=on,cluster_size=16k -ocompression_type=zstd \
	-opreallocation=metadata -opreallocation=metadata,cluster_size=4k,compat=0.10 \
	-opreallocation=metadata,extended_l2=on -odata_file=data -odata_file=data,data_file_raw=on \
	-odata_file=data,preallocation=metadata; do
	# shellcheck disable=SC2086  # nothing, or one word
	equal -f qcow2 $options img 3M
done
equal -f qcow2 img 0
equal -f qcow2 img 1000
equal -f qcow2 img 1.5G
equal -f qcow2 -o size=5M img
equal -f raw img 12345
equal -f qcow2 -b base.qcow2 -F qcow2 img
equal -f qcow2 -b base.raw -F raw img
equal -f qcow2 -b base.qcow2 -F qcow2 img 5M
equal -f qcow2 -b base.qcow2 -F qcow2 -o compat=0.10 img
equal -f qcow2 -b base.qcow2 -F qcow2 -o preallocation=metadata,extended_l2=on img
equal -f qcow2 -o backing_file=base.raw,backing_fmt=raw img 1M

# host space
for mode in falloc full; do
	ok "$QDEDUP" create -q -o preallocation=$mode "$mode" 3M
	[ "$(($(stat -c %b "$mode") / 2))" -ge 3072 ] || die "$mode is sparse"
	check_clean "$mode"
	ok "$QDEDUP" create -q -o preallocation=$mode "$mode.raw" 3M
	is 3145728 "$(stat -c %s "$mode.raw")"
	[ "$(($(stat -c %b "$mode.raw") / 2))" -ge 3072 ] || die "$mode.raw is sparse"
	ok "$QDEDUP" create -q -o preallocation=$mode,data_file="$mode.data" "$mode-external" 3M
	[ "$(($(stat -c %b "$mode.data") / 2))" -ge 3072 ] || die "$mode.data is sparse"
	check_clean "$mode-external"
done
