"""The tables and the plot of what benchmarks.scale measured, and what follows for larger archives."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from beam_jobs.leakage.near_duplicates import part_count
from beam_jobs.plan.plan import shard_count
from beam_jobs.settings.config import ConvertConfig

MOST_SPREAD = 1.15  # the target: the slowest time an image, as a multiple of the fastest
_LARGER = (10_000_000, 100_000_000)
_PAGE = 1_000  # names in one request of a listing

Measured = Mapping[str, Any]


def table(found: Measured) -> str:
    """Markdown: the conversions, the simulations, and what they say about 10 and 100 million images."""
    machine, packages = found["machine"], found["versions"]
    versions = ", ".join(f"{package} {number}" for package, number in packages.items())
    return "\n".join(
        [
            f"{machine['cores']} cores ({machine['cpu']}, {machine['system']}); load of the machine before: "
            f"{machine['load_before']}. {versions}.",
            *("", "## Conversions", "", *_conversions(found)),
            *("", "## Simulated names", "", *_simulations(found)),
            *("", "## Larger archives", "", *_larger(found)),
            "",
        ]
    )


def per_image(found: Measured) -> dict[int, float]:
    """Microseconds an image of each conversion, without the start, by the number of images."""
    start, *runs = found["conversions"]
    return {run["images"]: (run["seconds"] - start["seconds"]) / run["images"] * 1e6 for run in runs}


def spread(found: Measured) -> float:
    """The slowest time an image as a multiple of the fastest."""
    times = per_image(found).values()
    return max(times) / min(times)


def _conversions(found: Measured) -> Iterator[str]:
    start, *runs = found["conversions"]
    yield (
        f"PNGs of 16x16 pixels to records of 64x64, {found['mode']}; medians of the rounds. The start is a conversion of "
        f"{start['images']} images: {start['seconds']:.2f} s, {start['cpu_seconds']:.2f} CPU s."
    )
    heads = ("images", "rounds", "s", "µs an image, without the start", "CPU µs an image, without the start")
    yield from (
        "",
        f"| {' | '.join((*heads, 'launcher, MiB', 'largest other process, MiB', 'waiting bytes an image'))} |",
    )
    yield f"|{' ---: |' * 8}"
    times = per_image(found)
    for run in runs:
        cpu = (run["cpu_seconds"] - start["cpu_seconds"]) / run["images"] * 1e6
        yield (
            f"| {run['images']:,} | {run['rounds']} | {run['seconds']:,.1f} | {times[run['images']]:.0f} | {cpu:.0f} | "
            f"{_mib(run['launcher_bytes'])} | {_mib(run['worker_bytes'])} | {run['waiting_bytes'] / run['images']:,.0f} |"
        )
    yield from ("", "| target | at most | measured |", "| --- | ---: | ---: |")
    yield f"| slowest / fastest time an image | {MOST_SPREAD} | {spread(found):.2f} |"


def _simulations(found: Measured) -> Iterator[str]:
    yield "The conversion's own graph in one process, without a bucket and without pixels; 0.5% are rejected."
    heads = ("images", "shards", "plan, s", "sort, s", "CPU µs an image", "peak, MiB", "bytes shuffled an image")
    yield from ("", f"| {' | '.join((*heads, 'publish, s', 'publish, MiB', 'of them, its results'))} |")
    yield f"|{' ---: |' * 10}"
    for run in found["simulations"]:
        plan, publish = run["plan"], run["publish"]
        yield (
            f"| {plan['images']:,} | {plan['shards']:,} | {plan['plan_seconds']:,.1f} | {plan['sort_seconds']:,.1f} | "
            f"{plan['cpu_seconds'] / plan['images'] * 1e6:.0f} | {_mib(plan['peak_bytes'])} | "
            f"{plan['shuffled_bytes'] / plan['images']:,.0f} | {publish['seconds']:,.1f} | "
            f"{_mib(publish['peak_bytes'])} | {_mib(_publish_bytes(publish))} |"
        )


def _publish_bytes(publish: Measured) -> int:
    return int(publish["peak_bytes"] - publish["start_bytes"])


def _larger(found: Measured) -> Iterator[str]:
    """What a larger archive needs: counts that follow from the code, and straight lines through the measurements."""
    conversion = found["conversions"][-1]
    waiting = conversion["waiting_bytes"] / conversion["images"]
    plans = {run["plan"]["images"]: run["plan"] for run in found["simulations"]}
    publishing = {run["publish"]["images"]: run["publish"] for run in found["simulations"]}
    config = ConvertConfig("gs://made-up", "gs://made-up-too")
    rows = {
        "shards of 64x64 records": [shard_count(images, config) for images in _LARGER],
        "requests to list": [images // _PAGE for images in _LARGER],
        "requests to read": list(_LARGER),
        "parts of the search for near-duplicates": [part_count(images) for images in _LARGER],
        "blocks that the search shuffles, at most": [
            shard_count(images, config) * part_count(images) for images in _LARGER
        ],
        "GB shuffled": [waiting * images / 1e9 for images in _LARGER],
        "CPU hours of planning and sorting": _lines(plans, lambda run: run["cpu_seconds"] / 3600),
        "MiB that one process takes for planning and sorting": _lines(plans, lambda run: run["peak_bytes"] / 2**20),
        "MiB that publishing takes": _lines(publishing, lambda run: _publish_bytes(run) / 2**20),
        "seconds that publishing takes, on a disk": _lines(publishing, lambda run: run["seconds"]),
    }
    yield from (f"| | {' | '.join(f'{images:,} images' for images in _LARGER)} |", f"| --- |{' ---: |' * len(_LARGER)}")
    for name, values in rows.items():
        yield f"| {name} | {' | '.join(f'{value:,}' if isinstance(value, int) else f'{value:,.1f}' for value in values)} |"


def _lines(runs: Mapping[int, Measured], value: Callable[[Measured], float]) -> list[float]:
    """The values for _LARGER on the straight line through those of the smallest and the largest run; in proportion to
    the number of images if there is one run."""
    few, many = min(runs), max(runs)
    before, after = (value(runs[few]), value(runs[many])) if few < many else (0, value(runs[many]))
    slope = (after - before) / (many - (few if few < many else 0))
    return [after + slope * (images - many) for images in _LARGER]


def _mib(count: float) -> str:
    return f"{count / 2**20:,.0f}"


def draw(found: Measured, path: Path) -> None:
    """A PNG: the time an image and the peak memory, by the number of images."""
    from matplotlib.figure import Figure

    times = per_image(found)
    runs = found["conversions"][1:]
    figure = Figure((10, 4), layout="constrained")
    machine = found["machine"]
    figure.suptitle(f"Conversions of small images ({machine['cores']} cores, {found['mode']})")
    time_panel, memory_panel = figure.subplots(1, 2)
    time_panel.plot(list(times), list(times.values()), "o-", color="#2171b5")
    time_panel.axhspan(min(times.values()), min(times.values()) * MOST_SPREAD, color="#deebf7", label="within 15%")
    time_panel.set_title("µs an image, without the start", loc="left", fontsize=10, fontweight="bold")
    time_panel.legend(loc="lower right")
    for name, label, colour in (
        ("launcher_bytes", "launcher", "#808080"),
        ("worker_bytes", "largest other process", "#2171b5"),
    ):
        memory_panel.plot(list(times), [run[name] / 2**20 for run in runs], "o-", label=label, color=colour)
    memory_panel.set_title("peak memory, MiB", loc="left", fontsize=10, fontweight="bold")
    memory_panel.legend(loc="lower right")
    for panel in (time_panel, memory_panel):
        panel.set_xscale("log")
        panel.set_xlabel("images")
        panel.set_ylim(bottom=0)
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=100)
