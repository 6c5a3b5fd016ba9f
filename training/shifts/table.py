"""The results of the suite as JSON and as a table."""

import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from schemas.dataset import Manifest
from schemas.errors import UsageError
from training.config import ShiftConfig
from training.runs.run_folder import RunConfig
from training.shifts.figures import CORRUPTION, FIGURES, KINDS, Figures, Result, mean, spread, worst

JSON, TABLE, PREDICTIONS = "shift.json", "shift.md", "predictions.npz"
FORMAT, FORMAT_VERSION = "radrecords-shift", 1

_SHOWN = {
    "auroc": "AUROC",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced",
    "sensitivity": "sens.",
    "specificity": "spec.",
    "accuracy_at_0.5": "accuracy at 0.5",
    "sensitivity_at_0.5": "sens. at 0.5",
    "specificity_at_0.5": "spec. at 0.5",
}


def check_output(config: ShiftConfig) -> None:
    """Makes the output folder. Raises UsageError if it cannot, or if there are results and no flag says what to do."""
    if Path(config.output, JSON).exists() and not (config.resume or config.overwrite):
        raise UsageError(f"--output {config.output} already holds a {JSON}; give --resume or --overwrite")
    try:
        Path(config.output).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write to --output {config.output}: {error.strerror}") from error


def content_of(
    manifest: Manifest, run: RunConfig, results: Sequence[Result], skipped: Mapping[str, str]
) -> dict[str, Any]:
    """The content of shift.json.

    proxies: for each proxy the examples of each class in its test, the mean and the standard deviation of each figure over
    the seeds, and the figures by seed. summary: for each kind of proxy the mean and the worst of these means. A corruption
    counts as one, by the mean over its severities; the worst is that of any severity.
    """
    proxies = []
    for proxy in dict.fromkeys(result.proxy for result in results):
        found = [result for result in results if result.proxy == proxy]
        figures = {str(result.seed): result.figures for result in found}
        proxies.append(
            {
                "kind": proxy.kind,
                "name": proxy.name,
                "severity": proxy.severity,
                "examples": dict(
                    zip(manifest.classes, np.bincount(found[0].labels, minlength=2).tolist(), strict=True)
                ),
                "mean": mean(list(figures.values())),
                "sd": spread(list(figures.values())),
                "seeds": figures,
            }
        )
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "data": {"name": manifest.name, "version": manifest.version, "revision": manifest.revision},
        "recipe": run.recipe.to_json(),
        "classes": list(manifest.classes),
        "seeds": sorted({result.seed for result in results}),
        "proxies": proxies,
        "summary": _summary(proxies),
        "skipped": dict(skipped),
    }


def _summary(proxies: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Figures]]:
    found = {}
    for kind in KINDS[1:]:
        of_kind = [proxy for proxy in proxies if proxy["kind"] == kind]
        if of_kind:
            by_name = groupby(of_kind, key=lambda proxy: proxy["name"])
            names = [mean([proxy["mean"] for proxy in severities]) for _, severities in by_name]
            found[kind] = {"mean": mean(names), "worst": worst([proxy["mean"] for proxy in of_kind])}
    return found


def text_of(content: Mapping[str, Any]) -> str:
    """The table, in Markdown that is aligned as plain text too. A corruption has one row, of the mean over its severities
    and, in parentheses, the worst of them."""
    recipe, seeds, data = content["recipe"]["name"], content["seeds"], content["data"]
    rows = [["proxy", *(f"n {name}" for name in content["classes"]), *_SHOWN.values()]]
    for (kind, name), group in groupby(content["proxies"], key=lambda proxy: (proxy["kind"], proxy["name"])):
        severities = list(group)
        shown = f"{kind}: {name}" if kind != CORRUPTION else name
        counts = [str(count) for count in severities[0]["examples"].values()]
        means = [proxy["mean"] for proxy in severities]
        least = worst(means) if kind == CORRUPTION else None
        rows.append([shown, *counts, *_cells(mean(means), least)])
    for kind, summary in content["summary"].items():
        rows += [[f"**{kind}: {which}**", "", "", *_cells(summary[which])] for which in ("mean", "worst")]
    title = f"Recipe {recipe}, {_seeds(seeds)}, trained on {data['name']} {data['version']}"
    skipped = [f"- skipped: {name}: {why}" for name, why in content["skipped"].items()]
    return "\n".join([title, "", *_aligned(rows), *([""] if skipped else []), *skipped])


def write(output: str, content: Mapping[str, Any], results: Sequence[Result]) -> None:
    """Writes shift.json, shift.md and, for other choices of the operating point, predictions.npz: an array [2, examples] of
    labels and probabilities for each proxy (by its position in shift.json) and seed, "POSITION/SEED". Raises UsageError."""
    position = {proxy: number for number, proxy in enumerate(dict.fromkeys(result.proxy for result in results))}
    arrays = {f"{position[each.proxy]}/{each.seed}": np.stack([each.labels, each.probabilities]) for each in results}
    try:
        Path(output, JSON).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        Path(output, TABLE).write_text(text_of(content) + "\n", encoding="utf-8")
        np.savez_compressed(Path(output, PREDICTIONS), **arrays)  # type: ignore[arg-type] # allow_pickle comes first
    except OSError as error:
        raise UsageError(f"cannot write to --output {output}: {error.strerror}") from error


def _cells(figures: Figures, least: Figures | None = None) -> list[str]:
    return [
        f"{figures[name]:.3f}" + (f" ({least[name]:.3f})" if least and name in FIGURES[:2] else "") for name in _SHOWN
    ]


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"mean of {len(seeds)} seeds"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """A table of Markdown whose first column is left-aligned and the others right-aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rule = ["-" * widths[0], *(f"{'-' * (width - 1)}:" for width in widths[1:])]
    lines = [
        [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        for row in (rows[0], rule, *rows[1:])
    ]
    return [f"| {' | '.join(line)} |" for line in lines]
