"""How local files are listed and read. tests/gcs covers buckets."""

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from time import sleep

import pytest

from beam_jobs.discover.prefixes import list_prefix, list_prefixes
from beam_jobs.storage import storage
from schemas.errors import JobFailed
from schemas.source import File
from tests.conftest import Result, labelled, manifest_of, write_images


def test_linked_folders_are_listed_and_cycles_end(tmp_path: Path) -> None:
    raw, elsewhere = tmp_path / "raw", tmp_path / "elsewhere"
    for name in ("raw/train/A/1.png", "raw/train/A/patient/2.png", "elsewhere/deep/3.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (raw / "train/A/patient/linked").symlink_to(elsewhere)
    (raw / "train/A/patient/back").symlink_to(raw / "train")
    (raw / "train/A/round").symlink_to("round")
    found = {file.path: file.size for file in storage.list_files(str(raw), str(raw))}
    assert found == {
        "train/A/1.png": 1,
        "train/A/patient/2.png": 1,
        "train/A/patient/linked/deep/3.png": 1,
        "train/A/round": -1,
    }


@pytest.mark.parametrize("most", [1, 3, 8, 1000])
def test_the_parts_of_a_listing_hold_every_file_once(tmp_path: Path, most: int) -> None:
    names = ["0.png", "train/1.png"] + [
        f"{a}/{b}/{c}/{n}.png" for a in ("train", "x") for b in "ab" for c in "cd" for n in "12"
    ]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    parts = list_prefixes(str(tmp_path), most=most)
    assert len(parts) <= most + 1
    listed = [file.path for part in parts for block in list_prefix(part, str(tmp_path)) for file in block]
    assert sorted(listed) == sorted(names)


def test_a_file_is_written_although_the_folder_is_deleted_meanwhile(tmp_path: Path) -> None:
    """As when another launch ends, and its work folder with it, between the making of the folder and of the file."""
    folder, over = tmp_path / "work", threading.Event()

    def delete() -> None:
        while not over.is_set():
            shutil.rmtree(folder, ignore_errors=True)
            sleep(0.001)

    thread = threading.Thread(target=delete)
    thread.start()
    try:
        for number in range(500):
            storage.write_bytes(str(folder / str(number)), b"x")
    finally:
        over.set()
        thread.join()


def test_reading_a_pipe_fails_instead_of_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"):
        storage.read_bytes(str(tmp_path / "pipe"))


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(JobFailed, match=f"cannot list {tmp_path}/none: No such file"):
        list(storage.list_files(f"{tmp_path}/none", str(tmp_path)))


def test_links_back_to_a_parent_folder_are_not_followed_at_any_depth(
    tmp_path: Path, convert: Callable[..., Result]
) -> None:
    raw = write_images(tmp_path / "raw", labelled(6))
    elsewhere = write_images(tmp_path / "elsewhere", {"PNEUMONIA/other.png": 90, "PNEUMONIA/more.png": 91})
    plain = {file.path for file in discovered(raw)}
    (raw / "itself").symlink_to(raw / "itself")
    (raw / "here").symlink_to(raw)
    (raw / "NORMAL/parent").symlink_to(raw)
    (raw / "NORMAL/sibling").symlink_to(raw / "NORMAL")
    (raw / "linked").symlink_to(elsewhere)
    found = [file.path for file in discovered(raw)]
    assert sorted(found) == sorted(plain | {"itself", "linked/PNEUMONIA/other.png", "linked/PNEUMONIA/more.png"})
    result = convert(raw, tmp_path / "out")
    assert result.code == 0, result.err
    assert manifest_of(tmp_path / "out")["inputs"]["written"] == 14


def discovered(root: Path) -> list[File]:
    """All files, listed in parts as the workers list them."""
    return [
        file
        for folder, recursive in list_prefixes(str(root))
        for file in storage.list_files(folder, str(root), recursive)
    ]
