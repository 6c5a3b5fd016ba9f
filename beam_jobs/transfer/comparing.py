"""Which files are in both folders with the same content."""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

from tqdm import tqdm

from beam_jobs.transfer.objects import Stored, crc32c_of
from schemas.errors import UsageError


class Compared(NamedTuple):
    """`same`: the paths with equal sizes and checksums. `different`: the paths with others. `unreadable`: local files that
    could not be read, and why."""

    same: set[str]
    different: set[str]
    unreadable: dict[str, str]


def compared(local: Mapping[str, str], stored: Mapping[str, Stored]) -> Compared:
    """Compares the files of `local` (path -> local file) with the objects of the same paths. Reads a file only if its size
    is right."""
    result = Compared(set(), set(), {})
    both = [path for path in local if path in stored]
    with ThreadPoolExecutor() as threads:
        found = threads.map(partial(_difference, local, stored), both)
        for path, difference in tqdm(
            zip(both, found, strict=True), total=len(both), desc="comparing", unit=" files", disable=None
        ):
            if difference is None:
                result.same.add(path)
            elif difference:
                result.unreadable[path] = difference
            else:
                result.different.add(path)
    return result


def _difference(local: Mapping[str, str], stored: Mapping[str, Stored], path: str) -> str | None:
    """None for equal content, "" for other content, or why the file cannot be read."""
    try:
        if os.path.getsize(local[path]) != stored[path].size:
            return ""
        return None if crc32c_of(local[path]) == stored[path].crc32c else ""
    except OSError as error:
        return error.strerror or type(error).__name__


def refuse(different: set[str], place: str, other: str) -> None:
    """Raises UsageError if there are files of other content."""
    if different:
        more = f" and {len(different) - 1:,} more differ" if len(different) > 1 else " differs"
        raise UsageError(
            f"{place.rstrip('/')}/{min(different)}{more} from {other}; nothing was copied. Give another place, or "
            "--overwrite to replace"
        )
