#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# 1 GiB at 4 KiB clusters under --memory=64M: the peak resident size stays below, the bytes are those of a
# run without the ceiling.
. "$(dirname "$0")/convert-lib.sh"

# peak CMD...: its peak resident size in KiB; the kernel's count for a child that has exited
peak() {
	"$_python" - "$@" <<-'END'
	import os, sys
	pid = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ)
	_, status, usage = os.wait4(pid, 0)
	print(usage.ru_maxrss)
	sys.exit(os.waitstatus_to_exitcode(status))
	END
}
limit=64
[ "$slower" -eq 1 ] || limit=1024	# an instrumented program has memory of its own
mkdata in.raw 1G 190 dup50
rss=$(peak "$QDEDUP" convert -q --memory=${limit}M -t unsafe -o cluster_size=4K in.raw small.qcow2)
echo "peak: $rss KiB"
[ "$rss" -lt $((limit * 1024)) ] || die "peak of $rss KiB under --memory=${limit}M"
ok "$QDEDUP" convert -t unsafe -o cluster_size=4K in.raw large.qcow2
cmp small.qcow2 large.qcow2 || die "other bytes under the ceiling"
rm large.qcow2
check_clean -q small.qcow2

# back to raw through small tables, and compressed
rss=$(peak "$QDEDUP" convert -q --memory=${limit}M -t unsafe small.qcow2 back.raw)
[ "$rss" -lt $((limit * 1024)) ] || die "peak of $rss KiB to raw"
cmp in.raw back.raw
rm back.raw in.raw
mkdata in.raw 256M 191 text
rss=$(peak "$QDEDUP" convert -q -c --memory=${limit}M -t unsafe -o cluster_size=2M in.raw packed.qcow2)
[ "$rss" -lt $((limit * 1024)) ] || die "peak of $rss KiB compressing at 2M"

# a chain of 40 files, each with a table and a compressed cluster of 2M
rm -f ./*.raw ./*.qcow2
python3 - <<'END'
import struct, zlib
files, bits = 40, 21
size = 1 << bits
for i in range(files):
    name = b"" if i == files - 1 else b"c%02d.qcow2" % (i + 1)
    packer = zlib.compressobj(1, zlib.DEFLATED, -12)
    data = packer.compress(bytes([i + 1]) * size) + packer.flush()
    with open("c%02d.qcow2" % i, "wb") as f:
        f.write(struct.pack(">4sIQIIQIIQQIIQQQQIIQQ", b"QFI\xfb", 3, 120 if name else 0, len(name), bits, files * size,
                            0, 1, 2 * size, size, 1, 0, 0, 0, 0, 0, 4, 112, 0, 0) + name)
        f.seek(2 * size)
        f.write(struct.pack(">Q", 1 << 63 | 3 * size))
        f.seek(3 * size + 8 * i)
        f.write(struct.pack(">Q", 1 << 62 | (len(data) - 1 >> 9) << (62 - (bits - 8)) | 4 * size))
        f.seek(4 * size)
        f.write(data)
END
rss=$(peak "$QDEDUP" convert -q --memory=${limit}M -t unsafe c00.qcow2 out.raw)
[ "$rss" -lt $((limit * 1024)) ] || die "peak of $rss KiB over a chain of 40 files"
same c00.qcow2 out.raw qcow2 raw

for bad in 1K 0 -1 x 1MB; do
	fails 1 "$QDEDUP" convert -q --memory=$bad out.raw none.qcow2
	says memory
	[ ! -e none.qcow2 ] || die "--memory=$bad left an output"
done
