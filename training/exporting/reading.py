"""Opens an export without executing anything of it: checks its digest and returns its metadata.

A digest tells damage and confusion, not malice: whoever can write a file can write another digest into it. To know that an
export is the one that you made, compare the SHA-256 that training.export printed.
"""

import json
import zipfile
from pathlib import Path

from schemas.errors import UsageError
from schemas.export import Metadata, check_content, check_version, checked, metadata_in_onnx, onnx_ending
from training.exporting import saved_model, tflite_file
from training.exporting.metadata import FILE, file_digests


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
    check_version(metadata, path)
    return metadata


def _folder(folder: Path) -> Metadata:
    metadata = checked(json.loads((folder / saved_model.EXTRA / FILE).read_bytes()))
    if any(path.is_symlink() for path in folder.rglob("*")) or metadata["content"] != file_digests(folder):
        raise ValueError("other files")
    return metadata


def _file(data: bytes) -> Metadata:
    where, identifier = tflite_file.IDENTIFIER
    tflite = data[where] == identifier
    metadata = checked(tflite_file.metadata_in(data) if tflite else metadata_in_onnx(data))
    check_content(data, metadata, tflite_file.ending(metadata) if tflite else onnx_ending(metadata))
    return metadata
