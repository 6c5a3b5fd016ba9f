"""Tables of figures, as HTML and as Markdown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

UNDEFINED = "undefined"
NARROW = 4  # columns: so many fit on the screen of a phone


@dataclass(frozen=True)
class Figure:
    """A number as text, and its 95% interval as text, "" if it has none. share: from 0 to 1, shades the cell."""

    value: str
    interval: str = ""
    share: float | None = None


Cell = str | Figure


@dataclass(frozen=True)
class Table:
    """heads: of the columns. The first cell of a row names it. The other cells are numbers, which are aligned right, unless
    `words` is set. matrix: the columns have the names of the rows."""

    heads: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    words: bool = False
    matrix: bool = False

    @property
    def kind(self) -> str:
        """How the page shows it where it is too wide for the screen: `matrix` scrolls, `wide` becomes a block for each row,
        and others are never too wide."""
        if len(self.heads) <= NARROW:
            return "narrow"
        return "matrix" if self.matrix else "wide"


def share(value: float | None, interval: Sequence[float] | None = None) -> Figure:
    """A proportion, as a percentage."""
    return _figure(value, interval, 100, 1, "%")


def score(value: float | None, interval: Sequence[float] | None = None) -> Figure:
    """A number that is no proportion."""
    return _figure(value, interval, 1, 3, "")


def _figure(value: float | None, interval: Sequence[float] | None, scale: int, digits: int, unit: str) -> Figure:
    if value is None:
        return Figure(UNDEFINED)
    between = "" if interval is None else " to ".join(f"{scale * bound:.{digits}f}" for bound in interval) + unit
    return Figure(f"{scale * value:.{digits}f}{unit}", between)


def html(table: Table) -> str:
    """The table as HTML."""
    kind = "" if table.words else " class=n"
    heads = "".join(
        f'<th scope="col"{kind if number else ""}><span>{escape(head)}</span></th>'
        for number, head in enumerate(table.heads)
    )
    head = f"<thead><tr>{heads}</tr></thead>" if any(table.heads) else ""
    rows = "".join(
        f'<tr><th scope="row">{_inside(name)}</th>'
        + "".join(_cell(cell, title, kind) for cell, title in zip(cells, table.heads[1:], strict=True))
        + "</tr>"
        for name, *cells in table.rows
    )
    return f'<div class=scroll tabindex="0"><table class={table.kind}>{head}<tbody>{rows}</tbody></table></div>'


def _cell(cell: Cell, head: str, kind: str) -> str:
    title = f' data-head="{escape(head)}"' if head else ""  # of a block
    return f"<td{kind}{title}{_shade(cell)}>{_inside(cell)}</td>"


def _inside(cell: Cell) -> str:
    if isinstance(cell, str):
        return escape(cell)
    return escape(cell.value) + (f" <span class=ci>{escape(cell.interval)}</span>" if cell.interval else "")


def _shade(cell: Cell) -> str:
    if isinstance(cell, str) or cell.share is None:
        return ""
    return f' style="background: rgb(76 130 200 / {45 * cell.share:.0f}%)"'


def markdown(table: Table) -> str:
    """The table as Markdown (of GitHub)."""
    heads = table.heads if any(table.heads) else ["", "value", *[""] * (len(table.heads) - 2)]
    rules = ["---", *["---" if table.words else "---:"] * (len(heads) - 1)]
    lines = [[_plain(head) for head in heads], rules, *([_plain(cell) for cell in row] for row in table.rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _plain(cell: Cell) -> str:
    text = cell if isinstance(cell, str) else cell.value + (f" ({cell.interval})" if cell.interval else "")
    return plain(text).replace("|", "\\|")


def plain(text: str) -> str:
    """`text` for Markdown, in which no character of it has a meaning; as names of classes are whatever users chose."""
    for character in "\\`*_[]<>#":
        text = text.replace(character, f"\\{character}")
    return " ".join(text.split())


def interval_of(figures: Mapping[str, Any], name: str) -> Sequence[float] | None:
    """The 95% interval of a figure, where metrics.json has one."""
    found: Sequence[float] | None = figures.get("intervals", {}).get(name)
    return found
