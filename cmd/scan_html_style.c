/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How the page looks.  Colours are told apart by lightness too, so that they survive grey
 * print and colour blindness; what a colour says, a number says as well.
 *
 *	stored, meta, packed, saved		the bars of cluster sizes: kept, and (green) not kept
 *	across, within, alone, none			whose data a cluster is
 */
#include "scan_html.h"

#define LIGHT \
	"--bg:#fbfaf7;--panel:#fff;--ink:#1c2026;--soft:#59616c;--line:#dedcd5;" \
	"--stored:#56657a;--packed:#a8ddcd;--meta:#d6613f;--saved:#3aa68d;" \
	"--across:#1f5fa8;--within:#eda63a;--alone:#b3b9c2;--none:#efeee9;" \
	"--heat:31 95 168;--onheat:#fff;--warn:#9a3412;--warnbg:#fff4ec;"
#define DARK \
	"--bg:#13161b;--panel:#1a1e25;--ink:#e7e9ec;--soft:#a0a8b3;--line:#2f3640;" \
	"--stored:#8b9bb2;--packed:#1c6354;--meta:#ee7f5c;--saved:#2f9c84;" \
	"--across:#4d9bf0;--within:#e8b04c;--alone:#626c7a;--none:#232830;" \
	"--heat:77 155 240;--onheat:#0d1117;--warn:#fdba8c;--warnbg:#2b1d15;"

