#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Hashes that lie in the journal's log, and those that it takes back: after compact, dedup and rehash the
# table says what table and log said together, as a table made from scratch does, and the journal is there,
# empty.  What is damaged of an index is not believed afterwards either.
. "$(dirname "$0")/io-lib.sh"

records() {
	"$_python" "$_cli/indexread.py" list "$@" | cut -f 1,3
}

state() {	# IMG OPTION...: of what verify says
	ok "$QDEDUP" verify --output=json "$@" >verify.out
	json verify.out '[d["state"], d["checked"], d["unknown"], d["bad-clusters"]]'
}

# tells_all IMG RAW [FILE]: the index is that of a rehash that reads everything, but that what only the pin refers
# to may keep its record, and a stream whose host cluster is still in use for others, too, until a table is made
tells_all() {
	judge "$1" "$2"
	cp "$1" again.qcow2
	ok "$QDEDUP" rehash -q --drop again.qcow2
	ok "$QDEDUP" rehash -q -t unsafe again.qcow2
	is "$(state again.qcow2)" "$(state "$1" ${3:+--index="$3"})" "what verify says of $1"
	records again.qcow2 | sort >wanted
	records "$1" ${3:+"$3"} | sort >got
	ok "$QDEDUP" stats --output=json "$1" >stats.out
	is '' "$(comm -23 wanted got | head -n 5)" "records that $1 lacks"
	[ "$(comm -13 wanted got | grep -vc "${streams:-nothing}")" -le "$(json stats.out 'd["pinned-unused"]')" ] ||
		die "$1: records of clusters that are not there: $(comm -13 wanted got | head -n 5)"
}

# log_of IMG [OPTION...]: entries of the log, or fails when there is no journal
log_of() {
	ok "$QDEDUP" journal --output=json "${@:2}" verify "$1" >journal.out
	json journal.out 'd["entries"]'
}

mkdata base.raw 2M 726 random
mkdata new.raw 400K 727 random
dd if=base.raw of=known bs=4K skip=256 count=16 status=none

# writes IMG [OPTION...]: the journal holds hashes of what is new, and takes back what is overwritten or freed, of
# table and log; clusters that were free hold other content than the table says.
writes() {
	ok "$QDEDUP" io -q -t unsafe -c 'discard 0 512K' -c 'write -P 5 600K 8K' "$@"
	ok "$QDEDUP" io -q -t unsafe -c 'write -s new.raw 1M 400K' -c 'write -P 9 100K 40K' -c 'write -s known 1900K 64K' "$@"
	ok "$QDEDUP" io -q -t unsafe -c 'discard 1600K 200K' -c 'discard 1100K 100K' -c 'write -P 7 600K 4K' "$@"
}

for options in cluster_size=4K cluster_size=512 'cluster_size=16K -c'; do
	# shellcheck disable=SC2086
	ok "$QDEDUP" convert -q -t unsafe -o $options base.raw start.qcow2
	ok "$QDEDUP" journal -q -t unsafe create start.qcow2
	writes start.qcow2
	"$QIMG" convert -O raw start.qcow2 twin.raw
	[ "$(log_of start.qcow2)" -gt 50 ] || die "nothing in the log: no test"
	"$_python" - start.qcow2 "$_cli" <<-'END' || die "the table alone says the same: no test"
		import sys
		sys.path.insert(0, sys.argv[2])
		import indexread
		img = indexread.Image(sys.argv[1])
		sys.exit({r[0]: r[3] for r in img.table()} == {r[0]: r[3] for r in img.records()})
	END
	for command in compact 'dedup --compact' dedup rehash; do
		cp start.qcow2 disk.qcow2
		# shellcheck disable=SC2086
		ok "$QDEDUP" $command --output=json -t unsafe disk.qcow2 >out
		streams=
		[ "$command" != dedup ] || streams='^0x[456]'
		tells_all disk.qcow2 twin.raw
		case $command in
		dedup) continue ;;
		*compact) is true "$(json out 'd["changed"] and d["file-size-after"] < d["file-size-before"]')" "made shorter" ;;
		esac
		is 0 "$(log_of disk.qcow2)" "entries of the log after $command"
	done
	streams='^0x[456]'
	# What was in the log is used, and goes on being kept.
	ok "$QDEDUP" io -q -t unsafe -c 'write -P 9 0 64K' -c 'discard 700K 100K' disk.qcow2
	"$QIMG" convert -O raw disk.qcow2 twin.raw
	tells_all disk.qcow2 twin.raw
	ok "$QDEDUP" compact -q disk.qcow2
	streams=
	tells_all disk.qcow2 twin.raw
