#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Backing files that form a loop, chains that are too deep, names of protocols and json: a clear error;
# --untrusted opens nothing that an image names, and says what it refused.
. "$(dirname "$0")/convert-lib.sh"

refused() {
	hostile 1 "$QDEDUP" convert "$@"
	[ ! -e out.qcow2 ] || die "convert $* left an output"
}
qemu-img create -q -f qcow2 a.qcow2 1M
qemu-img create -q -f qcow2 -b a.qcow2 -F qcow2 b.qcow2
qemu-img rebase -u -b b.qcow2 -F qcow2 a.qcow2
refused a.qcow2 out.qcow2
says 'a.qcow2|b.qcow2' 'loop|itself|twice'
mkdir sub
qemu-img rebase -u -b sub/../b.qcow2 -F qcow2 a.qcow2
refused b.qcow2 out.qcow2
qemu-img create -q -f qcow2 self.qcow2 1M
qemu-img rebase -u -b self.qcow2 -F qcow2 self.qcow2
refused self.qcow2 out.qcow2
ln self.qcow2 other.qcow2
qemu-img rebase -u -b other.qcow2 -F qcow2 self.qcow2
refused self.qcow2 out.qcow2

# 150 deep works, 300 deep is refused
mkdata 0.raw 64K 184 random
qemu-img create -q -f qcow2 -o cluster_size=4K -b 000.qcow2 -F qcow2 -u model.qcow2 64K
name=$(peek model.qcow2 8 8)
link_up() {
	local to=$2
	printf -v padded '%03d' "$1"
	cp model.qcow2 "$padded.qcow2"
	printf '%03d.qcow2' "$to" | dd of="$padded.qcow2" bs=1 seek="$name" conv=notrunc status=none
}
qemu-img convert -O qcow2 -o cluster_size=4K 0.raw 000.qcow2
for ((i = 1; i <= 300; i++)); do
	link_up $i $((i - 1))
done
hostile_ok() { ok timeout $((10 * slower)) "$@"; }
hostile_ok "$QDEDUP" convert 150.qcow2 out.qcow2
same 0.raw out.qcow2 raw qcow2
rm out.qcow2
refused 300.qcow2 out.qcow2
says 'chain|deep|depth'

# names that are not files
for name in 'json:{"driver":"raw","file":{"driver":"file","filename":"0.raw"}}' nbd://127.0.0.1:1/x \
	nbd:unix:/nosuch http://127.0.0.1:1/x fat:. 'blkdebug::0.raw'; do
	qemu-img create -q -f qcow2 -b "$name" -F raw -u named.qcow2 1M
	refused named.qcow2 out.qcow2
	says named.qcow2 "${name%%:*}"
done

# --untrusted
mkdata base.raw 1M 185 dup50
qemu-img create -q -f qcow2 -b base.raw -F raw over.qcow2
qemu-img create -q -f qcow2 -b /etc/passwd -F raw -u steal.qcow2 1M
qemu-img convert -O qcow2 base.raw plain.qcow2
refused --untrusted over.qcow2 out.qcow2
says over.qcow2 base.raw untrusted
refused --untrusted steal.qcow2 out.qcow2
says /etc/passwd
ok "$QDEDUP" convert --untrusted plain.qcow2 out.qcow2
deduplicated out.qcow2 base.raw 64K
ok "$QDEDUP" convert --untrusted base.raw out.raw
cmp base.raw out.raw
