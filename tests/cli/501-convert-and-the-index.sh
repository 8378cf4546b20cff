#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# When convert stores an index and where: in the image, in a file (which appears with the image or not
# at all), or nowhere; the same bytes with any number of threads and any memory; stock QEMU is content
# and sees the feature's name.
. "$(dirname "$0")/convert-lib.sh"

# index IMAGE: state, location and entries
index() {
	ok "$QDEDUP" info --output=json "$1" | json - '" ".join(str(d["index"].get(k)) for k in ("state", "location", "entries"))'
}

mkdup in.raw 2M 4K 100 501

# In the image: first extension, within a sector, named.
ok "$QDEDUP" convert -q -o cluster_size=4K in.raw out.qcow2
deduplicated out.qcow2 in.raw 4K
is "valid embedded $data" "$(index out.qcow2)"
is cd8e819b "$(od -An -tx1 -j 112 -N 4 out.qcow2 | tr -d ' ')" "the first extension"
grep -qa 'qdedup index' out.qcow2 || die "the feature has no name"
is 1 "$(walk --get pin out.qcow2)"
qemu-io -c 'write -P 9 0 4K' out.qcow2 >/dev/null
is "partial embedded $data" "$(index out.qcow2)" "after QEMU wrote"
check_clean -q out.qcow2
qemu-img snapshot -d qdedup out.qcow2
is "absent None None" "$(index out.qcow2)" "without the pin"
check_clean -q out.qcow2

# Nowhere.
for options in --no-index --no-dedup --no-pin "-o compat=0.10" "--no-dedup -o data_file=data.bin"; do
	rm -f out.qcow2
	# shellcheck disable=SC2086
	ok "$QDEDUP" convert -q $options in.raw out.qcow2
	is "absent None None" "$(index out.qcow2)" "$options"
	check_clean -q out.qcow2
done

# Beside the image, also where the image has no pin; an older file of that name is replaced.
echo old >beside
for options in '' --no-pin "--hash=sha256 -c"; do
	rm -f out.qcow2
	# shellcheck disable=SC2086
	ok "$QDEDUP" convert -q --index=beside $options -o cluster_size=4K in.raw out.qcow2
	same in.raw out.qcow2
	check_clean -q out.qcow2
	is 0 "$(walk --fresh --get index out.qcow2)" "clusters of the index in the image"
	is "$data" "$("$_python" "$_cli/indexread.py" compare out.qcow2 in.raw beside)" "hashes beside the image, $options"
	is "valid file None" "$(index out.qcow2)" "$options"
done

# Refused before anything is written; a failure leaves neither file and no older one is touched.
rm out.qcow2
cp beside kept
fails 1 "$QDEDUP" convert --index=in.raw in.raw out.qcow2
says source
fails 1 "$QDEDUP" convert --index=out.qcow2 in.raw out.qcow2
says 'target itself'
fails 1 "$QDEDUP" convert --index=beside -o compat=0.10 in.raw out.qcow2
says 'compat=0.10'
fails 1 "$QDEDUP" convert --index=nowhere/beside in.raw out.qcow2
fails 1 "$QDEDUP" convert --index=new -f qcow2 in.raw out.qcow2
[ ! -e out.qcow2 ] || die "a refused convert made an image"
[ ! -e new ] || die "a failed convert made an index"
cmp beside kept

# A tiny first cluster whose backing file has a long name has no room for the extension.
mkdir -p "$(printf 'x%.0s' {1..200})"
long=$(printf 'x%.0s' {1..200})/$(printf 'y%.0s' {1..60})
ok "$QDEDUP" convert -q --no-index -o cluster_size=512 in.raw "$long"
ok "$QDEDUP" convert -q -B "$long" -F qcow2 -o cluster_size=512 in.raw out.qcow2
is "absent None None" "$(index out.qcow2)" "no room"
check_clean -q out.qcow2
rm out.qcow2
ok "$QDEDUP" convert -q -o cluster_size=512 in.raw out.qcow2
is valid "$(index out.qcow2 | cut -d' ' -f1)" "clusters of 512 bytes"

# The same bytes, in the image and beside it.
for options in "-o cluster_size=4K" "-c --hash=blake2b -o cluster_size=4K" "--max-share=3 -o cluster_size=512"; do
	# shellcheck disable=SC2086
	{
		ok "$QDEDUP" convert -q --threads=1 $options in.raw a.qcow2
		ok "$QDEDUP" convert -q --threads=5 --memory=16M $options in.raw b.qcow2
		cmp a.qcow2 b.qcow2
		ok "$QDEDUP" convert -q --threads=1 --index=a.idx $options in.raw a.qcow2
		ok "$QDEDUP" convert -q --threads=5 --memory=16M --index=b.idx $options in.raw b.qcow2
	}
	cmp a.qcow2 b.qcow2
	cmp a.idx b.idx
done

# Into an existing image.
qemu-img create -q -f qcow2 -o cluster_size=4K out.qcow2 2M
ok "$QDEDUP" convert -q -n in.raw out.qcow2
deduplicated out.qcow2 in.raw 4K
is "valid embedded $data" "$(index out.qcow2)"
