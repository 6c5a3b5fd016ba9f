"""What a worker on another machine checks before it works: that it has the launcher's versions, and sees its files."""

import functools
import json
import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass

import apache_beam as beam
from apache_beam.pvalue import PBegin, PCollection

from beam_jobs.passing import status
from beam_jobs.remote.versions import Versions, differences
from beam_jobs.storage import storage
from schemas.errors import JobFailed

_CLAIM = "launcher.json"  # what the launcher leaves for its workers, in the folder of their reports


def claim(status_folder: str, places: Iterable[str]) -> None:
    """Leaves the launcher's claim in the folder in which the workers report. It names those of `places` that are on this
    machine's disks. No claim is needed if everything is in buckets. Raises JobFailed if the folder cannot be written."""
    seen = [place for place in places if place and not storage.is_shared(place) and os.path.exists(place)]
    if storage.is_shared(status_folder) and not seen:
        return
    with storage.writing(status_folder):
        storage.write_bytes(storage.join(status_folder, _CLAIM), json.dumps(seen).encode())


@dataclass
class Begin(beam.PTransform[PBegin, PCollection[bytes]]):
    """-> one element, from which a step can start. On another machine the worker is checked first; see `check`."""

    launcher: Versions
    status_folder: str

    def expand(self, root: PBegin) -> PCollection[bytes]:
        start: PCollection[bytes] = root | beam.Impulse()
        if self.launcher:
            start = start | "CheckWorker" >> beam.Map(_checked, self.launcher, self.status_folder)
        return start


def _checked(element: bytes, launcher: Versions, status_folder: str) -> bytes:
    with status.failures(status_folder):
        check(launcher, status_folder)
    return element


@functools.cache
def check(launcher: Versions, status_folder: str) -> None:
    """Raises JobFailed if this worker does not see the launcher's claim and the places that it names, or if a package
    that decides what a record holds has another version here. A process looks once. Without versions (a local job),
    there is nothing to check."""
    if not launcher:
        return
    if status_folder:
        _check_disk(status_folder)
    if found := differences(launcher):
        raise JobFailed(
            f"the worker on {socket.gethostname()} differs from the launcher: {', '.join(found)}; install the launcher's "
            "versions on every worker, or use an image with them (docs/engines.md)"
        )


def _check_disk(status_folder: str) -> None:
    try:
        places = json.loads(storage.read_bytes(storage.join(status_folder, _CLAIM)))
    except OSError:
        if storage.is_shared(status_folder):  # so is everything else
            return
        raise _unseen(os.path.dirname(status_folder)) from None
    for place in places:
        if not os.path.exists(place):
            raise _unseen(place)


def _unseen(place: str) -> JobFailed:
    return JobFailed(
        f"the worker on {socket.gethostname()} does not see {place}, which the launcher sees; use gs:// URIs, or a disk "
        "that every machine mounts at the same path"
    )
