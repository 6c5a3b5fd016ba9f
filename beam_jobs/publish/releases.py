"""Who may publish in an output folder, and who cleans up: the protocol of claims.

Launches may be killed at any time, and several may run at once. Each publication of a folder (a *release*) has its
own work folder, `_work/r1` for the first. The whole protocol is:

    _work/r1/settings.json   made first, create-only: the settings of every run that works on this release (the job of a
                             Dataflow template, which has no launcher, makes it when it publishes)
    _work/r1/launch-ID       made by each launcher, and deleted if it ends its job, which then publishes nothing
    _work/r1/SHARD.SHA       finished shards, named by their content, so that no run changes what another run wrote
    _work/r1/release.json    made before anything moves into place, create-only: a hash of all that will be published
    manifest.json            written last, only over the manifest of the previous release

Runs with equal content help each other; any other run ends. The work folder of a published release is garbage, whoever
made it, and any run may delete it. Any other work folder is deleted only by the last launch that works in it, and only
if no shard is finished.
"""

import hashlib
import json
from dataclasses import dataclass, replace

from beam_jobs.reading.manifest import manifest_text
from beam_jobs.settings.config import ConvertConfig
from beam_jobs.storage import storage
from schemas.dataset import Published
from schemas.errors import JobFailed, RadrecordsError, UsageError
from schemas.shard_name import is_shard

_CONTENT = "release.json"
_CLAIM = "settings.json"
_LAUNCH = "launch-"
_OURS = "announced-"  # followed by the name of a launch that would publish what release.json says


@dataclass(frozen=True)
class Release:
    """One publication of the folder, and its folder of unfinished work. The names of a later release's shards contain its
    number, so that the shards of the previous release stay readable until the manifest changes. `launched`: a launcher
    waits for the job (none waits for the job of a Dataflow template)."""

    revision: int
    prefix: str
    work: str
    launched: bool = True


def release_of(config: ConvertConfig, revision: int) -> Release:
    """Release number `revision` of the output folder."""
    prefix = config.name if revision == 1 else f"{config.name}-r{revision}"
    return Release(revision, prefix, storage.join(config.work, f"r{revision}"))


def next_release(config: ConvertConfig) -> Release | None:
    """The next release of the output folder, for `enter`. None if an earlier run of the same command published and was
    stopped during its clean-up, which this call finishes. Raises UsageError if a data set is already published there."""
    published = _published(config)
    if published:
        last = release_of(config, published.revision)
        stopped_late = _read(storage.join(last.work, _CLAIM)) == _claim_of(config)
        tidy(config, last)
        if stopped_late and not config.overwrite:  # --overwrite asks for a new conversion
            return None
    return _after(config, published)


def enter(config: ConvertConfig, release: Release) -> None:
    """Claims the release for these settings, and notes that this launch works on it. Raises UsageError if the folder holds
    an unfinished conversion with other settings, or cannot be written."""
    try:
        claim(config, release)
        storage.write_bytes(_launch_file(config, release), b"")
        if not is_claimed(config, release):  # the last other launch has ended and deleted the folder
            claim(config, release)
    except OSError as error:
        storage.delete_if_empty(release.work, config.work)
        raise UsageError(f"--output {config.output} cannot be written: {error.strerror or error}") from error


def _launch_file(config: ConvertConfig, release: Release) -> str:
    return storage.join(release.work, _LAUNCH + config.launch)


def _launches(release: Release) -> list[str]:
    """The files of the launches that are working on the release, or were killed."""
    try:
        files = list(storage.list_files(release.work, release.work, recursive=False))
    except JobFailed:  # there is no such folder
        return []
    return [file.uri for file in files if file.path.startswith(_LAUNCH)]


def unclaimed(config: ConvertConfig) -> Release:
    """The release of a job that may start later. The job itself claims it when it publishes. Raises UsageError
    where `next_release` or `enter` would."""
    release = replace(_after(config, _published(config)), launched=False)
    _check_claim(config, release)
    return release


def read_published(config: ConvertConfig) -> Published | None:
    """The manifest in the output folder, or None if nothing is published there. Raises UsageError if it cannot be read, or
    is that of something else."""
    text = manifest_text(config.output)
    return None if text is None else config.manifest_type.from_json(text, config.output)


def _published(config: ConvertConfig) -> Published | None:
    try:
        return read_published(config)
    except UsageError as error:
        raise UsageError(f"--output: {error}; give a new version folder, or delete that file first") from error


def _after(config: ConvertConfig, published: Published | None) -> Release:
    if published and not config.overwrite:
        raise UsageError(
            f"--output {config.output} already holds {config.published}; give a new version folder, or --overwrite"
        )
    return release_of(config, published.revision + 1 if published else 1)


def _claim_of(config: ConvertConfig) -> bytes:
    return config.fingerprint().encode()


def claim(config: ConvertConfig, release: Release) -> None:
    """Claims the release for these settings. Raises UsageError if other settings have claimed it."""
    try:
        storage.write_bytes(storage.join(release.work, _CLAIM), _claim_of(config), create_only=True)
    except storage.AlreadyExistsError:
        _check_claim(config, release)


