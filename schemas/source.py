"""One input: the location of a radiograph, and what its path or its table row says about it."""

import itertools
import re
from typing import NamedTuple

from schemas.errors import UsageError
from schemas.presets import Preset

UNASSIGNED = ""  # the split of a source if the input names none

# Common names of the three splits. Google's AutoML writes them in capitals; Kermany's folder is named val.
_SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("", "unassigned"), UNASSIGNED),
}

# Suffixes of the other files in published sets. All other files are opened and judged by their content, because the
# names of DICOM files often have no suffix or end in a number.
_NOT_IMAGES = frozenset(
    ".csv .tsv .txt .md .json .jsonl .xml .yaml .yml .html .htm .pdf .doc .docx .xls .xlsx .parquet .npy .npz .pkl .h5 "
    ".zip .gz .tar .tgz .7z .rar .db .ini .log .py .ipynb .sh .md5 .sha256".split()
)


class Source(NamedTuple):
    """One input file.

    uri: where the file is. path: its name relative to the input, from which the id is made. label: its class, or
    several (schemas/labels.py). split: train, validation, test or UNASSIGNED. group: the patient, or the path if no
    patient is known; images of a group stay in one split. size: in bytes, -1 if the file is missing. checksum: "md5:" and 32
    hexadecimal digits, or "" if the listing has none. version: the object's generation, or the file's modification
    time in ns.
    """

    uri: str
    path: str
    label: str
    split: str
    group: str
    size: int
    checksum: str
    version: int


class File(NamedTuple):
    """One file of a listing. The fields mean the same as those of Source."""

    uri: str
    path: str
    size: int
    checksum: str
    version: int


def check_place(flag: str, place: str) -> str:
    """Returns `place` if it can be a local or gs:// path. Raises UsageError for any other scheme."""
    scheme, separator, _ = place.partition("://")
    if separator and scheme.isidentifier() and scheme != "gs":
        raise UsageError(f"{flag} {place}: {scheme}:// is not supported; give a local path or gs://BUCKET/...")
    return place


def source_of(file: File, label: str, split: str, group: str | None, preset: Preset) -> Source:
    """The Source of `file`. Without a `group`, the file is a group of its own."""
    split = preset.merge_splits.get(split, split)
    return Source(file.uri, file.path, label, split, group or file.path, file.size, file.checksum, file.version)


def missing_file(uri: str, path: str) -> File:
    """The File of an image that a table names but that does not exist."""
    return File(uri, path, -1, "", 0)


def split_name(text: str) -> str | None:
    """The split that a folder or cell names (`val` and `VALIDATION` are validation), or None if it names none."""
    return _SPLIT_NAMES.get(text.strip().lower())


def skip_reason(path: str, size: int) -> str | None:
    """The reason why the file at `path` is not an input, or None. Files with a reason are counted but not opened."""
    parts = path.split("/")
    if not parts[-1]:
        return "folder_marker" if size == 0 else "not_an_image_name"
    if "__MACOSX" in parts:
        return "macos_metadata"
    if any(part.startswith(".") for part in parts):
        return "hidden"
    name = parts[-1].lower()
    if name in ("dicomdir", "thumbs.db") or name[name.rfind(".") :] in _NOT_IMAGES:
        return "not_an_image_name"
    if not path.isprintable() and any("\ud800" <= character <= "\udfff" for character in path):
        return "name_not_utf_8"  # not valid text: neither JSON nor a bucket could hold such a name
    return None


def split_and_label(path: str) -> tuple[str, str] | None:
    """The (split, label) that the folders of `path` name: `[...]/split/label/[...]/file` or `[...]/label/file`. None
    for a file in neither layout."""
    folders = path.split("/")[:-1]
    for split_folder, label in itertools.pairwise(folders):
        if split := split_name(split_folder):
            return split, label
    if not folders or split_name(folders[-1]):
        return None
    return UNASSIGNED, folders[-1]


def compile_group_pattern(pattern: str) -> re.Pattern[str]:
    """The compiled --group_pattern. Raises UsageError if it is not a regular expression or captures nothing."""
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"--group_pattern {pattern!r} is not a regular expression: {error}") from error
    if not compiled.groups:
        raise UsageError(
            f"--group_pattern {pattern!r} captures nothing; put the part that names the patient in (parentheses)"
        )
    return compiled


def group_of(path: str, pattern: re.Pattern[str] | None) -> str | None:
    """The patient in `path`, as `POOL/GROUP`. GROUP is what the pattern's group `group` (or its first group) captures.
    POOL is what its group `pool` captures, if it has one, for sets in which patient numbers start again in each pool.
    None if the pattern finds no patient."""
    match = pattern.search(path) if pattern else None
    if match is None:
        return None
    named = match.groupdict()
    group = named["group"] if "group" in named else match.group(1)
    if not group:
        return None
    return f"{(named.get('pool') or '').lower()}/{group}"
