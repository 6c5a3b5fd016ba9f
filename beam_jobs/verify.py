"""Re-reads a data set, or scores, against the manifest: `python -m beam_jobs.verify FOLDER`."""

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from tqdm import tqdm

from beam_jobs.reading.manifest import manifest_text, require_manifest
from beam_jobs.reading.shards import ShardReader
from beam_jobs.storage import storage
from schemas.dataset import Manifest, Shard
from schemas.errors import CommandParser, JobFailed, run_command
from schemas.example import DamagedRecord
from schemas.labels import can_be, positives
from schemas.scores import ScoresManifest, is_scores
from schemas.source import check_place

_THREADS = 4  # each reads one shard


def main(argv: Sequence[str]) -> None:
    """Prints the result, with a line for each damaged shard and for each file that looks like a shard but is not in the
    manifest. Raises JobFailed if a shard is damaged."""
    parser = CommandParser(
        "beam_jobs.verify", "Re-read every shard of a data set, or of scores, and compare it with the manifest."
    )
    parser.add_argument("dataset", metavar="DIR|gs://...", help="folder of the data set or the scores")
    folder = check_place("dataset", parser.parse_args(argv).dataset).rstrip("/")
    text = manifest_text(folder)
    if text is not None and is_scores(text):
        from beam_jobs.scoring.verify import verify_scores

        verify_scores(folder, ScoresManifest.from_json(text, folder))
        return
    manifest = require_manifest(folder)
    shards = [shard for split in manifest.splits for shard in manifest.shards(split)]
    with ThreadPoolExecutor(_THREADS) as pool:
        checks = pool.map(partial(check_shard, folder, manifest=manifest), shards)
        problems = list(tqdm(checks, total=len(shards), desc="verifying", unit=" shards", disable=None))
    damaged = sum(problem is not None for problem in problems)
    # Checked before any file is named, because the files may be intact.
    if damaged and require_manifest(folder).revision != manifest.revision:
        raise JobFailed(f"{folder} was overwritten while it was verified; verify it again")
    for shard, problem in zip(shards, problems, strict=True):
        if problem:
            print(f"damaged: {shard.file}: {problem}")
    for name in manifest.unlisted_shards(file.path for file in storage.list_files(folder, folder, recursive=False)):
        print(f"not in the manifest: {name} (readers ignore it)")
    if damaged:
        raise JobFailed(
            f"{damaged} of {len(shards)} shards in {folder} are damaged; copy or convert the data set again"
        )
    examples = sum(shard.examples for shard in shards)
    size = sum(shard.bytes for shard in shards)
    print(f"{folder} is intact: {len(shards)} shards, {examples:,} examples, {size:,} bytes")


def check_shard(folder: str, shard: Shard, manifest: Manifest) -> str | None:
    """What is wrong with a shard, or None: its size, SHA-256, record checksums, number of examples and labels."""
    try:
        with storage.open_binary(storage.join(folder, shard.file)) as file:
            reader = ShardReader(file, manifest.shape)
            of_records = check_records(reader, shard, manifest)
            reader.skip_rest()
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    problems = []
    if reader.bytes != shard.bytes:
        problems.append(f"{reader.bytes:,} bytes instead of {shard.bytes:,}")
    if reader.sha256 != shard.sha256:
        problems.append("its SHA-256 differs from the manifest's")
    elif shard.crc32c not in ("", reader.crc32c):
        problems.append("its CRC32C differs from the manifest's: the manifest is damaged")
    return "; ".join(problems + of_records) or None


def check_records(reader: ShardReader, shard: Shard, manifest: Manifest) -> list[str]:
    """What is wrong with the records of a shard: the first that is damaged, or else their number or their labels."""
    examples, labels = 0, [0] * len(manifest.classes)
    try:
        for _, example in reader.records():
            if not can_be(example.label, len(labels), manifest.label_kind):
                raise DamagedRecord(f"record {examples} has label {example.label}")
            examples += 1
            for index in positives(example.label):
                labels[index] += 1
    except DamagedRecord as error:
        return [str(error)]
    if examples != shard.examples:
        return [f"{examples} examples instead of {shard.examples}"]
    if tuple(labels) != shard.label_counts:
        return [f"label counts {tuple(labels)} instead of {shard.label_counts}"]
    return []


if __name__ == "__main__":
    sys.exit(run_command(main))
