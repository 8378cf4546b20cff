#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Records of many runs, made independently, merge to the bytes of one run's report: through sort -m or
# given as several files, in any order, by shards or not, with a backing file that several runs counted.
. "$(dirname "$0")/scan-lib.sh"

make_mix
mix base.raw 3000001 41
for n in 1 2 3; do
	qemu-img create -q -f qcow2 -o cluster_size=4K -b base.raw -F raw over$n.qcow2 $((n + 2))M
	qemu-io -c "write -P $n 100k 200k" -c 'write -P 9 700k 30k' over$n.qcow2 >/dev/null
	qemu-img snapshot -c s over$n.qcow2
	qemu-io -c "write -P 8 150k 200k" over$n.qcow2 >/dev/null
done
sizes=512,4K,64K
scan() {
	ok "$QDEDUP" scan --cluster-size=$sizes --snapshots --matrix --top=20 "$@"
}
for output in json human; do
	scan --output=$output "${MIX[@]}" over1.qcow2 over2.qcow2 over3.qcow2 >whole.$output
done
brute --cluster-size=$sizes --snapshots --report=whole.json "${MIX[@]}" over1.qcow2 over2.qcow2 over3.qcow2
scan --records "${MIX[@]}" over1.qcow2 over2.qcow2 over3.qcow2 >whole.records

# three machines, each with its share; all three read the base
records() {
	ok "$QDEDUP" scan --cluster-size=$sizes --snapshots --records "$@"
}
records over1.qcow2 "${MIX[@]:0:9}" >m1
records "${MIX[@]:9:9}" over2.qcow2 >m2
records over3.qcow2 "${MIX[@]:18}" >m3
merged() {
	local output
	for output in json human; do
		ok "$QDEDUP" scan --merge --matrix --top=20 --output=$output "$@" >merged.$output
		cmp whole.$output merged.$output || die "--merge $*: another report"
	done
}
merged m1 m2 m3
merged m3 m1 m2
merged whole.records
LC_ALL=C sort -m m1 m2 m3 >sorted
merged sorted
LC_ALL=C sort -m m3 m2 >part
merged part m1
LC_ALL=C sort m1 m2 m3 >resorted
merged resorted
merged m1 m2 m3 m2
LC_ALL=C sort -m m2 m3 >m23
merged m23 m1
merged m23 m3 m1
LC_ALL=C sort -m m1 m2 m3 | "$QDEDUP" scan --merge --matrix --top=20 --output=json - | cmp whole.json - || die "from stdin"

# a part of the sizes
ok "$QDEDUP" scan --output=json --snapshots --cluster-size=4K "${MIX[@]}" over1.qcow2 >whole4.json
records over1.qcow2 "${MIX[@]}" >five
ok "$QDEDUP" scan --output=json --merge --cluster-size=4K five | json - 'd["cluster-sizes"]' >got
json whole4.json 'd["cluster-sizes"]' >wanted
cmp wanted got

# little memory, one thread
ok "$QDEDUP" scan --merge --memory=16M --threads=1 --matrix --top=20 --output=json sorted | cmp whole.json -

# shards: every record in one of them, and together they are the whole
for n in 1 2 3 7; do
	rm -f shard.*
	for ((k = 1; k <= n; k++)); do
		records --shard=$k/$n "${MIX[@]}" over1.qcow2 over2.qcow2 over3.qcow2 >shard.$k
	done
	merged shard.*
	for ((k = 1; k <= n; k++)); do
		grep -v '^#' shard.$k || true
	done >rows
	grep -v '^#' whole.records | cmp - rows || die "$n shards: not consecutive ranges of the hashes"
