"""The input folder in parts, which workers list in parallel."""

import collections
import itertools
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from beam_jobs.passing.blocks import Block, blocks
from beam_jobs.storage import storage
from beam_jobs.storage.parallel import each
from schemas.source import File

_MOST_PREFIXES = 1_000  # a folder per patient would make millions
_AT_ONCE = 16  # listings that a worker begins before it has read the first of them
_PAGE = 1_000  # files of a listing that one request to a bucket names


def in_one_page(files: Iterator[File]) -> bool | None:
    """Whether one request to a bucket lists all `files`; None if there are none. Reads one page of them, and one file."""
    first = sum(1 for _ in itertools.islice(files, _PAGE + 1))
    return first <= _PAGE if first else None


def list_prefixes(root: str, depth: int = 2, most: int = _MOST_PREFIXES) -> list[tuple[str, bool]]:
    """Divides `root` into at most `most` + 1 (folder, recursive) parts, which workers list in parallel. Together the
    parts hold every file exactly once."""
    at_once = storage.reads_at_once(root)
    above: list[str] = []
    whole: list[str] = []
    parts = [root]
    for _ in range(depth):
        below = dict(zip(parts, each(partial(storage.subfolders, root=root), parts, at_once), strict=True))
        deeper = [folder for folders in below.values() for folder in folders]
        if len(above) + len(whole) + len(deeper) > most:
            break
        above += [part for part in parts if below[part]]
        whole += [part for part in parts if not below[part]]
        parts = deeper
    return [(part, False) for part in above] + [(part, True) for part in whole + parts]


def list_prefix(part: tuple[str, bool], root: str) -> Iterator[Block[File]]:
    """The files of one (folder, recursive) part, in blocks."""
    folder, recursive = part
    yield from blocks(storage.list_files(folder, root, recursive))


class ListPrefixes(beam.DoFn):
    """(folder, recursive) -> blocks of Files. Asks a bucket for the first page of several parts at a time."""

    def __init__(self, root: str) -> None:
        self._root = root

    def start_bundle(self) -> None:
        self._threads = ThreadPoolExecutor(_AT_ONCE if storage.is_shared(self._root) else 1, "list")
        self._begun: collections.deque[Future[Iterator[File]]] = collections.deque()

    def process(self, part: tuple[str, bool]) -> Iterator[Block[File]]:
        if not storage.is_shared(self._root):
            yield from list_prefix(part, self._root)
            return
        self._begun.append(self._threads.submit(_begun, part, self._root))
        if len(self._begun) > _AT_ONCE:
            yield from blocks(self._begun.popleft().result())

    def finish_bundle(self) -> Iterator[WindowedValue]:
        with self._threads:
            while self._begun:
                yield from map(GlobalWindows.windowed_value, blocks(self._begun.popleft().result()))


def _begun(part: tuple[str, bool], root: str) -> Iterator[File]:
    """The files of a part, of which the first page is there already."""
    folder, recursive = part
    files = storage.list_files(folder, root, recursive)
    page = list(itertools.islice(files, _PAGE))
    return itertools.chain(page, files)
