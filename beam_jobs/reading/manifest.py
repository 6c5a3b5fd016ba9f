"""Opens a published data set."""

from beam_jobs.storage import storage
from schemas.dataset import MANIFEST, Manifest
from schemas.errors import UsageError


def read_manifest(folder: str) -> Manifest | None:
    """The manifest in `folder`, or None if no data set is published there. Raises UsageError if it cannot be read."""
    text = manifest_text(folder)
    return None if text is None else Manifest.from_json(text, folder)


def manifest_text(folder: str) -> str | None:
    """The content of the manifest.json in `folder`, or None if there is none. Raises UsageError if it cannot be read."""
    path = storage.join(folder, MANIFEST)
    try:
        return storage.read_bytes(path).decode(errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error


def require_manifest(folder: str) -> Manifest:
    """The manifest of the data set in `folder`; raises UsageError if there is none."""
    manifest = read_manifest(folder)
    if manifest is None:
        raise UsageError(f"{folder} is not a data set: it has no {MANIFEST}")
    return manifest
