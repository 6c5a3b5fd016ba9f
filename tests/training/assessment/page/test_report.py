"""What the page and the card say, of made-up evaluations of each kind of task."""

import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from typing import Any

import pytest

from tests.report.pages import KINDS, LEAKAGE, made_up
from training.assessment.page.content import Content
from training.assessment.page.model_card import model_card
from training.assessment.page.report import report
from training.task import BINARY, MULTICLASS, MULTILABEL

VOID = {"meta", "img", "br"}
HEADINGS = (
    *("Model details", "Intended use", "Factors", "Metrics", "Evaluation data", "Training data"),
    *("Quantitative analyses", "Ethical considerations", "Caveats and recommendations"),
)


class Nesting(HTMLParser):
    """Checks that every element is closed where it should be."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.links += [value or "" for name, value in attrs if name == "href"]
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Of an SVG."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def changed(content: Content, **metrics: Any) -> Content:
    return replace(content, metrics={**content.metrics, **metrics})


def text_of(page: str) -> str:
    return " ".join(unescape(re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL)).split())


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_is_well_formed_and_its_links_lead_somewhere(kind: str) -> None:
    page = report(made_up(kind))
    parser = Nesting()
    parser.feed(page)
    assert parser.open == []
    assert len(parser.links) >= 8
    assert {link[1:] for link in parser.links} <= set(parser.ids)
    assert len(parser.ids) == len(set(parser.ids))


def test_equal_evaluations_have_equal_pages_and_cards() -> None:
    first, second = made_up(BINARY), made_up.__wrapped__(BINARY)
    assert first is not second
    assert report(first) == report(second)
    assert model_card(first) == model_card(second)


def test_what_a_clinician_reads_first() -> None:
    content = made_up(BINARY)
    (tn, fp), (fn, tp) = content.metrics["confusion_matrix"]
    text = text_of(report(content))
    assert "For research only. This is not a medical device" in text
    assert "was trained on 4,708 images of cxr 1.0.0, at 64 x 64 pixels" in text
    assert "The figures are of 240 images of cxr 1.0.0, split test. They had no part in training." in text
    assert f"It finds {tp} of {tp + fn} images of PNEUMONIA ({tp / (tp + fn):.1%})" in text
    assert f"Of {tn + fp} images of NORMAL, it takes {fp} for PNEUMONIA ({fp / (tn + fp):.1%})" in text
    assert text.index("Who should not use it") < text.index("Most confident errors") < text.index("SHA-256")
    for name in ("sensitivity", "specificity", "accuracy"):
        low, high = content.metrics["intervals"][name]
        assert f"{content.metrics[name]:.1%} {100 * low:.1f} to {100 * high:.1f}%" in text
    assert f"AUROC {content.metrics['auroc']:.3f}" in text


@pytest.mark.parametrize("kind", KINDS)
def test_the_card_has_the_usual_sections(kind: str) -> None:
    content = made_up(kind)
    card = model_card(content)
    assert tuple(re.findall(r"^## (.*)", card, flags=re.MULTILINE)) == HEADINGS
    assert card.startswith("# model3 on cxr 1.0.0, split test\n")
    assert "<with>" not in card.replace("\\<with\\>", "")
    for rows in re.findall(r"(?:^\|.*\n)+", card, flags=re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in rows.splitlines()}) == 1
    assert "fedcba9876543210" * 4 in card


def test_names_of_classes_are_text() -> None:
    page = report(made_up(MULTICLASS))
    assert "<with>" not in page
    assert "Class 3 <with> a rather long name & more" in text_of(page)


def test_whom_the_model_is_not_for_follows_from_the_preset() -> None:
    content = made_up(BINARY)
    children = "children of one to five years"
    assert children in report(content)
    assert children in model_card(content)
    of_own = replace(content, manifest=replace(content.manifest, settings={"preset": ""}))
    assert children not in report(of_own) + model_card(of_own)
    # A run that was trained on another set knows nothing of those patients.
    elsewhere = replace(content, manifest=replace(content.manifest, version="2.0.0"))
    assert children not in report(elsewhere)
    assert "The model was trained on another version of this data set." in report(elsewhere)
    foreign = changed(elsewhere, data={"name": "other", "version": "1.0.0", "revision": 1})
    assert "The model was trained on another data set." in report(foreign)


def test_which_weights_were_kept() -> None:
    content = made_up(BINARY)
    assert "from epoch 6, the best by AUC on the validation split" in model_card(content)
    recipe = replace(content.run.recipe, keep="last", weight_decay=0.01, network={"width": 24, "dropout": 0.25})
    card = model_card(replace(content, run=replace(content.run, recipe=recipe)))
    assert "from epoch 6, the last one." in card
    assert "524 others served to choose its operating point." in card
    assert "| optimiser | AdamW |" in card
    assert "| network | width 24, dropout 0.25 |" in card


def test_warnings() -> None:
    content = made_up(MULTILABEL)
    alike = "Images of different splits are alike"
    assert alike in report(content)
    none = {**LEAKAGE, "near_duplicates_across_splits": {"total": 0}}
    assert alike not in report(replace(content, leakage=none))
    assert "no leakage.json" in report(replace(content, leakage=None))
    assert "few images of some classes" in report(content)
    flattered = changed(content, split="validation", notes=["split validation was used in training"])
    assert "They were used in training." in report(flattered)
    assert "Split validation was used in training." in report(flattered)
    assert "Split validation was used in training." in model_card(flattered)


@pytest.mark.parametrize("kind", KINDS)
def test_calibration_and_subgroups(kind: str) -> None:
    content = made_up(kind)
    page, card = report(content), model_card(content)
    calibration = content.metrics["calibration"]
    for side in ("before", "after"):
        for name in ("ece", "brier"):
            low, high = calibration[side]["intervals"][name]
            assert f"{calibration[side][name]:.3f} ({low:.3f} to {high:.3f})" in card
        assert f'aria-label="reliability {side} scaling' in page
    assert "divides the logits by 1.31" in page
    assert ("| virus | " in card) == (kind != MULTILABEL)
    assert (">Subgroups</h2>" in page) == (kind != MULTILABEL)
    assert ("No subgroups were evaluated" in card) == (kind == MULTILABEL)
    never = changed(content, calibration={**calibration, "temperature": 1.0})
    assert "divides the logits" not in report(never)
    assert "| ECE | " in model_card(never)


def test_a_subgroup_of_one_class_has_the_areas_against_the_other() -> None:
    content = made_up(BINARY)
    against = content.metrics["subgroups"]["kind"]["virus"]["against_the_other_class"]["auroc"]
    (row,) = [line for line in model_card(content).splitlines() if line.startswith("| virus | ")]
    cells = [cell.strip() for cell in row.split("|")]
    assert cells[4] == "undefined"
    assert cells[6].startswith(f"{against:.3f} (")


def test_all_figures_of_two_classes() -> None:
    content = made_up(BINARY)
    card, metrics = model_card(content), content.metrics
    for name, title in (("ppv", "PPV"), ("npv", "NPV"), ("balanced_accuracy", "Balanced accuracy")):
        assert f"| {title} | {metrics[name]:.1%} (" in card
    for name, title in (("f1", "F1"), ("mcc", "MCC")):
        assert f"| {title} | {metrics[name]:.3f} (" in card
    assert f"| PPV where 10.0% are positive | {metrics['at_prevalence']['ppv']:.1%} (" in card
    assert "(240 images of 120 patients)" in report(content)


def test_a_split_of_one_class() -> None:
    content = changed(made_up(BINARY), sensitivity=None, auroc=None, auprc=None, confusion_matrix=[[216, 24], [0, 0]])
    text = text_of(report(content))
    assert "It finds 0 of 0 images of PNEUMONIA. Of 240 images of NORMAL, it takes 24" in text
    assert "AUROC undefined" in text
    of_findings = changed(made_up(MULTILABEL), macro=None, micro=None)
    assert "no area is defined" in report(of_findings) + model_card(of_findings)
