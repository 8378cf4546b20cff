#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Very many images, records, names and threads: no table is searched from end to end, files are not all open
# at once, --memory holds, and ^C is noticed while images are opened.
. "$(dirname "$0")/scan-lib.sh"

# more images, and more files of records, than may be open
mkdir many
"$_python" - <<-'END'
	import os
	same = os.urandom(4096)
	for i in range(300):
	    with open(f"many/{i:03}.raw", "wb") as f:
	        f.write(same + os.urandom(4096))
END
few() {
	(ulimit -n 40 && "$@")
}
ok few "$QDEDUP" scan --output=json --cluster-size=4K many/*.raw >report
is '[600, 301, 300]' "$(json report '[d["cluster-sizes"][0]["clusters"], d["cluster-sizes"][0]["unique"], len(d["images"])]')"
ok "$QDEDUP" scan --cluster-size=4K --records=all many/*.raw >/dev/null
"$_python" - <<-'END'
	heads, rows = {}, {}
	for line in open("all"):
	    name = line.split("\t")[1]
	    (heads if line[0] == "#" else rows).setdefault(name, []).append(line)
	for name in heads:
	    with open(name + ".records", "w") as f:
	        f.writelines(heads[name] + rows[name])
END
ok few "$QDEDUP" scan --merge --output=json many/*.records | cmp report -
ok few "$QDEDUP" scan --merge --output=json <(head -n 900 all) <(cat many/00*.records | LC_ALL=C sort) | cmp report -

# a fleet; and one name in two spellings would be two images
"$_python" - <<-'END'
	n = 100000
	with open("fleet", "w") as f:
	    f.writelines(f"#image\thost{i:06}/disk.raw\t4096\txxh128,4096:0:0\n" for i in range(n))
	    f.writelines(f"{i:032x}\thost{i:06}/disk.raw\t0\t4096\n" for i in range(n))
END
ok timeout -k 3 60 "$QDEDUP" scan --merge --output=json fleet >report
is '[100000, 100000]' "$(json report '[len(d["images"]), d["cluster-sizes"][0]["unique"]]')"
printf '#image\t%s\t4096\txxh128,4096:4096:0\n' a.raw '\x61.raw' >twice
fails 1 "$QDEDUP" scan --merge twice
says 'line 2' 'x61'

# threads, sizes and --top all want memory
mkdata one.raw 8M 1 dup50
"$QD_TOOLS/measure" "$QDEDUP" scan --memory=16M --threads=256 --top=1000 --cluster-size=$ALL_SIZES one.raw |
	tail -n 1 >peak
read -r _ peak _ <peak
[ "$peak" -le 16384 ] || die "$peak KiB of 16M"

# stderr is a pipe that fills up: images are being opened when the signal comes
mkfifo err
# shellcheck disable=SC2046
env --default-signal=INT "$QDEDUP" scan $(seq -f missing%06.0f 1 8000) 2>err >/dev/null &
pid=$!
exec 8<err
read -r _ <&8
kill -INT $pid
lines=$(wc -l <&8)
status=0
wait $pid || status=$?
exec 8<&-
is 130 $status "exit status after SIGINT"
[ "$lines" -lt 7000 ] || die "$lines images were opened after SIGINT"
