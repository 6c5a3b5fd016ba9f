"""How long does the search for near-duplicates take? `python -m benchmarks.near_duplicates [--records 1000000]`

The job's own transform in the in-memory runner, on hashes of two kinds: random ones, and ones as alike as those of chest
X-rays. In both, known pairs are planted; every planted pair must be found,
and a sample of the records, compared one by one with all others, must give the sample's pairs and no more.
"""

import argparse
import json
import resource
import time
from collections import Counter
from pathlib import Path

import apache_beam as beam
import numpy as np
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner

from beam_jobs import leakage, near_duplicates
from beam_jobs.near_duplicates import HASHED, Found, Pair
from beam_jobs.plan import Plan
from schemas.dataset import SPLITS

_SHARD = 24_000  # records of 64x64 in a shard of about 100 MiB
_PLANTED = 300  # pairs: a third at each distance
_FOUND: list[Found] = []  # where the pipeline, which runs in this process, leaves its result


def main() -> None:
    """Prints seconds and memory for each kind of hashes, and writes them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/near_duplicates.json"))
    flags = parser.parse_args()
    results = {}
    for kind in ("random", "alike"):
        rng = np.random.default_rng(0)
        hashes = _random(rng, flags.records) if kind == "random" else _alike(rng, flags.records)
        splits = rng.integers(0, len(SPLITS), flags.records)
        _plant(rng, hashes, splits)
        start = time.perf_counter()
        found = _search(hashes, splits)
        seconds = time.perf_counter() - start
        counts, shown = near_duplicates.pair_counts(found), near_duplicates.first_pairs(found)
        _check(kind, hashes, splits, found, shown)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        results[kind] = {"records": flags.records, "seconds": seconds, "pairs": counts, "peak_mib": peak}
        print(f"{kind}: {flags.records:,} hashes in {seconds:.1f} s, pairs by distance {counts}, peak {peak:,} MiB")
    flags.json.write_text(json.dumps(results, indent=1) + "\n")


def _random(rng: np.random.Generator, count: int) -> np.ndarray:
    return rng.integers(0, 1 << 63, count, dtype=np.uint64) << np.uint64(1) | rng.integers(0, 2, count, dtype=np.uint64)


def _alike(rng: np.random.Generator, count: int) -> np.ndarray:
    """One scene with more or fewer flipped bits: about 0.3% of all pairs are within distance 2, as measured on 2,500 chest
    X-rays of the Kermany set."""
    flips = rng.uniform(0, 0.3, count)
    hashes = np.full(count, 0x0123_4567_89AB_CDEF, np.uint64)
    for bit in range(64):
        hashes ^= (rng.random(count) < flips).astype(np.uint64) << np.uint64(bit)
    return hashes


def _plant(rng: np.random.Generator, hashes: np.ndarray, splits: np.ndarray) -> None:
    """Makes record 2k + 1 a near-duplicate of record 2k in another split."""
    for pair in range(_PLANTED):
        flip = 0
        for bit in rng.choice(64, pair % 3, replace=False):
            flip |= 1 << int(bit)
        hashes[2 * pair + 1] = hashes[2 * pair] ^ np.uint64(flip)
        splits[2 * pair + 1] = (splits[2 * pair] + 1) % len(SPLITS)


def _search(hashes: np.ndarray, splits: np.ndarray) -> list[Found]:
    shards = []
    for index, split in enumerate(SPLITS):
        places = np.flatnonzero(splits == index)
        rows = np.zeros(len(places), HASHED)
        rows["hash"], rows["id_tail"] = hashes[places], places
        shards += [(split, rows[at : at + _SHARD].tobytes()) for at in range(0, len(rows), _SHARD)]
    plan = Plan(("A",), {"train": {"A": len(hashes)}}, {}, 0, {}, {})
    _FOUND.clear()
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        the_plan = beam.pvalue.AsSingleton(pipeline | "Plan" >> beam.Create([plan]))
        found = pipeline | "Shards" >> beam.Create(shards) | leakage.FindNearDuplicates(the_plan, "")
        _ = found | beam.Map(_keep)
    return list(_FOUND)


def _keep(found: Found) -> None:
    _FOUND.append(found)


def _check(kind: str, hashes: np.ndarray, splits: np.ndarray, found: list[Found], shown: list[Pair]) -> None:
    """Compares with brute force: the number of pairs with a sample, and (random) that what is shown is what was planted."""
    sample = np.arange(2_000)
    brute: Counter[int] = Counter()
    for place in sample:
        distance = np.bitwise_count(hashes ^ hashes[place])
        near = np.flatnonzero((distance <= 2) & (splits != splits[place]) & (np.arange(len(hashes)) > place))
        brute.update(distance[near].tolist())
    if kind == "random":
        planted = {frozenset((2 * pair, 2 * pair + 1)) for pair in range(_PLANTED)}
        assert {frozenset((int(pair.first_id, 16), int(pair.second_id, 16))) for pair in shown} == planted
        assert near_duplicates.pair_counts(found) == tuple(brute[distance] for distance in range(3))
    else:
        for pair in shown:
            one, other = int(pair.first_id, 16), int(pair.second_id, 16)
            assert np.bitwise_count(hashes[one] ^ hashes[other]) == pair.distance
            assert splits[one] != splits[other]
        assert all(near_duplicates.pair_counts(found)[distance] >= brute[distance] for distance in range(3))


if __name__ == "__main__":
    from benchmarks import near_duplicates as this_module

    this_module.main()
