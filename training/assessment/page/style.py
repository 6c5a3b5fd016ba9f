"""The style sheet of report.html: for screens of any width, bright or dark, and for paper.

Colours of pictures and text are variables, because SVG elements on the page use them too (plots.figure_svg).
"""

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #ffffff; --ink: #1b1f24; --soft: #57606a; --edge: #d0d7de; --panel: #f5f7f9;
  --line: #2563a8; --mark: #c2412d; --warn: #fff3df; --warn-edge: #b26a00;
}
@media screen and (prefers-color-scheme: dark) { :root {
  --paper: #14171b; --ink: #e6e9ec; --soft: #a3adb8; --edge: #363d45; --panel: #1d2127;
  --line: #6aaef5; --mark: #f2816e; --warn: #33270f; --warn-edge: #d69a3c;
} }
* { box-sizing: border-box }
html { -webkit-text-size-adjust: 100% }
body { margin: 0 auto; max-width: 62rem; padding: 1.25rem 1rem 3rem; color: var(--ink); background: var(--paper);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; overflow-wrap: anywhere }
h1 { font-size: 1.55rem; line-height: 1.2; margin: 0 0 .5rem }
h2 { font-size: 1.2rem; line-height: 1.25; margin: 2.4rem 0 .8rem }
h2 { padding-bottom: .3rem; border-bottom: 1px solid var(--edge) }
h3 { font-size: 1rem; margin: 1.4rem 0 .5rem }
p, ul { margin: .6rem 0; max-width: 46rem }
ul { padding-left: 1.2rem } li { margin: .3rem 0 }
a { color: var(--line) }
nav { margin: 1rem 0; font-size: .92rem } nav a { display: inline-block; padding: .15rem 0; margin-right: 1rem }
.lead { font-size: 1.08rem }
.note, .ci, figcaption { color: var(--soft) }
.note { font-size: .92rem }
.warning { background: var(--warn); border-left: 4px solid var(--warn-edge) }
.warning { padding: .6rem .9rem; margin: 1rem 0; max-width: none }
.keys { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)) }
.keys { gap: .7rem; margin: 1.1rem 0; padding: 0 }
.keys div { background: var(--panel); border: 1px solid var(--edge); border-radius: 6px; padding: .6rem .8rem }
.keys dt { font-size: .85rem; color: var(--soft) }
.keys dd { margin: 0; font-size: 1.5rem; line-height: 1.25; font-weight: 600; font-variant-numeric: tabular-nums }
.keys dd span { display: block; font-size: .85rem; font-weight: 400 }
.scroll { overflow-x: auto; margin: .8rem 0; overflow-wrap: normal }
table { border-collapse: collapse; font-size: .92rem }
th, td { text-align: left; vertical-align: top; padding: .35rem 1.1rem .35rem 0; border-bottom: 1px solid var(--edge) }
th { font-weight: 600 } tbody th { font-weight: 400; overflow-wrap: anywhere; min-width: 6.5rem }
thead th { vertical-align: bottom; line-height: 1.25 }
th.n, td.n { text-align: right; font-variant-numeric: tabular-nums; padding: .35rem 0 .35rem 1.1rem }
td.n { white-space: nowrap } td:not(.n) { overflow-wrap: anywhere }
.ci { display: block; font-size: .82em }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 17rem), 1fr)); gap: 1rem }
svg.chart { display: block; width: 100%; max-width: 26rem; height: auto } svg.chart text { fill: currentColor }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 16rem), 1fr)); gap: 1rem }
figure { margin: 0; font-size: .85rem; break-inside: avoid }
figure div { display: flex; gap: 4px } figure img { width: 50%; max-width: 14rem; background: #000 }
img.small { image-rendering: pixelated }
code { font: .85em ui-monospace, Consolas, monospace }
footer { margin-top: 2.5rem; border-top: 1px solid var(--edge); padding-top: .6rem }
.tables { display: flex; flex-wrap: wrap; gap: 0 3rem } .tables .scroll { max-width: 100% }
table.matrix thead th:not(:first-child) span { writing-mode: vertical-rl; transform: rotate(180deg); max-height: 11rem }
table.matrix thead th span { display: inline-block; text-align: left; font-size: .9em; white-space: normal }
@media (max-width: 40rem) { th, td { padding-right: .7rem } th.n, td.n { padding-left: .7rem } }
@media screen and (max-width: 56rem) {
  table.wide, table.wide tbody, table.wide td { display: block } table.wide thead { display: none }
  .scroll:has(table.wide) { width: 100% }
  table.wide tr { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.2rem, 1fr)); gap: 0 1.5rem }
  table.wide tr { padding: .6rem 0; border-bottom: 1px solid var(--edge) }
  table.wide th { grid-column: 1 / -1; font-weight: 600 } table.wide th, table.wide td { border: 0; padding: .15rem .2rem }
  table.wide td { white-space: normal }
  table.wide td::before { content: attr(data-head); float: left; color: var(--soft); margin-right: .5rem }
}
@media print {
  :root { color-scheme: light; font-size: 10pt }
  @page { margin: 14mm }
  body { padding: 0; max-width: none; print-color-adjust: exact; -webkit-print-color-adjust: exact }
  nav { display: none }
  h2, h3 { break-after: avoid } tr, .keys, .warning, svg.chart { break-inside: avoid }
  .scroll { overflow: visible } table { font-size: .85rem } .tables { gap: 0 2rem }
  th, td { padding: .2rem .6rem .2rem 0 } th.n, td.n { padding: .2rem 0 .2rem .5rem }
  table.matrix { font-size: .7rem } table.matrix th.n, table.matrix td.n { padding-left: .3rem }
  .pictures { grid-template-columns: repeat(4, 1fr) } svg.chart { max-width: 80mm }
}
"""
