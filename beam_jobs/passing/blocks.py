"""Blocks of thousands of references that move between the steps; a local run keeps them in files, not in memory.

Beam's local engine keeps every single element that its steps pass on in memory until the job ends. So references move
in blocks. A block that leaves a worker is a position in a temporary file if the workers share a disk, or a few
compressed bytes if they do not (`kept_in`). Steps that need all items of one kind together (of one size, of one
patient) get them in partitions, and hold no more than one partition at a time.
"""

import contextlib
import itertools
import os
import pickle
import struct
import threading
import zlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import apache_beam as beam
from apache_beam.pvalue import PCollection
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from schemas.errors import JobFailed

T = TypeVar("T")

BLOCK_ITEMS = 5_000  # about 5 MB while they are unpacked
_PARTITIONS = 256
_HELD_ITEMS = 20_000  # items that a step holds while it sorts them into blocks by key
_SMALL_BYTES = 1_000  # packed blocks up to this size are not written to a file; the blocks of large sets are larger
_PLACE = struct.Struct("QQ")  # offset and length in a file
_InFile = tuple[str, bytes]  # a file, and the places in it that hold the items
_appending = threading.Lock()
_folder = ""  # where the blocks of this process wait


@contextlib.contextmanager
def kept_in(folder: str) -> Iterator[None]:
    """Blocks that leave this process wait in files in `folder`, which all workers see, during the body of the `with`."""
    global _folder
    before, _folder = _folder, folder
    try:
        yield
    finally:
        _folder = before


class Block(Generic[T]):
    """Items that can be iterated over any number of times. `noise`: compression does not make them smaller.

    Beam pickles what it passes on, unless the next step runs at once in the same worker. A block is packed only when it
    is pickled, and unpacked again at each iteration.
    """

    __slots__ = ("_items", "_level", "_packed")

    def __init__(self, items: list[T], noise: bool = False) -> None:
        self._items: list[T] | None = items
        self._packed: bytes | _InFile = b""
        self._level = _level(noise)

    def __class_getitem__(cls, item: Any) -> Any:
        return cls  # Beam compares the types of steps, and considers blocks of Any and of Sources different

    def __iter__(self) -> Iterator[T]:
        return _unpacked(self._packed) if self._items is None else iter(self._items)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        if not self._packed and self._items is not None:
            data = _pack(self._items, self._level)
            self._packed = _written(data) if _folder and len(data) > _SMALL_BYTES else data
        return _packed_block, (self._packed,)


def _packed_block(packed: bytes | _InFile) -> Block[Any]:
    block: Block[Any] = Block([])
    block._items, block._packed = None, packed
    return block


def _level(noise: bool) -> int:
    return 0 if noise else 1


def _pack(items: Any, level: int) -> bytes:
    return zlib.compress(pickle.dumps(items, pickle.HIGHEST_PROTOCOL), level)


def _written(data: bytes) -> _InFile:
    path = os.path.join(_folder, f"blocks-{os.getpid()}")
    try:
        with _appending, open(path, "ab") as file:
            return path, _PLACE.pack(file.tell(), file.write(data))
    except OSError as error:
        raise JobFailed(
            f"cannot write {path}: {error.strerror}; nothing was published. Set TMPDIR to a folder with more space and run "
            "again"
        ) from error


def _unpacked(packed: bytes | _InFile) -> Iterator[Any]:
    if isinstance(packed, bytes):
        yield from _items_of(packed)
        return
    path, places = packed
    with open(path, "rb") as file:
        for offset, length in _PLACE.iter_unpack(places):
            file.seek(offset)
            yield from _items_of(file.read(length))


def _items_of(data: bytes) -> Any:
    return pickle.loads(zlib.decompress(data))  # noqa: S301 - written by this job, in its own folder


def blocks(items: Iterable[T], size: int = BLOCK_ITEMS) -> Iterator[Block[T]]:
    """All items, in blocks of up to `size`."""
    rest = iter(items)
    while some := list(itertools.islice(rest, size)):
        yield Block(some)


@dataclass
class InPartitions(beam.PTransform[PCollection[Block[Any]], PCollection[Iterable[Block[Any]]]]):
    """Blocks -> the blocks of each partition. All items with the same `key(item)` are in one partition."""

    key: Callable[[Any], object]
    held: int = _HELD_ITEMS

    def expand(self, blocks: PCollection[Block[Any]]) -> PCollection[Iterable[Block[Any]]]:
        key = self.key
        partitions: PCollection[Iterable[Block[Any]]] = (
            blocks
            | "Sort" >> beam.ParDo(SortByKey(lambda item: _partition(key(item)), self.held))
            | "Group" >> beam.GroupByKey()
            | "Partition" >> beam.Values()
        )
        return partitions


def _partition(key: object) -> int:
    # Not hash(), because the result must be the same in every process.
    return zlib.crc32(str(key).encode("utf-8", "surrogatepass")) % _PARTITIONS


class SortByKey(beam.DoFn):
    """Blocks -> (key, block). Holds up to `held` items, because many small blocks would cost as much as single items. More
    are kept in a file if there is one, so that there is one block of each key; without a file, they are passed on.
    `noise`: compression does not make the items smaller."""

    def __init__(self, key: Callable[..., Hashable], held: int = _HELD_ITEMS, noise: bool = False) -> None:
        self._key, self._most, self._noise = key, held, noise

    def start_bundle(self) -> None:
        self._held: defaultdict[Hashable, list[Any]] = defaultdict(list)
        self._number = 0
        self._kept: dict[Hashable, _InFile] = {}

    def process(self, block: Block[Any], *side: Any) -> Iterator[tuple[Hashable, Block[Any]]]:
        for item in block:
            self._held[self._key(item, *side)].append(item)
            self._number += 1
            if self._number >= self._most:
                if _folder:
                    self._keep()
                else:
                    yield from self._sorted()

    def finish_bundle(self) -> Iterator[WindowedValue]:
        if self._kept:
            self._keep()
        kept = ((key, _packed_block(packed)) for key, packed in self._kept.items())
        yield from map(GlobalWindows.windowed_value, itertools.chain(kept, self._sorted()))

    def _keep(self) -> None:
        for key, items in self._taken():
            path, place = _written(_pack(items, _level(self._noise)))
            self._kept[key] = path, self._kept.get(key, ("", b""))[1] + place

    def _sorted(self) -> Iterator[tuple[Hashable, Block[Any]]]:
        for key, items in self._taken():
            yield key, Block(items, self._noise)

    def _taken(self) -> Iterator[tuple[Hashable, list[Any]]]:
        yield from self._held.items()
        self._held.clear()
        self._number = 0