const char *const html_style[] = {
	":root{color-scheme:light dark;" LIGHT "}",
	"@media (prefers-color-scheme:dark){:root{" DARK "}}",
	"*{box-sizing:border-box}",
	"body{margin:0;background:var(--bg);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"
	"\"Segoe UI\",Roboto,\"Helvetica Neue\",Arial,sans-serif;font-variant-numeric:tabular-nums}",
	"main,header,footer{max-width:70rem;margin:0 auto;padding:0 1.25rem}",
	"header{padding-top:2.25rem}",
	"h1{font-size:1.05rem;font-weight:600;color:var(--soft);margin:0 0 .35rem}",
	"h2{font-size:1.2rem;line-height:1.3;margin:0 0 .25rem}",
	".verdict{font-size:1.75rem;line-height:1.25;font-weight:650;letter-spacing:-.01em;margin:0;"
	"max-width:46rem;text-wrap:balance}",
	".lead{color:var(--soft);max-width:46rem;margin:.5rem 0 1rem}",
	"section{margin:2.5rem 0;padding-top:1.25rem;border-top:1px solid var(--line)}",
	"section>p{max-width:46rem}",
	"section p,figcaption{color:var(--soft);margin:.25rem 0 .9rem}",
	"dl.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(13.5rem,45%),1fr));"
	"gap:.75rem;"
	"margin:1.5rem 0 0}",
	".tiles div{background:var(--panel);border:1px solid var(--line);border-radius:.4rem;"
	"padding:.7rem .85rem}",
	".tiles dt{color:var(--soft);font-size:.82rem}",
	".tiles dd{margin:0;font-size:1.35rem;font-weight:600;line-height:1.3}",
	".tiles dd small{display:block;font-size:.8rem;font-weight:400;color:var(--soft);line-height:1.35}",
	".note{border:1px solid var(--line);border-left:.3rem solid var(--warn);background:var(--warnbg);"
	"border-radius:.3rem;padding:.7rem 1rem;margin:1.25rem 0 0}",
	".note h2{font-size:1rem;color:var(--warn)}",
	".note ul{margin:.25rem 0 0;padding-left:1.2rem;overflow-wrap:anywhere}",
	".note p{margin:0;color:var(--ink)}",
	"ul.legend{list-style:none;display:flex;flex-wrap:wrap;gap:.2rem 1.25rem;margin:.4rem 0 .9rem;"
	"padding:0;"
	"font-size:.85rem}",
	".legend i{display:inline-block;width:.8rem;height:.8rem;margin-right:.4rem;vertical-align:-.08rem;"
	"border:1px solid rgb(128 128 128/.35);border-radius:2px}",
	"i.stored{background:var(--stored)}i.packed{background:var(--packed)}i.meta{background:var(--meta)}",
	"i.saved{background:var(--saved)}i.across{background:var(--across)}"
	"i.within{background:var(--within)}",
	"i.alone{background:var(--alone)}i.none{background:var(--none)}",
	".f-stored{fill:var(--stored)}.f-packed{fill:var(--packed)}.f-meta{fill:var(--meta)}",
	".f-saved{fill:var(--saved)}.f-across{fill:var(--across)}.f-within{fill:var(--within)}",
	".f-alone{fill:var(--alone)}.f-none{fill:var(--none)}",
	"table{border-collapse:collapse;font-size:.9rem}",
	"caption{text-align:left;color:var(--soft);padding-bottom:.35rem}",
	"th{font-weight:600;text-align:left}",
	"thead th{color:var(--soft);font-weight:500;font-size:.82rem;vertical-align:bottom;"
	"border-bottom:1px solid var(--line)}",
	"td,th{padding:.3rem .75rem .3rem 0}",
	".n{text-align:right}",
	".scroll{overflow-x:auto;margin-top:1rem}",
	".list{width:100%}",
	".list tbody tr+tr>*{border-top:1px solid var(--line)}",
	".list td.n,.list thead th.n{white-space:nowrap}",
	"thead th.n+th.n{min-width:4.5rem}",
	".name{overflow-wrap:anywhere;min-width:10rem;font-weight:400}",
	".name small,.best small{color:var(--soft);font-weight:400}",
	"tr.best>*{background:rgb(var(--heat)/.09)}",
	"code{font:.8rem/1.4 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-wrap:anywhere}",
	"table.bars{width:100%}",
	".bars th{white-space:nowrap;width:1%;font-weight:500}",
	".bars th.name{white-space:normal;width:16rem;min-width:0;line-height:1.25}",
	".bars td.n{white-space:nowrap;width:1%;padding-left:.75rem;padding-right:0}",
	".bars td.bar{padding-right:0;min-width:8rem}",
	".bars svg{display:block;width:100%;height:1.35rem;background:transparent}",
	".strips svg{height:1.6rem;background:var(--none);border:1px solid var(--line)}",
	".strips.dense svg{height:.95rem}.strips.dense td,.strips.dense th{padding-top:.1rem;"
	"padding-bottom:.1rem;font-size:.8rem}",
	".histogram td.n+td.n{color:var(--soft)}",
	"table.heat{border-collapse:separate;border-spacing:1px}",
	".heat th{font-weight:400;padding:0 .5rem 0 0;border:0}",
	".heat thead th{text-align:center;padding:0 0 .15rem;color:var(--soft);min-width:0}",
	".heat th.name{max-width:19rem;min-width:0;white-space:nowrap;overflow:hidden;"
	"text-overflow:ellipsis}",
	".heat th.name b{display:inline-block;min-width:1.6em;font-weight:400;color:var(--soft)}",
	".heat td{padding:0;width:3.1rem;min-width:3.1rem;height:2.1rem;text-align:center;"
	"background:rgb(var(--heat)/var(--v));border-radius:2px}",
	".heat td.none{background:var(--none)}",
	".heat td.high{color:var(--onheat)}",
	".heat td.self{background:repeating-linear-gradient(135deg,var(--line) 0 2px,transparent 2px 5px)}",
	".dense.heat td{width:.8rem;min-width:.8rem;height:.8rem;font-size:0;border-radius:0}",
	".dense.heat th{font-size:.72rem;line-height:.8rem}",
	".dense.heat thead th{font-size:.55rem;letter-spacing:-.03em}",
	".dense.heat th.name{max-width:13rem}",
	".middle.heat td{width:1.55rem;min-width:1.55rem;height:1.35rem;font-size:.68rem}",
	".middle.heat th{font-size:.78rem}",
	".legend i.ramp{display:inline-block;width:7rem;height:.8rem;margin:0 .5rem;vertical-align:-.08rem;"
	"border:1px solid rgb(128 128 128/.35);border-radius:2px;"
	"background:linear-gradient(90deg,var(--none) 0 4%,rgb(var(--heat)/.08) 4%,rgb(var(--heat)/1))}",
	"footer{color:var(--soft);font-size:.85rem;padding-top:1rem;padding-bottom:2.5rem}",
	"@media (max-width:44rem){.verdict{font-size:1.35rem}.bars th.name{width:7.5rem}"
	".bars td.bar{min-width:5rem}header{padding-top:1.25rem}"
	".tiles dd{font-size:1.15rem}.saves{display:none}.bars td.n{white-space:normal;min-width:4.5rem}}",
	"@media print{:root{" LIGHT "}body{font-size:10pt;-webkit-print-color-adjust:exact;"
	"print-color-adjust:exact}"
	"main,header,footer{max-width:none;padding:0}section{margin:1.2rem 0}"
	"tr,svg,.tiles div{break-inside:avoid}h2,caption{break-after:avoid}.scroll{overflow:visible}}",
	NULL,
};
