"""The exact versions that workers install: those of the launcher, which `make setup` takes from a lock file."""

import functools
from collections.abc import Iterable, Iterator

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from beam_jobs.remote.versions import DISTRIBUTION, distribution, version_of

_BEAM = "apache-beam"


def pinned(extras: Iterable[str], packages: Iterable[str]) -> list[str]:
    """The lines of a requirements file: this package's requirements, with those of its `extras`, and `packages`, and what
    they require, each with the version that is installed here.

    What Beam requires is left out, unless this package requires it itself: the worker's image holds the same release of
    Beam, with the versions that it was released with. Beam itself comes first.
    """
    wanted = {canonicalize_name(name) for name in packages}
    beam: set[str] = set()
    for requirement in _requirements(DISTRIBUTION, {"", *extras}):
        if requirement.name == _BEAM:
            beam |= requirement.extras
        else:
            wanted.add(canonicalize_name(requirement.name))
    of_beam = _closure({_BEAM: {"", *beam}})
    ours = wanted | (set(_closure({name: {""} for name in wanted})) - set(of_beam))
    chosen = f"[{','.join(sorted(beam))}]" if beam else ""
    lines = [f"{name}=={version}" for name in sorted(ours) if (version := version_of(name))]
    return [f"{_BEAM}{chosen}=={version_of(_BEAM)}", *lines]


def _closure(roots: dict[str, set[str]]) -> dict[str, set[str]]:
    """The installed packages that `roots`, packages with their extras, need, themselves included."""
    found: dict[str, set[str]] = {}
    waiting = [(canonicalize_name(name), extras) for name, extras in roots.items()]
    while waiting:
        name, extras = waiting.pop()
        new = extras - found.get(name, set())
        if not new or _all_requirements(name) is None:
            continue
        found.setdefault(name, set()).update(new)
        waiting += [(canonicalize_name(one.name), {"", *one.extras}) for one in _requirements(name, new)]
    return {str(name): extras for name, extras in found.items()}


def _requirements(name: str, extras: set[str]) -> Iterator[Requirement]:
    """What an installed package requires on this system, with any of these extras ("": without)."""
    for requirement in _all_requirements(name) or ():
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in extras):
            yield requirement


@functools.cache
def _all_requirements(name: str) -> tuple[Requirement, ...] | None:
    """What a package may require; None if it is not installed."""
    found = distribution(name)
    return tuple(map(Requirement, found.requires or ())) if found else None
