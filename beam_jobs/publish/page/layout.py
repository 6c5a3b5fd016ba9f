"""The page as a whole: its style, sections, tables and code. Everything that is passed in is text, and is escaped here."""

from collections.abc import Iterable, Sequence
from html import escape

_LIGHT = "--ink: #1a1a1a; --soft: #595959; --line: #d9d9d9; --paper: #fff; --box: #f4f4f4"
_LIGHT_LINES = "--s0: #1f5fae; --s1: #b3541e; --s2: #24734a"
_DARK = "--ink: #e8e8e8; --soft: #adadad; --line: #454545; --paper: #161616; --box: #242424"
_DARK_LINES = "--s0: #7db3f2; --s1: #f0a36b; --s2: #7fd0a0"
# Paper is white, whatever the screen is; lines differ by dashes too, for those who see or print no colours.
STYLE = f"""
:root {{ color-scheme: light dark; {_LIGHT}; {_LIGHT_LINES} }}
@media (prefers-color-scheme: dark) {{ :root {{ {_DARK}; {_DARK_LINES} }} }}
body {{ font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper) }}
body {{ max-width: 62rem; margin: 0 auto; padding: 1rem; overflow-wrap: anywhere }}
h1 {{ font-size: 1.6rem; margin: .5rem 0 }}
h2 {{ font-size: 1.2rem; margin: 2.2rem 0 .5rem; border-bottom: 1px solid var(--line) }}
h3 {{ font-size: 1rem; margin: 1.2rem 0 .3rem }}
p {{ margin: .5rem 0; max-width: 45rem }} a {{ color: var(--s0) }}
.wide {{ overflow-x: auto; overflow-wrap: normal; margin: .5rem 0 }}
table {{ border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums }}
th, td {{ padding: .2rem 1.2rem .2rem 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top }}
th {{ font-weight: 600 }} .n {{ text-align: right; white-space: nowrap }}
pre {{ background: var(--box); padding: .7rem; margin: 0; font-size: .8rem; width: max-content; min-width: 100% }}
pre {{ box-sizing: border-box }}
.charts {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: 1rem 1.5rem }}
figure {{ margin: 0 }} figcaption {{ font-size: .9rem; font-weight: 600 }}
svg {{ display: block; width: 100%; height: auto }} svg text {{ fill: var(--soft); font: 11px system-ui, sans-serif }}
.axis {{ stroke: var(--line) }} path {{ fill: none; stroke-width: 1.6; vector-effect: non-scaling-stroke }}
.s0 {{ stroke: var(--s0) }} .s1 {{ stroke: var(--s1); stroke-dasharray: 6 3 }}
.s2 {{ stroke: var(--s2); stroke-dasharray: 2 2 }}
.key {{ display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; font-size: .9rem; margin: .5rem 0 }}
.key svg {{ display: inline-block; width: 2.2rem; margin-right: .4rem; vertical-align: middle }}
@media print {{
:root {{ color-scheme: light; {_LIGHT}; {_LIGHT_LINES} }}
body {{ max-width: none; padding: 0; font-size: 10pt }} pre {{ white-space: pre-wrap; width: auto }}
.wide {{ overflow: visible }} figure, tr, pre {{ break-inside: avoid }} h2, h3 {{ break-after: avoid }}
}}
"""


def document(title: str, parts: Iterable[str]) -> str:
    """A whole page of these parts, in HTML."""
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(title)}</title>\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n<h1>{escape(title)}</h1>\n{body}\n</body>\n</html>\n"
    )


def heading(text: str, level: int = 2) -> str:
    """A heading."""
    return f"<h{level}>{escape(text)}</h{level}>"


def paragraph(text: str) -> str:
    """A paragraph of plain text."""
    return f"<p>{escape(text)}</p>"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], texts: int = 1) -> str:
    """A table that scrolls if it is too wide. The first `texts` columns hold text; the others hold numbers, which are
    aligned at the right."""

    def line(cells: Sequence[str], tag: str) -> str:
        marked = (
            f"<{tag}{'' if column < texts else ' class=n'}>{escape(cell)}</{tag}>" for column, cell in enumerate(cells)
        )
        return f"<tr>{''.join(marked)}</tr>"

    body = "\n".join(line(row, "td") for row in rows)
    return f"<div class=wide><table>\n<thead>{line(heads, 'th')}</thead>\n<tbody>\n{body}\n</tbody>\n</table></div>"


def code(lines: str) -> str:
    """Lines of code, which scroll if they are too long."""
    return f"<div class=wide><pre>{escape(lines)}</pre></div>"


def share(part: int, whole: int) -> str:
    """`part` in percent of `whole`."""
    return f"{100 * part / whole:.1f}%" if whole else ""
