"""Our records compared with TensorFlow's own parser and writer."""

import io
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from schemas.example import (
    ID_LENGTH,
    DamagedRecord,
    Example,
    decode_example,
    encode_example,
    frame_record,
    read_records,
    record_bytes,
)
from schemas.labels import Label

SHAPE = (64, 64, 1)


def example(label: Label = 1, seed: int = 0, shape: tuple[int, int, int] = SHAPE) -> Example:
    image = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    return Example(image, label, f"{seed:0{ID_LENGTH}x}", f"{seed // 2:0{ID_LENGTH}x}")


def same(one: Example, other: Example) -> bool:
    return np.array_equal(one.image, other.image) and (one.label, one.id, one.group) == (
        other.label,
        other.id,
        other.group,
    )


@pytest.mark.parametrize("label", [0, 1, 127, 128, 2**40, -1, (0, 1), (1, 0, 0, 1) * 40])
def test_an_encoded_example_equals_tensorflows_serialisation(label: Label) -> None:
    ours = example(label)
    theirs = tf.train.Example()
    theirs.features.feature["image"].bytes_list.value.append(ours.image.tobytes())
    theirs.features.feature["label"].int64_list.value.extend(label if isinstance(label, tuple) else [label])
    theirs.features.feature["id"].bytes_list.value.append(ours.id.encode())
    theirs.features.feature["group"].bytes_list.value.append(ours.group.encode())
    assert encode_example(ours) == theirs.SerializeToString(deterministic=True)


def test_tensorflow_parses_our_records(tmp_path: Path) -> None:
    examples = [example(seed % 2, seed) for seed in range(5)]
    path = tmp_path / "shard"
    path.write_bytes(b"".join(frame_record(encode_example(e)) for e in examples))
    features = {
        "image": tf.io.FixedLenFeature([], tf.string),
        "label": tf.io.FixedLenFeature([], tf.int64),
        "id": tf.io.FixedLenFeature([], tf.string),
        "group": tf.io.FixedLenFeature([], tf.string),
    }
    (batch,) = tf.data.TFRecordDataset(str(path)).batch(10)
    parsed = tf.io.parse_example(batch, features)
    images = tf.reshape(tf.io.decode_raw(parsed["image"], tf.uint8), [-1, *SHAPE]).numpy()
    assert np.array_equal(images, [e.image for e in examples])
    assert parsed["label"].numpy().tolist() == [e.label for e in examples]
    assert [i.decode() for i in parsed["id"].numpy()] == [e.id for e in examples]
    assert [g.decode() for g in parsed["group"].numpy()] == [e.group for e in examples]


def test_we_read_what_tensorflow_writes(tmp_path: Path) -> None:
    records = [b"", b"x", bytes(range(256)) * 40]
    with tf.io.TFRecordWriter(str(tmp_path / "shard")) as writer:
        for record in records:
            writer.write(record)
    written = (tmp_path / "shard").read_bytes()
    assert list(read_records(io.BytesIO(written))) == records
    assert b"".join(frame_record(record) for record in records) == written


@pytest.mark.parametrize("shape", [(64, 64, 1), (32, 32, 3)])
@pytest.mark.parametrize("label", [1, (0, 1, 1), (0,) * 200])
def test_decode_is_the_inverse_of_encode(shape: tuple[int, int, int], label: Label) -> None:
    assert same(decode_example(encode_example(example(label, shape=shape)), shape), example(label, shape=shape))


@pytest.mark.parametrize(("label", "like"), [(1, 0), ((1, 0, 1), (0,) * 3), ((1,) * 130, (0,) * 130)])
def test_record_bytes_is_the_size_of_a_record(label: Label, like: Label) -> None:
    assert record_bytes(SHAPE, like) == len(frame_record(encode_example(example(label))))


def test_every_cut_and_every_flipped_byte_is_noticed() -> None:
    data = b"".join(frame_record(encode_example(example(seed=seed, shape=(4, 4, 1)))) for seed in range(2))
    boundary = len(data) // 2
    for cut in range(1, len(data)):
        if cut == boundary:  # a cut there looks like a clean end; the manifest's size and count reveal it
            assert len(list(read_records(io.BytesIO(data[:cut])))) == 1
        else:
            with pytest.raises(DamagedRecord):
                list(read_records(io.BytesIO(data[:cut])))
    for at in range(len(data)):
        flipped = bytearray(data)
        flipped[at] ^= 1
        with pytest.raises(DamagedRecord, match=f"record {int(at >= boundary)}"):
            list(read_records(io.BytesIO(bytes(flipped))))


@pytest.mark.parametrize("record", [b"", b"\x00", b"\x0a\xff", b"not a record at all", b"\x0a\x02\x0a\x00"])
def test_other_content_is_a_damaged_record(record: bytes) -> None:
    with pytest.raises(DamagedRecord):
        decode_example(record, SHAPE)


def test_an_image_of_another_shape_is_a_damaged_record() -> None:
    with pytest.raises(DamagedRecord, match="shape"):
        decode_example(encode_example(example(shape=(8, 8, 1))), SHAPE)
