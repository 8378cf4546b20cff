#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The commands that qdedup-scan(1) gives for a fleet do what it says, as they stand there: with GNU parallel,
# with a Hadoop that is a pipe of mapper, sort and reducers, with a Spark of Python lists.
. "$(dirname "$0")/scan-lib.sh"

# example PATTERN: the block of the page that has it, prompts removed
example() {
	"$_python" - "$_top/man/qdedup-scan.1" "$1" <<-'END'
	import re, sys
	page = open(sys.argv[1]).read()
	block = next(b for b in re.findall(r"\.Bd -literal -offset indent\n(.*?)\.Ed\n", page, re.S) if sys.argv[2] in b)
	for roff, text in (("\\e", "\\"), ("\\(aq", "'"), ("\\&", "")):
	    block = block.replace(roff, text)
	print(re.sub(r"(?m)^(\$|>>>|\.\.\.) ?", "", block), end="")
	END
}

# three machines behind a stand-in for ssh; they share a base, and two of their images have one name
mkdir bin
cat >bin/ssh <<END
#!/bin/sh
sed "s,^cd /images,cd '$PWD'/\$1," <<EOF | exec sh
\$2
EOF
END
cat >bin/hadoop <<END
#!$_python
END
cat >>bin/hadoop <<'END'
import os, shlex, subprocess, sys, zlib
args = sys.argv[3:]
options = dict(zip(args[::2], args[1::2]))
text = b"".join(open(f"{options['-input']}/{n}", "rb").read() for n in sorted(os.listdir(options["-input"])))
def run(command, data):
    return subprocess.run(shlex.split(command), input=data, stdout=subprocess.PIPE, check=True).stdout
rows = run(options["-mapper"], text).splitlines(keepends=True)
os.mkdir(options["-output"])
for n in range(3):      # keypartitioner.options=-k1,1
    part = sorted((r for r in rows if zlib.crc32(r.split(b"\t")[0]) % 3 == n), key=lambda r: r.split(b"\t")[:3])
    open(f"{options['-output']}/part-{n}", "wb").write(run(options["-reducer"], b"".join(part)))
END
chmod +x bin/*
PATH=$PWD/bin:$(dirname "$(realpath "$QDEDUP")"):$PATH
for n in 1 2 3; do
	mkdir host$n
	mix_qcow2 host$n/disk.qcow2 $n 1M
	mix_qcow2 host$n/other.qcow2 $((n + 3)) 700K cluster_size=4K
done
ok "$QDEDUP" scan --output=json host?/*.qcow2 >whole
brute --report=whole host?/*.qcow2

example 'ssh {} "cd /images' >commands
is 2 "$(wc -l < <(grep -E '^(parallel|LC_ALL)' commands))" "commands for a fleet"
sed -i 's/--merge/--merge --output=json/' commands
ok bash -e commands 2>/dev/null | cmp whole - || die "another report through sort -m"
mkdir records
cp host?.records records
ok "$QDEDUP" scan --merge --output=json host?.records | cmp whole -
rm host?.records

example 'qdedup scan --shard=$k/4' >commands
sed -i '$s/--merge/--merge --output=json/' commands
ok bash -e commands >report 2>errors
cmp whole report || die "another report from shards"
total=0
for k in 1 2 3 4; do
	total=$((total + $(json part.$k.json 'd["cluster-sizes"][0]["unique"]')))
done
is "$(json whole 'd["cluster-sizes"][0]["unique"]')" $total "unique"

# records that are there twice count once, as they do for --merge
cp records/host1.records records/again.records
example 'hadoop jar' >commands
ok bash -e commands
is "$(json whole 'sum(s["shared-contents"] for s in d["cluster-sizes"])')" "$(cat counts/part-* | wc -l)" \
	"contents with two references"
is "$(json whole 'sum(h["max-references"] for h in d["cluster-sizes"][:1])')" \
	"$(cat counts/part-* | awk '$2 == 4096 && $3 > n { n = $3 } END { print n }')" "references of the most frequent"

example spark.read.csv >commands.py
(cd records && "$_python" - ../commands.py) >table <<'END'
import glob, sys
from collections import Counter
class Rows:
    def __init__(self, names, rows):
        self.names, self.rows = names, rows
    def csv(self, pattern, sep, comment, quote, escape, schema):
        assert not quote and not escape
        fields = [f.split() for f in schema.split(",")]
        kinds = {"string": str, "long": int}
        return Rows([n for n, _ in fields], [
            tuple(kinds[k](v) for (_, k), v in zip(fields, line.rstrip("\n").split(sep), strict=True))
            for name in glob.glob(pattern) for line in open(name) if not line.startswith(comment)])
    def distinct(self):
        return Rows(self.names, list(set(self.rows)))
    def groupBy(self, *columns):
        self.by, self.at = list(columns), [self.names.index(c) for c in columns]
        return self
    def groups(self):
        return {k: [r for r in self.rows if tuple(r[i] for i in self.at) == k]
                for k in sorted({tuple(r[i] for i in self.at) for r in self.rows})}
    def count(self):
        some = Counter(tuple(r[i] for i in self.at) for r in self.rows)
        return Rows(self.by + ["count"], [k + (n,) for k, n in some.items()])
    def agg(self, what):
        do = {"sum": sum, "count": len}
        return Rows(self.by + list(what), [
            k + tuple(do[f]([r[self.names.index(c)] for r in rows]) for c, f in what.items())
            for k, rows in self.groups().items()])
    def show(self):
        for row in self.rows:
            print(*row)
class spark:
    read = Rows([], [])
exec(open(sys.argv[1]).read(), {"spark": spark})
END
json whole '"\n".join(f"""{s["cluster-size"]} {s["clusters"]} {s["unique"]}""" for s in d["cluster-sizes"])' | cmp table - ||
	die "another table: $(cat table)"

if command -v duckdb >/dev/null; then
	example 'duckdb -c' | sed 's/duckdb -c/duckdb -csv -noheader -c/' >commands
	(cd records && ok bash -e ../commands) | sort -n | tr , ' ' | cmp table -
fi
