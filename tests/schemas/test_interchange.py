"""A converted data set, read by TensorFlow Datasets and TensorFlow Metadata without any of our code."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from beam_jobs.reading.manifest import require_manifest
from beam_jobs.reading.shards import read_examples
from schemas.example import decode_example
from schemas.identity import pseudonym
from tests.beam_jobs.made import several_labels
from tests.conftest import labelled, write_images

# Python 3.10 has no tensorflow-metadata that installs beside apache-beam[gcp]; see setup.py.
tfds = pytest.importorskip("tensorflow_datasets", exc_type=ImportError)


@pytest.fixture(params=[("1.0.0", ()), ("made/2.3.1", ("--channels", "3", "--image_size", "16"))])
def dataset(request: pytest.FixtureRequest, tmp_path: Path, convert: Callable[..., Any]) -> Path:
    folder, flags = request.param
    output: Path = tmp_path / "cxr" / folder
    source = write_images(tmp_path / "raw", labelled(8, "train", "val", "test"))
    assert convert(source, output, "--shards", 3, *flags).code == 0
    return output


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of TensorFlow Datasets' own imports
def test_tfds_loads_every_split_with_the_same_images_and_labels(dataset: Path) -> None:
    manifest = require_manifest(str(dataset))
    builder = tfds.builder_from_directory(str(dataset))
    assert builder.info.name == "cxr"
    assert str(builder.info.version) == dataset.name
    assert tuple(builder.info.features["label"].names) == ("NORMAL", "PNEUMONIA")
    assert set(builder.info.splits) == {"train", "validation", "test"}
    for split in manifest.splits:
        assert builder.info.splits[split].num_examples == manifest.examples(split)
        theirs = list(tfds.as_numpy(builder.as_dataset(split=split, shuffle_files=False)))
        ours = list(read_examples(str(dataset), manifest, split))
        assert len(theirs) == len(ours) == 16
        by_id = {record["id"].decode(): record for record in theirs}
        for example in ours:
            record = by_id[example.id]
            assert record["image"].dtype == np.uint8
            assert np.array_equal(record["image"], example.image)
            assert record["label"] == example.label
            assert record["group"].decode() == example.group
    pairs = builder.as_dataset(split="train", as_supervised=True)
    assert pairs.element_spec[0].shape == manifest.shape


def test_the_schema_parses_and_names_every_feature(dataset: Path) -> None:
    from google.protobuf import text_format
    from tensorflow_metadata.proto.v0 import schema_pb2

    schema = text_format.Parse((dataset / "schema.pbtxt").read_text(), schema_pb2.Schema())
    kinds = {feature.name: schema_pb2.FeatureType.Name(feature.type) for feature in schema.feature}
    assert kinds == {"image": "BYTES", "label": "INT", "id": "BYTES", "group": "BYTES"}
    (label,) = (feature for feature in schema.feature if feature.name == "label")
    assert (label.int_domain.min, label.int_domain.max, label.int_domain.is_categorical) == (0, 1, True)
    assert all(feature.presence.min_fraction == 1 for feature in schema.feature)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of TensorFlow Datasets' own imports
def test_tfds_tensorflow_and_tfdv_read_several_labels_as_a_vector(tmp_path: Path, convert: Callable[..., Any]) -> None:
    import tensorflow as tf
    from google.protobuf import text_format
    from tensorflow_metadata.proto.v0 import schema_pb2

    raw, table, cells = several_labels(tmp_path)
    assert convert(raw, tmp_path / "out", "--manifest", table).code == 0
    expected = {pseudonym("id", name): [int(c in cell.split("|")) for c in "ABC"] for name, cell in cells.items()}
    builder = tfds.builder_from_directory(str(tmp_path / "out"))
    assert builder.info.features["label"].shape == (3,)
    manifest = require_manifest(str(tmp_path / "out"))
    theirs = {}
    for split in manifest.splits:
        for record in tfds.as_numpy(builder.as_dataset(split=split)):
            assert record["label"].dtype == np.int64
            theirs[record["id"].decode()] = record["label"].tolist()
    assert theirs == expected

    files = [str(tmp_path / "out" / s.file) for split in manifest.splits for s in manifest.shards(split)]
    features = {"label": tf.io.FixedLenFeature([3], tf.int64), "id": tf.io.FixedLenFeature([], tf.string)}
    (batch,) = tf.data.TFRecordDataset(files).batch(1000)
    parsed = tf.io.parse_example(batch, features)
    ids = [name.decode() for name in parsed["id"].numpy()]
    assert dict(zip(ids, parsed["label"].numpy().tolist(), strict=True)) == expected
    assert decode_example(batch[0].numpy(), manifest.shape).label == tuple(expected[ids[0]])

    schema = text_format.Parse((tmp_path / "out/schema.pbtxt").read_text(), schema_pb2.Schema())
    (label,) = (feature for feature in schema.feature if feature.name == "label")
    assert [dimension.size for dimension in label.shape.dim] == [3]
    assert (label.int_domain.min, label.int_domain.max, label.int_domain.is_categorical) == (0, 1, False)
    assert label.annotation.comment == ["0 or 1 for each of: A, B, C"]
