# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What the tests of `qdedup rehash` and `qdedup verify` (510 to 529) share, on top of
# dedup-lib.sh and convert-lib.sh, which it brings along.
#
#	index WHAT IMG         index.py: the index of an image, read by somebody else
#	rehash IMG [OPTION...] must succeed; JSON in out.json; then all is well with IMG
#	judge_index IMG        is IMG clean for qemu-img, and does verify find nothing?
#	value KEY              of out.json
. "$(dirname "${BASH_SOURCE[0]}")/dedup-lib.sh"

index() {
	"$_python" "$_cli/index.py" "$@"
}

judge_index() {
	check_clean -q "$1"
	ok "$QDEDUP" verify --output=json "$@" >verify.json
	is '[]' "$(json verify.json 'd["bad"]')" "$1: bad clusters"
}

rehash() {
	ok "$QDEDUP" rehash --output=json "$@" >out.json
	judge_index "$1"
}

value() {
	json out.json "d['$1']"
}
