"""Step 2a: of byte-identical inputs, keep one."""

import hashlib
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam

from beam_jobs import storage
from beam_jobs.config import ConvertConfig
from beam_jobs.isolation import IsolatedDecoder
from beam_jobs.tally import TALLY, duplicates, problem
from schemas.image import ImageRejected, ImageSkipped, sniff
from schemas.source import Source


@dataclass
class DropDuplicates(beam.PTransform):  # type: ignore[misc]
    """Sources -> one of each set of byte-identical ones, with the tally of the others.

    Only files of equal size can be identical, so only those are read for a checksum that the listing lacks.
    """

    config: ConvertConfig

    def expand(self, sources: Any) -> Any:
        sized = (
            sources
            | "KeyBySize" >> beam.Map(lambda source: (source.size, source))
            | "BySize" >> beam.GroupByKey()
            | "SameSize" >> beam.FlatMapTuple(same_size).with_outputs("candidates", main="unique")
        )
        checked = (
            sized.candidates
            | "SpreadCandidates" >> beam.Reshuffle()
            | "Checksum" >> beam.Map(with_checksum)
            | "ByChecksum" >> beam.GroupByKey()
            | "KeepOne" >> beam.FlatMap(keep_one, self.config).with_outputs(TALLY, main="kept")
        )
        return {"sources": (sized.unique, checked.kept) | "Kept" >> beam.Flatten(), TALLY: checked[TALLY]}


def same_size(size: int, sources: Iterable[Source]) -> Iterator[Any]:
    """Tells a size that only one source has from one that several share. Empty files are all alike, and not duplicates."""
    several = iter(sources)
    head = list(itertools.islice(several, 2))
    unique = len(head) < 2 or size <= 0
    for source in itertools.chain(head, several):
        yield source if unique else beam.pvalue.TaggedOutput("candidates", source)


def with_checksum(source: Source) -> tuple[tuple[int, str], Source]:
    """Keys a source by its size and MD5, reading it where the listing brought no MD5."""
    checksum = source.checksum
    if not checksum:
        try:
            content = storage.read_bytes(source.uri, source.version)
        except OSError:
            # Let it be read again, and rejected for what it is, like any other.
            return (source.size, f"unreadable:{source.path}"), source
        checksum = f"md5:{hashlib.md5(content, usedforsecurity=False).hexdigest()}"
    return (source.size, checksum), source._replace(checksum=checksum)


def keep_one(keyed: tuple[tuple[int, str], Iterable[Source]], config: ConvertConfig) -> Iterator[Any]:
    """Keeps the source with the first path of those that are byte-identical. Two that disagree are a problem where they
    are an image; what is none (the same error page saved under many names) goes on, to be quarantined one by one."""
    first, *others = sorted(keyed[1], key=lambda source: source.path)
    for attribute in ("label", "split"):
        odd = next((other for other in others if getattr(other, attribute) != getattr(first, attribute)), None)
        if odd is None:
            continue
        if is_image(first, config):
            values = (getattr(source, attribute) or "unassigned" for source in (first, odd))
            yield problem(
                f"{first.path!r} and {odd.path!r} are the same bytes with {attribute}s "
                f"{' and '.join(map(repr, values))}; remove one"
            )
        else:
            yield from (first, *others)
        return
    yield first
    if others:
        yield duplicates(len(others))


def is_image(source: Source, config: ConvertConfig) -> bool:
    """Whether the source can be read and decoded. Asked seldom, so always in a process that a decoder may crash."""
    try:
        data = storage.read_bytes(source.uri, source.version)
        sniff(data)
        with IsolatedDecoder(config.image, config.dicom_decoder, config.decode_timeout) as decode:
            decode(data)
    except (OSError, ImageRejected, ImageSkipped):
        return False
    return True
