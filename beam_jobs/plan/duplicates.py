"""Step 2a: keep one of each set of byte-identical inputs."""

import hashlib
import itertools
import os
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import apache_beam as beam
import numpy as np
from apache_beam.pvalue import PCollection, TaggedOutput

from beam_jobs.decoding.decoder import decode
from beam_jobs.passing.blocks import Block, InPartitions, blocks
from beam_jobs.passing.tally import TALLY, Counted, SourcesAndTally, duplicates, problem, several_collections
from beam_jobs.settings.config import ConvertConfig, most_bytes
from beam_jobs.storage import storage
from schemas.pixels.rejection import Decoded
from schemas.source import Source

_CHECKSUM_BLOCK = 500  # files per worker; small, so that all workers have something to read
# Images of equal dimensions and depth may have files of equal size. Of large files, the ends are read before the whole.
_LARGE_BYTES, _END_BYTES = 64 << 10, 4 << 10
_ALONE = 0  # the key of sources that cannot be identical to another

Candidates = TaggedOutput[Literal["candidates"], Block[Source]]


@dataclass
class DropDuplicates(beam.PTransform[PCollection[Block[Source]], SourcesAndTally]):
    """Blocks of Sources -> blocks with one of each set of byte-identical Sources, and the tally of the others.

    Only files of equal size can be identical, so only those are read if the listing has no checksum. Large files are
    read only if their first and last bytes are equal too.
    """

    config: ConvertConfig

    @several_collections
    def expand(self, sources: PCollection[Block[Source]]) -> SourcesAndTally:
        sized = (
            sources
            | "BySize" >> InPartitions(lambda source: source.size)
            | "SameSize" >> beam.FlatMap(same_size).with_outputs("candidates", main="unique")
        )
        checked = (
            sized.candidates
            | "SpreadCandidates" >> beam.Reshuffle()
            | "Checksum" >> beam.Map(with_checksums, most_bytes(self.config))
            | "ByChecksum" >> InPartitions(identity_of)
            | "KeepOne" >> beam.FlatMap(keep_one_each, self.config).with_outputs(TALLY, main="kept")
        )
        kept: PCollection[Block[Source]] = (sized.unique, checked.kept) | "Kept" >> beam.Flatten()
        return {"sources": kept, TALLY: checked[TALLY]}


def same_size(sources: Iterable[Block[Source]]) -> Iterator[Block[Source] | Candidates]:
    """Separates the sources that cannot be identical to another from the candidates, which have equal sizes and, if
    they are large, equal ends. Empty files are not duplicates."""
    # Iterate several times instead of holding the sources in memory: all files of an archive may have the same size.
    sizes = Counter(source.size for source in itertools.chain.from_iterable(sources))
    with_checksum = {source.size for source in itertools.chain.from_iterable(sources) if source.checksum}

    def key(source: Source) -> int:
        if source.size <= 0 or sizes[source.size] == 1:
            return _ALONE
        large = source.size > _LARGE_BYTES and source.size not in with_checksum
        return _hash(source.size, _ends(source) if large else b"")

    keys = np.array(array("Q", map(key, itertools.chain.from_iterable(sources))))
    values, numbers = np.unique(keys, return_counts=True)
    several = np.isin(keys, values[(numbers > 1) & (values != _ALONE)])
    yield from blocks(itertools.compress(itertools.chain.from_iterable(sources), ~several))
    shared = itertools.compress(itertools.chain.from_iterable(sources), several)
    for block in blocks(shared, _CHECKSUM_BLOCK):
        yield TaggedOutput("candidates", block)


def _ends(source: Source) -> bytes:
    """The first and the last bytes of a large file, or a unique value if it cannot be read."""
    try:
        with storage.open_binary(source.uri) as file:
            first = file.read(_END_BYTES)
            file.seek(-_END_BYTES, os.SEEK_END)
            return first + file.read(_END_BYTES)
    except OSError:
        return source.path.encode("utf-8", "surrogatepass")


def _hash(size: int, ends: bytes) -> int:
    digest = hashlib.blake2b(ends, digest_size=8, salt=size.to_bytes(8, "big")).digest()
    return int.from_bytes(digest, "big") | 1  # never _ALONE


def with_checksums(sources: Block[Source], most: int) -> Block[Source]:
    """The sources with their MD5, computed if the listing has none. A file that cannot be read or is larger than `most`
    bytes gets none."""
    return Block([_with_checksum(source, most) for source in sources])


def _with_checksum(source: Source, most: int) -> Source:
    if source.checksum or source.size > most:
        return source
    try:
        content = storage.read_bytes(source.uri, source.version)
    except OSError:  # the file is read again later, and rejected like any other
        return source
    return source._replace(checksum=f"md5:{hashlib.md5(content, usedforsecurity=False).hexdigest()}")


def identity_of(source: Source) -> tuple[int, str]:
    """A value that is equal for identical sources. A source that could not be read equals no other."""
    return source.size, source.checksum or f"unreadable:{source.path}"


def keep_one_each(sources: Iterable[Block[Source]], config: ConvertConfig) -> Iterator[Block[Source] | Counted]:
    """Of each set of byte-identical sources in a partition, keeps the source with the first path. Sources that disagree
    about label or split are a problem if they are an image. Otherwise (the same error page saved under many names) all
    of them are kept, and quarantined one by one."""
    # Hold only the first source of each label and split, because an archive may hold one page a million times.
    firsts: defaultdict[tuple[int, str], dict[tuple[str, str], Source]] = defaultdict(dict)
    number: Counter[tuple[int, str]] = Counter()
    for source in itertools.chain.from_iterable(sources):
        number[identity_of(source)] += 1
        of_place = firsts[identity_of(source)]
        place = source.label, source.split
        of_place[place] = min(source, of_place.get(place, source), key=lambda source: source.path)
    kept, no_images, more = [], set(), 0
    for identity, by_place in firsts.items():
        first, *others = sorted(by_place.values(), key=lambda source: source.path)
        if not others:
            kept.append(first)
            more += number[identity] - 1
        elif is_image(first, config):
            yield _disagreement(first, others)
        else:
            no_images.add(identity)
    yield from blocks(kept)
    if no_images:
        every = itertools.chain.from_iterable(sources)
        yield from blocks(source for source in every if identity_of(source) in no_images)
    if more:
        yield duplicates(more)


def _disagreement(first: Source, others: list[Source]) -> Counted:
    attribute = "label" if any(other.label != first.label for other in others) else "split"
    odd = next(other for other in others if getattr(other, attribute) != getattr(first, attribute))
    values = (getattr(source, attribute) or "unassigned" for source in (first, odd))
    return problem(
        f"{first.path!r} and {odd.path!r} are byte-identical but have {attribute}s "
        f"{' and '.join(map(repr, values))}; remove one"
    )


def is_image(source: Source, config: ConvertConfig) -> bool:
    """Whether the source can be read and decoded."""
    if source.size > most_bytes(config):
        return False
    try:
        data = storage.read_bytes(source.uri, source.version)
    except OSError:
        return False
    return isinstance(decode([data], config)[0], Decoded)
