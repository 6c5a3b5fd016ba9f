"""Histograms as SVG, drawn as the outlines of their bins. Equal counts give equal bytes."""

from collections.abc import Mapping, Sequence
from html import escape

from beam_jobs.publish.page.layout import share

_WIDTH, _HEIGHT, _TOP = 320, 120, 16  # of the plot, in units of the picture; the text of the greatest share is above it
_TEXT = 14  # below the axis


def chart(
    title: str, series: Sequence[Sequence[int]], ticks: Mapping[float, str], edges_may_leave: bool = False
) -> str:
    """A figure with one line for each series of counts, each as shares of its own sum.

    `ticks`: texts below the axis, by the bin that begins there (a fraction is inside a bin). `edges_may_leave`: the first
    and the last bin do not set the scale, so that a black background does not flatten the rest. A series without counts
    is left out, but the others keep their colours."""
    drawn = {index: list(counts) for index, counts in enumerate(series) if sum(counts)}
    scale = max((_greatest(counts, edges_may_leave) for counts in drawn.values()), default=(0, 1), key=_ratio)
    bins = max(map(len, series), default=1)
    paths = "".join(f'<path class="s{index}" d="{_outline(counts, scale)}"/>' for index, counts in drawn.items())
    base = _TOP + _HEIGHT
    texts = "".join(_tick(at * _WIDTH / bins, base + _TEXT, text) for at, text in ticks.items())
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>"
        f'<svg viewBox="0 0 {_WIDTH} {base + _TEXT + 4}" role="img" aria-label="{escape(title)}">'
        # In the middle, where no line goes above the top.
        f'<text x="{_WIDTH // 2}" y="11" text-anchor="middle">{share(*scale)}</text>'
        f'<path class="axis" d="M0,{_TOP}H{_WIDTH}M0,{base}H{_WIDTH}"/>{paths}{texts}</svg></figure>'
    )


def key(names: Sequence[str]) -> str:
    """What the lines of the charts stand for."""
    lines = (
        f'<span><svg viewBox="0 0 32 6" aria-hidden="true"><path class="s{index}" d="M0,3H32"/></svg>{escape(name)}</span>'
        for index, name in enumerate(names)
    )
    return f"<div class=key>{''.join(lines)}</div>"


def _ratio(scale: tuple[int, int]) -> float:
    return scale[0] / scale[1]


def _greatest(counts: list[int], without_edges: bool) -> tuple[int, int]:
    """The greatest count, and the sum of all."""
    inner = max(counts[1:-1], default=0) if without_edges else 0
    return inner or max(counts), sum(counts)


def _outline(counts: list[int], scale: tuple[int, int]) -> str:
    total, base = sum(counts), _TOP + _HEIGHT
    steps = [f"M0,{base}"]
    for index, count in enumerate(counts):
        height = min(1.1, count * scale[1] / (total * scale[0]))  # what leaves the chart ends a little above its top
        steps.append(f"V{base - _HEIGHT * height:.1f}H{(index + 1) * _WIDTH / len(counts):.1f}")
    return f"{''.join(steps)}V{base}"


def _tick(x: float, y: int, text: str) -> str:
    anchor = "start" if x == 0 else "end" if x == _WIDTH else "middle"
    return f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>'
