#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# An overlay whose tables are there and say nothing, over a backing file with much scattered data: a look
# at the overlay must not go on to the end of the disk for every piece found below.
. "$(dirname "$0")/convert-lib.sh"

python3 - <<'END'
import struct
tables, cluster = 32, 65536
size = tables * cluster // 8 * cluster
with open("base.raw", "wb") as f:
    f.truncate(size)
    for at in range(0, size, 1 << 20):
        f.seek(at)
        f.write(b"x" * 4096)
with open("over.qcow2", "wb") as f:
    name, l1, l2 = b"base.raw", 2 * cluster, 3 * cluster
    f.write(struct.pack(">4sIQIIQIIQQIIQQQQIIQQ", b"QFI\xfb", 3, 120, len(name), 16, size, 0, tables, l1,
                        cluster, 1, 0, 0, 0, 0, 0, 4, 112, 0, 0) + name)
    f.seek(l1)
    for i in range(tables):
        f.write(struct.pack(">Q", 1 << 63 | l2 + i * cluster))
    f.truncate(l2 + tables * cluster)
END
soon() {
	local status=0
	timeout $((20 * slower)) "$@" || status=$?
	[ $status -ne 124 ] || die "not done after $((20 * slower)) s: $*"
	is 0 $status "$*"
}
soon "$QDEDUP" convert -q -t unsafe over.qcow2 out.qcow2
soon "$QDEDUP" compare -q over.qcow2 out.qcow2
check_clean -q out.qcow2
is "1 16384" "$(walk --fresh --get data --get references out.qcow2 | xargs)" "data clusters and references"
soon "$QDEDUP" map over.qcow2 >/dev/null
soon "$QDEDUP" convert -q -t unsafe -B base.raw -F raw over.qcow2 nothing.qcow2
is 0 "$(walk --get references nothing.qcow2)" "clusters that the backing file does not have"
