#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A mistake on the command line: one line that names it and points to --help, exit
# status 1, nothing written.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
	local pattern=$1
	shift
	fails 1 "$QDEDUP" "$@"
	says "$pattern" "see 'qdedup( [a-z]+)? --help'\$"
	is 1 "$(wc -l <<<"$ERR")" "lines on stderr of qdedup $*"
	[ ! -e out.qcow2 ] || die "qdedup $* made a file"
}

mkdata in.raw 64K 1 random

usage 'no command'
usage "unknown command 'convrt'" convrt in.raw out.qcow2
usage "unknown command 'conv'" conv in.raw out.qcow2
usage "unknown command ''" ''
usage '^qdedup: --nonsense: unknown option' --nonsense convert in.raw out.qcow2
usage "unknown command 'nonsense'" help nonsense
usage 'too many' help convert convert

usage '^qdedup convert: arguments are missing, expected SOURCE TARGET' convert
usage 'argument is missing' convert in.raw
usage "'x' is one argument too many" convert in.raw out.qcow2 x
usage 'empty' convert in.raw ''
usage '^qdedup convert: --nonsense: unknown option' convert --nonsense in.raw out.qcow2
usage '^qdedup convert: -z: unknown option' convert -z in.raw out.qcow2
usage '^qdedup convert: --nonsense: unknown option' convert in.raw out.qcow2 --nonsense

# Names are exact, and an option takes an argument always or never.
usage '--no-ded: unknown' convert --no-ded in.raw out.qcow2
usage '--out=json: unknown' convert --out=json in.raw out.qcow2
usage 'does not take an argument' convert --no-dedup=yes in.raw out.qcow2
usage '^qdedup convert: -l: missing argument' convert in.raw out.qcow2 -l
usage '^qdedup convert: --hash: missing argument' convert in.raw out.qcow2 --hash

# Values
usage "^qdedup convert: -f: .*'vmdk'.* raw or qcow2" convert -f vmdk in.raw out.qcow2
usage "^qdedup convert: -O: .*'vdi'" convert -O vdi in.raw out.qcow2
usage "^qdedup convert: -t: .*'fast'" convert -t fast in.raw out.qcow2
usage "^qdedup convert: -T: .*''" convert -T '' in.raw out.qcow2
usage "^qdedup convert: --output: 'xml'" convert --output=xml in.raw out.qcow2
for n in '' 0 -1 1.5 2x 99999999 0x2 ' 1'; do
	usage "^qdedup convert: --threads: " convert "--threads=$n" in.raw out.qcow2
done
for n in '' 0 10 -1 1MB 1000K xyz; do
	usage "^qdedup convert: --memory: " convert "--memory=$n" in.raw out.qcow2
done
for n in 0 10 3x ''; do
	usage '^qdedup convert: --compress-level: ' convert -c "--compress-level=$n" in.raw out.qcow2
done
for n in 0 -1 x ''; do
	usage '^qdedup convert: --max-share: ' convert "--max-share=$n" in.raw out.qcow2
done
usage '^qdedup convert: -S: ' convert -S 1MiB in.raw out.raw
usage '^qdedup convert: --progress-fd: ' convert --progress-fd=x in.raw out.qcow2
usage '^qdedup convert: --progress-fd: .* 19 ' convert --progress-fd=19 in.raw out.qcow2
usage "^qdedup convert: -o: .*'cluster_siz'" convert -o cluster_siz=4K in.raw out.qcow2
usage "^qdedup convert: -o: cluster_size.*'3K'" convert -o cluster_size=3K in.raw out.qcow2
usage '^qdedup convert: -o: size' convert -o size=1G in.raw out.qcow2
for wrong in "--no-index out.qcow2" "--no-dedup out.qcow2" out.raw; do
	# shellcheck disable=SC2086
	fails 1 "$QDEDUP" convert --index=x.idx in.raw $wrong
	says '^qdedup convert: --index (cannot|needs) '
done
[ ! -e x.idx ] || die "--index made a file"

# The environment does not change where options may stand.
POSIXLY_CORRECT=1 usage '--nonsense: unknown' convert in.raw out.qcow2 --nonsense
