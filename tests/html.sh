#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# html.sh DIRECTORY: pages of `qdedup scan --html` in headless Chromium, narrow and wide, light and dark.
#
# Leaves screenshots in DIRECTORY, to be looked at, and fails unless in every one of them
#
#	- nothing is wider than the window but what scrolls by itself
#	- text differs from what is behind it: by 4.5 to 1, in the cells of the heat map by 3 to 1
#	- every picture has a size, and the bars have the widths they were given
#	- the page loads nothing and the browser complains about nothing
#
# The numbers of the page are judged by tests/cli/621-*, without a browser.  For the measurements a copy of
# the page gets a script, which the page itself would not run.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
QDEDUP=${QDEDUP:-$here/../qdedup}
mkdir -p "$1"
out=$(cd "$1" && pwd)
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
browser=$(command -v chromium-headless-shell || command -v chromium)
failed=0

# make_images N: families of images that share a base
make_images() {
	python3 - "$1" "$dir/images$1" <<-'PY'
	import os, random, sys
	n, where = int(sys.argv[1]), sys.argv[2]
	os.mkdir(where)
	rng = random.Random(n)
	base = [rng.randbytes(4096 * rng.choice([1, 2, 4, 8])) for _ in range(200)]
	apps = [[rng.randbytes(4096 * rng.choice([1, 2, 4, 16])) for _ in range(40)] for _ in range(5)]
	for i in range(n):
	    r, family = random.Random(7 * i + 1), i % 5
	    with open(f"{where}/{'web db cache build desktop-with-a-rather-long-name'.split()[family]}-{i:02d}.raw", "wb") as f:
	        if family != 4:
	            for b in base[:r.randrange(60, 200)]:
	                f.write(b)
	        f.seek(4096 * r.randrange(10, 200), 1)
	        for b in apps[family]:
	            f.write(b)
	        for _ in range(r.randrange(20, 150)):
	            f.write(r.randbytes(4096) if r.random() < .7 else b"log line %6d\n" % r.randrange(100) * 341)
	        f.seek(4096 * r.randrange(10, 400), 1)
	        for _ in range(r.randrange(0, 60)):
	            f.write(r.choice(apps[family]))
	        f.truncate((f.tell() + (1 << 20)) // 65536 * 65536)
	PY
}

# What the script finds wrong goes into an element that the browser then prints.
measure='
<script>
const bad = [];
const rgba = c => { const m = (c.match(/[\d.]+/g) || [0, 0, 0, 0]).map(Number); return m.length < 4 ? [...m, 1] : m; };
const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
const light = c => { const f = v => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  return .2126 * f(c[0]) + .7152 * f(c[1]) + .0722 * f(c[2]); };
const behind = e => e ? over(rgba(getComputedStyle(e).backgroundColor), behind(e.parentElement)) : [255, 255, 255, 1];
addEventListener("load", () => {
  const root = document.documentElement;
  if (root.scrollWidth > root.clientWidth) bad.push(`wider than the window: ${root.scrollWidth} > ${root.clientWidth}`);
  let texts = 0;
  for (const e of document.querySelectorAll("body *")) {
    if (e.closest("svg") || e.tagName == "SCRIPT" || ![...e.childNodes].some(n => n.nodeType == 3 && n.data.trim())) continue;
    const style = getComputedStyle(e), ground = behind(e), ink = over(rgba(style.color), ground);
    if (style.display == "none" || style.fontSize == "0px") continue;
    const [a, b] = [light(ink), light(ground)].sort((x, y) => y - x), ratio = (a + .05) / (b + .05);
    texts++;
    if (ratio < (e.closest(".heat td") ? 3 : 4.5)) bad.push(`contrast ${ratio.toFixed(2)}: ${e.outerHTML.slice(0, 90)}`);
  }
  if (texts < 40) bad.push(`only ${texts} texts`);
  const pictures = document.querySelectorAll("svg");
  for (const s of pictures) {
    const box = s.getBoundingClientRect();
    if (box.width < 60 || box.height < 8) bad.push(`a picture of ${box.width} by ${box.height}`);
    for (const r of s.querySelectorAll("rect")) {
      const wanted = r.getAttribute("width") / 1000 * box.width;
      if (Math.abs(r.getBoundingClientRect().width - wanted) > 1) bad.push("a bar of another width");
    }
  }
  if (!pictures.length) bad.push("no pictures");
  bad.unshift(getComputedStyle(document.body).backgroundColor);
  const found = document.createElement("pre");
  found.id = "found";
  found.textContent = "\n@@" + bad.join("\n@@") + "\n";
  document.body.append(found);
});
</script>'

# in_browser PAGE WIDTH,HEIGHT light|dark OPTION...
in_browser() {
	local page=$1 size=$2 scheme=1
	[ "$3" = light ] || scheme=0
	shift 3
	timeout -k 5 100 "$browser" --headless --no-sandbox --disable-gpu --hide-scrollbars --user-data-dir="$dir/profile" \
		--blink-settings="preferredColorScheme=$scheme" --window-size="$size" \
		--enable-logging=stderr --log-level=0 "$@" "file://$page" 2>"$dir/log"
}

complain() {
	printf 'FAILED: %s\n' "$*"
	failed=1
}

# look NAME PAGE WIDTH HEIGHT light|dark
look() {
	local name=$1 page=$2 size=$3,$4 found
	in_browser "$page" "$size" "$5" --screenshot="$out/$name.png" >/dev/null
	! grep -E 'CONSOLE|ERR_|Refused' "$dir/log" || complain "$name: the browser complains"
	[ "$(stat -c %s "$out/$name.png" 2>/dev/null || echo 0)" -gt 20000 ] || complain "$name: an empty picture"
	sed '/http-equiv/d' "$page" >"$dir/measured.html"
	printf '%s\n' "$measure" >>"$dir/measured.html"
	found=$(in_browser "$dir/measured.html" "$size" "$5" --dump-dom | sed -n 's/^@@//p')
	[ -n "$found" ] || complain "$name: not measured: $(tail -n 5 "$dir/log")"
	case $5:$(head -n 1 <<<"$found") in
	'light:rgb(251, 250, 247)' | 'dark:rgb(19, 22, 27)') ;;
	*) complain "$name: another background: $found" ;;
	esac
	[ "$(wc -l <<<"$found")" -eq 1 ] || complain "$name:" "$(head -n 12 <<<"$found")"
	echo "$out/$name.png"
}

for n in 1 8 20 60; do
	make_images $n
	compress=--compress=zstd
	[ $n -ne 20 ] || compress=--cluster-size=4K
	"$QDEDUP" scan $compress --html="$dir/page$n.html" "$dir/images$n"/* >/dev/null
	look "wide-light-$n" "$dir/page$n.html" 1280 3600 light
	look "narrow-dark-$n" "$dir/page$n.html" 400 3600 dark
done
head -c 1000 "$dir/images8/db-01.raw" >"$dir/images8/db-01.qcow2"
"$QDEDUP" scan --sample=1/2 --html="$dir/left.html" "$dir"/images8/* "$dir/images8/none.qcow2" >/dev/null 2>&1 || true
look wide-dark "$dir/left.html" 1280 3600 dark
look narrow-light "$dir/left.html" 400 3600 light
timeout -k 5 100 "$browser" --headless --no-sandbox --disable-gpu --user-data-dir="$dir/profile" \
	--print-to-pdf="$out/print.pdf" --no-pdf-header-footer "file://$dir/page8.html" 2>/dev/null
[ -s "$out/print.pdf" ] || complain "nothing printed"
exit $failed
