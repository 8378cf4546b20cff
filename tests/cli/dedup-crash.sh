# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What 709 and 710 share: images to be deduplicated while every write is recorded.
#
#	make_images KIND       plain, packed, snapshots, again, journal: of each geometry one
#	crash_all STATES QEMU MODE IMG...    at least so many states, of which QEMU judges so many: processes
#	                                     cost more than all else, so it gets no more than that
. "$(dirname "${BASH_SOURCE[0]}")/dedup-lib.sh"

make_images() {
	local kind=$1 options name raw c
	mkdup mixed.raw 256K 4K 20 709
	mkdup large.raw 640K 16K 8 710
	for options in cluster_size=4K cluster_size=512,refcount_bits=64 cluster_size=4K,compression_type=zstd,lazy_refcounts=on \
		cluster_size=16K,extended_l2=on; do
		name=$kind-${options//[,=]/-}.qcow2 raw=mixed.raw c=-c
		[ "${options#*extended}" = "$options" ] || raw=large.raw
		[ "$kind" != plain ] || c=
		# shellcheck disable=SC2086
		qemu-img convert $c -f raw -O qcow2 -o "$options" $raw "$name"
		case $kind in snapshots | again)
			qemu-img snapshot -c one "$name"
			qemu-io -c 'write -P 1 0 100K' -c 'write -P 0 128K 33K' "$name" >/dev/null
			qemu-img snapshot -c two "$name"
			qemu-io -c 'write -P 2 200K 32K' "$name" >/dev/null
			;;
		esac
		if [ "$kind" = journal ]; then
			# A table of everything, but nothing is shared yet.
			ok "$QDEDUP" dedup -q -t unsafe --max-share=1 "$name"
			ok "$QDEDUP" journal create --size=16K "$name" >/dev/null
		fi
		[ "$kind" = again ] || continue
		ok "$QDEDUP" dedup -q -t unsafe "$name"
		qemu-io -c 'write -P 1 120K 50K' "$name" >/dev/null
	done
}

crash_all() {
	local wanted=$1 wanted_qemu=$2 mode=$3 seed=${SEED:-$((RANDOM * 100))} out states=0 qemu=0 every=0
	[ "$wanted_qemu" -eq 0 ] || every=$((wanted / (wanted_qemu + wanted_qemu / 8)))
	shift 3
	while [ $states -lt "$wanted" ] || [ $qemu -lt "$wanted_qemu" ]; do
		seed=$((seed + 1))
		echo "seed $seed, mode '$mode'"
		out=$("${QD_CRASH:-$_top/build/release/crash}/crash_dedup" -M "$mode" -S $seed -m 400 -q $every "$@") || die "$out"
		echo "$out"
		[ "${out%% *}" -gt 0 ] || die "no states: no test"
		read -r -a words <<<"$out"
		states=$((states + words[0])) qemu=$((qemu + words[5]))
	done
}
