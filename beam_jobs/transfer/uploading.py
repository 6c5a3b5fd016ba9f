"""A local folder -> objects."""

import os
from collections.abc import Mapping
from typing import Any

from beam_jobs.storage import storage
from beam_jobs.storage.client import as_prefix, patience, split
from beam_jobs.transfer import report
from beam_jobs.transfer.batches import Outcome, Piece, failure_of, moved
from beam_jobs.transfer.comparing import Compared, compared, refuse
from beam_jobs.transfer.names import UNFINISHED, why_no_object
from beam_jobs.transfer.objects import Stored, blob_in, stored_in
from beam_jobs.transfer.settings import TransferConfig
from schemas.errors import UsageError

_PART_BYTES = 8 << 20  # of a large file, held by each thread; the client's default is 100 MiB


def upload(config: TransferConfig) -> None:
    """Uploads the files that the bucket does not hold, compares the checksums of all, and prints what was done. Raises
    UsageError, before anything is uploaded, if objects differ and are not to be replaced; JobFailed if a file could not
    be uploaded, after all others."""
    sizes, left_out = local_files(config)
    local = {path: os.path.join(config.local, path) for path in sizes}
    before = {stored.path: stored for stored in stored_in(config.remote)}
    there = compared(local, before)
    if not config.overwrite:
        refuse(there.different, config.remote, config.local)
    left_out |= there.unreadable
    missing = sorted(set(sizes) - there.same - set(there.unreadable))
    size = f"({sum(sizes[path] for path in missing):,} bytes)"
    if config.dry_run:
        print(
            f"would upload {report.files(len(missing))} {size} to {config.remote}; {len(there.same):,} are there already"
        )
    else:
        left_out |= _upload(missing, sizes, before, config)
        left_out |= _unequal([path for path in missing if path not in left_out], local, config)
        done = sum(path not in left_out for path in missing)
        print(f"uploaded {report.files(done)} to {config.remote}; {len(there.same):,} were there already")
        print(f"the checksums of all {done + len(there.same):,} are those of the local files")
    report.end(left_out, len(sizes) + len(set(left_out) - set(sizes)), config.local, "uploaded")


def local_files(config: TransferConfig) -> tuple[dict[str, int], dict[str, str]]:
    """The path and size of each file that can be uploaded, and why each other one cannot. Links are followed, as the
    conversion follows them. Raises UsageError if there is no file."""
    if not os.path.isdir(config.local):
        what = "is a file, not a folder" if os.path.exists(config.local) else "does not exist"
        raise UsageError(f"{config.local} {what}")
    prefix = as_prefix(split(config.remote)[1])
    sizes, left_out = {}, {}
    for file in storage.list_files(config.local, config.local):
        if file.path.startswith(f"{UNFINISHED}/"):
            continue
        reason = "not a file, or a broken link" if file.size < 0 else why_no_object(prefix + file.path)
        if reason:
            left_out[file.path] = reason
        else:
            sizes[file.path] = file.size
    if not sizes and not left_out:
        raise UsageError(f"{config.local} contains no files")
    return sizes, left_out


def _upload(
    paths: list[str], sizes: Mapping[str, int], before: Mapping[str, Stored], config: TransferConfig
) -> dict[str, str]:
    """Uploads files, each only over the object that was listed. Returns the paths that failed, and why."""
    pieces = []
    for path in paths:
        blob = blob_in(config.remote, path)
        blob.chunk_size = _PART_BYTES
        over = before[path].generation if path in before else 0
        pieces.append(Piece(path, os.path.join(config.local, path), blob, sizes[path], over))
    pieces.sort(key=lambda piece: (piece.over, piece.path))
    return {
        piece.path: failure_of(piece, error)
        for piece, error in moved(pieces, _uploaded, config.threads, "uploading")
        if error is not None
        and getattr(error, "code", None) != 412  # compared later: an earlier attempt may have succeeded
    }


def _uploaded(pieces: list[Piece], threads: int) -> list[Outcome]:
    from google.cloud.storage import transfer_manager

    settings: dict[str, Any] = {"checksum": "crc32c", "retry": patience(), "if_generation_match": pieces[0].over}
    outcomes: list[Outcome] = transfer_manager.upload_many(
        [(piece.file, piece.blob) for piece in pieces],
        upload_kwargs=settings,
        worker_type=transfer_manager.THREAD,
        max_workers=threads,
    )
    return outcomes


def _unequal(paths: list[str], local: Mapping[str, str], config: TransferConfig) -> dict[str, str]:
    """The paths that the bucket does not hold as they are on disk now, according to a new listing."""
    if not paths:
        return {}
    after = {stored.path: stored for stored in stored_in(config.remote)}
    found: Compared = compared({path: local[path] for path in paths}, after)
    lost = {path: "it is not in the bucket after the upload" for path in paths if path not in after}
    reason = "the object is another than the file: somebody changed one of them in the meantime"
    return lost | found.unreadable | dict.fromkeys(found.different, reason)
