"""What probabilities say of an image, compared with SciPy and with hand-made cases."""

import numpy as np
import pytest

from schemas.labels import CLASS, MULTI_HOT
from schemas.prediction import prediction_of, tempered


@pytest.mark.parametrize("temperature", [0.01, 0.5, 1.0, 3.0, 100.0])
def test_tempered_probabilities(temperature: float) -> None:
    special = pytest.importorskip("scipy.special")
    random = np.random.default_rng(0)
    each = np.concatenate([random.random((50, 3)), [[0.0, 1.0, 0.5], [1e-9, 1 - 1e-9, 1e-3]]])
    clipped = np.clip(each, 1e-7, 1 - 1e-7)
    expected = special.expit(special.logit(clipped) / temperature)
    np.testing.assert_allclose(tempered(each, temperature, softmax=False), expected, atol=1e-12, rtol=1e-9)
    classes = each / each.sum(1, keepdims=True)
    logits = np.log(np.clip(classes, 1e-7, 1 - 1e-7)) / temperature
    np.testing.assert_allclose(
        tempered(classes, temperature, softmax=True), special.softmax(logits, axis=1), atol=1e-12, rtol=1e-9
    )


def test_two_classes() -> None:
    for probability, name in ((0.39, "A"), (0.4, "B"), (0.9, "B")):
        assert prediction_of([probability], ("A", "B"), CLASS, [0.4]) == {"probability": probability, "class": name}


def test_several_classes_and_findings() -> None:
    names, values = ("A", "B", "C"), [0.2, 0.5, 0.3]
    by_class = dict(zip(names, values, strict=True))
    assert prediction_of(values, names, CLASS, [0.9, 0.9, 0.1]) == {"probabilities": by_class, "class": "B"}
    assert prediction_of(values, names, MULTI_HOT, [0.2, 0.6, 0.1]) == {
        "probabilities": by_class,
        "findings": ["A", "C"],
    }
    assert prediction_of([0.1, 0.2], ("A", "B"), MULTI_HOT, [0.5, 0.5])["findings"] == []
