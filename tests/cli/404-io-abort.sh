#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# abort dies by SIGKILL and leaves what a crash leaves: dirty with lazy refcounts, at worst leaks
# without.  Stock QEMU repairs it, by check -r or by opening it, and finds all that was written.
. "$(dirname "$0")/io-lib.sh"

crashed() {
	_run "$QDEDUP" io -q -t unsafe "$1" <list
	is 137 "$_status" "exit status of abort"
}

mkdup base.raw 3M 4K 60 405
for options in '' ,lazy_refcounts=on; do
	for cs in 512 4K 64K; do
		for made in plain packed snapshot deduplicated; do
			case $made in
			plain | snapshot) fresh disk.qcow2 twin.raw -o "cluster_size=$cs$options" ;;
			packed) fresh disk.qcow2 twin.raw -c -o "cluster_size=$cs$options" ;;
			*)
				rm -f disk.qcow2
				cp base.raw twin.raw
				ok "$QDEDUP" convert -q -t unsafe --no-index -o "cluster_size=$cs$options" base.raw disk.qcow2
				;;
			esac
			[ $made != snapshot ] || qemu-img snapshot -c one disk.qcow2
			commands $cs 40 list twin.raw
			echo 'write -P 0x77 3000 70000' >>list
			"$_python" -c 'f = open("twin.raw", "r+b"); f.seek(3000); f.write(b"\x77" * 70000)'
			echo abort >>list
			crashed disk.qcow2
			status=0
			qemu-img check disk.qcow2 >check.out 2>&1 || status=$?
			if [ -n "$options" ]; then
				is 1 $(($(peek disk.qcow2 72 8) & 1)) "the dirty bit"
				fails 1 "$QDEDUP" io -c 'write 0 1' disk.qcow2
				says 'not closed cleanly' 'qdedup check --repair'
			else
				[ $status -eq 0 ] || [ $status -eq 3 ] || die "more than leaks: $(head check.out)"
				same twin.raw disk.qcow2 raw qcow2
			fi
			cp disk.qcow2 opened.qcow2
			qemu-img check -q -r all disk.qcow2 >/dev/null 2>&1 || die "seed $seed: qemu-img check -r all exits $?"
			judge disk.qcow2 twin.raw
			qemu-io -c 'write -P 0x55 0 512' opened.qcow2 >/dev/null 2>&1
			qemu-io -f raw -c 'write -P 0x55 0 512' twin.raw >/dev/null
			same twin.raw opened.qcow2 raw qcow2
			[ -z "$options" ] || judge opened.qcow2 twin.raw
		done
	done
done

# Pure reads, and writes to what is the image's own already, leave nothing behind.
fresh disk.qcow2 twin.raw -o lazy_refcounts=on,preallocation=full
printf 'read 0 1M\nwrite -P 1 0 1M\nabort\n' >list
crashed disk.qcow2
is 0 $(($(peek disk.qcow2 72 8) & 1)) "the dirty bit"
check_clean -q disk.qcow2
