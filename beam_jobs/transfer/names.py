"""Which local files can be objects, and which objects can be local files."""

from collections.abc import Iterable

from beam_jobs.transfer.objects import Stored

UNFINISHED = ".radrecords-download"
"""The folder, inside the target, of files that are not complete yet. No conversion and no upload reads it."""

_MOST_BYTES = 1024  # of an object's name


def why_no_object(name: str) -> str | None:
    """Why a bucket cannot hold an object of this name; None if it can."""
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        return "its name is not UTF-8"
    if len(encoded) > _MOST_BYTES:
        return f"its name in the bucket would have more than {_MOST_BYTES} bytes"
    if "\r" in name or "\n" in name:
        return "its name has a line break, which no object's name may have"
    return None


def as_files(stored: Iterable[Stored]) -> tuple[dict[str, Stored], dict[str, str]]:
    """The objects that can be local files, by path, and why each other one cannot. The empty objects that stand for
    folders are left out without a word."""
    objects = [found for found in stored if found.path and not (found.path.endswith("/") and not found.size)]
    good, left_out = {}, {}
    folders = {parent for found in objects for parent in _parents(found.path)}
    for found in objects:
        reason = _why_no_file(found.path, folders)
        if reason:
            left_out[found.path] = reason
        else:
            good[found.path] = found
    return good, left_out


def _parents(path: str) -> Iterable[str]:
    """Every folder above a path."""
    while path := path.rpartition("/")[0]:
        yield path


def _why_no_file(path: str, folders: set[str]) -> str | None:
    parts = path.split("/")
    if parts[0] == UNFINISHED:
        return "the name is that of the folder for unfinished files"
    if any(part in (".", "..") for part in parts):
        return "a part of its name is . or .., which would lead to another folder"
    if "" in parts:
        return "a part of its name is empty, which no local file's can be"
    if "\0" in path:
        return "its name has a zero byte"
    if path in folders:
        return "there are objects below it, and on a disk it cannot be a file and a folder"
    return None