done

# Nothing in the table, all in the log; the log packed; a container one generation on.
truncate -s 2M empty.raw
ok "$QDEDUP" convert -q -t unsafe -o cluster_size=4K empty.raw start.qcow2
ok "$QDEDUP" journal -q -t unsafe --size=64K create start.qcow2
writes start.qcow2
"$QIMG" convert -O raw start.qcow2 twin.raw
generation=$(log_of start.qcow2 >/dev/null && json journal.out 'd["generation"]')
for pack in no yes; do
	cp start.qcow2 disk.qcow2
	[ $pack = no ] || ok "$QDEDUP" journal -q -t unsafe pack disk.qcow2
	ok "$QDEDUP" compact -q disk.qcow2
	tells_all disk.qcow2 twin.raw
	is 0 "$(log_of disk.qcow2)" "entries of the log"
	is 65536 "$(json journal.out 'd["log-size"]')" "size of the log"
	is $((generation + 1)) "$(json journal.out 'd["generation"]')" "generation of the index"
done

# The index beside the image, whose log nobody writes to.
writes start.qcow2
ok "$QDEDUP" rehash -q -t unsafe --index=start.idx start.qcow2
ok "$QDEDUP" journal -q -t unsafe --index=start.idx --size=64K create start.qcow2
"$QIMG" convert -O raw start.qcow2 twin.raw
for command in compact 'dedup --compact' dedup rehash; do
	cp start.qcow2 disk.qcow2
	cp start.idx disk.idx
	# shellcheck disable=SC2086
	ok "$QDEDUP" $command -q -t unsafe --index=disk.idx disk.qcow2
	tells_all disk.qcow2 twin.raw disk.idx
	is 0 "$(log_of disk.qcow2 --index=disk.idx)" "entries of the log"
	is 65536 "$(json journal.out 'd["log-size"]')" "size of the log"
done

# QEMU wrote after it: what the pin holds still counts, nothing is called rotten.
ok "$QDEDUP" convert -q -t unsafe -o cluster_size=4K base.raw disk.qcow2
ok "$QDEDUP" io -q -t unsafe -c 'write -s base.raw 1M 512K' -c 'discard 256K 300K' disk.qcow2
"$QIO" -c 'write -P 3 1500K 100K' -c 'write -P 4 300K 100K' disk.qcow2 >/dev/null
"$QIMG" convert -O raw disk.qcow2 twin.raw
before=$(state disk.qcow2)
ok "$QDEDUP" compact -q disk.qcow2
judge disk.qcow2 twin.raw
is "$before" "$(state disk.qcow2)" "what verify says of a partial index"

# A damaged log: of what it took back nobody knows, so nothing is known.
ok "$QDEDUP" convert -q -t unsafe -o cluster_size=4K base.raw disk.qcow2
ok "$QDEDUP" journal -q -t unsafe create disk.qcow2
writes disk.qcow2
"$_python" - disk.qcow2 "$_cli" <<-'END'
	import sys
	sys.path.insert(0, sys.argv[2])
	import indexread
	x = indexread.Image(sys.argv[1]).x
	with open(sys.argv[1], "r+b") as f:
	    f.seek(x.off + x.journal + 100)
	    f.write(b"damaged")
END
exits 2 "$QDEDUP" journal -q verify disk.qcow2
ok "$QDEDUP" compact -q disk.qcow2
check_clean disk.qcow2
ok "$QDEDUP" verify --output=json disk.qcow2 >verify.out
is '[0, 0]' "$(json verify.out '[d["checked"], d["bad-clusters"]]')" "what is believed of a damaged log"
