#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Images of stock QEMU of every cluster size, refcount width and kind, with holes, compacted: the content of all
# layers is what it was, both checks are clean, the file is as short as foretold, a second run does nothing,
# and a hash table comes out valid.
. "$(dirname "$0")/lib.sh"

here=$_top/tests/cli
"$_python" "$here/compactcheck.py" "$QDEDUP" 1 16
"$_python" "$here/compactcheck.py" "$QDEDUP" 100 108 dedup
"$_python" "$here/compactcheck.py" "$QDEDUP" 200 208 rehash
# QEMU has put compressed clusters into one that is in use for data as a whole.
"$_python" "$here/compactcheck.py" "$QDEDUP" 1182 1182 dedup
