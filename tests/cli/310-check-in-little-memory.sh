#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# What check finds does not depend on memory or threads, and --memory is a ceiling.
. "$(dirname "$0")/check-lib.sh"

# Millions of host clusters, in random order, and damage at both ends of the file: with
# 1M of memory they are counted in many passes.
"$QD_TOOLS/mkmeta" m.img 256G 64K half random 5
exits 0 "$QDEDUP" check -q m.img
damage m.img 'l2[0] = host[0]' 'l2[128K] = l2[200G]' 'refcount[host[300M]] = 0' 'refcount[END - CLUSTER] = 3' \
	'l2[255G] = table[3] | COPIED' 'l2[100G] = host[100G] + 512' 'l1[77] = refblock[1] | COPIED' \
	'l1[78] = l1[79]' 'l2[17G] = END * 2' 'l2[250G] = COMPRESSED | COPIED | host[250G]'
exits 2 "$QDEDUP" check --output=json m.img >want.json
finds m.img copied-clear=1 l1-entry-overlap l2-entry-overlap l2-entry-unaligned l2-entry-past-end refcount-low=4099 \
	leak=8198 refcount-high copied-set=2 compressed-copied
for how in --threads=1 --threads=3 --memory=1M '--memory=1M --threads=3' --memory=3M; do
	# shellcheck disable=SC2086  # a list of words
	exits 2 "$QDEDUP" check --output=json $how m.img >got.json
	for key in finding-counts corruptions leaks image-end-offset allocated-clusters fragmented-clusters; do
		is "$(json want.json "d['$key']")" "$(json got.json "d['$key']")" "$key with $how"
	done
	case $how in
	--threads*) cmp want.json got.json || die "other findings with $how" ;;
	esac
done

# 8 Mi clusters, one byte each, do not fit 8M; nor does the program, but little more
"$QD_TOOLS/mkmeta" m.img 512G 64K full random 5
for limit in 8 64; do
	read -r _ peak _ < <("$QD_TOOLS/measure" "$QDEDUP" check --memory=${limit}M --threads=2 m.img)
	echo "peak with --memory=${limit}M: $peak KiB"
	[ "$slower" -gt 1 ] || [ "$peak" -lt $(((limit + 12) * 1024)) ] || die "peak of $peak KiB under --memory=${limit}M"
done

# As many findings as clusters: those of a stretch wait for their turn to be told, within the ceiling.
"$QD_TOOLS/mkmeta" m.img 16G 4K full order
for what in counts flags; do
	cp --sparse=always m.img half.img
	break_half half.img $what
	exits 2 "$QDEDUP" check --output=json half.img >want.json
	for memory in 1M 8M; do
		exits 2 "$QDEDUP" check --output=json --memory=$memory half.img >got.json
		for key in finding-counts corruptions image-end-offset; do
			is "$(json want.json "d['$key']")" "$(json got.json "d['$key']")" "$what: $key with $memory"
		done
	done
	read -r _ peak _ < <("$QD_TOOLS/measure" sh -c '"$@" || [ $? -eq 2 ]' sh "$QDEDUP" check --memory=8M half.img)
	[ "$slower" -gt 1 ] || [ "$peak" -lt $((18 << 10)) ] || die "$what: peak of $peak KiB under --memory=8M"
done
