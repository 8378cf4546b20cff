# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What the tests of `qdedup io` share, on top of convert-lib.sh, which it brings along.
#
#	SEED                   (environment) the first seed; printed, random unless given
#	fresh IMG RAW OPTIONS  an image with base.raw's content made by qemu-img convert, and its twin
#	rounds N IMG RAW CLUSTER [keeps-discarded]   N times: random commands (iocmds.py) to IMG
#	                       by qdedup io, the same to RAW; stock QEMU and qdedup check are
#	                       the judges after each
#	judge IMG RAW          is IMG clean for both, with the content of RAW?
. "$(dirname "${BASH_SOURCE[0]}")/convert-lib.sh"
seed=${SEED:-$((RANDOM * 1000))}

judge() {
	check_clean -q "$1"
	same "$2" "$1" raw qcow2
	"$QDEDUP" check "$1" >check.out 2>&1 || die "qdedup check $1 exits $?: $(head -n 20 check.out)"
}

commands() {
	seed=$((seed + 1))
	echo "seed $seed: iocmds.py $*"
	"$_python" "$_cli/iocmds.py" $seed "$(bytes "$1")" "${@:2}"
}

rounds() {
	local n
	for ((n = 0; n < $1; n++)); do
		commands "$4" "${COUNT:-50}" list "$3" "${@:5}"
		ok "$QDEDUP" io -q -t unsafe "$2" <list
		judge "$2" "$3"
	done
}

fresh() {
	local img=$1 raw=$2
	shift 2
	rm -f "$img"
	cp base.raw "$raw"
	qemu-img convert -f raw -O qcow2 "$@" base.raw "$img"
}
