"""What one record holds: a tf.train.Example, encoded and framed as TFRecord without TensorFlow.

Sources of the two formats:
- tf.train.Example: tensorflow/core/example/{example,feature}.proto. It is Example{1: Features}, Features{1: map<string,
  Feature>}, Feature{1: BytesList | 3: Int64List}, each list with its values in field 1 (integers packed).
- TFRecord: tensorflow/core/lib/io/record_writer.h. A record is uint64 length, uint32 masked crc32c of the length, data,
  uint32 masked crc32c of the data, all little endian.
"""

import functools
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import google_crc32c
import numpy as np
import numpy.typing as npt

from schemas.labels import Label

# The allow-list: nothing else about an input ever enters a record, and SOURCE_URI only on request.
IMAGE, LABEL, ID, GROUP, SOURCE_URI = "image", "label", "id", "group", "source_uri"
TEXTS = (GROUP, ID)  # features of every record, in the order of the interchange files
ID_LENGTH = 32  # hexadecimal characters, so that every record of a data set has the same size

ONE_BYTE_LABELS = 128  # a class with a higher index takes a byte more

FRAME_BYTES = 16
_MAX_RECORD_BYTES = 1 << 30  # a record that claims to be longer is damaged; its length must not be allocated


class DamagedRecord(ValueError):
    """A record with an invalid length, checksum or content."""


@dataclass(frozen=True)
class Example:
    """One radiograph. `image`: uint8 [height, width, channels]. `label`: the index of its class in the data set's
    classes or, in a data set with several labels per image, a 0 or 1 for each class. `id` and `group`: pseudonyms of
    ID_LENGTH hexadecimal characters. `source_uri`: the origin of the image, None by default."""

    image: npt.NDArray[np.uint8]
    label: Label
    id: str
    group: str
    source_uri: str | None = None


def encode_example(example: Example) -> bytes:
    """The serialised tf.train.Example, with features in sorted order so that equal examples give equal bytes."""
    features = [
        (GROUP, _bytes_feature(example.group.encode("ascii"))),
        (ID, _bytes_feature(example.id.encode("ascii"))),
        (IMAGE, _bytes_feature(np.ascontiguousarray(example.image, dtype=np.uint8).tobytes())),
        (LABEL, _int64_feature(example.label if isinstance(example.label, tuple) else (example.label,))),
    ]
    if example.source_uri is not None:
        features.append((SOURCE_URI, _bytes_feature(example.source_uri.encode("utf-8", "surrogateescape"))))
    entries = (_field(1, _field(1, name.encode()) + _field(2, feature)) for name, feature in features)
    return _field(1, b"".join(entries))


def decode_example(record: bytes, shape: tuple[int, int, int]) -> Example:
    """The inverse of encode_example. Raises DamagedRecord if a feature is missing or the image does not have `shape`."""
    features = dict(_features(record))
    try:
        pixels = np.frombuffer(_bytes_value(features[IMAGE]), dtype=np.uint8).reshape(shape)
        values = _int64_values(features[LABEL])
        label = values if len(values) > 1 else values[0]
        ids = _bytes_value(features[ID]).decode("ascii"), _bytes_value(features[GROUP]).decode("ascii")
        uri = _bytes_value(features[SOURCE_URI]).decode("utf-8", "surrogateescape") if SOURCE_URI in features else None
    except (KeyError, IndexError, ValueError, struct.error) as error:
        raise DamagedRecord(f"not a record of shape {shape}: {type(error).__name__}") from error
    return Example(pixels, label, *ids, uri)


def frame_record(data: bytes) -> bytes:
    """`data` as one TFRecord: length, checksum, data, checksum."""
    length = struct.pack("<Q", len(data))
    return b"".join((length, _masked_crc(length), data, _masked_crc(data)))


class Readable(Protocol):
    """A stream that is read from front to back, such as a file."""

    def read(self, size: int, /) -> bytes: ...


