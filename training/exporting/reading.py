"""Opens an export without executing anything of it: checks its digest and returns its metadata.

A digest tells damage and confusion, not malice: whoever can write a file can write another digest into it. To know that an
export is the one that you made, compare the SHA-256 that training.export printed.
"""

import json
import zipfile
from pathlib import Path
from typing import Any

from schemas.errors import UsageError
from training.exporting import onnx_file, saved_model, tflite_file
from training.exporting.metadata import FILE, FORMAT, FORMAT_VERSION, Metadata, content_of, file_digests


def read_export(path: str) -> Metadata:
    """The metadata of the export at `path`, a file or a folder. Raises UsageError if it is none, is damaged, or holds
    anything that training.export did not write."""
    place = Path(path)
    try:
        metadata = _folder(place) if place.is_dir() else _file(place.read_bytes())
    except FileNotFoundError as error:
        raise UsageError(f"{path} does not exist, or is not an export") from error
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path} is not an export, or is damaged; export the run again") from error
    except ImportError as error:
        raise UsageError(f"{path} may be ONNX, which needs onnx; in a clone, run: pip install '.[export]'") from error
    if metadata["format_version"] > FORMAT_VERSION:
        raise UsageError(f"{path} has format version {metadata['format_version']}; upgrade radrecords")
    return metadata


def _folder(folder: Path) -> Metadata:
    metadata = _checked(json.loads((folder / saved_model.EXTRA / FILE).read_bytes()))
    if any(path.is_symlink() for path in folder.rglob("*")) or metadata["content"] != file_digests(folder):
        raise ValueError("other files")
    return metadata


def _file(data: bytes) -> Metadata:
    where, identifier = tflite_file.IDENTIFIER
    format = tflite_file if data[where] == identifier else onnx_file
    metadata = _checked(format.metadata_in(data))
    network = data[: metadata["content"]["bytes"]]
    if metadata["content"] != content_of(network) or data != network + format.ending(metadata):
        raise ValueError("other bytes")
    return metadata


def _checked(metadata: Any) -> Metadata:
    if metadata["format"] != FORMAT or not isinstance(metadata["format_version"], int):
        raise ValueError("another format")
    checked: Metadata = metadata
    return checked
