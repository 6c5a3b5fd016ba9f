"""Step 2, first part: choose which inputs are converted."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam
from apache_beam.pvalue import AsSingleton, PCollection
from apache_beam.transforms.combiners import Top

from beam_jobs.passing.blocks import Block
from beam_jobs.passing.tally import (
    TALLY,
    Counted,
    SourcesAndTally,
    several_collections,
    skipped,
)
from beam_jobs.settings.config import ConvertConfig
from schemas.identity import uniform
from schemas.source import Source


@dataclass
class Sample(beam.PTransform[PCollection[Block[Source]], SourcesAndTally]):
    """Blocks of Sources -> a sample by --sample_fraction and --limit, chosen by hashed names, and the tally of the rest."""

    config: ConvertConfig

    @several_collections
    def expand(self, sources: PCollection[Block[Source]]) -> SourcesAndTally:
        config = self.config
        cut: float | AsSingleton = config.sample_fraction
        if config.limit:
            cut = AsSingleton(
                sources
                | "SampleKeys" >> beam.FlatMap(sample_keys, config.seed)
                | "Lowest" >> Top.Smallest(config.limit)
                | "LimitCut" >> beam.Map(limit_cut, config)
            )
        chosen = sources | "Choose" >> beam.FlatMap(choose, config.seed, cut).with_outputs(TALLY, main="sources")
        return {"sources": chosen["sources"], TALLY: chosen[TALLY]}


def sample_keys(sources: Block[Source], seed: int) -> list[float]:
    """The hashed name of each source, from 0 to 1."""
    return [uniform(seed, "sample", source.path) for source in sources]


def limit_cut(lowest: list[float], config: ConvertConfig) -> float:
    """The upper bound of the hashed names that satisfy both --sample_fraction and --limit."""
    beyond_last = math.nextafter(max(lowest), 2) if lowest else 0.0
    return min(config.sample_fraction, beyond_last)


def choose(sources: Block[Source], seed: int, cut: float) -> Iterator[Block[Source] | Counted]:
    """Passes on the sources whose hashed name is below `cut`."""
    if cut >= 1:
        yield sources
        return
    every = list(sources)
    chosen = [source for source, key in zip(every, sample_keys(sources, seed), strict=True) if key < cut]
    yield Block(chosen)
    yield from skipped({"not_sampled": len(every) - len(chosen)})
