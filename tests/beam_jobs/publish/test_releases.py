"""Releases: what runs leave behind that were stopped, were overtaken by another run, or found other images."""

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from beam_jobs import pipeline
from beam_jobs.flags import config_of, parser
from beam_jobs.pipeline import run
from beam_jobs.publish import releases
from beam_jobs.settings.config import ConvertConfig
from beam_jobs.storage import storage
from schemas.errors import JobFailed
from tests.conftest import Result, files_of, labelled, manifest_of, write_images

Convert = Callable[..., Result]


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return write_images(tmp_path / "raw", labelled(6), side=8)


def config(raw: Path, output: Path, *flags: str) -> ConvertConfig:
    return config_of(parser().parse_args(["--input", str(raw), "--output", str(output), *flags]), local=True)


def test_a_run_that_was_stopped_during_its_clean_up_succeeds_when_run_again(
    tmp_path: Path, raw: Path, convert: Convert
) -> None:
    assert convert(raw, tmp_path / "out").code == 0
    assert convert(raw, tmp_path / "out", "--overwrite").code == 0
    published = files_of(tmp_path / "out")
    work = tmp_path / "out/_work/r2"
    work.mkdir(parents=True)
    (work / "settings.json").write_text(config(raw, tmp_path / "out").fingerprint())
    (work / "launch-0123").write_bytes(b"")
    (work / "release.json").write_text(json.dumps({"sha256": "", "replaces": ["old.tfrecord"]}))
    (tmp_path / "out/old.tfrecord").write_bytes(b"replaced")
    again = convert(raw, tmp_path / "out")
    assert again.code == 0, again.err
    assert "12 listed = 12 written" in again.out
    assert files_of(tmp_path / "out") == published


def test_the_next_command_deletes_leftovers_of_a_published_release(tmp_path: Path, raw: Path, convert: Convert) -> None:
    assert convert(raw, tmp_path / "out").code == 0
    published = files_of(tmp_path / "out")
    (tmp_path / "out/_work/r1").mkdir(parents=True)
    (tmp_path / "out/_work/r1/.half.tmp").write_bytes(b"half")
    assert "holds a published data set" in convert(raw, tmp_path / "out").error
    assert files_of(tmp_path / "out") == published
    assert not (tmp_path / "out/_work").exists()


def begun(settings: ConvertConfig) -> releases.Release | None:
    """The release in which a launch with these settings works from now on."""
    release = releases.next_release(settings)
    if release:
        releases.enter(settings, release)
    return release


def test_an_overtaken_run_changes_neither_the_published_release_nor_the_next_one(
    tmp_path: Path, raw: Path, convert: Convert
) -> None:
    slow = config(raw, tmp_path / "out")
    release = begun(slow)
    assert release
    assert convert(raw, tmp_path / "out").code == 0
    next_settings = config(raw, tmp_path / "out", "--overwrite", "--image_size", "32")
    following = begun(next_settings)
    assert following
    (tmp_path / "out/_work/r1").mkdir()
    (tmp_path / "out/_work/r1/cxr-train.tfrecord-00000-of-00001.0123").write_bytes(b"late")
    before = files_of(tmp_path / "out")
    assert releases.abandon(slow, release)
    assert before.keys() - files_of(tmp_path / "out") == {"_work/r1/cxr-train.tfrecord-00000-of-00001.0123"}
    assert not releases.abandon(next_settings, following)
    assert not (tmp_path / "out/_work").exists()


def test_an_overtaken_run_with_other_images_deletes_nothing_that_was_published(
    tmp_path: Path, convert: Convert
) -> None:
    raw, folder = write_images(tmp_path / "raw", labelled(6, "train", "test"), side=8), tmp_path / "told"
    slow = config(raw, tmp_path / "out")
    release = begun(slow)
    assert convert(raw, tmp_path / "out").code == 0
    published = files_of(tmp_path / "out")
    shutil.rmtree(raw / "test")  # the slow run would publish no test split, but it must not delete the published one
    folder.mkdir()
    with pytest.raises(JobFailed, match="was published by another run in the meantime"):
        run(slow, release, str(folder), PipelineOptions([]))
    assert release
    assert releases.abandon(slow, release)
    assert files_of(tmp_path / "out") == published


