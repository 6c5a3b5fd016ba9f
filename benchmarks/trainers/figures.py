"""The table and the plot of what benchmarks.training measured."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

KERAS, DISK = "Keras fit on arrays in memory", "radrecords, streamed from the disk"
MEMORY, BUCKET = "radrecords, kept in memory", "radrecords, streamed from the bucket"
OURS, SCRIPT = "training.train", "minimal Keras script"
IMPORTS, MANIFEST, FIRST_BATCH, COMPILE = "imports", "manifest, model", "first batch", "compile, first step"
PARTS = (IMPORTS, MANIFEST, FIRST_BATCH, COMPILE)
HALF, WHOLE = "half of the set", "the set"

_TARGETS = {DISK: 1.03, MEMORY: 1.03, BUCKET: 1.05}
_START_TARGET = 0.3  # seconds
_GROWTH_TARGET = 1.05
_COLOURS = ("#2171b5", "#9ecae1", "#74c476", "#fdae6b")

Measured = Mapping[str, Any]


def table(measured: Measured) -> str:
    """Markdown: medians of the seconds of an epoch, of the start and of the memory; then the targets."""
    machine = measured["machine"]
    lines = [
        f"{machine['cores']} cores ({machine['cpu']}, {machine['system']}); medians of {measured['rounds']}; load of the "
        f"machine before: {machine['load_before']}.",
        *("", *_epochs_table(measured["epochs"])),
        *("", *_start_table(measured["start"])),
        *("", *_memory_table(measured["memory"])),
        *("", "| target | at most | measured |", "| --- | ---: | ---: |"),
        *(f"| {name} | {most} | {found:.3f} |" for name, most, found in targets(measured)),
    ]
    versions = ", ".join(f"{package} {version}" for package, version in measured["versions"].items())
    return "\n".join([*lines, "", f"Versions: {versions}.", ""])


def targets(measured: Measured) -> Iterator[tuple[str, float, float]]:
    """What the project asks of itself: its name, the largest figure, and the one that was measured."""
    for way, most in _TARGETS.items():
        yield f"epoch: {way} / {KERAS}", most, _ratio(measured["epochs"], way)
    seconds = {way: [run["seconds"] for run in _of(measured["start"], way)["runs"]] for way in (OURS, SCRIPT)}
    more = statistics.median(ours - script for ours, script in zip(seconds[OURS], seconds[SCRIPT], strict=True))
    yield f"start: {OURS} - {SCRIPT}, seconds", _START_TARGET, more
    half, whole = (_peak(measured["memory"], way) for way in (HALF, WHOLE))
    yield f"peak memory: {WHOLE} / {HALF}", _GROWTH_TARGET, whole / half


def _epochs_table(part: Measured) -> Iterator[str]:
    data = part["data"]
    yield f"| an epoch of model3: {data['examples']:,} images, batches of {data['batch']} | seconds | ratio |"
    yield "| --- | ---: | ---: |"
    for result in part["results"]:
        way = result["way"]
        yield f"| {way} | {statistics.median(result['seconds']):.2f} | {_ratio(part, way):.3f} |"


def _start_table(part: Measured) -> Iterator[str]:
    yield f"| from the start of the process to the first step, seconds | {' | '.join(PARTS)} | together |"
    yield f"| --- |{' ---: |' * (len(PARTS) + 1)}"
    for result in part["results"]:
        medians = (_part(result, name) for name in PARTS)
        cells = ("" if seconds is None else f"{seconds:.2f}" for seconds in medians)
        total = statistics.median(run["seconds"] for run in result["runs"])
        yield f"| {result['way']} | {' | '.join(cells)} | {total:.2f} |"


def _memory_table(part: Measured) -> Iterator[str]:
    epochs = range(part["data"]["epochs"])
    heads = " | ".join(f"peak in epoch {epoch + 1}" for epoch in epochs)
    yield f"| resident memory while reading, MiB | size | before | {heads} |"
    yield f"| --- | ---: | ---: |{' ---: |' * len(epochs)}"
    for result in part["results"]:
        runs = result["runs"]
        peaks = (statistics.median(run["peaks"][epoch] for run in runs) for epoch in epochs)
        figures = (runs[0]["bytes"], statistics.median(run["before"] for run in runs), *peaks)
        yield f"| {result['way']} | {' | '.join(f'{size / 2**20:,.0f}' for size in figures)} |"


def _of(part: Measured, way: str) -> Measured:
    (result,) = (result for result in part["results"] if result["way"] == way)
    return result  # type: ignore[no-any-return] # JSON


def _ratio(part: Measured, way: str) -> float:
    """The median of the ratios to Keras in the same round."""
    pairs = zip(_of(part, way)["seconds"], _of(part, KERAS)["seconds"], strict=True)
    return float(statistics.median(mine / others for mine, others in pairs))


def _part(result: Measured, name: str) -> float | None:
    found = [run["parts"][name] for run in result["runs"] if name in run["parts"]]
    return statistics.median(found) if found else None


def _peak(part: Measured, way: str) -> float:
    return float(statistics.median(max(run["peaks"]) for run in _of(part, way)["runs"]))


def draw(measured: Measured, path: Path) -> None:
    """A PNG with a panel each for epochs, start and memory."""
    from matplotlib.figure import Figure

    figure = Figure((9, 8), layout="constrained")
    machine = measured["machine"]
    figure.suptitle(
        f"Training model3 (shorter and lower is better)\n{machine['cores']} cores; medians of {measured['rounds']}"
    )
    epochs, start, memory = figure.subplots(3, 1, height_ratios=(4, 2.6, 4))
    _draw_epochs(epochs, measured["epochs"])
    _draw_start(start, measured["start"])
    _draw_memory(memory, measured["memory"])
    for panel in (epochs, start, memory):
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=100)


def _draw_epochs(panel: Any, part: Measured) -> None:
    ways: Sequence[str] = [result["way"] for result in part["results"]]
    seconds = [statistics.median(result["seconds"]) for result in part["results"]]
    bars = panel.barh(ways, seconds, color=["#808080" if way == KERAS else _COLOURS[0] for way in ways])
    panel.bar_label(bars, [f"{_ratio(part, way):.3f} x" for way in ways], padding=3, fontsize=8)
    panel.invert_yaxis()
    panel.margins(x=0.1)
    panel.set_title("an epoch", loc="left", fontsize=10, fontweight="bold")
    panel.set_xlabel("seconds")


def _draw_start(panel: Any, part: Measured) -> None:
    ways = [result["way"] for result in part["results"]]
    left = [0.0] * len(ways)
    for name, colour in zip(PARTS, _COLOURS, strict=True):
        seconds = [_part(result, name) or 0.0 for result in part["results"]]
        panel.barh(ways, seconds, left=left, color=colour, label=name)
        left = [before + more for before, more in zip(left, seconds, strict=True)]
    panel.invert_yaxis()
    panel.margins(x=0.1)
    panel.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    panel.set_title("from the start of the process to the first step", loc="left", fontsize=10, fontweight="bold")
    panel.set_xlabel("seconds")


def _draw_memory(panel: Any, part: Measured) -> None:
    for result, colour in zip(part["results"], _COLOURS, strict=False):
        run = result["runs"][-1]
        seconds, sizes = zip(*run["samples"], strict=True)
        label = f"{result['way']}, {run['bytes'] / 2**20:,.0f} MiB"
        panel.plot(seconds, [size / 2**20 for size in sizes], color=colour, label=label)
    panel.set_ylim(bottom=0)
    panel.legend(fontsize=8, loc="lower right")
    panel.set_title(f"memory while reading {part['data']['epochs']} epochs", loc="left", fontsize=10, fontweight="bold")
    panel.set_xlabel("seconds")
    panel.set_ylabel("resident, MiB")
