"""The sections of the page with histograms: gray levels, formats and sizes, by class and split."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from beam_jobs.publish.page.charts import chart, key
from beam_jobs.publish.page.layout import heading, paragraph, share, table
from beam_jobs.write.image_counts import ASPECT, ASPECTS, FORMAT, GRAY, GRAY_BINS, SIDE, SIDES, Counts
from schemas.dataset import Manifest
from schemas.pixels.sniff import FORMATS

Tables = Mapping[str, Counts]  # by split, in the order of the splits: see image_counts.py

_LEVELS = 256 // GRAY_BINS
_GRAY_TICKS = {0.0: "0", GRAY_BINS / 2: "128", float(GRAY_BINS): "255"}
_SIDE_TICKS = {float(SIDES.index(side) + 1): f"{side:,}" for side in (128, 512, 2048)}
_ASPECT_TICKS = {0.0: "tall", (len(ASPECTS) + 1) / 2: "square", len(ASPECTS) + 1.0: "wide"}


class _Line(NamedTuple):
    """The counts of one class in one split, and how far they are from those of the first split."""

    name: str
    split: str
    formats: list[int]
    counts: list[int]
    difference: str


def gray_levels(manifest: Manifest, tables: Tables) -> Iterator[str]:
    """The gray levels of the records."""
    first, brightest = next(iter(tables)), 256 - _LEVELS
    yield heading("Gray levels")
    yield paragraph(
        f"The pixels of the records in {GRAY_BINS} bins of {_LEVELS} levels, from black to white, as shares of a split's "
        "pixels. Where the lines differ, the splits do: what is learned from one may not hold for another. The number "
        "above a chart is the share at its top; black and white may go beyond it."
        + (" The bars of a letterbox count as black." if manifest.image.letterboxed else "")
    )
    yield from _charts(manifest, tables, GRAY, _GRAY_TICKS, edges_may_leave=True)
    rows = []
    for line in _lines(manifest, tables, GRAY):
        whole = sum(line.counts)
        middles = (2 * _LEVELS * index + _LEVELS - 1 for index in range(GRAY_BINS))  # twice the middle of each bin
        mean = sum(middle * count for middle, count in zip(middles, line.counts, strict=True)) / (2 * whole)
        edges = share(line.counts[0], whole), share(line.counts[-1], whole)
        rows.append((line.name, line.split, f"{mean:.1f}", *edges, line.difference))
    heads = ("", "split", "mean", f"below {_LEVELS}", f"from {brightest}", f"differs from {first}")
    yield table(heads, rows, texts=2)
    yield paragraph(f"The mean is that of the bins. {_differs('pixels', first)}")


def files_read(manifest: Manifest, tables: Tables) -> Iterator[str]:
    """The formats and sizes of the files that the records come from."""
    first = next(iter(tables))
    unknown = manifest.inputs["written"] - sum(int(counts[0, FORMAT].sum()) for counts in tables.values())
    yield heading("Files read")
    yield paragraph(
        "Formats, as the content shows them, and sizes as stored, before any crop and resize. If classes differ in them, "
        "a model may learn the source of an image instead of its finding."
    )
    if unknown:
        yield paragraph(
            f"{unknown:,} images are not counted here: --retry_quarantine took them from a data set without such counts."
        )
    rows = (
        (line.name, line.split, _formats(line.formats), f"{sum(line.counts):,}", _usual(line.counts), line.difference)
        for line in _lines(manifest, tables, SIDE)
    )
    yield table(("", "split", "formats", "files", "longer side", f"differs from {first}"), rows, texts=3)
    yield paragraph(f"The longer side, in pixels, is given for the middle 90% of the files. {_differs('files', first)}")
    yield heading("Longer side, in pixels", 3)
    yield from _charts(manifest, tables, SIDE, _SIDE_TICKS)
    yield heading("Width to height", 3)
    yield from _charts(manifest, tables, ASPECT, _ASPECT_TICKS)


def _rows(manifest: Manifest, tables: Tables, columns: slice) -> dict[str, int]:
    """The rows of the tables that count anything in these columns, by name."""
    rows = {"all images": 0}
    if all(len(table) > 1 for table in tables.values()):
        rows |= {name: index for index, name in enumerate(manifest.classes, 1)}
        rows["(no class)"] = -1
    return {name: row for name, row in rows.items() if any(table[row, columns].any() for table in tables.values())}


def _lines(manifest: Manifest, tables: Tables, columns: slice) -> Iterator[_Line]:
    for name, row in _rows(manifest, tables, columns).items():
        base: list[int] = []
        for split, counted in tables.items():
            counts = counted[row, columns].tolist()
            base = base or counts
            if any(counts):
                difference = "" if counts is base or not any(base) else _difference(base, counts)
                yield _Line(name, split, counted[row, FORMAT].tolist(), counts, difference)


def _charts(
    manifest: Manifest, tables: Tables, columns: slice, ticks: Mapping[float, str], edges_may_leave: bool = False
) -> Iterator[str]:
    rows = _rows(manifest, tables, columns)
    each = (
        chart(name, [counts[row, columns].tolist() for counts in tables.values()], ticks, edges_may_leave)
        for name, row in rows.items()
    )
    yield key(list(tables))
    yield f"<div class=charts>{''.join(each)}</div>"


def _difference(one: Sequence[int], other: Sequence[int]) -> str:
    """The total variation distance: half the sum of the differences of all shares."""
    mine, theirs = sum(one), sum(other)
    return share(sum(abs(a * theirs - b * mine) for a, b in zip(one, other, strict=True)), 2 * mine * theirs)


def _differs(what: str, first: str) -> str:
    return (
        f"The last column is the share of the {what} that would have to move to another bin for the histogram to be that "
        f"of {first} (total variation distance)."
    )


def _formats(counts: Sequence[int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in zip(FORMATS, counts, strict=True) if count)


def _usual(sides: Sequence[int]) -> str:
    """The bins that the middle 90% of the files are in, in pixels."""
    files, below = sum(sides), 0
    held = []
    for index, count in enumerate(sides):
        if 20 * (below + count) > files and 20 * below < 19 * files:
            held.append(index)
        below += count
    low, high = held[0], held[-1]
    least = SIDES[low - 1] if low else 1
    return f"{least:,} to {SIDES[high] - 1:,}" if high < len(SIDES) else f"{least:,} or more"
