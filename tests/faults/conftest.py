"""Folders on disk and in a bucket, images to convert, and the data set that an undisturbed conversion gives."""

from pathlib import Path

import pytest

from tests.conftest import files_of, labelled, write_images
from tests.faults.launch import Place, finish, start
from tests.gcs.bucket import Bucket


@pytest.fixture(scope="session")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 120 images in two given splits. They are large, so that there is time between two shards."""
    return write_images(tmp_path_factory.mktemp("faults") / "raw", labelled(30, "train", "test"), side=400)


@pytest.fixture(scope="session")
def undisturbed(raw: Path) -> dict[str, bytes]:
    """Name -> content of each file of the data set that a conversion with FLAGS gives."""
    output = raw.parent / "undisturbed/1.0.0"
    result = finish(start(raw, output))
    assert result.code == 0, result.err
    return files_of(output)


@pytest.fixture(params=["disk", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """An empty folder for a data set."""
    if request.param == "disk":
        return Place(str(tmp_path / "out/1.0.0"))
    bucket: Bucket = request.getfixturevalue("bucket")
    return Place(f"{bucket.uri}/out/1.0.0", bucket)
