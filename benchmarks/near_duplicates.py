"""How long does the search for near-duplicates take? `python -m benchmarks.near_duplicates [--records 1000000]`

Runs the job's own transform in the in-memory runner, on signatures of three kinds: random ones, ones that share most signs
(as exposures of one view do), and equal ones. Known pairs are planted in the first two, and each of them must be found.
"""

import argparse
import json
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import apache_beam as beam
import numpy as np
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner

from beam_jobs.elements import Plan
from beam_jobs.leakage import near_duplicates, search
from beam_jobs.leakage.crowds import HASHED, Rows
from beam_jobs.leakage.near_duplicates import Found
from beam_jobs.leakage.signature import KEY_BITS
from beam_jobs.passing.blocks import kept_in
from schemas.dataset import SPLITS
from schemas.scratch import scratch_folder

_SHARD = 24_000  # records of 64x64 in a shard of about 100 MiB
_PLANTED = 300  # pairs
_FOUND: list[Found] = []  # where the pipeline, which runs in this process, leaves its result


def main() -> None:
    """Prints seconds and memory for each kind of signatures, and writes them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/near_duplicates.json"))
    flags = parser.parse_args()
    results = {}
    for kind, turned in (("random", 0.5), ("alike", 0.25), ("equal", 0.0)):
        with scratch_folder() as folder:
            shards = _write(_signatures(np.random.default_rng(0), flags.records, turned), folder)
            # In a new process, so that the peak is that of the search.
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as new:
                found, seconds, peak = new.submit(_search, shards, flags.records, folder).result()
        if turned:
            shown = {(int(pair.first_id, 16), int(pair.second_id, 16)) for pair in near_duplicates.pairs_of(found)}
            missed = {pair for pair in _planted() if pair not in shown and pair[::-1] not in shown}
            assert not missed, missed
        total = sum(found.by_distance)
        results[kind] = {"records": flags.records, "seconds": seconds, "pairs": total, "peak_mib": peak}
        print(
            f"{kind}: {flags.records:,} signatures in {seconds:.1f} s, {total:,} pairs, peak {peak:,} MiB", flush=True
        )
    flags.json.write_text(json.dumps(results, indent=1) + "\n")


def _planted() -> list[tuple[int, int]]:
    return [(2 * pair, 2 * pair + 1) for pair in range(_PLANTED)]


def _signatures(rng: np.random.Generator, count: int, turned: float) -> Rows:
    """`count` rows made from one signature: in each row, each sign is flipped with the probability `turned`. In a planted
    pair, record 2k + 1 is like record 2k, with three signs flipped."""
    rows = np.zeros(count, HASHED)
    rows["id_tail"] = np.arange(count)
    signatures = rows["signature"]
    for kind in (signatures["plain"], *signatures["cropped"].transpose(1, 0, 2)):
        words = np.full((count, 4), 0x0123_4567_89AB_CDEF, np.uint64)
        for bit in range(64 if turned else 0):
            words ^= (rng.random((count, 4), np.float32) < turned).astype(np.uint64) << np.uint64(bit)
        for one, other in _planted() if turned else ():
            words[other] = words[one] ^ np.array([3, 0, 0, 1 << 40], np.uint64)
        kind[:] = words
    key = [bit for bit in range(64) if KEY_BITS >> bit & 1]
    weak = rng.integers(0, len(key) - 1, (count, 4, 1)) if turned else np.zeros((count, 4, 1), int)
    rows["signature"]["weak"] = np.array(key)[np.concatenate([weak, weak + 1], axis=2)]
    return rows


def _write(rows: Rows, folder: str) -> list[tuple[str, str]]:
    """Writes the rows as shards. Returns (split, file) of each shard."""
    shards = []
    for index, split in enumerate(SPLITS):
        some = rows[index :: len(SPLITS)]
        for at in range(0, len(some), _SHARD):
            shards.append((split, f"{folder}/{split}{at}"))
            some[at : at + _SHARD].tofile(shards[-1][1])
    return shards


def _search(shards: list[tuple[str, str]], records: int, folder: str) -> tuple[Found, float, int]:
    """What was found, the seconds that it took, and the peak memory of this process, in MiB."""
    start = time.perf_counter()
    plan = Plan(("A",), {"train": {"A": records}}, {}, 0, {}, {})
    with kept_in(folder), beam.Pipeline(runner=FnApiRunner()) as pipeline:
        the_plan = beam.pvalue.AsSingleton(pipeline | "Plan" >> beam.Create([plan]))
        signatures = pipeline | "Shards" >> beam.Create(shards) | "Read" >> beam.MapTuple(_read)
        _ = signatures | search.FindNearDuplicates(the_plan) | "Keep" >> beam.Map(_keep)
    status = Path("/proc/self/status").read_text()  # not ru_maxrss, which starts at the parent's peak
    peak = int(status.split("VmHWM:")[1].split()[0]) >> 10
    return _FOUND[0], time.perf_counter() - start, peak


def _keep(found: Found) -> None:
    _FOUND.append(found)


def _read(split: str, path: str) -> tuple[str, bytes]:
    return split, Path(path).read_bytes()


if __name__ == "__main__":
    from benchmarks import near_duplicates as this_module

    this_module.main()