def is_claimed(config: ConvertConfig, release: Release) -> bool:
    """Whether the release is claimed for these settings."""
    return _read(storage.join(release.work, _CLAIM)) == _claim_of(config)


def _check_claim(config: ConvertConfig, release: Release) -> None:
    # None: it is unclaimed, or the claim was deleted in the meantime.
    if _read(storage.join(release.work, _CLAIM)) not in (_claim_of(config), None):
        raise UsageError(
            f"{config.work} holds {config.unfinished}; finish it with its own flags, "
            "or delete that folder if no run is using it"
        )


def abandon(config: ConvertConfig, release: Release) -> bool:
    """Cleans up after a failed run. Returns whether its release is published, by any run. The work folder is deleted if
    it is, or if this is the last launch that works in the folder and no shard is finished."""
    try:
        published = read_published(config)
        if published and published.revision >= release.revision:
            tidy(config, release)
            return True
        own = _launch_file(config, release)
        if not storage.exists(own):  # this launch had not started, so nothing here belongs to it
            return False
        storage.delete(own)
        finished = any(is_shard(file.path) for file in storage.list_files(release.work, release.work))
        if not finished and not _launches(release):
            storage.delete_folder(release.work)
            storage.delete_if_empty(config.work, config.output)
    except (RadrecordsError, OSError):  # the disk or bucket that failed the run: the first error says more
        pass
    return False


def is_ours(config: ConvertConfig, release: Release) -> bool:
    """Whether this launch announced what is published. A runner may fail, or report a failure, after that."""
    try:
        published = read_published(config)
        announced = storage.exists(storage.join(release.work, _OURS + config.launch))
    except RadrecordsError:
        return False
    return announced and published is not None and published.revision == release.revision


def after_interrupt(config: ConvertConfig) -> str:
    """Cleans up after a run that was killed on purpose, as `abandon` does, and says what is published."""
    try:
        published = read_published(config)
        release = release_of(config, published.revision + 1 if published else 1)
        # Without a claim, the run had finished or had not started.
        if published and not storage.exists(storage.join(release.work, _CLAIM)):
            return f"interrupted; {config.output} holds {config.published}"
        abandon(config, release)
    except (RadrecordsError, OSError):
        return "interrupted"
    return "interrupted; nothing was published; run the same command again to continue"


def tidy(config: ConvertConfig, release: Release) -> None:
    """Cleans up after a published release: deletes the shards that it replaced, and its work folder."""
    # The first release replaces nothing.
    content = _read(storage.join(release.work, _CONTENT)) if release.revision > 1 else None
    if content is not None:
        for file in json.loads(content)["replaces"]:
            storage.delete(storage.join(config.output, file))
    # The claim goes last: it shows a later run of the same settings that the clean-up is not finished.
    storage.delete_folder(release.work, last=_CLAIM)
    storage.delete_if_empty(config.work)


def _read(uri: str) -> bytes | None:
    try:
        return storage.read_bytes(uri)
    except (FileNotFoundError, NotADirectoryError):
        return None


def published_by_another(config: ConvertConfig) -> JobFailed:
    """The error of a run that found the folder already published by another run."""
    return JobFailed(f"{config.output} was published by another run in the meantime; this run changed nothing")


def check_turn(config: ConvertConfig, release: Release) -> None:
    """Raises JobFailed if the release is no longer the next one."""
    check_next(read_published(config), config, release)


def check_next(published: Published | None, config: ConvertConfig, release: Release) -> None:
    """Raises JobFailed if the release does not follow what is `published`."""
    if (published.revision if published else 0) != release.revision - 1:
        raise published_by_another(config)


def is_launched(config: ConvertConfig, release: Release) -> bool:
    """Whether nobody has ended the job: its launcher goes on, or it has none."""
    return not release.launched or storage.exists(_launch_file(config, release))


def announce(
    manifest: Published, quarantine: bytes, old: Published | None, config: ConvertConfig, release: Release
) -> None:
    """Announces the content of this release. Raises JobFailed if another run has announced other content."""
    kept = {shard.file for shard in manifest.every_shard}
    replaced = [shard.file for shard in (old.every_shard if old else ())]
    content = {
        "sha256": hashlib.sha256(manifest.to_json().encode() + quarantine).hexdigest(),
        "replaces": [file for file in replaced if file not in kept],
    }
    said = storage.join(release.work, _CONTENT)
    try:
        storage.write_bytes(said, json.dumps(content).encode(), create_only=True)
    except storage.AlreadyExistsError:
        if _read(said) not in (json.dumps(content).encode(), None):
            raise JobFailed(
                f"another run is publishing other images in {config.output}; this run changed nothing. If no run is active, "
                f"one was stopped while publishing and the images have changed since: delete {config.work} and run again"
            ) from None


def sign(config: ConvertConfig, release: Release) -> None:
    """Notes that this launch announced the same content; see `is_ours`."""
    storage.write_bytes(storage.join(release.work, _OURS + config.launch), b"")
