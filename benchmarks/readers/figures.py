"""The table and the plot of what benchmarks.reading measured."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

DISK, BUCKET = "local disk", "local bucket"
EPOCHS = ("epoch_1", "epoch_2")
LIMIT, TUTORIAL = "TFRecordDataset without parsing (limit)", "tutorial, parsed one by one"
STREAMED, MEMORY = "radrecords, streamed", "radrecords, in memory"

_OURS, _OTHERS = ("#9ecae1", "#2171b5"), ("#d0d0d0", "#808080")  # colours of the two epochs

Measured = Mapping[str, Any]


def table(measured: Measured) -> str:
    """Markdown: for each place the medians of images/s and, in brackets, of the ratio to the limit; then the targets."""
    machine, data = measured["machine"], measured["data"]
    shape = "x".join(map(str, data["shape"]))
    lines = [
        f"Images/s; in brackets, as a multiple of the limit in the same epoch. {data['examples']:,} images of {shape} in "
        f"{data['shards']} shards, {machine['cores']} cores ({machine['cpu']}, {machine['system']}); load of the machine "
        f"before: {machine['load_before']}."
    ]
    columns = [(batch, epoch) for batch in _batches(measured) for epoch in EPOCHS]
    for place in _places(measured):
        heads = " | ".join(f"batch {batch}, {epoch.replace('_', ' ')}" for batch, epoch in columns)
        lines += [
            "",
            f"| {place}, medians of {_rounds(measured, place)} | {heads} |",
            f"| --- |{' ---: |' * len(columns)}",
        ]
        for way in _ways(measured, place):
            cells = (
                f"{_speed(measured, way, place, *column):,.0f} ({_ratio(measured, way, LIMIT, place, *column):.2f})"
                for column in columns
            )
            lines.append(f"| {way} | {' | '.join(cells)} |")
    if DISK in _places(measured):
        lines += ["", "| target, from the local disk | at least | measured |", "| --- | ---: | ---: |"]
        lines += [f"| {name} | {least} | {ratio:.2f} |" for name, least, ratio in _targets(measured)]
    versions = ", ".join(f"{package} {version}" for package, version in measured["versions"].items())
    return "\n".join([*lines, "", f"Versions: {versions}.", ""])


def _targets(measured: Measured) -> Iterator[tuple[str, float, float]]:
    """What the project asks of itself: its name, the smallest ratio, and the one that was measured."""
    peers = [way for way in _ways(measured, DISK) if way not in (LIMIT, TUTORIAL) and not way.startswith("radrecords")]
    for batch in _batches(measured):
        for ours, epoch, least in ((STREAMED, "epoch_1", 0.9), (MEMORY, "epoch_2", 1.8)):
            speeds = {peer: _speed(measured, peer, DISK, batch, epoch) for peer in peers}
            fastest = max(speeds, key=speeds.__getitem__)
            for other, smallest in ((LIMIT, least), (TUTORIAL, 8), (fastest, 4)):
                name = f"batch {batch}, {epoch.replace('_', ' ')}: {ours} / {other}"
                yield name, smallest, _ratio(measured, ours, other, DISK, batch, epoch)


def draw(measured: Measured, path: Path) -> None:
    """A PNG: a panel for each place and size of a batch, with a bar for each way and epoch."""
    from matplotlib.figure import Figure

    batches, machine, data = _batches(measured), measured["machine"], measured["data"]
    places = _places(measured)
    heights = [len(_ways(measured, place)) for place in places]
    figure = Figure((4.5 * len(batches) + 3, 2.2 + 0.42 * sum(heights)), layout="constrained")
    figure.suptitle(
        f"Reading shuffled batches (longer is faster)\n{data['examples']:,} images of "
        f"{'x'.join(map(str, data['shape']))}; {machine['cores']} cores; medians"
    )
    panels = figure.subplots(
        len(places), len(batches), sharex="row", sharey="row", squeeze=False, height_ratios=heights
    )
    for row, place in zip(panels, places, strict=True):
        for panel, batch in zip(row, batches, strict=True):
            _draw_bars(panel, measured, place, batch)
    for colour, epoch in zip(_OTHERS, EPOCHS, strict=True):
        panels[0][-1].barh(0, 0, color=colour, label=epoch.replace("_", " "))
    panels[0][-1].legend(loc="lower right")
    figure.savefig(path, dpi=100)


def _draw_bars(panel: Any, measured: Measured, place: str, batch: int) -> None:
    ways = _ways(measured, place)
    for number, epoch in enumerate(EPOCHS):
        speeds = [_speed(measured, way, place, batch, epoch) / 1000 for way in ways]
        colours = [(_OURS if way.startswith("radrecords") else _OTHERS)[number] for way in ways]
        at = [position + 0.4 * (number - 0.5) for position in range(len(ways))]
        bars = panel.barh(at, speeds, 0.4, color=colours)
        panel.bar_label(bars, fmt="%.0f", padding=3, fontsize=8)
    panel.set_yticks(range(len(ways)), ways)
    panel.set_ylim(len(ways) - 0.5, -0.5)  # the first way on top
    panel.margins(x=0.12)
    panel.set_title(
        f"{place}, batches of {batch}, {_rounds(measured, place)} rounds", loc="left", fontsize=10, fontweight="bold"
    )
    panel.set_xlabel("thousand images/s")
    panel.spines[["top", "right"]].set_visible(False)


def _places(measured: Measured) -> list[str]:
    return list(dict.fromkeys(result["place"] for result in measured["results"]))


def _rounds(measured: Measured, place: str) -> int:
    return next(len(result[EPOCHS[0]]) for result in measured["results"] if result["place"] == place)


def _batches(measured: Measured) -> list[int]:
    return list(dict.fromkeys(result["batch"] for result in measured["results"]))


def _ways(measured: Measured, place: str) -> list[str]:
    return list(dict.fromkeys(result["way"] for result in measured["results"] if result["place"] == place))


def _speeds(measured: Measured, way: str, place: str, batch: int, epoch: str) -> Sequence[float]:
    (result,) = (
        result
        for result in measured["results"]
        if (result["way"], result["place"], result["batch"]) == (way, place, batch)
    )
    speeds: Sequence[float] = result[epoch]
    return speeds


def _speed(measured: Measured, way: str, place: str, batch: int, epoch: str) -> float:
    return statistics.median(_speeds(measured, way, place, batch, epoch))


def _ratio(measured: Measured, way: str, other: str, place: str, batch: int, epoch: str) -> float:
    """The median of the ratios of two ways in the same round."""
    pairs = zip(*(_speeds(measured, name, place, batch, epoch) for name in (way, other)), strict=True)
    return float(statistics.median(mine / others for mine, others in pairs))
