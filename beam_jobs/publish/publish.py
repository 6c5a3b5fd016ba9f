"""Step 5: account for every input, refuse what must not be used, and write the manifest last, as releases.py allows."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, BinaryIO

from beam_jobs.elements import Plan, ShardResult
from beam_jobs.leakage import report
from beam_jobs.leakage.near_duplicates import Found
from beam_jobs.leakage.reported_pairs import LEAKAGE, reported_pairs
from beam_jobs.passing import status
from beam_jobs.publish.gate import account, gate, quarantine_lines
from beam_jobs.publish.page.page import dataset_page
from beam_jobs.publish.preview import contact_sheet, preview_images
from beam_jobs.publish.releases import (
    Release,
    announce,
    check_next,
    check_turn,
    claim,
    is_claimed,
    is_launched,
    published_by_another,
    read_published,
    sign,
)
from beam_jobs.settings.config import ConvertConfig
from beam_jobs.storage import storage
from beam_jobs.storage.parallel import begun, together
from beam_jobs.write import reuse
from beam_jobs.write.image_counts import PAGE
from beam_jobs.write.shards import shard_in_work
from schemas.dataset import MANIFEST, Manifest, Published, Shard
from schemas.errors import JobFailed
from schemas.interchange import interchange_files


def publish(
    _: Any,
    results: Iterable[ShardResult],
    near: Found,
    plan: Plan,
    config: ConvertConfig,
    release: Release,
    status_folder: str,
) -> None:
    """Checks the gate, moves the shards into place, and writes the other files and, last, the manifest."""
    with status.failures(status_folder, to_launcher=config.local):
        ordered = sorted(results, key=lambda result: (result.split, result.index))
        manifest = account(ordered, plan, config, release.revision)
        listed = storage.join(release.work, reuse.QUARANTINE)
        if manifest.inputs["quarantined"]:  # for people to look at if the gate fails the job
            storage.write_bytes(listed, quarantine_lines(ordered).encode())
        gate(manifest, config, listed)
        with storage.writing(config.output):
            acted_on = reported_pairs(config).pairs if config.near_duplicates_of else None
            leaks = report.report(near, plan, config.allow_group_overlap, acted_on)
            put_in_place(
                manifest, ordered, lambda: _companions(manifest, ordered, leaks, config, release), config, release
            )


def read_leakage(folder: str) -> Mapping[str, Any]:
    """The content of a published leakage.json."""
    content: Mapping[str, Any] = json.loads(storage.read_bytes(storage.join(folder, LEAKAGE)))
    return content


def _companions(
    manifest: Manifest, results: list[ShardResult], leaks: Mapping[str, Any], config: ConvertConfig, release: Release
) -> Iterator[tuple[str, bytes]]:
    """The names and contents of the files beside the manifest and the shards, which may be in place already."""

    def opened(shard: Shard) -> BinaryIO:
        try:
            return storage.open_binary(shard_in_work(release.work, shard))
        except FileNotFoundError:  # moved, by an interrupted run or another that publishes the same
            return storage.open_binary(storage.join(config.output, shard.file))

    for name, text in interchange_files(manifest, release.prefix).items():
        yield name, text.encode()
    yield LEAKAGE, f"{json.dumps(leaks, indent=1)}\n".encode()
    yield reuse.REUSE, reuse.reuse_json(config.fingerprint(), results).encode()
    yield reuse.QUARANTINE, quarantine_lines(results).encode()
    yield "preview.png", contact_sheet(preview_images(manifest, config.output, opened))
    yield PAGE, dataset_page(manifest, results, leaks).encode()


def put_in_place(
    manifest: Published,
    results: list[ShardResult],
    companions: Callable[[], Iterable[tuple[str, bytes]]],
    config: ConvertConfig,
    release: Release,
) -> None:
    """Moves the finished shards into place and writes the `companions` beside them and, last, the manifest. Raises
    JobFailed if another run publishes something else.

    In a bucket each request takes tens of milliseconds, so those that need not wait for each other do not: the companions
    are made while the folder is checked.
    """
    at_once = storage.reads_at_once(config.output)
    with begun(lambda: list(companions()), at_once) as made:
        over = _our_turn(manifest, results, config, release)
        if over is None:
            return
        moves = [partial(_move, result, config, release) for result in results]
        try:
            files = made()
        except JobFailed:  # another run, which publishes the same, has moved a shard while it was read
            together(moves, at_once)
            moves, files = [], list(companions())
        together([*moves, *(partial(_write, file, config, release) for file in files)], at_once)
    try:
        storage.write_bytes(_place_of(config), manifest.to_json().encode(), over=over, staging=release.work)
    except storage.AlreadyExistsError as error:
        now = read_published(config)
        # An equal manifest is ours: a retried upload finds what the first attempt wrote.
        if now is None or now.to_json() != manifest.to_json():
            raise published_by_another(config) from error
    if not config.local:  # the launcher, which deletes the work folder, may not wait for the job
        together([partial(storage.delete, shard_in_work(release.work, result.shard)) for result in results], at_once)


def _our_turn(manifest: Published, results: list[ShardResult], config: ConvertConfig, release: Release) -> int | None:
    """Checks that this run may publish, and announces what. The version of the manifest to replace, 0 without one; None if
    the same is published already. Raises JobFailed if another run publishes something else, or the launcher has ended."""
    at_once = storage.reads_at_once(config.output)
    looks: list[Callable[[], Any]] = [
        partial(storage.stat, _place_of(config), MANIFEST),
        *(partial(look, config, release) for look in (is_launched, is_claimed)),
    ]
    before, launched, claimed = together(looks, at_once)
    old = read_published(config) if before else None
    if old and old.to_json() == manifest.to_json():
        return None  # a runner that loses contact with a worker repeats this step
    # Check before the announcement too, because it would name the winner's shards as replaced.
    check_next(old, config, release)
    if not launched:  # not every engine does what it is told
        raise JobFailed(f"the command that launched this job was ended, so it publishes nothing in {config.output}")
    if not claimed:  # the job of a template has no launcher to make the claim
        claim(config, release)
    announce(manifest, quarantine_lines(results).encode(), old, config, release)
    # A run that publishes after this check finds our announcement, and one that published before is found by it.
    together([partial(sign, config, release), partial(check_turn, config, release)], at_once)
    return before.version if before else 0


def _place_of(config: ConvertConfig) -> str:
    return storage.join(config.output, MANIFEST)


def _move(result: ShardResult, config: ConvertConfig, release: Release) -> None:
    storage.put_in_place(shard_in_work(release.work, result.shard), storage.join(config.output, result.shard.file))


def _write(companion: tuple[str, bytes], config: ConvertConfig, release: Release) -> None:
    name, content = companion
    storage.write_bytes(storage.join(config.output, name), content, staging=release.work)
