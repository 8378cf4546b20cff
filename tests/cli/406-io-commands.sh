#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The commands of qdedup io: -c and standard input, patterns, files, mistakes; what fails ends the run
# and leaves what was done before.
. "$(dirname "$0")/io-lib.sh"

qemu-img create -q -f qcow2 disk.qcow2 4M
ok "$QDEDUP" io -c 'write -P 0xaa 0 64K' -c 'write 1M 100' -c 'write -z 10 5' -c 'discard 2M 1M' -c flush disk.qcow2 >out
printf 'wrote %s bytes at offset %s\n' 65536 0 100 1048576 5 10 >wanted
echo 'discarded 1048576 bytes at offset 2097152' >>wanted
diff wanted out || die "what it prints"
is '' "$(ok "$QDEDUP" io -q -c 'write 5 5' disk.qcow2)" "-q"
ok "$QDEDUP" io -q disk.qcow2 <<-'END'
	# what the defaults are
	read -P 0xcd 1M 100   # and no more
	read -P 0 1048676 4

	read -P 170 15 100
	read -P 0xCD 5 5
END
ok "$QDEDUP" io -q -r -c 'read -v 0 18' disk.qcow2 >out
printf '%s\n' '00000000:  aa aa aa aa aa cd cd cd cd cd 00 00 00 00 00 aa  ................' \
	'00000010:  aa aa                                            ..' >wanted
diff wanted out || die "read -v"

# read -P: the first offset that differs
_run "$QDEDUP" io -c 'read -P 0xaa 15 65522' disk.qcow2
is 1 "$_status" "status of a mismatch"
says '65536' '0x00'
_run "$QDEDUP" io -c 'read -P 0 2M 2M' -c 'write -P 9 4194303 1' -c 'read -P 0 2M 2M' -c 'write 0 4M' disk.qcow2 >/dev/null
is 1 "$_status" "status of a mismatch"
says 4194303 0x09
ok "$QDEDUP" io -q -c 'read -P 9 4194303 1' -c 'read -P 0xaa 100 100' disk.qcow2

# files, repeated and cut; quoting
printf 'abcdefg' >'a b'
ok "$QDEDUP" io -q -c "write -s 'a b' 3000000 20" -c 'write -s "a b" 100 3' disk.qcow2
ok "$QDEDUP" io -r -c 'read -v 3000000 20' disk.qcow2 >out
grep -q 'abcdefgabcdefgab' out || die "write -s: $(cat out)"
grep -q 'cdef$' out || die "write -s: $(cat out)"
ok "$QDEDUP" io -q -c 'read -P 0x61 100 1' -c 'read -P 0x63 102 1' -c 'read -P 0xaa 103 1' disk.qcow2
: >nothing
fails 1 "$QDEDUP" io -c 'write -s nothing 0 1' disk.qcow2
says 'nothing: .*empty'
fails 1 "$QDEDUP" io -c 'write -s missing 0 1' disk.qcow2
says 'missing: '

# mistakes: found before anything is done when they are in -c
before=$(sha256sum disk.qcow2)
while IFS='|' read -r command pattern; do
	fails 1 "$QDEDUP" io -c 'write -P 7 0 1M' -c "$command" disk.qcow2
	says "command '" "$pattern" "see 'qdedup io --help'"
done <<-'END'
	reed 0 1|'reed' is not known
	read|argument is missing
	read 0|argument is missing
	read 0 1 2|one argument too many
	flush 0|one argument too many
	read -z 0 1|no such option
	discard -P 1 0 1|no such option
	write -P 256 0 1|not a byte
	write -P -1 0 1|not a byte
	write -P 0x 0 1|not a byte
	write -P|argument is missing
	write -P 1 -z 0 1|exclude each other
	write -s x -P 1 0 1|exclude each other
	write 0 1MB|1MB
	write x 1|'x'
	write -s 'x 0 1|not closed
	read 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15|too many
END
is "$before" "$(sha256sum disk.qcow2)" "disk.qcow2"
printf 'write -P 7 0 1\nreed\nwrite -P 8 0 1\n' >list
_run "$QDEDUP" io -q disk.qcow2 <list
is 1 "$_status" "status of a mistake on standard input"
says "'reed' is not known"
ok "$QDEDUP" io -q -c 'read -P 7 0 1' disk.qcow2
check_clean -q disk.qcow2

# a raw image can be read
printf 'hello' >x.raw
ok "$QDEDUP" io -q -r -f raw -c 'read -P 0x68 0 1' -c 'read -P 0 5 507' x.raw
