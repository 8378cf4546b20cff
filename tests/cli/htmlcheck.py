#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
htmlcheck.py PAGE [REPORT]

Judges a page of `qdedup scan --html`: every element is closed where it must be, nothing is loaded
from anywhere, no script runs, every picture has words, and with REPORT (the JSON of the same scan with
--matrix --top=15) every number in it is that of the report.  Prints the texts of the elements with an
id named in the environment variable SHOW.
"""
import json
import os
import re
import sys
from html.parser import HTMLParser

VOID = {"meta", "br", "hr", "img", "input", "link"}
SELF_CLOSED = {"rect", "path"}
ALLOWED = set("""html head meta title style body header main footer section div p h1 h2 ul li i b dl dt dd small
    span data bdi code table caption thead tbody tr th td svg""".split()) | SELF_CLOSED
ATTRIBUTES = set("""lang charset name content http-equiv class id value scope title role viewbox tabindex
    preserveaspectratio aria-hidden x y width height d style""".split())


class Page(HTMLParser):
    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.stack, self.ids, self.tables, self.texts = [], set(), {}, {}
        self.css, self.title, self.metas, self.doctype = "", "", [], None
        self.row = self.cell = self.value = None
        self.svgs, self.svg = [], None

    def handle_decl(self, decl):
        self.doctype = decl

    def handle_comment(self, data):
        raise AssertionError("a comment: nothing should put one there")

    handle_pi = unknown_decl = handle_comment

    def handle_startendtag(self, tag, attrs):
        assert tag in SELF_CLOSED, f"<{tag}/>"
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        assert tag in ALLOWED, f"<{tag}> has no place here"
        assert len(a) == len(attrs), f"<{tag}>: an attribute twice"
        assert set(a) <= ATTRIBUTES, f"<{tag}>: {set(a) - ATTRIBUTES}"
        assert "style" not in a or re.fullmatch(r"--v:[01]\.\d\d", a["style"]), a.get("style")
        if tag == "meta":
            self.metas.append(a)
        if tag in VOID:
            return
        self.stack.append((tag, a.get("id")))
        if "id" in a:
            assert a["id"] not in self.ids, f"id {a['id']} twice"
            self.ids.add(a["id"])
            self.texts[a["id"]] = ""
            if tag == "table":
                self.tables[a["id"]] = []
        if tag == "svg":
            self.svg = {"attrs": a, "title": "", "shapes": []}
            self.svgs.append(self.svg)
        if tag in SELF_CLOSED:
            self.svg["shapes"].append(a)
        if tag == "tr":
            self.row = []
            self.tables[self.table()].append(self.row)
        if tag in ("td", "th") and self.row is not None:
            self.cell = {"class": a.get("class", ""), "text": "", "values": [], "title": a.get("title")}
            self.row.append(self.cell)
        if tag == "data":
            assert re.fullmatch(r"[0-9.e+-]+", a["value"]), a
            if self.cell is not None:
                self.cell["values"].append(float(a["value"]) if re.search(r"[.e]", a["value"]) else int(a["value"]))
            else:
                self.texts.setdefault("values", "")
                self.texts["values"] += f"{a['value']} "

    def table(self):
        return [i for t, i in self.stack if t == "table"][-1]

    def handle_endtag(self, tag):
        assert self.stack, f"</{tag}> without a beginning"
        open_tag, _ = self.stack.pop()
        assert open_tag == tag, f"</{tag}> closes <{open_tag}>, line {self.getpos()}"
        if tag == "tr":
            self.row = None
        if tag in ("td", "th"):
            self.cell = None
        if tag == "svg":
            self.svg = None

    def handle_data(self, data):
        tags = [t for t, _ in self.stack]
        if "style" in tags:
            self.css += data
        elif "svg" in tags:
            assert tags[-1] == "title" or not data.strip(), f"text in a picture: {data}"
            self.svg["title"] += data
        elif "title" in tags:
            self.title += data
        else:
            for _, i in self.stack:
                if i:
                    self.texts[i] += data
            if self.cell is not None:
                self.cell["text"] += data


def near(a, b):
    return abs(a - b) <= 1e-8 * max(1, abs(a), abs(b))


def equal(got, wanted, what):
    assert len(got) == len(wanted) and all(map(near, got, wanted)), f"{what}: {got}, expected {wanted}"


def values(row):
    return [v for cell in row for v in cell["values"]]


def check_form(text, p):
    assert text.startswith("<!DOCTYPE html>\n<html lang=\"en\">") and p.doctype.lower() == "doctype html"
    assert not p.stack, f"not closed: {p.stack}"
    assert p.title and any(m.get("charset") == "utf-8" for m in p.metas)
    policy = [m["content"] for m in p.metas if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'"], policy
    for bad in ("@import", "url(", "expression", "http:", "https:", "//"):
        assert bad not in p.css, f"{bad} in the style sheet"
    assert "prefers-color-scheme:dark" in p.css and "@media print" in p.css
    assert p.css.count("{") == p.css.count("}")
    used, there = set(re.findall(r"var\((--[a-z]+)", p.css)), set(re.findall(r"(--[a-z]+):", p.css))
    assert used <= there | {"--v"}, f"colours that are not: {used - there}"
    dark = p.css.split("prefers-color-scheme:dark)", 1)[1].split("}")[0]
    assert set(re.findall(r"(--[a-z]+):", dark)) == there, "a colour is missing in the dark"
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u0080-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]", text)
    for svg in p.svgs:
        a = svg["attrs"]
        assert a.get("aria-hidden") == "true" or (a.get("role") == "img" and svg["title"]), f"a picture without words: {a}"


def check_numbers(p, d):
    t = p.tables
    size = next(c for c in d["cluster-sizes"] if c["cluster-size"] == d["best-cluster-size"])
    estimate = ["saved-bytes-low", "saved-bytes-high"] if d["estimate"] else []
    assert len(t["sizes"]) == len(d["cluster-sizes"]) + 1 == len(t["size-bars"]) + 1
    for row, bar, c in zip(t["sizes"][1:], t["size-bars"], d["cluster-sizes"]):
        share = c["duplicate"] / c["clusters"] if c["clusters"] else 0
        equal(values(row), [c["cluster-size"], c["clusters"], c["unique"], share, c["saved-bytes"]] +
              [c[k] for k in estimate] + [c["metadata-bytes"], c["total-bytes"], c["dedup-ratio"]], "a size")
        equal(values(bar), [c["saved-bytes"], share], "a bar")
    assert ("compression" in t) == ("compression" in size)
    for row, c in zip(t.get("compression", [])[1:], d["cluster-sizes"]):
        z = c["compression"]
        equal(values(row), [c["unique"] * c["cluster-size"], z["data-bytes"], z["data-bytes-low"], z["data-bytes-high"],
                            z["total-bytes"], z["ratio"], z["sampled-contents"]], "compression")
    check_bars(p, d)
    check_images(p, d, size)
    check_contents(p, size)


def check_bars(p, d):
    """Widths of the bars have one scale."""
    bars = [s for s in p.svgs if "metadata" in s["title"]]
    assert len(bars) == len(d["cluster-sizes"])
    scale = 1000 / max([1] + [c["clusters"] * c["cluster-size"] + c["metadata-bytes"] for c in d["cluster-sizes"]])
    for bar, c in zip(bars, d["cluster-sizes"]):
        packed = c.get("compression", {"saved-bytes": 0})["saved-bytes"]
        wanted = {"f-stored": c["unique"] * c["cluster-size"] - packed, "f-meta": c["metadata-bytes"],
                  "f-packed": packed, "f-saved": c["saved-bytes"]}
        x = 0
        for shape in bar["shapes"]:
            width = wanted.pop(shape["class"]) * scale
            assert abs(float(shape["width"]) - width) < 0.02 and abs(float(shape["x"]) - x) < 0.02, (shape, width)
            x += width
        assert not any(wanted.values()), f"not drawn: {wanted}"


def check_images(p, d, size):
    t, images, per = p.tables, d["images"], size["per-image"]
    drawn = sorted(sorted(range(len(images)), key=lambda i: (-images[i]["data-bytes"], i))[:64])
    assert len(t["images"]) == len(images) + 1
    for row, i, c in zip(t["images"][1:], images, per):
        n = c["clusters"]
        equal(values(row), [i["virtual-size"], i["data-bytes"], (n - c["unique"]) / n if n else 0,
                            c["shared"] / n if n else 0, c["unique-to-image"] * size["cluster-size"]], i["filename"])
    if "matrix" in t:
        heads = [int(c["text"]) - 1 for c in t["matrix"][0][1:]]
        assert heads == drawn, heads
        for row, i in zip(t["matrix"][1:], drawn):
            assert [c["class"] == "self" for c in row[1:]] == [k == i for k in drawn]
            equal(values(row), [size["matrix"][i][k] for k in drawn if k != i], f"row {i} of the matrix")
    else:
        assert len(images) < 2 or "no-matrix" in p.ids
    if "strips" in t:
        assert len(t["strips"]) == len(drawn)
        strips = [s for s in p.svgs if "several times" in s["title"]]
        assert len(strips) == len(drawn)
        for s, i in zip(strips, drawn):
            if not d["estimate"]:
                assert s["title"].startswith(f"of {per[i]['clusters']} clusters "), s["title"]
            across = [x for x in s["shapes"] if x["class"] == "f-across"][0]["d"]
            assert bool(per[i]["shared"]) == ("V" in across.replace("V40z", "")), (across, per[i])
    else:
        assert "no-strips" in p.ids


def check_contents(p, size):
    hist = size["references-histogram"]
    rows = p.tables.get("histogram", [[]])[1:]
    assert len(rows) == len(hist)
    total = sum(b["contents"] for b in hist)
    for row, b in zip(rows, hist):
        equal(values(row), [b["contents"], b["contents"] / total], f"bucket {b}")
    rows = p.tables.get("top", [[]])[1:]
    assert len(rows) == len(size["top"])
    for row, top in zip(rows, size["top"]):
        equal(values(row), [top["references"], (top["references"] - 1) * size["cluster-size"]], "a content")
        assert row[2]["text"] == top["hash"] and hex(top["example"]["offset"]) in row[3]["text"]


def main():
    text = open(sys.argv[1], encoding="utf-8", newline="").read()
    p = Page()
    p.feed(text)
    p.close()
    check_form(text, p)
    if len(sys.argv) > 2:
        check_numbers(p, json.load(open(sys.argv[2])))
    for i in os.environ.get("SHOW", "").split():
        print(p.texts.get(i, f"(no {i})"))


main()
