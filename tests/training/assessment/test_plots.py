"""The SVG charts of the page."""

import re
import xml.etree.ElementTree as ET
from functools import cache

import numpy as np
import pytest
from matplotlib.figure import Figure
from sklearn.metrics import precision_recall_curve

from training.assessment import plots


def predictions() -> tuple[plots.Labels, plots.Probabilities]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    return labels, 1 / (1 + np.exp(-(rng.normal(size=200) + 2 * labels - 1)))


def charts() -> dict[str, Figure]:
    labels, probabilities = predictions()
    columns = dict.fromkeys(("Mass & <more>", "Nodule"), (labels, probabilities, 0.4))
    bins = [{"predicted": 0.2, "observed": 0.3, "count": 9, "interval": None}]
    rows = [{"epoch": n, "loss": 1 / n, "auc": 0.9, "val_loss": 2 / n, "val_auc": 0.8 + n / 100} for n in (1, 2, 3)]
    return {
        "roc": plots.roc(labels, probabilities, 0.4, 0.8),
        "precision_recall": plots.precision_recall(labels, probabilities, 0.4, 0.8),
        "undefined": plots.precision_recall(labels, probabilities, 0.4, None),
        "rocs": plots.rocs(columns),
        "precision_recalls": plots.precision_recalls(columns),
        "before": plots.reliability([*bins, {**bins[0], "count": 0}], "before"),
        "loss": plots.curve(rows, "loss", "loss"),
    }


@cache
def svgs() -> dict[str, str]:
    return {name: plots.figure_svg(figure, name, f"the {name}") for name, figure in charts().items()}


def test_a_chart_is_the_same_every_time_and_needs_nothing_else() -> None:
    first = svgs()
    assert first == svgs.__wrapped__()
    for name, svg in first.items():
        assert svg.startswith(f'<svg class="chart" role="img" aria-label="the {name}" viewBox="0 0 '), name
        assert not re.search(r"https?://|url\(|<style|<metadata|<script|<image", svg), name
        ET.fromstring(svg.replace("xlink:href", "href"))


def test_the_colours_are_those_of_the_page() -> None:
    for name, svg in svgs().items():
        assert "currentColor" in svg, name
        assert not re.search("#000000|#ffffff", svg), name
    assert "var(--line)" in svgs()["roc"]
    assert "var(--mark)" in svgs()["roc"]


def test_ids_are_unique_on_a_page() -> None:
    page = "".join(svgs().values())
    ids = re.findall(r' id="([^"]*)"', page)
    assert ids
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]*)"', page)) <= set(ids)


def test_the_text_of_a_chart_is_text() -> None:
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", svgs()["rocs"])
    assert "sensitivity" in texts
    assert any(text.startswith("Mass &amp; &lt;more&gt;, 0.") for text in texts)


@pytest.mark.parametrize("threshold", [0.4, 0.7])
def test_the_operating_point_lies_on_the_precision_recall_curve(threshold: float) -> None:
    labels, probabilities = predictions()
    (axes,) = plots.precision_recall(labels, probabilities, threshold, 0.8).axes
    precision, recall, thresholds = precision_recall_curve(labels, probabilities)
    index = int(np.searchsorted(thresholds, threshold))
    point = next(line for line in axes.lines if line.get_label() == f"threshold {threshold:.3f}")
    assert point.get_xydata() == pytest.approx(np.array([[recall[index], precision[index]]]))


def test_the_dots_of_the_reliability_diagram() -> None:
    bins = [
        {"predicted": 0.1, "observed": 0.2, "count": 25, "interval": [0.15, 0.3]},
        {"predicted": 0.9, "observed": 0.8, "count": 100, "interval": [0.7, 0.85]},
    ]
    (axes,) = plots.reliability(bins, "before").axes
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    assert [tuple(np.asarray(dot.get_xydata())[0]) for dot in dots] == [(0.1, 0.2), (0.9, 0.8)]
    assert dots[0].get_markersize() < dots[1].get_markersize()
    bars = [np.asarray(line.get_xydata()).tolist() for line in axes.lines if line.get_linewidth() == 1][1:]
    assert bars == [[[0.1, 0.15], [0.1, 0.3]], [[0.9, 0.7], [0.9, 0.85]]]
