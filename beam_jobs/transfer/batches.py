"""Many transfers at a time, with a progress bar, through google-cloud-storage's transfer_manager.

A call of transfer_manager returns when the last of its files is done. Several calls run at a time, each with a few files,
so that a slow file holds up no other and the bar moves.
"""

import collections
import errno
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

from tqdm import tqdm

from beam_jobs.storage.client import reason_of
from schemas.errors import JobFailed, one_line

_CALLS_AT_ONCE = 4
_BATCH_FILES, _BATCH_BYTES = 32, 64 << 20


class Piece(NamedTuple):
    """A file and its object. `path`: its name, relative to both folders. `file`: the local file to read or write. `over`:
    the generation of the object to replace, or 0 if there is none."""

    path: str
    file: str
    blob: Any
    size: int
    over: int = 0


Outcome = BaseException | None
Move = Callable[[list[Piece], int], list[Outcome]]
"""Moves some pieces with as many threads, and says what became of each."""


def moved(pieces: list[Piece], move: Move, threads: int, what: str) -> Iterator[tuple[Piece, Outcome]]:
    """Each piece and what became of it: None, or an exception. Pieces that replace different generations are never in one
    batch."""
    calls = min(_CALLS_AT_ONCE, threads)
    executor = ThreadPoolExecutor(calls, "transfer")
    begun: collections.deque[tuple[list[Piece], Future[list[Outcome]]]] = collections.deque()
    total = sum(piece.size for piece in pieces)
    try:
        with tqdm(total=total, desc=what, unit="B", unit_scale=True, dynamic_ncols=True, disable=None) as bar:

            def first_begun() -> Iterator[tuple[Piece, Outcome]]:
                batch, future = begun.popleft()
                yield from zip(batch, future.result(), strict=True)
                bar.update(sum(piece.size for piece in batch))

            for batch in batches_of(pieces):
                begun.append((batch, executor.submit(move, batch, threads // calls)))
                if len(begun) == 2 * calls:
                    yield from first_begun()
            while begun:
                yield from first_begun()
    finally:
        executor.shutdown(wait=False, cancel_futures=True)  # an interrupt does not wait


def batches_of(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    """The pieces in order, in lists of the files of one call."""
    batch: list[Piece] = []
    size = 0
    for piece in pieces:
        full = len(batch) == _BATCH_FILES or size + piece.size > _BATCH_BYTES
        if batch and (full or piece.over != batch[0].over):
            yield batch
            batch, size = [], 0
        batch.append(piece)
        size += piece.size
    if batch:
        yield batch


def failure_of(piece: Piece, error: BaseException) -> str:
    """Why a file was not transferred, in a few words. Raises JobFailed for an error that all others would have too."""
    if isinstance(error, OSError) and error.errno is not None:
        reason = error.strerror or type(error).__name__
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise JobFailed(f"cannot write {piece.file}: {reason}; fix this and run again: it goes on where it stopped")
        return reason
    code = getattr(error, "code", None)
    if code == 404:
        return "it was deleted or replaced after it was listed; run again"
    if code in (401, 403):
        raise JobFailed(f"cannot transfer {piece.path}: {reason_of(error)}")
    return one_line(reason_of(error))
