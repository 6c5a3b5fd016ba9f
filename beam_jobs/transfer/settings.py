"""The flags and settings of `beam_jobs.upload` and `beam_jobs.download`."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from beam_jobs.storage.client import MOST_REQUESTS, split
from schemas.errors import CommandParser, UsageError

_REMOTE, _LOCAL = ("remote", "gs://BUCKET/FOLDER"), ("local", "DIR")


@dataclass(frozen=True)
class TransferConfig:
    """A local folder and the folder in a bucket that is to hold the same files.

    overwrite: replace files or objects of other content. threads: requests in flight. Raises UsageError, naming the
    place or the flag, for an invalid setting.
    """

    local: str
    remote: str
    overwrite: bool = False
    dry_run: bool = False
    threads: int = 32

    def __post_init__(self) -> None:
        if not self.remote.startswith("gs://"):
            raise UsageError(f"{self.remote!r} is not in a bucket; write gs://BUCKET/FOLDER")
        split(self.remote)
        if not self.local or "://" in self.local:
            raise UsageError(f"{self.local!r} is not a local folder")
        if not 1 <= self.threads <= MOST_REQUESTS:
            raise UsageError(f"--threads {self.threads}: must be from 1 to {MOST_REQUESTS}")


def parse_upload(argv: Sequence[str]) -> TransferConfig:
    """The config of `beam_jobs.upload LOCAL gs://...`. Raises UsageError."""
    parser = CommandParser(
        "beam_jobs.upload", "Copy a local folder into a bucket. Files that are there already are skipped."
    )
    return _parse(parser, [_LOCAL, _REMOTE], "replace objects that differ from the local files", argv)


def parse_download(argv: Sequence[str]) -> TransferConfig:
    """The config of `beam_jobs.download gs://... LOCAL`. Raises UsageError."""
    parser = CommandParser(
        "beam_jobs.download", "Copy a folder of a bucket to this machine. Files that are there already are skipped."
    )
    return _parse(parser, [_REMOTE, _LOCAL], "replace local files that differ from the objects", argv)


def _parse(parser: CommandParser, places: list[tuple[str, str]], overwrite: str, argv: Sequence[str]) -> TransferConfig:
    for (name, form), role in zip(places, ("from", "to"), strict=True):
        parser.add_argument(name, metavar=form, help=f"the folder to copy {role}")
    parser.add_argument("--overwrite", action="store_true", help=overwrite)
    parser.add_argument("--dry_run", action="store_true", help="say what would be copied, and copy nothing")
    parser.add_argument(
        "--threads", type=int, default=TransferConfig.threads, metavar="N", help="how many files are copied at a time"
    )
    flags = vars(parser.parse_args(argv))
    flags.pop("debug")
    flags["local"] = flags["local"].rstrip("/") or flags["local"][:1]
    return TransferConfig(**flags)


@contextmanager
def ending_at_once() -> Iterator[None]:
    """Ends the process when it is interrupted, with one line. It does not wait for the files on their way: a file gets
    its name when it is complete."""
    try:
        yield
    except KeyboardInterrupt:
        print("interrupted; run the same command again: it goes on where it stopped", file=sys.stderr, flush=True)
        sys.stdout.flush()
        os._exit(130)
