#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Images of every kind get an index: stock QEMU finds nothing wrong, nothing of the layers changes, a
# reader in another language finds the right hash of every cluster; and dropping it leaves nothing.
. "$(dirname "$0")/rehash-lib.sh"

mkdup base.raw 4M 4K 300 510
long=$(printf 'b%.0s' {1..150}).raw
cp base.raw "$long"
for options in cluster_size=512 cluster_size=512,refcount_bits=1 cluster_size=4K cluster_size=4K,refcount_bits=64 \
	cluster_size=64K cluster_size=2M cluster_size=16K,extended_l2=on; do
	for how in plain packed snapshots backing; do
		case $options-$how in
		cluster_size=512-plain | cluster_size=4K,*-[!s]* | cluster_size=2M-[!b]* | cluster_size=64K-plain) continue ;;
		esac
		img=$how-${options//[,=]/-}.qcow2
		case $how in
		plain) qemu-img convert -O qcow2 -o "$options" base.raw "$img" ;;
		packed)
			case $options in *refcount_bits=1) continue ;; esac
			qemu-img convert -c -O qcow2 -o "$options" base.raw "$img" ;;
		snapshots)
			case $options in *refcount_bits=1) continue ;; esac
			qemu-img convert -O qcow2 -o "$options" base.raw "$img"
			qemu-img snapshot -c one "$img"
			scribble "$img"
			qemu-img snapshot -c two "$img"
			qemu-io -c 'write -P 5 100k 300k' "$img" >/dev/null ;;
		backing)
			qemu-img create -q -f qcow2 -o "$options" -b "$long" -F raw "$img"
			scribble "$img" ;;
		esac
		layers "$img" before
		rehash "$img" --hash=sha256
		is '"absent"' "\"$(value previous-state)\"" "$img"
		is "$(value entries)" "$(index hashes "$img")" "$img: entries"
		is "$(value clusters)" "$(value clusters-read)" "$img: clusters read"
		same_layers "$img" before
		[ "$(index bit "$img")" = 1 ] || [ "$how" = snapshots ] || die "$img: the feature bit is not set"
		ok "$QDEDUP" rehash -q --drop "$img"
		check_clean -q "$img"
		same_layers "$img" before
		is 0 "$(index bit "$img")" "$img: feature bit"
		is '' "$(qemu-img snapshot -l "$img" | grep -w qdedup || true)" "$img: pin"
	done
done
