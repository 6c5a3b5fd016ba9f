"""A data set that is overwritten while others read it, or converted again into another folder."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from beam_jobs import verify
from schemas.errors import JobFailed
from tests.conftest import Result, files_of, manifest_of
from tests.faults.launch import Place, finish, start
from training.reading.records import check_shards, open_dataset, open_split

pytestmark = pytest.mark.faults


def test_readers_see_the_old_or_the_new_data_set(place: Place, raw: Path, command: Callable[..., Result]) -> None:
    assert finish(start(raw, place.uri)).code == 0
    launch = start(raw, place.uri, "--overwrite", "--image_size", "32")
    seen: set[str] = set()
    while launch.process.poll() is None or not seen:
        result = command(verify.main, place.uri)
        assert result.code == 0 or "was overwritten while it was verified; verify it again" in result.err, result
        seen.add(result.out.rsplit(":")[-1])
    assert finish(launch).code == 0
    result = command(verify.main, place.uri)
    assert result.code == 0
    assert "not in the manifest" not in result.out
    seen.add(result.out.rsplit(":")[-1])
    assert len(seen - {""}) == 2, seen  # its sizes before and after, and nothing in between


def test_training_sees_the_old_or_the_new_data_set(tmp_path: Path, raw: Path) -> None:
    output = tmp_path / "1.0.0"
    assert finish(start(raw, output)).code == 0
    launch = start(raw, output, "--overwrite", "--image_size", "32")
    waiting = threading.Thread(target=launch.process.wait)
    waiting.start()
    revisions, through = set(), False
    while not through:
        through = not waiting.is_alive()
        manifest = open_dataset(str(output))
        revisions.add(manifest.revision)
        try:
            check_shards([open_split(str(output), manifest, name) for name in manifest.splits], checksums=True)
        except JobFailed as error:
            assert "has been overwritten since it was opened" in str(error)  # noqa: PT017 - it may also not be raised
    assert finish(launch).code == 0
    assert revisions == {1, 2}


def test_a_new_version_with_another_number_of_shards_leaves_the_old_one_unchanged(
    tmp_path: Path, raw: Path, undisturbed: dict[str, bytes], command: Callable[..., Result]
) -> None:
    assert finish(start(raw, tmp_path / "1.0.0")).code == 0
    assert finish(start(raw, tmp_path / "1.1.0", "--shards", "2")).code == 0
    assert files_of(tmp_path / "1.0.0") == undisturbed
    assert command(verify.main, tmp_path / "1.0.0").code == 0
    assert command(verify.main, tmp_path / "1.1.0").code == 0
    new = manifest_of(tmp_path / "1.1.0")
    assert {len(split["shards"]) for split in new["splits"].values()} == {2}
    assert new["inputs"] == manifest_of(tmp_path / "1.0.0")["inputs"]
