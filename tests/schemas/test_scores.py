"""The manifest of scores, and the names of their shards."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from schemas.dataset import Shard
from schemas.errors import UsageError
from schemas.labels import CLASS, MULTI_HOT
from schemas.scores import ScoresManifest, columns_of, is_scores
from schemas.shard_name import ScoresName, is_shard

MANIFEST = ScoresManifest(
    revision=1,
    model={"sha256": "ab", "classes": ["A", "B"]},
    file_format="jsonl",
    columns=("id", "probability", "class", "calibrated_probability"),
    inputs={"listed": 7, "written": 4, "quarantined": 1, "skipped": 2},
    skipped={"hidden": 2},
    quarantined={"truncated": 1},
    notes={},
    predicted={"A": 3, "B": 1},
    shards=(Shard("scores-00000-of-00001.jsonl", 400, "cd", 4, (3, 1), "ef"),),
    settings={"seed": 0},
)


def test_a_manifest_is_read_as_it_was_written() -> None:
    text = MANIFEST.to_json()
    assert ScoresManifest.from_json(text, "folder") == MANIFEST
    assert is_scores(text)
    assert json.loads(text)["format"] == "radrecords-scores"
    for other in ('{"format": "radrecords"}', "[]", "", "\0"):
        assert not is_scores(other)


CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "an input too many": lambda content: content["inputs"].update(listed=8),
    "a row too many": lambda content: content["shards"][0].update(examples=5),
    "a shard elsewhere": lambda content: content["shards"][0].update(file="../x.jsonl"),
    "another format of files": lambda content: content.update(file_format="csv"),
    "no columns": lambda content: content.pop("columns"),
    "a revision that is no number": lambda content: content.update(revision="1"),
}


@pytest.mark.parametrize("change", sorted(CHANGES))
def test_a_manifest_that_contradicts_itself_is_refused(change: str) -> None:
    content = json.loads(MANIFEST.to_json())
    CHANGES[change](content)
    with pytest.raises(UsageError, match=r"folder/manifest\.json is damaged"):
        ScoresManifest.from_json(json.dumps(content), "folder")


def test_other_manifests_are_refused() -> None:
    with pytest.raises(UsageError, match="is not a manifest of scores"):
        ScoresManifest.from_json('{"format": "radrecords"}', "folder")
    with pytest.raises(UsageError, match="has format version 2; upgrade radrecords"):
        ScoresManifest.from_json('{"format": "radrecords-scores", "format_version": 2}', "folder")
    with pytest.raises(UsageError, match="is damaged"):
        ScoresManifest.from_json("{", "folder")


def test_the_columns_depend_on_the_labels() -> None:
    assert columns_of(("A", "B"), CLASS, uri=False) == ("id", "probability", "class", "calibrated_probability")
    assert columns_of(("A", "B"), CLASS, uri=True)[:2] == ("id", "uri")
    several = ("id", "probabilities", "class", "calibrated_probabilities")
    assert columns_of(("A", "B", "C"), CLASS, uri=False) == several
    assert columns_of(("A", "B"), MULTI_HOT, uri=False) == tuple(
        "findings" if name == "class" else name for name in several
    )


def test_names_of_shards() -> None:
    name = ScoresName("scores-r2", 3, 16, "parquet")
    assert str(name) == "scores-r2-00003-of-00016.parquet"
    assert ScoresName.parse(str(name)) == ScoresName.parse(f"{name}.0123") == name
    for other in ("scores-00016-of-00016.jsonl", "scores-00000-of-00001.csv", "model-0123.onnx", "manifest.json"):
        assert not is_shard(other)
    assert is_shard(f"{name}.0123.json")
    assert is_shard("cxr-train.tfrecord-00000-of-00002.0123")
