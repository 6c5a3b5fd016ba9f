"""Which packages decide the pixels, and the bytes around them, and which versions of them are installed here.

A job on other machines carries the launcher's versions. Other versions, or a decoder that is missing, would give other
records than a run on the launcher's machine.
"""

import functools
import hashlib
import importlib.metadata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

import schemas

Versions: TypeAlias = tuple[tuple[str, str], ...]  # (name, version) of each installed package, sorted

DISTRIBUTION = "radrecords"
_ALWAYS = ("apache-beam", "numpy", "pillow", "pydicom", "simplejpeg")
# What pydicom decodes with, if it is installed. pylibjpeg finds its own plugins by their entry points.
_DICOM = ("python-gdcm", "pylibjpeg", "pylibjpeg-libjpeg", "pylibjpeg-openjpeg", "pylibjpeg-rle")
_PYLIBJPEG = "pylibjpeg.pixel_data_decoders"
_SHIPPED = (".py", ".typed", ".json")  # suffixes of what this package consists of
TFIO = ("tensorflow", "tensorflow-cpu", "tensorflow-io")  # for --dicom_decoder tfio


def decoders(also: Iterable[str] = ()) -> list[str]:
    """The names of the installed packages that pydicom decodes with, and of those of `also` that are installed."""
    plugins = importlib.metadata.entry_points(group=_PYLIBJPEG)
    found = {*_DICOM, *(plugin.dist.name for plugin in plugins if plugin.dist)}
    return sorted(name for name in found.union(also) if version_of(name))


def installed(also: Iterable[str] = ()) -> Versions:
    """The versions of all packages that decide what a record holds, this one and those of `also` included."""
    versions = {name: version_of(name) for name in (*_ALWAYS, *decoders(also))}
    ours = f"{version_of(DISTRIBUTION)} (code {code_hash()})".strip()
    return tuple(sorted({**versions, DISTRIBUTION: ours}.items()))


def differences(launcher: Versions) -> list[str]:
    """A text for each package whose version here is not the launcher's."""
    wanted, here = dict(launcher), dict(installed())
    here |= {name: version_of(name) for name in wanted if name not in here}
    return [
        f"{name} {here.get(name) or 'is missing'} instead of {wanted.get(name) or 'none'}"
        for name in sorted({*wanted, *here})
        if here.get(name, "") != wanted.get(name, "")
    ]


def version_of(name: str) -> str:
    """The version of an installed package; "" if it is not installed."""
    found = distribution(name)
    return found.version if found else ""


def distribution(name: str) -> importlib.metadata.Distribution | None:
    """An installed package. What an installer recorded takes precedence over the .egg-info folder that a build leaves in a
    clone, which may be old, and which Python finds first if it is started in the clone."""
    found = list(importlib.metadata.distributions(name=name))
    return next((one for one in found if one.read_text("METADATA")), found[0] if found else None)


def folders() -> tuple[Path, ...]:
    """The folders of the packages that workers run, as they were imported here."""
    return Path(__file__).parents[1], Path(str(schemas.__file__)).parent


def modules(packages: Iterable[Path]) -> Iterator[tuple[str, Path]]:
    """The files of packages, by their names in a wheel."""
    for folder in packages:
        for path in sorted(folder.rglob("*")):
            if path.suffix in _SHIPPED:
                yield path.relative_to(folder.parent).as_posix(), path


@functools.cache
def code_hash() -> str:
    """A hash of the modules that workers run. It tells apart what the version alone does not: two states of a clone."""
    digest = hashlib.sha256()
    for name, path in modules(folders()):
        if path.suffix == ".py":
            content = path.read_bytes()
            digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:8]
