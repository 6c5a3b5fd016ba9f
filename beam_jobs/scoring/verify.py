"""Re-reads published scores against their manifest."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import google_crc32c
import pyarrow
import pyarrow.parquet
from tqdm import tqdm

from beam_jobs.storage import storage
from schemas.dataset import Shard
from schemas.errors import JobFailed
from schemas.scores import ScoresManifest
from schemas.shard_name import PARQUET

_THREADS = 4  # each reads one shard


def verify_scores(folder: str, manifest: ScoresManifest) -> None:
    """Prints the result, with a line for each damaged shard. Raises JobFailed if there is one."""
    with ThreadPoolExecutor(_THREADS) as pool:
        checks = pool.map(partial(check_shard, folder, format=manifest.file_format), manifest.shards)
        problems = list(tqdm(checks, total=len(manifest.shards), desc="verifying", unit=" shards", disable=None))
    for shard, problem in zip(manifest.shards, problems, strict=True):
        if problem:
            print(f"damaged: {shard.file}: {problem}")
    if damaged := sum(problem is not None for problem in problems):
        raise JobFailed(
            f"{damaged} of {len(problems)} shards in {folder} are damaged; copy the scores or predict again"
        )
    size = sum(shard.bytes for shard in manifest.shards)
    print(f"{folder} is intact: {len(problems)} shards, {manifest.inputs['written']:,} rows, {size:,} bytes")


def check_shard(folder: str, shard: Shard, format: str) -> str | None:
    """What is wrong with a shard, or None: its size, checksums and number of rows."""
    try:
        data = storage.read_bytes(storage.join(folder, shard.file))
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        return f"cannot be read: {error.strerror or type(error).__name__}"
    if len(data) != shard.bytes:
        return f"{len(data)} bytes instead of {shard.bytes}"
    if hashlib.sha256(data).hexdigest() != shard.sha256 or f"{google_crc32c.value(data):08x}" != shard.crc32c:
        return "other bytes than were written"
    rows = data.count(b"\n")
    if format == PARQUET:
        rows = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(data)).metadata.num_rows
    return None if rows == shard.examples else f"{rows} rows instead of {shard.examples}"
