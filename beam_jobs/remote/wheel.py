"""This package as a wheel, put together from the modules that run here: no build step, no network, and no setup.py of
whatever project is in the current folder."""

import base64
import hashlib
import importlib.metadata
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

from beam_jobs.remote.versions import DISTRIBUTION, distribution, folders, modules
from schemas.errors import UsageError

_WHEEL = "Wheel-Version: 1.0\nGenerator: radrecords\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
# What installers read, and its name in an .egg-info folder.
_KEPT = {"METADATA": "PKG-INFO"} | {name: name for name in ("entry_points.txt", "top_level.txt", "licenses/LICENSE")}
_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # equal modules give equal wheels


def write_wheel(folder: str) -> str:
    """Writes the wheel into `folder` and returns its path. Raises UsageError if this package is not installed, because only
    an installed package says what it needs."""
    installed = distribution(DISTRIBUTION)
    if installed is None:
        raise UsageError(
            f"{DISTRIBUTION} runs from {folders()[0].parent} without being installed, so there is no package to send to "
            "the workers; pip install it, or give an image that holds it as --sdk_container_image"
        )
    name = f"{DISTRIBUTION}-{installed.version}"
    path = os.path.join(folder, f"{name}-py3-none-any.whl")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        record = [_add(wheel, *file) for file in _content(installed, f"{name}.dist-info")]
        record.append(f"{name}.dist-info/RECORD,,\n")
        _add(wheel, f"{name}.dist-info/RECORD", "".join(record).encode())
    return path


def _content(installed: importlib.metadata.Distribution, info: str) -> Iterator[tuple[str, bytes]]:
    """The name and the content of each file: the packages that the distribution names, from where they were imported,
    and what installers read."""
    names = (installed.read_text("top_level.txt") or "").split()
    yield from ((name, path.read_bytes()) for name, path in modules(_beside(names)))
    yield f"{info}/WHEEL", _WHEEL.encode()
    for file, other in _KEPT.items():
        if text := installed.read_text(file) or installed.read_text(other):
            yield f"{info}/{file}", text.encode()


def _beside(names: list[str]) -> list[Path]:
    """The folders of the packages that workers run, and of the others of `names`, which were installed with them."""
    ours = folders()
    others = (ours[0].parent / name for name in names if name not in {folder.name for folder in ours})
    return [*ours, *(folder for folder in others if folder.is_dir())]


def _add(wheel: zipfile.ZipFile, name: str, content: bytes) -> str:
    """Adds a file, and returns its line of RECORD."""
    entry = zipfile.ZipInfo(name, _LONG_AGO)
    entry.external_attr, entry.compress_type = 0o644 << 16, zipfile.ZIP_DEFLATED
    wheel.writestr(entry, content)
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(content)}\n"
