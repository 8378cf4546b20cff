#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# --html: a page that needs nothing but itself, whose numbers are those of the JSON, for one image, many and
# none with data; with what could not be read named, and names that try to be HTML.
. "$(dirname "$0")/scan-lib.sh"

judge() {
	"$_python" "$_cli/htmlcheck.py" "$@" || die "page $1"
}

# page ARG...: page and report of the same scan
page() {
	ok "$QDEDUP" scan --html=page.html --matrix --top=15 --output=json "$@" >report
	judge page.html report
}

# shows ID PATTERN: the text of that part of the page, which is then in `shown`
shows() {
	SHOW=$1 judge page.html >shown
	grep -Eq -- "$2" shown || die "'$2' is not in $1: $(cat shown)"
}

make_mix
page "${MIX[@]}"
page --compress=zlib --cluster-size=4K,64K a.raw odd.raw c512.qcow2
page a.raw
page --cluster-size=512 tiny.raw
page empty.raw hole.raw
shows verdict 'no data'
page hole.raw tiny.raw
shows verdict 'would save nothing'
page --hash=sha256 --sample=1/2 a.raw odd.raw
shows estimate 'one part in 2'
page --shard=2/3 a.raw odd.raw
shows shard 'part 2 of 3'

# snapshots, backing files
qemu-img create -q -f qcow2 -b odd.raw -F raw over.qcow2 4M
qemu-io -c 'write -P 1 100k 200k' over.qcow2 >/dev/null
qemu-img snapshot -c s over.qcow2
qemu-io -c 'write -P 2 150k 300k' over.qcow2 >/dev/null
page --snapshots over.qcow2
shows images 'over.qcow2.*1 snapshot'
shows images 'odd.raw.*backing file'

# more images than are drawn, one directory
mkdir many
for i in $(seq 70); do
	head -c $((4096 * (1 + i % 5))) a.raw >"many/$i.raw"
done
page many/*
shows names 'Names begin with many/'

# no memory for pairs, or for strips either, is no reason for no page
ok "$QDEDUP" scan --memory=16M --threads=8 --top=15 --html=page.html --output=json many/* >report
judge page.html report
shows no-matrix 'Not drawn'
shows no-strips 'Not drawn'

# what it is asked for beside changes nothing in what is printed; the page is the same always
ok "$QDEDUP" scan "${MIX[@]}" >plain
for how in '' --threads=1 --threads=8 '--memory=16M --threads=1'; do
	# shellcheck disable=SC2086
	ok "$QDEDUP" scan $how --html="again$how.html" "${MIX[@]}" | cmp plain - || die "the report with a page is another"
	cmp again.html "again$how.html" || die "$how: another page"
done
ok "$QDEDUP" scan --records=records --html=again.html a.raw odd.raw over.qcow2 >/dev/null
ok "$QDEDUP" scan --merge --html=merged.html records >/dev/null
cmp again.html merged.html || die "another page after --merge"

# names
evil=$'<script>alert(1)<\057script>'
mkdir -p "$(dirname "$evil")"
cp tiny.raw "$evil"
names=("$evil" $'"quo\'te & &amp; <b>.raw' $'new\nline\t\033[31m\377.raw' $'bidi\342\200\256war.raw' 'ünï <!-- --> ]]>.raw')
for name in "${names[@]:1}"; do
	cp tiny.raw "$name"
done
page -- "${names[@]}" odd.raw
SHOW=images judge page.html >shown
for name in "$evil" $'"quo\'te & &amp; <b>.raw' 'new\nline\t\x1b[31m\xff.raw' 'bidi\xe2\x80\xaewar.raw' 'ünï <!-- --> ]]>.raw'; do
	grep -Fq -- "$name" shown || die "$name is not in: $(cat shown)"
done

# what cannot be read is named, the rest told, the status 1
head -c 3000 c4K.qcow2 >'bad<i>.qcow2'
exits 1 "$QDEDUP" scan --html=page.html --matrix --top=15 --output=json a.raw 'bad<i>.qcow2' missing.raw >report
judge page.html report
SHOW=left-out judge page.html >shown
grep -Fq 'bad<i>.qcow2: ' shown && grep -q 'missing.raw: .*No such file' shown && grep -q '2 images' shown ||
	die "what could not be read: $(cat shown)"

# a page appears when it is whole, and never over an image
echo old >page.html
fails 1 "$QDEDUP" scan --html=page.html missing.raw
is old "$(cat page.html)" "a page after a failure"
fails 1 "$QDEDUP" scan --html=nowhere/page.html a.raw
says 'nowhere/page.html: '
sum=$(cat a.raw odd.raw records | cksum)
ln -s a.raw link
for target in a.raw ./a.raw link; do
	fails 1 "$QDEDUP" scan --html=$target tiny.raw a.raw
	says "${target#./}: .*one of the images"
done
for option in --html=odd.raw --records=odd.raw '-U --html=odd.raw'; do
	# shellcheck disable=SC2086
	exits 1 "$QDEDUP" scan $option tiny.raw over.qcow2 >/dev/null
	says 'odd.raw: .*one of the images'
done
fails 1 "$QDEDUP" scan --merge --html=records records
says 'records: '
fails 1 "$QDEDUP" scan --records=new --html=./new a.raw
says 'new: '
[ ! -e new ] || die "something came of a refused call"
is "$sum" "$(cat a.raw odd.raw records | cksum)" "what was not to be written over"
for bad in - ''; do
	fails 1 "$QDEDUP" scan "--html=$bad" a.raw
done
fails 1 "$QDEDUP" scan --html=dir/ a.raw