done
# hashes of one shard do not occur in another, whatever was scanned
records --shard=2/3 over1.qcow2 a.raw | grep -v '^#' | cut -f 1 | sort -u >two
records --shard=1/3 over2.qcow2 odd.raw | grep -v '^#' | cut -f 1 | sort -u >one
is 0 "$(comm -12 one two | wc -l)" "hashes in two shards"
ok "$QDEDUP" scan --cluster-size=$sizes --snapshots --shard=1/1 --output=json "${MIX[@]}" over1.qcow2 over2.qcow2 over3.qcow2 |
	json - 'd["cluster-sizes"][0]["unique"]' | cmp - <(json whole.json 'd["cluster-sizes"][0]["unique"]')
# the counts of a shard alone
total=0
for k in 1 2 3; do
	ok "$QDEDUP" scan --cluster-size=$sizes --snapshots --shard=$k/3 --output=json "${MIX[@]}" over1.qcow2 over2.qcow2 over3.qcow2 >s.json
	total=$((total + $(json s.json 'd["cluster-sizes"][1]["unique"]')))
done
is "$(json whole.json 'd["cluster-sizes"][1]["unique"]')" $total "unique over all shards"

# a backing file has one name, from wherever it is found; but not through a link to a directory elsewhere
mkdir -p x/y elsewhere/deep
ln -s elsewhere/deep link
mix elsewhere/base.raw 300K 42
qemu-img create -q -f qcow2 -b ../base.raw -F raw x/one.qcow2
qemu-img create -q -f qcow2 -b ..//.././base.raw -F raw x/y/two.qcow2
qemu-img create -q -f qcow2 -b ../base.raw -F raw link/three.qcow2
qemu-img create -q -f qcow2 -b "$PWD/x/../base.raw" -F raw four.qcow2
for n in x/one x/y/two link/three; do
	ok "$QDEDUP" scan --records $n.qcow2 >"${n##*/}.records"
done
ok "$QDEDUP" scan --output=json x/one.qcow2 x/y/two.qcow2 link/three.qcow2 >report
ok "$QDEDUP" scan --merge --output=json one.records two.records three.records | cmp report -
is '["base.raw", "link/../base.raw", "link/three.qcow2", "x/one.qcow2", "x/y/two.qcow2"]' \
	"$(json report '[i["filename"] for i in d["images"]]')" "images"
ok "$QDEDUP" scan --output=json four.qcow2 >report
is "[\"$PWD/base.raw\", \"four.qcow2\"]" "$(json report '[i["filename"] for i in d["images"]]')" "images"

# what cannot be merged
fails 1 "$QDEDUP" scan --merge a.raw
says a.raw
records --hash=sha256 tiny.raw >other
fails 1 "$QDEDUP" scan --merge m1 other
says 'other: ' 'sha256' xxh128
ok "$QDEDUP" scan --cluster-size=4K --records tiny.raw >sizes4
fails 1 "$QDEDUP" scan --merge m2 sizes4
says 'sizes4: '
grep -v '^#' m1 | sort -R --random-source=a.raw | cat <(grep '^#' m1) - >unsorted
fails 1 "$QDEDUP" scan --merge unsorted
says 'unsorted: ' sort
head -c -5 m1 >torn
fails 1 "$QDEDUP" scan --merge torn
says "torn: "
sed '20s/$/\tx/' m1 >columns
fails 1 "$QDEDUP" scan --merge columns
says 'columns: '
sed '$s/^......../zzzzzzzz/' m1 >digits
fails 1 "$QDEDUP" scan --merge digits
fails 1 "$QDEDUP" scan --merge missing
says 'missing: '
mkdir adir
fails 1 "$QDEDUP" scan --merge adir
# a view that is described, and a record of none; sizes of one name that differ
grep -v '^#' m1 >headless
fails 1 "$QDEDUP" scan --merge headless
says 'headless: '
truncate -s +64K tiny.raw
records tiny.raw >grown
fails 1 "$QDEDUP" scan --merge m1 m3 m2 grown
says tiny.raw

# part by part no record is missing
ok "$QDEDUP" scan --merge --shard=1/2 m1 m2 >/dev/null
is '' "$ERR" "stderr"
