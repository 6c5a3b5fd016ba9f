"""Who may publish in an output folder, and what is left behind: the protocol of claims.

Launches may be killed at any moment, and several may run at once. Each publication of a folder (a *release*) has a work
folder of its own, `_work/r1` for the first, and that is the whole protocol:

    _work/r1/settings.json   made first, create-only: the settings of every run that works on this release (the job of a
                             Dataflow template, which has no launcher, makes it when it publishes)
    _work/r1/SHARD.SHA       finished shards, named by their content, so that no run changes what another one wrote
    _work/r1/release.json    made before anything moves into place, create-only: a hash of all that is to be published
    manifest.json            written last, only over the manifest of the release before

Runs of equal content help each other, any other one ends. A work folder whose release is published is rubbish, whoever
made it, and anybody may delete it. Any other only goes with the last launch at work in it, if that finished no shard.
"""

import hashlib
import json
from dataclasses import dataclass

from beam_jobs import storage
from beam_jobs.config import ConvertConfig
from beam_jobs.published import read_manifest
from schemas.dataset import Manifest
from schemas.errors import JobFailed, RadrecordsError, UsageError

_CONTENT = "release.json"
_CLAIM = "settings.json"
_LAUNCH = "launch-"
_OURS = "announced-"  # and the launch: what release.json tells is what this launch would publish, too


@dataclass(frozen=True)
class Release:
    """Which publication of the folder this is, and the folder of everything unfinished. The shards of a later one bear
    its number, so that those of the one before stay readable until the manifest changes."""

    revision: int
    prefix: str
    work: str


def release_of(config: ConvertConfig, revision: int) -> Release:
    """The release of that number in the output folder."""
    prefix = config.name if revision == 1 else f"{config.name}-r{revision}"
    return Release(revision, prefix, storage.join(config.work, f"r{revision}"))


def begin(config: ConvertConfig) -> Release | None:
    """Claims the next release of the output folder for these settings; None where an earlier run of the same command
    published and was stopped while it tidied up, which is done now. Raises UsageError where a data set is published there
    already, or where an unfinished conversion with other settings has begun there."""
    published = _published(config)
    if published:
        last = release_of(config, published.revision)
        stopped_late = _read(storage.join(last.work, _CLAIM)) == _claim_of(config)
        tidy(config, last)
        if stopped_late and not config.overwrite:  # which asks for a new conversion after any other
            return None
    release = _next_release(config, published)
    try:
        claim(config, release)
        storage.write_bytes(_launch_file(config, release), b"")
        claim(config, release)  # again: the last other launch may have ended, and taken its folder with it
    except OSError as error:
        storage.delete_if_empty(release.work, config.work)
        raise UsageError(f"--output {config.output} cannot be written: {error.strerror or error}") from error
    return release


def _launch_file(config: ConvertConfig, release: Release) -> str:
    return storage.join(release.work, _LAUNCH + config.launch)


def _launches(release: Release) -> list[str]:
    """The files of the launches that are at work on the release, or were killed at it."""
    try:
        files = list(storage.list_files(release.work, release.work, recursive=False))
    except JobFailed:  # there is no such folder
        return []
    return [file.uri for file in files if file.path.startswith(_LAUNCH)]


def unclaimed(config: ConvertConfig) -> Release:
    """The release of a job that is begun later, if ever: the job itself claims it, when it publishes. Raises UsageError
    where `begin` would."""
    release = _next_release(config, _published(config))
    _check_claim(config, release)
    return release


def _published(config: ConvertConfig) -> Manifest | None:
    try:
        return read_manifest(config.output)
    except UsageError as error:
        raise UsageError(f"--output: {error}, into a new version folder; or delete that file first") from error


def _next_release(config: ConvertConfig, published: Manifest | None) -> Release:
    if published and not config.overwrite:
        raise UsageError(
            f"--output {config.output} holds a published data set already; give a new version folder, or --overwrite"
        )
    return release_of(config, published.revision + 1 if published else 1)


def _claim_of(config: ConvertConfig) -> bytes:
    return config.fingerprint().encode()


