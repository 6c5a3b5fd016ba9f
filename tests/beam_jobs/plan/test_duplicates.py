"""One of each set of byte-identical inputs is kept."""

from pathlib import Path
from typing import Any

import pytest
from apache_beam.pvalue import TaggedOutput

from beam_jobs.passing.blocks import Block
from beam_jobs.passing.tally import DUPLICATES, PROBLEMS, TALLY, Count
from beam_jobs.plan.duplicates import DropDuplicates, keep_one_each, same_size
from beam_jobs.settings.config import most_bytes
from tests.beam_jobs.made import config, source
from tests.beam_jobs.small_pipeline import outputs_of
from tests.conftest import write_images


def test_duplicates_are_kept_once_and_counted(tmp_path: Path) -> None:
    contents = {"b": b"same", "a": b"same", "c": b"also", "e": b"empty"[:0], "d": b"", "f": b"longer"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    sources = [source(name, size=len(content))._replace(uri=str(tmp_path / name)) for name, content in contents.items()]
    result = outputs_of(DropDuplicates(config()), [Block(sources)])
    assert sorted(source.path for block in result["sources"] for source in block) == ["a", "c", "d", "e", "f"]
    assert result[TALLY] == [Count(DUPLICATES, "", 1)]


def test_large_files_of_equal_size_are_read_in_full_only_if_their_ends_are_equal(tmp_path: Path) -> None:
    side, length = b"\1" * 5_000, 200_000
    contents = {
        "same": side + bytes(length) + side,
        "again": side + bytes(length) + side,
        "other middle": side + bytes([9]) * length + side,
        "other start": b"\2" + side[1:] + bytes(length) + side,
        "other end": side + bytes(length) + side[1:] + b"\2",
        "gone": side + bytes(length) + side,
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "gone").unlink()
    sources = [source(name, size=len(content))._replace(uri=str(tmp_path / name)) for name, content in contents.items()]
    outputs = list(same_size([Block(sources[:2]), Block(sources[2:])]))
    compared = {s.path for output in outputs if isinstance(output, TaggedOutput) for s in output.value}
    assert compared == {"same", "again", "other middle"}
    unique = {s.path for block in outputs if isinstance(block, Block) for s in block}
    assert unique == {"other start", "other end", "gone"}

    result = outputs_of(DropDuplicates(config()), [Block(sources)])
    assert {source.path for block in result["sources"] for source in block} == contents.keys() - {"same"}
    assert result[TALLY] == [Count(DUPLICATES, "", 1)]


def test_a_file_with_a_listed_checksum_is_compared_with_a_large_one_without(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(100_000))
    local = source("a", size=100_000)._replace(uri=str(tmp_path / "a"))
    listed = source("b", size=100_000, md5="md5:1")
    (compared,) = same_size([Block([local, listed])])
    assert isinstance(compared, TaggedOutput)
    assert list(compared.value) == [local, listed]


@pytest.mark.parametrize(
    ("change", "says"),
    [({"label": "B"}, "labels 'A' and 'B'"), ({"split": "test"}, "splits 'unassigned' and 'test'")],
)
def test_identical_images_with_different_labels_or_splits_are_a_problem(
    tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    write_images(tmp_path, ["a.png"])
    first = source("a", md5="md5:1")._replace(uri=str(tmp_path / "a.png"))
    same = Block([first._replace(path="b", **change), first])
    (output,) = keep_one_each([same], config())
    assert isinstance(output, TaggedOutput)
    assert output.value.kind == PROBLEMS
    assert says in output.value.what


def test_identical_files_that_are_not_images_are_kept_for_the_quarantine(tmp_path: Path) -> None:
    (tmp_path / "page").write_bytes(b"<html>404</html>")
    sources = [
        source(name, label=label, md5="md5:1")._replace(uri=str(tmp_path / "page"))
        for name, label in (("a", "A"), ("b", "B"), ("c", "B"))
    ]
    (kept,) = keep_one_each([Block(sources[:2]), Block(sources[2:])], config())
    assert isinstance(kept, Block)
    assert list(kept) == sources


def test_files_too_large_to_read_are_kept_for_the_quarantine(tmp_path: Path) -> None:
    sources = [
        source(name, label=label, md5="md5:1", size=most_bytes(config()) + 1)._replace(
            uri=str(tmp_path / "never-read.png")
        )
        for name, label in (("a", "A"), ("b", "B"))
    ]
    write_images(tmp_path, ["never-read.png"])  # it would be an image if it were read
    (kept,) = keep_one_each([Block(sources)], config())
    assert isinstance(kept, Block)
    assert list(kept) == sources