def test_publishing_twice_has_the_same_result_as_publishing_once(tmp_path: Path, raw: Path) -> None:
    made = config(raw, tmp_path / "out")
    release = begun(made)
    assert release
    (tmp_path / "told").mkdir()
    run(made, release, str(tmp_path / "told"), PipelineOptions([]))
    published = {name: content for name, content in files_of(tmp_path / "out").items() if not name.startswith("_work/")}
    run(made, release, str(tmp_path / "told"), PipelineOptions([]))  # as a runner does if it lost track of the step
    releases.tidy(made, release)
    assert files_of(tmp_path / "out") == published


def test_an_interrupt_keeps_published_files_and_finished_shards(tmp_path: Path, raw: Path, convert: Convert) -> None:
    first, second = config(raw, tmp_path / "out"), config(raw, tmp_path / "out", "--overwrite", "--shards", "2")
    nothing = "interrupted; nothing was published; run the same command again to continue"
    for _ in range(2):  # first before it has started, then before a shard is finished
        assert releases.after_interrupt(first) == nothing
        assert not (tmp_path / "out").exists()
        assert begun(first)
    assert convert(raw, tmp_path / "out").code == 0
    published = files_of(tmp_path / "out")
    assert releases.after_interrupt(first) == f"interrupted; {tmp_path}/out holds a published data set"
    assert begun(second)
    shard = tmp_path / "out/_work/r2/cxr-r2-train.tfrecord-00000-of-00002.0123"
    shard.write_bytes(b"finished")
    assert releases.after_interrupt(second) == nothing
    assert sorted(path.name for path in shard.parent.iterdir()) == [shard.name, "settings.json"]
    assert published.items() <= files_of(tmp_path / "out").items()


def test_a_run_fails_if_another_one_is_publishing_other_images(tmp_path: Path, raw: Path, convert: Convert) -> None:
    said = tmp_path / "out/_work/r1/release.json"
    said.parent.mkdir(parents=True)
    said.write_text(json.dumps({"sha256": "of other images", "replaces": []}))
    result = convert(raw, tmp_path / "out")
    assert result.code == 1
    assert "another run is publishing other images" in result.error
    assert not list((tmp_path / "out").glob("cxr-*"))
    assert not (tmp_path / "out/manifest.json").exists()


def test_a_job_that_goes_on_after_its_launcher_has_ended_it_publishes_nothing(tmp_path: Path, raw: Path) -> None:
    made = config(raw, tmp_path / "out")
    release = begun(made)
    assert release
    assert not releases.abandon(made, release)
    (tmp_path / "status").mkdir()
    with pytest.raises(JobFailed, match="the command that launched this job was ended, so it publishes nothing in"):
        run(made, release, str(tmp_path / "status"), PipelineOptions([]))
    assert not (tmp_path / "out/manifest.json").exists()


def test_several_threads_can_delete_a_folder_at_once(tmp_path: Path) -> None:
    for n in range(300):
        storage.write_bytes(str(tmp_path / f"work/{n}"), b"x")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: storage.delete_folder(str(tmp_path / "work"), last="7"), range(8)))
    assert not (tmp_path / "work").exists()


def test_a_write_over_another_version_is_refused(tmp_path: Path) -> None:
    target = str(tmp_path / "file")
    storage.write_bytes(target, b"first", create_only=True)
    found = storage.stat(target, "")
    assert found
    storage.write_bytes(target, b"second", over=found.version)
    for version in (0, found.version):
        with pytest.raises(storage.AlreadyExistsError):
            storage.write_bytes(target, b"third", over=version)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"second"]


