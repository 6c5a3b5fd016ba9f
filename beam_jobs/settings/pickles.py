"""What Beam pickles for workers on other machines, without the paths of this one."""

import contextlib
import os
import sys
from collections.abc import Iterator

from apache_beam.internal import cloudpickle_pickler


@contextlib.contextmanager
def without_paths() -> Iterator[None]:
    """Beam pickles a function that has no name, such as those inside its own transforms, with the path of its source
    file on this machine. During the body of the `with` that is the path inside its package, which is all that a
    traceback needs."""
    config = cloudpickle_pickler.DEFAULT_CONFIG
    before, config.filepath_interceptor = config.filepath_interceptor, inside_package  # type: ignore[assignment]
    try:
        yield
    finally:
        config.filepath_interceptor = before


def inside_package(path: str) -> str:
    """`apache_beam/transforms/core.py` for the path of an importable file, and the bare name of any other file. A relative
    path stays as it is: Beam pickles some functions again that it has unpickled."""
    if not os.path.isabs(path):
        return path
    folders = [folder for folder in map(os.path.abspath, sys.path) if path.startswith(folder + os.sep)]
    if not folders:
        return os.path.basename(path)
    return os.path.relpath(path, max(folders, key=len))
