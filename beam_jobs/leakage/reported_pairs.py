"""`--near_duplicates_of DATASET`: the pairs of near-duplicates that a published data set's leakage.json names.

Pairs are pairs of ids, so the new version must use the same key as the old version, or no key if the old version had
none. Only a hash of the pairs travels in the config; each worker process reads the pairs itself, once.
"""

import functools
import hashlib
import json
import re
from typing import Any, NamedTuple, TypeAlias

from beam_jobs.leakage.near_duplicates import MEASURE
from beam_jobs.reading.manifest import require_manifest
from beam_jobs.settings.config import ConvertConfig
from beam_jobs.storage import storage
from schemas.errors import JobFailed, UsageError

LEAKAGE = "leakage.json"
# The key in leakage.json of the pairs that the data set was made with. The next version needs them too.
ACTED_ON = "near_duplicates_acted_on"
_ID = re.compile("[0-9a-f]{32}")

Ids: TypeAlias = tuple[str, str]


class ReportedPairs(NamedTuple):
    """Sorted pairs of ids, and how many pairs were found beyond those that the file names."""

    pairs: tuple[Ids, ...]
    not_named: int

    @property
    def check(self) -> str:
        """A hash of the pairs: 16 hexadecimal digits."""
        return hashlib.sha256(json.dumps(self.pairs).encode()).hexdigest()[:16]


def reported_pairs(config: ConvertConfig) -> ReportedPairs:
    """The pairs of this job; none without --near_duplicates_of. Raises JobFailed if they have changed since the job
    started."""
    if not config.near_duplicates_of:
        return ReportedPairs((), 0)
    return _same_pairs(config.near_duplicates_of, config.near_duplicates_check, bool(config.id_key_file))


@functools.cache
def _same_pairs(folder: str, check: str, keyed: bool) -> ReportedPairs:
    reported = read_pairs(folder, keyed)
    if reported.check != check:
        raise JobFailed(f"--near_duplicates_of {folder} names different pairs than when the job started; run again")
    return reported


def read_pairs(folder: str, keyed: bool) -> ReportedPairs:
    """The pairs that the data set in `folder` names. Raises UsageError if it is not a data set, names no
    usable pairs, or has keyed ids and the new one (`keyed`) does not, or vice versa."""
    manifest = require_manifest(folder)
    if (manifest.settings.get("keyed_ids") is True) != keyed:
        have, repair = ("unkeyed", "omit --id_key_file") if keyed else ("keyed", "give the same --id_key_file")
        raise UsageError(f"--near_duplicates_of {folder} has {have} ids; {repair}")
    path = storage.join(folder, LEAKAGE)
    try:
        content = storage.read_bytes(path)
    except FileNotFoundError as error:
        raise UsageError(f"--near_duplicates_of {folder} has no {LEAKAGE}; convert it again") from error
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or type(error).__name__}") from error
    try:
        measure, reported = _parsed(json.loads(content))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(f"{path} is damaged ({type(error).__name__}); convert that data set again") from error
    if measure != MEASURE:
        raise UsageError(
            f"{path} was written by another release of radrecords, whose pairs look alike but need not be copies; "
            "convert that data set again without --near_duplicates_of, and give the new one"
        )
    return reported


def _parsed(content: Any) -> tuple[str, ReportedPairs]:
    near = content["near_duplicates_across_splits"]
    measure, total, named = near["measure"], near["total"], near["pairs"]
    if measure != MEASURE and isinstance(measure, str):
        return measure, ReportedPairs((), 0)
    acted_on = content.get(ACTED_ON, [])
    if not isinstance(measure, str) or not isinstance(named, list) or not isinstance(acted_on, list):
        raise TypeError
    if type(total) is not int or total < len(named):
        raise ValueError
    pairs = {_ids(pair["ids"]) for pair in named} | {_ids(pair) for pair in acted_on}
    return measure, ReportedPairs(tuple(sorted(pairs)), total - len(named))


def _ids(pair: Any) -> Ids:
    if not isinstance(pair, list) or not all(isinstance(text, str) and _ID.fullmatch(text) for text in pair):
        raise TypeError
    one, other = sorted(pair)
    return one, other
