"""What label cells mean, and how records hold their labels."""

import numpy as np
import pytest

from schemas.labels import (
    CLASS,
    MULTI_HOT,
    MULTI_HOT_UNCERTAIN,
    UNCERTAIN,
    can_be,
    canonical,
    class_names,
    class_totals,
    encode_label,
    kind_of,
    label_text,
    names_in,
    positives,
)


@pytest.mark.parametrize(
    ("cell", "label", "names"),
    [
        ("NORMAL", "NORMAL", ("NORMAL",)),
        (" No Finding ", "No Finding", ("No Finding",)),
        ("", "", ()),
        ("B|A", "A|B", ("A", "B")),
        ("A| B |A", "A|B", ("A", "B")),
        ("A|", "A", ("A",)),
        ("|", "|", ()),
        (" | ", "|", ()),
    ],
)
def test_equal_sets_of_findings_give_equal_labels(cell: str, label: str, names: tuple[str, ...]) -> None:
    assert canonical(cell) == label
    assert names_in(label) == names


def test_one_cell_with_several_labels_decides_the_kind() -> None:
    assert kind_of(["A", "B", "No Finding"]) == CLASS
    assert kind_of(["A", "A|B"]) == MULTI_HOT
    assert kind_of(["A", "|"]) == MULTI_HOT


def test_no_finding_is_a_class_only_if_each_image_has_one_class() -> None:
    assert class_names(["A", "No Finding"], CLASS) == {"A", "No Finding"}
    assert class_names(["A|B", "No Finding", "|"], MULTI_HOT) == {"A", "B"}


@pytest.mark.parametrize(
    ("label", "kind", "value", "text"),
    [
        ("B", CLASS, 1, "1 B"),
        ("B", MULTI_HOT, (0, 1, 0), "B"),
        ("A|C", MULTI_HOT, (1, 0, 1), "A|C"),
        ("No Finding", MULTI_HOT, (0, 0, 0), "No Finding"),
        ("|", MULTI_HOT, (0, 0, 0), "No Finding"),
        ("A|?C", MULTI_HOT_UNCERTAIN, (1, 0, UNCERTAIN), "A|?C"),
        ("?B", MULTI_HOT_UNCERTAIN, (0, UNCERTAIN, 0), "?B"),
    ],
)
def test_a_label_is_encoded_as_its_kind_requires(
    label: str, kind: str, value: int | tuple[int, ...], text: str
) -> None:
    assert encode_label(label, ("A", "B", "C"), kind) == value
    assert label_text(value, ("A", "B", "C")) == text
    certain = [name for name in names_in(label) if name in "ABC"]
    assert [("A", "B", "C")[index] for index in positives(value)] == certain
    assert can_be(value, 3, kind)
    assert not can_be(value, 3, MULTI_HOT if kind == CLASS else CLASS)
    assert can_be(value, 3, MULTI_HOT) == (kind != CLASS and UNCERTAIN not in np.atleast_1d(value))


@pytest.mark.parametrize(
    ("value", "kind"), [(3, CLASS), (-1, CLASS), ((0, 1), MULTI_HOT), ((0, 1, 2), MULTI_HOT), ((0, 1, 0, 0), MULTI_HOT)]
)
def test_an_invalid_label_is_recognised(value: int | tuple[int, ...], kind: str) -> None:
    assert not can_be(value, 3, kind)


def test_the_classes_of_uncertain_findings_are_their_names() -> None:
    assert class_names(["A|?B", "?A", "No Finding"], MULTI_HOT_UNCERTAIN) == {"A", "B"}
    assert class_totals({"A|?B": 2, "B": 3}, ("A", "B")) == {"A": 2, "B": 3}  # those that are certain


def test_totals_count_an_image_for_each_of_its_labels() -> None:
    assert class_totals({"A": 2, "A|B": 3, "|": 4, "No Finding": 5}, ("B", "A")) == {"B": 3, "A": 5}