@pytest.mark.parametrize("end", ["failure", "interrupt"])
def test_a_launch_that_ends_early_keeps_the_work_of_an_identical_launch(tmp_path: Path, raw: Path, end: str) -> None:
    def stop(settings: ConvertConfig, release: releases.Release) -> None:
        releases.abandon(settings, release) if end == "failure" else releases.after_interrupt(settings)

    first, second, third = (config(raw, tmp_path / "out") for _ in range(3))
    release = begun(first)
    assert release
    assert begun(second) == release
    (Path(release.work) / ".0123.tmp").write_bytes(b"half a shard")
    before = set(files_of(Path(release.work)))
    stop(third, release)  # it had not started
    assert set(files_of(Path(release.work))) == before
    stop(first, release)
    assert before - set(files_of(Path(release.work))) == {f"launch-{first.launch}"}
    stop(second, release)  # the last one, with no shard finished
    assert not (tmp_path / "out").exists()


def test_overwrite_converts_again_even_if_an_earlier_run_left_its_claim(
    tmp_path: Path, raw: Path, convert: Convert
) -> None:
    assert convert(raw, tmp_path / "out").code == 0
    for revision in (2, 3):
        claim = tmp_path / f"out/_work/r{revision - 1}/settings.json"
        claim.parent.mkdir(parents=True)
        claim.write_text(config(raw, tmp_path / "out", "--overwrite").fingerprint())  # as a template's job leaves it
        assert convert(raw, tmp_path / "out", "--overwrite").code == 0
        assert manifest_of(tmp_path / "out")["revision"] == revision
        assert not (tmp_path / "out/_work").exists()


def test_the_same_overwrite_command_reads_the_images_again_after_a_kill(
    tmp_path: Path, raw: Path, convert: Convert
) -> None:
    assert convert(raw, tmp_path / "out").code == 0
    killed = config(raw, tmp_path / "out", "--overwrite")
    release = begun(killed)
    assert release
    run(killed, release, str(tmp_path), PipelineOptions([]))  # and was killed before it cleaned up
    assert manifest_of(tmp_path / "out")["revision"] == 2
    write_images(raw, {"NORMAL/more.png": 99}, side=8)
    assert "13 listed = 13 written" in convert(raw, tmp_path / "out", "--overwrite").out
    assert manifest_of(tmp_path / "out")["revision"] == 3
    assert not (tmp_path / "out/_work").exists()


def test_a_run_succeeds_if_its_runner_fails_after_the_manifest_is_written(
    tmp_path: Path, raw: Path, convert: Convert, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_and_fail(*arguments: Any) -> None:
        run(*arguments)
        raise JobFailed("the runner lost sight of its workers")

    monkeypatch.setattr(pipeline, "run", run_and_fail)
    result = convert(raw, tmp_path / "out")
    assert result.code == 0, result.err
    assert "published cxr" in result.out
    assert not (tmp_path / "out/_work").exists()


def test_a_retried_manifest_upload_is_not_taken_for_another_run(
    tmp_path: Path, raw: Path, convert: Convert, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = storage.write_bytes

    def written_and_tried_again(uri: str, data: bytes, **options: Any) -> None:
        write(uri, data, **options)
        if uri.endswith("manifest.json"):
            raise storage.AlreadyExistsError(uri)  # as a bucket answers 412 to a retried upload

    monkeypatch.setattr(storage, "write_bytes", written_and_tried_again)
    result = convert(raw, tmp_path / "out")
    assert result.code == 0, result.err


def test_a_damaged_manifest_in_the_output_is_reported_with_what_to_do(
    tmp_path: Path, raw: Path, convert: Convert
) -> None:
    manifest = tmp_path / "out/manifest.json"
    manifest.parent.mkdir()
    manifest.write_text("{")
    result = convert(raw, tmp_path / "out", "--overwrite")
    assert result.code == 2
    assert f"error: --output: {manifest} is damaged" in result.error
    assert result.error.endswith("; give a new version folder, or delete that file first")
    manifest.unlink()
    assert convert(raw, tmp_path / "out", "--overwrite").code == 0
