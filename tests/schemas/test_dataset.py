"""The manifest: its content survives a round trip, and a contradiction is refused and named."""

import dataclasses
import json
from typing import Any

import pytest

from schemas.dataset import Manifest, Shard, check_name, version_of
from schemas.errors import UsageError
from schemas.pixels.settings import ImageSettings

MANIFEST = Manifest(
    name="cxr",
    version="1.0.0",
    revision=1,
    classes=("NORMAL", "PNEUMONIA"),
    image=ImageSettings(image_size=32, crop=0.9),
    inputs={"listed": 12, "written": 7, "quarantined": 2, "duplicates": 2, "skipped": 1},
    skipped={"hidden": 1},
    quarantined={"empty": 1, "truncated": 1},
    notes={},
    splits={
        "train": (Shard("cxr-train-0", 100, "aa", 3, (1, 2)), Shard("cxr-train-1", 50, "bb", 2, (0, 2))),
        "validation": (Shard("cxr-validation-0", 60, "cc", 2, (1, 1)),),
    },
    settings={"seed": 0},
)


def changed(**changes: Any) -> str:
    content = json.loads(MANIFEST.to_json())
    for path, value in changes.items():
        *parents, last = (int(key) if key.isdigit() else key for key in path.split("__"))
        place = content
        for parent in parents:
            place = place[parent]
        place[last] = value
    return json.dumps(content)


def test_a_manifest_survives_a_json_round_trip() -> None:
    assert Manifest.from_json(MANIFEST.to_json(), "folder") == MANIFEST
    assert MANIFEST.examples("train") == 5
    assert MANIFEST.label_counts("train") == (1, 4)
    assert MANIFEST.shape == (32, 32, 1)


def test_the_json_holds_inputs_and_split_totals() -> None:
    content = json.loads(MANIFEST.to_json())
    assert content["inputs"] == {"listed": 12, "written": 7, "quarantined": 2, "duplicates": 2, "skipped": 1}
    assert content["splits"]["train"]["examples"] == 5
    assert content["splits"]["train"]["labels"] == {"NORMAL": 1, "PNEUMONIA": 4}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not JSON"),
        ("[]", "not a radrecords manifest"),
        ("{}", "not a radrecords manifest"),
        (changed(format_version=4), "format version 4.*upgrade radrecords"),
        (changed(format_version="x"), "format version x"),
        (changed(splits__train__examples=6), "split train claims 6 examples, but its shards hold 5"),
        (changed(splits__train__shards__0__label_counts=[1, 1]), "label counts of cxr-train-0"),
        (changed(splits__train__shards__0__file="../secret"), "points outside the folder"),
        (changed(splits__train__shards__0={"file": "x"}), "damaged"),
        (changed(splits__train__shards__0__bytes="100"), "cxr-train-0 has '100' bytes"),
        (changed(inputs__written=8), "inputs"),
        (changed(inputs__listed=13), "inputs do not add up"),
        (changed(classes=None), "damaged"),
        (changed(label_kind="ranks"), "label_kind 'ranks'"),
        (changed(image__colour="red"), "damaged"),
    ],
)
def test_an_invalid_manifest_is_refused(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        Manifest.from_json(text, "some/folder")
    assert "some/folder/manifest.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_manifest_of_the_first_release_has_one_class_per_image_and_no_arrays() -> None:
    content = json.loads(MANIFEST.to_json()) | {"format_version": 1}
    del content["label_kind"], content["record_bytes"]
    for entry in content["splits"].values():
        for shard in entry["shards"]:
            del shard["crc32c"]
    assert Manifest.from_json(json.dumps(content), "folder") == MANIFEST


def test_records_of_one_length_must_fill_their_shards() -> None:
    splits = {"train": (Shard("cxr-train-0", 210, "aa", 3, (1, 2), "12345678"),)}
    inputs = {**MANIFEST.inputs, "listed": MANIFEST.inputs["listed"] - 4, "written": 3}
    arrays = dataclasses.replace(MANIFEST, splits=splits, record_bytes=70, inputs=inputs)
    assert Manifest.from_json(arrays.to_json(), "folder") == arrays
    wrong = dataclasses.replace(arrays, record_bytes=71)
    with pytest.raises(UsageError, match="cxr-train-0 does not have 71 bytes per example"):
        Manifest.from_json(wrong.to_json(), "folder")


def test_several_labels_per_image_are_all_counted() -> None:
    splits = {"train": (Shard("cxr-train-0", 100, "aa", 7, (7, 0)),)}
    several = dataclasses.replace(MANIFEST, label_kind="multi_hot", splits=splits)
    content = json.loads(several.to_json())
    assert Manifest.from_json(several.to_json(), "folder") == several
    for counts in ([8, 0], [7], [-1, 3]):
        content["splits"]["train"]["shards"][0]["label_counts"] = counts
        with pytest.raises(UsageError, match="label counts of cxr-train-0"):
            Manifest.from_json(json.dumps(content), "folder")


def test_a_missing_key_is_named() -> None:
    content = json.loads(MANIFEST.to_json())
    del content["inputs"]
    with pytest.raises(UsageError, match="missing 'inputs'"):
        Manifest.from_json(json.dumps(content), "folder")


def test_an_unknown_split_is_refused_and_the_existing_ones_are_named() -> None:
    with pytest.raises(UsageError, match="no split 'test'; it has train, validation"):
        MANIFEST.shards("test")


def test_versions_come_from_folders_and_names_are_checked() -> None:
    assert version_of("gs://b/cxr/2.1.0/") == "2.1.0"
    assert version_of("/data/cxr") == "1.0.0"
    assert check_name("chest_2") == "chest_2"
    for bad in ("", "Cxr", "2x", "a-b", "a/b"):
        with pytest.raises(UsageError, match="--name"):
            check_name(bad)


def test_manifests_are_immutable() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        MANIFEST.name = "other"  # type: ignore[misc]
