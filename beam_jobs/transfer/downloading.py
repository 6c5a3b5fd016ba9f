"""Objects -> a local folder."""

import errno
import filecmp
import functools
import hashlib
import os
from collections.abc import Callable, Mapping
from functools import partial

from beam_jobs.storage.client import patience
from beam_jobs.transfer import report
from beam_jobs.transfer.batches import Outcome, Piece, failure_of, moved
from beam_jobs.transfer.comparing import compared, refuse
from beam_jobs.transfer.names import as_files
from beam_jobs.transfer.objects import Stored, blob_in, crc32c_of, stored_in
from beam_jobs.transfer.settings import TransferConfig
from beam_jobs.transfer.unfinished import unfinished_folder
from schemas.errors import UsageError

_GIVE_UP = 600.0  # seconds; the client counts the time that a large file takes, too
_ROUNDS = 4  # in which a file that arrived with another checksum is read again


class _Damaged(Exception):
    """What arrived does not have the object's checksum."""


def download(config: TransferConfig) -> None:
    """Downloads the objects that the local folder does not hold, compares the checksums of all, and prints what was done.
    Raises UsageError, before anything is downloaded, if files differ and are not to be replaced; JobFailed if an object
    could not be downloaded, after all others."""
    stored, left_out = as_files(stored_in(config.remote))
    total = len(stored) + len(left_out)
    if not total:
        raise UsageError(f"{config.remote} holds no objects; give the folder above the files")
    if os.path.lexists(config.local) and not os.path.isdir(config.local):
        raise UsageError(f"{config.local} is a file, not a folder")
    inside = functools.cache(partial(_is_inside, os.path.realpath(config.local)))
    blocked = {path: reason for path in stored if (reason := _why_blocked(os.path.join(config.local, path), inside))}
    left_out |= blocked
    local = {path: os.path.join(config.local, path) for path in stored if path not in blocked}
    # The listing has no checksum of what readers get of an encoded object. It is compared when it is there.
    there = compared(
        {path: file for path, file in local.items() if os.path.lexists(file) and not stored[path].encoded}, stored
    )
    if not config.overwrite:
        refuse(there.different, config.local, config.remote)
    left_out |= there.unreadable
    missing = sorted(set(local) - there.same - set(there.unreadable))
    if config.dry_run:
        size = f"({sum(stored[path].size for path in missing):,} bytes)"
        print(
            f"would download {report.files(len(missing))} {size} to {config.local}; {len(there.same):,} are there already"
        )
    else:
        failed = _download([stored[path] for path in missing], config)
        left_out |= failed
        done = len(missing) - len(failed)
        print(f"downloaded {report.files(done)} to {config.local}; {len(there.same):,} were there already")
        print(f"the checksums of all {done + len(there.same):,} are those of the objects")
    report.end(left_out, total, config.remote, "downloaded")


def _why_blocked(target: str, inside: Callable[[str], bool]) -> str | None:
    """Why a file cannot be written; None if it can. `inside`: whether a folder is in the folder of the download."""
    if os.path.isdir(target) and not os.path.islink(target):
        return "there is a folder of this name"
    return None if inside(os.path.dirname(target)) else "its folder is a link that leads out of the target"


def _is_inside(root: str, folder: str) -> bool:
    return os.path.commonpath([root, os.path.realpath(folder)]) == root


def _download(objects: list[Stored], config: TransferConfig) -> dict[str, str]:
    """Downloads objects, of the listed generations. Returns the paths that failed, and why."""
    failed: dict[str, str] = {}
    if not objects:
        return failed
    with unfinished_folder(config.local) as folder:
        fetch = partial(_fetched, {stored.path: stored for stored in objects}, config)
        pieces = [_piece(stored, folder, config) for stored in objects]
        for rounds_left in reversed(range(_ROUNDS)):
            again = []
            for piece, error in moved(pieces, fetch, config.threads, "downloading"):
                if error is not None and rounds_left and _is_damage(error):
                    again.append(piece)
                elif error is not None:
                    failed[piece.path] = failure_of(piece, error)
            pieces = again
    return failed


def _piece(stored: Stored, folder: str, config: TransferConfig) -> Piece:
    name = hashlib.sha256(stored.path.encode()).hexdigest()[:32]
    blob = blob_in(config.remote, stored.path, stored.generation)
    return Piece(stored.path, os.path.join(folder, name), blob, stored.size)


def _fetched(objects: Mapping[str, Stored], config: TransferConfig, pieces: list[Piece], threads: int) -> list[Outcome]:
    """Downloads some pieces and puts those that are complete into place."""
    from google.cloud.storage import transfer_manager

    # An earlier run may have been killed before it put them into place.
    waiting = [piece for piece in pieces if not _is_complete(piece, objects[piece.path])]
    outcomes: list[Outcome] = transfer_manager.download_many(
        [(piece.blob, piece.file) for piece in waiting],
        download_kwargs={"checksum": "crc32c", "retry": patience().with_timeout(_GIVE_UP)},
        worker_type=transfer_manager.THREAD,
        max_workers=threads,
    )
    by_path = {piece.path: outcome for piece, outcome in zip(waiting, outcomes, strict=True)}
    return [by_path.get(piece.path) or _put_into_place(piece, objects[piece.path], config) for piece in pieces]


def _is_complete(piece: Piece, stored: Stored) -> bool:
    """Whether all of an object has arrived. Of an encoded object nobody can say."""
    try:
        return (
            not stored.encoded and os.path.getsize(piece.file) == stored.size and crc32c_of(piece.file) == stored.crc32c
        )
    except OSError:
        return False


def _put_into_place(piece: Piece, stored: Stored, config: TransferConfig) -> Outcome:
    """Gives a file its name, if it is complete."""
    target = os.path.join(config.local, piece.path)
    # The client checks no checksum after it went on with a body that was cut.
    if not stored.encoded and not _is_complete(piece, stored):
        return _Damaged("what arrived does not have the checksum of the object")
    try:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if os.path.lexists(target) and not config.overwrite:
            if filecmp.cmp(piece.file, target, shallow=False):
                return None
            return FileExistsError(errno.EEXIST, "a file of this name has other content; --overwrite replaces it")
        os.replace(piece.file, target)
    except OSError as error:
        return error
    return None


def _is_damage(error: BaseException) -> bool:
    return isinstance(error, _Damaged) or type(error).__name__ == "DataCorruption"  # of the client
