"""Runs in a bucket: a command works on a local copy of the run and publishes it as a whole.

run.json                      the files of the run, and the object that holds each of them
run-files/ID/NUMBER/NAME      the objects; ID is of the process that wrote them

Objects are written once, under names that no other process uses. run.json is written last, and only in place of the run.json
that this process has read or written before. So a process that is killed at any time leaves the state that was published
before, and of two commands that change the same run one fails. Objects that run.json no longer names are deleted after it
has been written; a process that was about to name one of them would have to replace a run.json that is gone. The client of
the bucket repeats requests that fail for the moment.
"""

import hashlib
import json
import re
import uuid
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from schemas.errors import JobFailed, RadrecordsError, UsageError, one_line
from schemas.scratch import scratch_folder
from training.reading import files
from training.reading.buckets import google_client
from training.runs.run_folder import BACKUP

POINTER, OBJECTS = "run.json", "run-files"
FORMAT, FORMAT_VERSION = "radrecords-run-in-bucket", 1
PATIENCE_SECONDS = 300.0  # how long the client repeats a request that fails for the moment

_OBJECT = re.compile(rf"{OBJECTS}/[0-9a-f]{{32}}/\d+/.+")
_PRECONDITION_FAILED = 412


class WorkingCopy:
    """A run that a command works on. A run on a disk is its own copy, and there is nothing to publish.

    name: as the user gave it. folder: local.
    """

    def __init__(self, name: str, folder: str) -> None:
        self.name, self.folder = name, folder

    def publish(self, names: Collection[str] | None = None) -> None:
        """Makes the files in the folder those of the run; with `names`, only these, and the run keeps its others."""

    def path(self, file: str) -> str:
        """Where a file of the run is."""
        return str(Path(self.folder, file))


@contextmanager
def working_copy(run: str, needed: Collection[str] | None) -> Iterator[WorkingCopy]:
    """A copy of `run`, local or gs://, with its files `needed` as far as they exist, or with all files if that is None.
    Errors in the body of the `with` name the run, and not the copy.

    Raises UsageError if a bucket cannot be read, the run is damaged, or google-cloud-storage is missing.
    """
    if "://" not in run:
        yield WorkingCopy(run, run)
        return
    _check_client()
    with scratch_folder("run-") as scratch:
        copy = _Copy(run.rstrip("/"), f"{scratch}/run")
        try:
            copy.fetch(needed)
            yield copy
        except RadrecordsError as error:
            raise type(error)(str(error).replace(copy.folder, copy.name)) from error


class _Stored(NamedTuple):
    """The object that holds a file, below the run."""

    object: str
    sha256: str


