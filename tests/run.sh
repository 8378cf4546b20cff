#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# run.sh [-j N] [-u UNIT-PROGRAM] [-l] [-f DIR-OF-FUZZ-DRIVERS] [CLI-TEST...]
#
# Runs what it is given, N at a time, prints a line for each as it ends and, at the
# very end, alone on a line: "N passed, N failed".  Exits 0 when nothing failed and
# something passed.
#
#	-u  a CUnit program; each of its tests counts
#	-l  tests/layers.sh
#	-f  every program in the directory, run over the seed inputs made for it and over
#	    QD_FUZZ_RUNS (20000) mutations of them, the same ones every time
#
# Each test runs in a directory of its own, which is also its TMPDIR and is removed
# afterwards.  A test fails when it exits other than 0, is killed by a signal, or
# takes longer than its time.  Exit status 77 means "skipped", and is a failure too
# unless the test's last line says "SKIP: needs root: ..." (or a device, a kernel, a
# file system): what set-up can install is never a reason to skip.
#
# Environment: QDEDUP (the program under test), QD_TIMES_SLOWER (an instrumented
# build: multiplies the time a test may take), QD_TEST_SECONDS (that time, 300).
set -u
here=$(cd "$(dirname "$0")" && pwd)
export QDEDUP=${QDEDUP:-$here/../qdedup}
export QD_TOOLS=$here/../build/tools
seconds=$((${QD_TEST_SECONDS:-300} * ${QD_TIMES_SLOWER:-1}))

# What a sanitizer finds must look like a crash: a test may well expect status 1.
export ASAN_OPTIONS=abort_on_error=1:exitcode=134:detect_leaks=1:strict_string_checks=1
export LSAN_OPTIONS=exitcode=134
export UBSAN_OPTIONS=abort_on_error=1:print_stacktrace=1
export TSAN_OPTIONS=abort_on_error=1:halt_on_error=1:exitcode=134
export LC_ALL=C TZ=UTC

jobs=2 unit='' layers='' fuzz=''
while getopts j:u:lf: opt; do
	case $opt in
	j) jobs=$OPTARG ;;
	u) unit=$OPTARG ;;
	l) layers=1 ;;
	f) fuzz=$OPTARG ;;
	*) exit 2 ;;
	esac
done
shift $((OPTIND - 1))

top=$(mktemp -d) || exit 2
stop() {
	local tasks
	tasks=$(jobs -p)
	# shellcheck disable=SC2086  # a list of process ids
	[ -z "$tasks" ] || kill $tasks 2>/dev/null
	wait
	chmod -R u+rwX "$top" 2>/dev/null
	rm -rf "$top"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
mkdir "$top/result" "$top/work"

# Adds "PASSED FAILED SKIPPED" to the result and prints the report of one test in one piece.
report() {
	local name=$1 counts=$2 text=$3
	printf '%s\n' "$counts" >"$top/result/${name//\//_}"
	{
		flock 9
		printf '%s\n' "${text%$'\n'}"
	} 9>"$top/lock"
}

indented() {
	sed 's/^/    | /' | tail -n 200
}

allowed_skip() {
	tail -n 1 "$1" | grep -Eq '^SKIP: needs (root|a device|a kernel|a file system)'
}

# in_workdir NAME COMMAND...: sets status, elapsed and out (a file)
in_workdir() {
	local name=$1 dir start
	shift
	dir=$top/work/${name//\//_}
	out=$top/${name//\//_}.out
	mkdir -p "$dir"
	start=$SECONDS
	(cd "$dir" && TMPDIR=$dir exec timeout -k 10 "$seconds" "$@") >"$out" 2>&1 </dev/null &
	# shellcheck disable=SC2064  # this very process
	trap "kill $! 2>/dev/null" TERM
	wait $! 2>/dev/null
	status=$?
	elapsed=$((SECONDS - start))
	chmod -R u+rwX "$dir" 2>/dev/null
	rm -rf "$dir"
}

why() {
	case $1 in
	124) echo "not finished after $seconds s" ;;
	77) echo "skipped, but only what needs root, a device, a kernel or a file system may be" ;;
	*) if [ "$1" -gt 125 ]; then echo "crashed, status $1"; else echo "status $1"; fi ;;
	esac
}

run_command() {
	local name=$1
	in_workdir "$@"
	if [ "$status" -eq 0 ]; then
		report "$name" "1 0 0" "ok    $name (${elapsed} s)"
	elif [ "$status" -eq 77 ] && allowed_skip "$out"; then
		report "$name" "0 0 1" "skip  $name: $(tail -n 1 "$out" | sed 's/^SKIP: //')"
	else
		report "$name" "0 1 0" "FAIL  $name (${elapsed} s): $(why "$status")
$(indented <"$out")"
	fi
}

# CUnit's summary line reads: tests TOTAL RAN PASSED FAILED INACTIVE
run_unit() {
	local name=unit passed=0 failed=0
	in_workdir "$name" "$unit"
	read -r passed failed < <(awk '$1 == "tests" { p = $4; f = $5 } END { print p + 0, f + 0 }' "$out")
	if [ "$status" -eq 0 ] && [ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]; then
		report "$name" "$passed 0 0" "ok    $name: $passed tests (${elapsed} s)"
		return
	fi
	[ "$failed" -gt 0 ] || failed=1
	report "$name" "$passed $failed 0" "FAIL  $name (${elapsed} s): $(why "$status")
$(indented <"$out")"
}

absolute() {
	case $1 in
	/*) echo "$1" ;;
	*) echo "$PWD/$1" ;;
	esac
}

# Each task is a shell function and its arguments, started as soon as one of $jobs places is free.
running=0 started=0
start() {
	started=$((started + 1))
	if [ "$running" -ge "$jobs" ]; then
		wait -n
		running=$((running - 1))
	fi
	"$@" &
	running=$((running + 1))
}

[ -z "$layers" ] || start run_command layers "$here/layers.sh"
if [ -n "$unit" ]; then
	unit=$(absolute "$unit")
	start run_unit
fi
if [ -n "$fuzz" ]; then
	fuzz=$(absolute "$fuzz")
	if "$here/fuzz/make-corpus.sh" "$top/corpus" >"$top/corpus.log" 2>&1; then
		for driver in "$fuzz"/fuzz_*; do
			name=$(basename "$driver")
			start run_command "fuzz/${name#fuzz_}" "$driver" --random "${QD_FUZZ_RUNS:-20000}" 1 \
				"$top/corpus/${name#fuzz_}"
		done
	else
		started=$((started + 1))
		report corpus "0 1 0" "FAIL  fuzz: no seed inputs: $(cat "$top/corpus.log")"
	fi
fi
for test in "$@"; do
	name=$(basename "$test" .sh)
	start run_command "cli/$name" bash "$(absolute "$test")"
done
wait

read -r passed failed skipped < <(cat /dev/null "$top"/result/* 2>/dev/null |
	awk '{ p += $1; f += $2; s += $3 } END { print p + 0, f + 0, s + 0 }')
reported=$(find "$top/result" -type f | wc -l)
if [ "$reported" -ne "$started" ]; then
	echo "FAIL  $((started - reported)) tests ended without a result"
	failed=$((failed + started - reported))
fi
[ "$skipped" -eq 0 ] || echo "$skipped skipped (the reasons stand above)"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
