#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A repair whose plan and findings are larger than --memory: the same bytes, in as much memory; TMPDIR is
# told when it cannot be used, and then nothing is written.
. "$(dirname "$0")/check-lib.sh"

# what the file has between its holes
digest() {
	"$_python" - "$1" <<-'END'
	import hashlib, os, sys
	fd = os.open(sys.argv[1], os.O_RDONLY)
	end, at, h = os.fstat(fd).st_size, 0, hashlib.sha256()
	while at < end:
	    try:
	        at = os.lseek(fd, at, os.SEEK_DATA) & ~4095
	    except OSError:
	        break
	    hole = os.lseek(fd, at, os.SEEK_HOLE)
	    for k in range(at, hole, 4096):
	        block = os.pread(fd, 4096, k)
	        if block.strip(b"\0"):
	            h.update(b"%d" % k + block)
	    at = hole
	print(end, h.hexdigest())
	END
}

"$QD_TOOLS/mkmeta" base.img 8G 4K full order
for what in counts flags; do
	cp --sparse=always base.img was.img
	break_half was.img $what
	for memory in 1G 8M; do
		cp --sparse=always was.img $memory.img
		ok "$QD_TOOLS/measure" "$QDEDUP" check --repair --memory=$memory $memory.img >measured
		read -r _ peak _ <measured
	done
	is "$(digest 1G.img)" "$(digest 8M.img)" "$what: the repaired image"
	ok "$QDEDUP" check -q 8M.img >/dev/null
	# Sanitizers have memory of their own.
	[ $slower -gt 1 ] || [ "$peak" -lt $((24 << 10)) ] || die "$what: $peak KiB with --memory=8M"
done
check_clean 8M.img

cp --sparse=always was.img disk.img
TMPDIR=/nowhere fails 1 "$QDEDUP" check --repair --memory=8M disk.img
says /nowhere
is "$(digest was.img)" "$(digest disk.img)" "the image"