class _Copy(WorkingCopy):
    def __init__(self, uri: str, folder: str) -> None:
        super().__init__(uri, folder)
        self._id, self._number = uuid.uuid4().hex, 0
        self._generation = 0  # of run.json; there is none
        self._stored: dict[str, _Stored] = {}

    def path(self, file: str) -> str:
        return f"{self.name}/{self._stored[file].object}"

    def fetch(self, needed: Collection[str] | None) -> None:
        """Downloads files. With none needed, even a damaged run.json will do."""
        try:
            before = None
            while not self._downloaded(needed):
                if self._generation == before:
                    raise UsageError(f"objects of run {self.name} are missing; train again with --overwrite")
                before = self._generation
        except OSError as error:
            raise UsageError(f"cannot read run {self.name}: {files.message(error)}") from error

    def publish(self, names: Collection[str] | None = None) -> None:
        """Raises UsageError if nothing could be published so far, and JobFailed if a later state could not, or the run was
        changed by another process."""
        new = {} if names is None else dict(self._stored)
        old = {each.object for each in self._stored.values()}
        self._number += 1
        try:
            if self._number == 1:
                old |= self._existing()
            for name in self._names() if names is None else names:
                new[name] = self._upload(name)
            published = self._replace_pointer(new)
        except OSError as error:
            missing = isinstance(error, FileNotFoundError) and error.errno is None
            reason = "no such bucket" if missing else one_line(files.message(error), 200)
            if self._number == 1:
                raise UsageError(f"cannot write to {self.name}: {reason}") from error
            raise JobFailed(
                f"cannot upload run {self.name}; the state that was uploaded before is in force: give the same command with "
                f"--resume to continue from it ({reason})"
            ) from error
        if not published:  # what was uploaded is left to the next process, which knows what run.json names
            raise JobFailed(
                f"run {self.name} was changed by another command in the meantime, and is as that one left it; wait until it "
                "has ended, or choose another --output"
            )
        self._stored = new
        self._delete(old - {each.object for each in new.values()})

    def _names(self) -> list[str]:
        """The files in the folder, the checkpoint last."""
        folder = Path(self.folder)
        found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
        names = [path.as_posix() for path in found if not any(part.startswith(".") for part in path.parts)]
        return sorted(names, key=lambda name: (name.startswith(f"{BACKUP}/"), name))

    def _upload(self, name: str) -> _Stored:
        path = Path(self.folder, name)
        sha256, known = hashlib.sha256(path.read_bytes()).hexdigest(), self._stored.get(name)
        if known and known.sha256 == sha256:
            return known
        made = _Stored(f"{OBJECTS}/{self._id}/{self._number}/{name}", sha256)
        uri = f"{self.name}/{made.object}"
        with google_client.plain_errors(uri):
            try:
                google_client.stored_object(uri).upload_from_filename(path, if_generation_match=0, retry=_patience())
            except Exception as error:
                # The name is this process' own: an attempt whose answer was lost did write it.
                if getattr(error, "code", None) != _PRECONDITION_FAILED:
                    raise
        return made

    def _replace_pointer(self, stored: dict[str, _Stored]) -> bool:
        """Writes run.json. Returns False if it is not the one that this process knows."""
        content = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "publication": f"{self._id}/{self._number}",
            "files": {name: each._asdict() for name, each in sorted(stored.items())},
        }
        text = json.dumps(content, indent=1) + "\n"
        uri = f"{self.name}/{POINTER}"
        with google_client.plain_errors(uri):
            pointer = google_client.stored_object(uri)
            pointer.cache_control = "no-store"
            try:
                pointer.upload_from_string(
                    text, "application/json", if_generation_match=self._generation, retry=_patience()
                )
                self._generation = int(pointer.generation)
                return True
            except Exception as error:
                if getattr(error, "code", None) != _PRECONDITION_FAILED:
                    raise
        return self._read_pointer() == text.encode()  # an attempt whose answer was lost may have written it

    def _read_pointer(self) -> bytes:
        """The content of run.json, whose generation it notes; empty if there is none."""
        uri = f"{self.name}/{POINTER}"
        self._generation = 0
        with suppress(FileNotFoundError), google_client.plain_errors(uri):
            pointer = google_client.stored_object(uri)
            pointer.reload(retry=_patience())
            self._generation = int(pointer.generation)
            content: bytes = pointer.download_as_bytes(retry=_patience())  # of this generation
            return content
        return b""

    def _downloaded(self, needed: Collection[str] | None) -> bool:
        """Reads run.json and downloads what it names. Returns False if an object is gone."""
        text = self._read_pointer()
        if not self._generation or not (needed is None or needed):
            return True
        if not text:
            return False
        self._stored = self._parsed(text)
        for name in self._stored if needed is None else set(needed) & set(self._stored):
            uri = f"{self.name}/{self._stored[name].object}"
            path = Path(self.folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with google_client.plain_errors(uri):
                    content: bytes = google_client.stored_object(uri).download_as_bytes(retry=_patience())
            except FileNotFoundError:
                return False
            if hashlib.sha256(content).hexdigest() != self._stored[name].sha256:
                raise UsageError(
                    f"{uri} is not what was uploaded: its SHA-256 is another than in {POINTER}; train again with "
                    "--overwrite"
                )
            path.write_bytes(content)
        return True

    def _parsed(self, text: bytes) -> dict[str, _Stored]:
        try:
            content = json.loads(text)
            if content["format"] != FORMAT or not isinstance(content["format_version"], int):
                raise ValueError("another format")
            if content["format_version"] <= FORMAT_VERSION:
                stored = {name: _Stored(**each) for name, each in content["files"].items()}
                for name, each in stored.items():
                    for path in (PurePosixPath(name), PurePosixPath(each.object)):
                        if path.is_absolute() or ".." in path.parts:
                            raise ValueError("a path leads out of the run")
                return stored
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UsageError(f"{POINTER} of run {self.name} is damaged; train again with --overwrite") from error
        raise UsageError(
            f"{POINTER} of run {self.name} has format version {content['format_version']}, but this radrecords reads up to "
            f"{FORMAT_VERSION}; upgrade radrecords"
        )

    def _existing(self) -> set[str]:
        """The objects of the run, also those of processes that were killed before they wrote run.json."""
        found: set[str] = set()
        with suppress(OSError):
            for folder, names in google_client.walk(f"{self.name}/{OBJECTS}"):
                below = folder.removeprefix(f"{self.name}/")
                found |= {f"{below}/{name}" for name in names}
        return {name for name in found if _OBJECT.fullmatch(name)}

    def _delete(self, objects: Iterable[str]) -> None:
        """Deletes objects, as far as it can: the next process that publishes deletes the others."""
        for name in objects:
            uri = f"{self.name}/{name}"
            with suppress(OSError), google_client.plain_errors(uri):
                google_client.stored_object(uri).delete(retry=None)


def _check_client() -> None:
    try:
        import google.cloud.storage  # noqa: F401
    except ImportError as error:
        raise UsageError("runs in a bucket need google-cloud-storage; in a clone, run: pip install '.[gcp]'") from error


def _patience() -> Any:
    from google.cloud.storage.retry import DEFAULT_RETRY

    return DEFAULT_RETRY.with_timeout(PATIENCE_SECONDS)
