#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Wrong usage of scan is one line that names the mistake; nothing is read or written.
. "$(dirname "$0")/scan-lib.sh"

mix a.raw 100K 90
ok "$QDEDUP" scan --records a.raw >records
usage() {
	local pattern=$1
	shift
	fails 1 "$QDEDUP" scan "$@"
	says "^qdedup scan: .*$pattern" "see 'qdedup( [a-z]+)? --help'\$"
	is 1 "$(wc -l <<<"$ERR")" "lines on stderr of qdedup scan $*"
}
usage 'argument'
usage 'empty' ''
for bad in '' 0 x 3K 256 4M '4K,' ',4K' 4K,,8K 4K,3K -4K 4k8k '4K 8K' 0.1K 1E; do
	usage cluster-size "--cluster-size=$bad" a.raw
done
for bad in md5 '' sha1 SHA256; do
	usage hash "--hash=$bad" a.raw
done
for bad in 0/2 3/2 1 1/ /1 1/0 -1/2 1/-2 x/2 1/2/3 ''; do
	usage shard "--shard=$bad" a.raw
done
for bad in -1 x '' 1.5; do
	usage top "--top=$bad" a.raw
done
for bad in 0 2 1/0 0/3 2/3 1/x ''; do
	usage sample "--sample=$bad" a.raw
done
for bad in '' lzma zlib,zstd; do
	usage compress "--compress=$bad" a.raw
done
usage "'vmdk'" -f vmdk a.raw
usage threads --threads=0 a.raw
usage memory --memory=1K a.raw
usage output --output=xml a.raw
usage unknown --nonsense a.raw
usage unknown -z a.raw
usage 'snapshots|merge' --merge --snapshots records
usage merge --merge --records records
usage merge --merge --sample=1/2 records
usage 'sample|records' --sample=1/10 --records a.raw
fails 1 "$QDEDUP" scan --output=json --records a.raw
says '^qdedup scan: .*(records|json|standard output)'
is './a.raw ./records' "$(find . -type f ! -name '.*' | sort | xargs)" "files there are"
