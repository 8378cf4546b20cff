#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# --sample=1/N reads a part of the data, says that its numbers are estimates, and gives bounds that hold;
# the same bytes each time.
. "$(dirname "$0")/scan-lib.sh"

mkdata dup.raw 96M 100 dup50
mkdata uniq.raw 48M 101 random
mix_qcow2 mix.qcow2 102 24M
mkdata sparse.raw 128M 103 sparse
for set in "dup.raw" "uniq.raw" "dup.raw uniq.raw" "mix.qcow2 dup.raw" sparse.raw "uniq.raw mix.qcow2 sparse.raw dup.raw"; do
	for cs in 4K 64K; do
		# shellcheck disable=SC2086  # a list of names
		ok "$QDEDUP" scan --output=json --cluster-size=$cs $set >exact
		for n in 2 4 10; do
			# shellcheck disable=SC2086
			ok "$QDEDUP" scan --output=json --cluster-size=$cs --sample=1/$n $set >guess
			"$_python" - exact guess $n <<-'END' || die "$set at $cs, 1/$n"
			import json, sys
			exact, guess = (json.load(open(n)) for n in sys.argv[1:3])
			n = int(sys.argv[3])
			assert guess["estimate"] is True and guess["sample"] == n
			assert exact["estimate"] is False
			a, b = exact["cluster-sizes"][0], guess["cluster-sizes"][0]
			low, high = b["unique-low"], b["unique-high"]
			print(f'{a["unique"]} distinct; estimate {b["unique"]}, {low} to {high}; '
			      f'clusters {a["clusters"]}, estimate {b["clusters"]}')
			assert low <= b["unique"] <= high, "the estimate is outside its bounds"
			assert low <= a["unique"] <= high, "the truth is outside the bounds"
			assert b["saved-bytes-low"] <= a["saved-bytes"] <= b["saved-bytes-high"], "saved bytes"
			assert b["saved-bytes-low"] <= b["saved-bytes"] <= b["saved-bytes-high"], "saved bytes of the estimate"
			assert high <= b["clusters"] * 1.01 + 1, "more distinct clusters than clusters"
			assert abs(a["clusters"] - b["clusters"]) <= 0.6 * a["clusters"] + 64, "clusters"
			END
		done
	done
done

ok "$QDEDUP" scan --sample=1/10 uniq.raw dup.raw >human
grep -Eiq 'sample|estimate' human || die "not labelled: $(cat human)"
for how in --threads=1 --threads=8 --memory=1M; do
	ok "$QDEDUP" scan --sample=1/10 $how uniq.raw dup.raw | cmp human - || die "$how"
done
ok "$QDEDUP" scan --sample=1/1 --output=json uniq.raw >whole
ok "$QDEDUP" scan --output=json uniq.raw | cmp whole - || die "1/1 is everything"
# of nothing and of little
: >empty.raw
head -c 3000 uniq.raw >small.raw
ok "$QDEDUP" scan --sample=1/1000 --output=json empty.raw small.raw >guess
ok "$QDEDUP" scan --sample=1/1000 empty.raw small.raw >/dev/null