def claim(config: ConvertConfig, release: Release) -> None:
    """Makes the release one of these settings. Raises UsageError where it is one of others."""
    try:
        storage.write_bytes(storage.join(release.work, _CLAIM), _claim_of(config), create_only=True)
    except storage.AlreadyExistsError:
        _check_claim(config, release)


def _check_claim(config: ConvertConfig, release: Release) -> None:
    if _read(storage.join(release.work, _CLAIM)) not in (
        _claim_of(config),
        None,
    ):  # None: nobody's, or deleted meanwhile
        raise UsageError(
            f"{config.work} holds an unfinished conversion with other settings; finish it with its own flags, "
            "or delete that folder, if no run is at work in it"
        )


def abandon(config: ConvertConfig, release: Release) -> bool:
    """After a run that failed: whether its release is published, by whomever. Leaves nothing behind then, and nothing of
    the last launch at work in the folder if no shard is finished."""
    try:
        published = read_manifest(config.output)
        if published and published.revision >= release.revision:
            tidy(config, release)
            return True
        own = _launch_file(config, release)
        if not storage.exists(own):  # it had not begun: nothing here is its own
            return False
        storage.delete(own)
        finished = any(".tfrecord-" in file.path for file in storage.list_files(release.work, release.work))
        if not finished and not _launches(release):
            storage.delete_folder(release.work)
            storage.delete_if_empty(config.work, config.output)
    except (RadrecordsError, OSError):  # the disk or the bucket that failed the run: its own error says more
        pass
    return False


def is_ours(config: ConvertConfig, release: Release) -> bool:
    """Whether this launch has announced what is published: a runner may fail, or be told so wrongly, after that."""
    try:
        published = read_manifest(config.output)
        announced = storage.exists(storage.join(release.work, _OURS + config.launch))
    except RadrecordsError:
        return False
    return announced and published is not None and published.revision == release.revision


def after_interrupt(config: ConvertConfig) -> str:
    """Leaves behind a run that was killed on purpose what `abandon` leaves, and says what is published."""
    try:
        published = read_manifest(config.output)
        release = release_of(config, published.revision + 1 if published else 1)
        if published and not storage.exists(storage.join(release.work, _CLAIM)):  # it was through, or had not begun
            return f"interrupted; {config.output} holds a published data set"
        abandon(config, release)
    except (RadrecordsError, OSError):
        return "interrupted"
    return "interrupted; nothing was published; the same command again goes on"


def tidy(config: ConvertConfig, release: Release) -> None:
    """Deletes what is left of a published release: the shards that it replaced, and its work folder."""
    content = _read(storage.join(release.work, _CONTENT))
    if content is not None:
        for file in json.loads(content)["replaces"]:
            storage.delete(storage.join(config.output, file))
    # The claim last: it tells a later run of the same settings that there is something left to do.
    storage.delete_folder(release.work, last=_CLAIM)
    storage.delete_if_empty(config.work)


def _read(uri: str) -> bytes | None:
    try:
        return storage.read_bytes(uri)
    except (FileNotFoundError, NotADirectoryError):
        return None


def lost(config: ConvertConfig) -> JobFailed:
    """The error of a run that another one forestalled."""
    return JobFailed(f"{config.output} was published by another run meanwhile; this one changed nothing")


def check_turn(published: Manifest | None, config: ConvertConfig, release: Release) -> None:
    """Raises JobFailed where the release is not the one that comes next any more."""
    if (published.revision if published else 0) != release.revision - 1:
        raise lost(config)


def announce(
    manifest: Manifest, quarantine: bytes, old: Manifest | None, config: ConvertConfig, release: Release
) -> None:
    """Says what this release is to hold. Raises JobFailed where another run has said something else."""
    kept = {shard.file for shards in manifest.splits.values() for shard in shards}
    replaced = [shard.file for shards in (old.splits if old else {}).values() for shard in shards]
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
                f"another run publishes other images in {config.output}; this one changed nothing. If none is at work, "
                f"one was stopped while it published and the images were changed then: delete {config.work}, and run again"
            ) from None
    storage.write_bytes(storage.join(release.work, _OURS + config.launch), b"")
