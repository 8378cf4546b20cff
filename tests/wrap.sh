#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# wrap.sh WRAPPER PROGRAM: writes a script that runs PROGRAM under valgrind, so that
# tests which know one path to the program under test need not know about it.
# What valgrind finds ends in status 134, as an abort would: no test expects that.
set -eu
cat >"$1" <<END
#!/bin/sh
exec valgrind --quiet --error-exitcode=134 --leak-check=full --errors-for-leak-kinds=definite \\
	--fair-sched=yes '$2' "\$@"
END
chmod 755 "$1"
