#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# -o: every option is in what qemu-img info says of the output; what contradicts itself is refused by
# name and nothing is written.
. "$(dirname "$0")/convert-lib.sh"

mkdata in.raw 2M 194 dup50
# has OPTIONS EXPRESSION WANTED: of qemu-img info's document
has() {
	rm -f out.qcow2 the.data
	# shellcheck disable=SC2086
	ok "$QDEDUP" convert $more -o "$1" in.raw out.qcow2
	check_clean -q out.qcow2
	same in.raw out.qcow2 raw qcow2
	qemu-img info -U --output=json out.qcow2 >info.json
	is "$3" "$(json info.json "$2")" "$2 with -o $1"
}
# in qcow2's own part of that document
own() {
	printf 'd["format-specific"]["data"].get("%s")' "$1"
}
more=
has cluster_size=64K 'd["cluster-size"]' 65536
has cluster_size=512 'd["cluster-size"]' 512
has cluster_size=2097152 'd["cluster-size"]' 2097152
has cluster_size=0.5K 'd["cluster-size"]' 512
has compat=0.10 "$(own compat)" 0.10
has compat=1.1 "$(own compat)" 1.1
for bits in 2 4 8 16 32 64; do
	has refcount_bits=$bits "$(own refcount-bits)" $bits
done
has lazy_refcounts=on "$(own lazy-refcounts)" true
has lazy_refcounts=off "$(own lazy-refcounts)" false
has compression_type=zlib "$(own compression-type)" zlib
has compression_type=zstd "$(own compression-type)" zstd
has extended_l2=on "$(own extended-l2)" true
has extended_l2=on,cluster_size=16K "$(own extended-l2)" true
has extended_l2=off "$(own extended-l2)" false
has cluster_size=4K,cluster_size=8K 'd["cluster-size"]' 8192
has cluster_size=4K,refcount_bits=32,lazy_refcounts=on "[d[\"cluster-size\"], $(own refcount-bits), $(own lazy-refcounts)]" "[4096, 32, true]"
more='-o cluster_size=8K -c'
has compression_type=zstd 'd["cluster-size"]' 8192

# preallocation and data files only where nothing is shared
more='--no-dedup'
has preallocation=off 'd["format"]' qcow2
for how in metadata falloc full; do
	has preallocation=$how 'd["virtual-size"]' 2097152
	is 32 "$(walk --get data --get prealloc out.qcow2 | xargs | tr ' ' '\n' | awk '{ n += $1 } END { print n }')" "host clusters with $how"
done
[ "$(stat -c %b out.qcow2)" -ge 4096 ] || die "preallocation=full has holes"
for raw in on off; do
	has data_file=the.data,data_file_raw=$raw "[$(own data-file), $(own data-file-raw)]" \
		"[\"the.data\", $([ $raw = on ] && echo true || echo false)]"
	[ $raw = off ] || cmp in.raw the.data
	ok "$QDEDUP" convert out.qcow2 back.raw
	cmp in.raw back.raw
done
has data_file=the.data "$(own data-file-raw)" false
more=
# whoever writes to a raw data file by its own name sees that in the image, also where there was nothing
truncate -s 3M sparse.raw
qemu-io -f raw -c 'write -P 7 1M 64k' sparse.raw >/dev/null
ok "$QDEDUP" convert --no-dedup -o data_file=sparse.data,data_file_raw=on sparse.raw sparse.qcow2
check_clean -q sparse.qcow2
cmp sparse.raw sparse.data
qemu-io -f raw -c 'write -P 8 2M 512' sparse.data >/dev/null
same sparse.data sparse.qcow2 raw qcow2

refused() {
	rm -f none.*
	fails 1 "$QDEDUP" convert "${@:3}" -o "$1" in.raw none.qcow2
	says "$2"
	! ls none.* 2>/dev/null || die "-o $1 left an output"
}
refused preallocation=metadata no-dedup
refused preallocation=full no-dedup
refused preallocation=some some --no-dedup
refused data_file=none.data no-dedup
refused data_file_raw=on data_file --no-dedup
refused cluster_size=3000 3000
refused cluster_size=256 256
refused cluster_size=4M 4M
refused cluster_size=1KB 1KB
refused cluster_size= cluster_size
refused compat=2.0 2.0
refused refcount_bits=3 3
refused refcount_bits=128 128
refused refcount_bits=32,compat=0.10 refcount_bits
refused lazy_refcounts=maybe maybe
refused lazy_refcounts=on,compat=0.10 lazy_refcounts
refused extended_l2=on,compat=0.10 extended_l2
refused extended_l2=on,cluster_size=8K extended_l2
refused compression_type=lz4 lz4
refused compression_type=zstd,compat=0.10 'compression_type|zstd'
refused nosuch=1 nosuch
refused encryption=on encryption
refused cluster_size=4K,,refcount_bits=2 cluster_size

# raw targets have none of these
rm -f none.raw
fails 1 "$QDEDUP" convert -o cluster_size=4K in.raw none.raw
fails 1 "$QDEDUP" convert -c in.raw none.raw
[ ! -e none.raw ] || die "options of qcow2 were ignored for raw"

out=$("$QDEDUP" convert -o help)
for name in cluster_size compat refcount_bits lazy_refcounts compression_type backing_file backing_fmt \
	preallocation extended_l2 data_file data_file_raw; do
	grep -q "^ *$name" <<<"$out" || die "-o help does not list $name"
done