def read_records(stream: Readable) -> Iterator[bytes]:
    """Yields the data of each TFRecord in `stream`. Raises DamagedRecord at the first that is truncated or corrupt."""
    index = 0
    while head := stream.read(12):
        if len(head) < 12:
            raise DamagedRecord(f"record {index} is truncated")
        (length,) = struct.unpack("<Q", head[:8])
        if _masked_crc(head[:8]) != head[8:] or length > _MAX_RECORD_BYTES:
            raise DamagedRecord(f"record {index} has a wrong length checksum")
        body = stream.read(length + 4)
        if len(body) < length + 4:
            raise DamagedRecord(f"record {index} is truncated")
        if _masked_crc(body[:-4]) != body[-4:]:
            raise DamagedRecord(f"record {index} has a wrong data checksum")
        yield body[:-4]
        index += 1


def record_bytes(shape: tuple[int, int, int], label: Label = 0) -> int:
    """The size in bytes of one framed record with an image of `shape`, this `label` and no source URI. A class index of
    128 or more takes one more byte."""
    pseudonym = "0" * ID_LENGTH
    return FRAME_BYTES + len(encode_example(Example(np.zeros(shape, np.uint8), label, pseudonym, pseudonym)))


@dataclass(frozen=True)
class Layout:
    """Where the values of a framed record begin, in bytes, if all records have the same length: then a shard is an
    array, and record i begins at i * record_bytes. A label is one byte, or one for each class."""

    record_bytes: int
    image: int
    label: int
    id: int
    group: int


@functools.lru_cache(16)
def layout_of(shape: tuple[int, int, int], label_width: int | None) -> Layout:
    """The layout of records without a source URI. `label_width`: the length of a label vector; None if a label is the
    index of a class, which must be below ONE_BYTE_LABELS."""
    zero, one = (0, 1) if label_width is None else ((0,) * label_width, (1,) + (0,) * (label_width - 1))
    blank = Example(np.zeros(shape, np.uint8), zero, "0" * ID_LENGTH, "0" * ID_LENGTH)
    record = frame_record(encode_example(blank))

    def first_difference(**change: Any) -> int:
        changed = frame_record(encode_example(replace(blank, **change)))
        return next(at for at, (mine, other) in enumerate(zip(record, changed, strict=True)) if mine != other)

    name = "1" * ID_LENGTH
    return Layout(
        len(record),
        image=first_difference(image=np.ones(shape, np.uint8)),
        label=first_difference(label=one),
        id=first_difference(id=name),
        group=first_difference(group=name),
    )


def _masked_crc(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


@functools.lru_cache(256)  # nearly all values are lengths of the same few fields
def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1  # int64 as protobuf writes it: two's complement
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _bytes_feature(value: bytes) -> bytes:
    return _field(1, _field(1, value))


def _int64_feature(values: Iterable[int]) -> bytes:
    return _field(3, _field(1, b"".join(map(_varint, values))))


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields (number, data) of each field of a message. All fields of these messages are length-delimited."""
    at = 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        length, at = _read_varint(data, at)
        if tag & 7 != 2 or at + length > len(data):
            raise DamagedRecord("not a tf.train.Example")
        yield tag >> 3, data[at : at + length]
        at += length


def _features(record: bytes) -> Iterator[tuple[str, bytes]]:
    try:
        for _, features in _fields(record):
            for _, entry in _fields(features):
                pair: Mapping[int, bytes] = dict(_fields(entry))
                yield pair[1].decode(), pair[2]
    except (IndexError, KeyError, UnicodeDecodeError) as error:
        raise DamagedRecord("not a tf.train.Example") from error


def _bytes_value(feature: bytes) -> bytes:
    return dict(_fields(dict(_fields(feature))[1]))[1]


def _int64_values(feature: bytes) -> tuple[int, ...]:
    packed = dict(_fields(dict(_fields(feature))[3]))[1]
    values, at = [], 0
    while at < len(packed):
        value, at = _read_varint(packed, at)
        values.append(value - (1 << 64) if value >> 63 else value)
    return tuple(values)
