"""Subgroups from a table, and from the file names of the Kermany set."""

from dataclasses import replace
from pathlib import Path

import pytest

from schemas.dataset import Manifest
from schemas.errors import UsageError
from schemas.identity import pseudonym
from tests.training.conftest import DataSet
from training.assessment.subgroups import MOST_VALUES, members, read_key, read_subgroups

KEY = b"a key of more than sixteen bytes"


@pytest.fixture
def manifest(dataset: DataSet) -> Manifest:
    return dataset.manifest


def table(folder: Path, text: str) -> str:
    path = folder / "subgroups.csv"
    path.write_bytes(text.encode())
    return str(path)


def test_a_table_by_id(tmp_path: Path, manifest: Manifest) -> None:
    path = table(tmp_path, '\ufeffage, id, path,site\r\n"40, or more",a,x/1.png,Basel\r\n,b,x/2.png,\r\n,c,,Bern\r\n')
    found = read_subgroups(path, manifest)
    assert found == {"age": {"a": "40, or more"}, "site": {"a": "Basel", "c": "Bern"}}
    shown = [(column, value, of.tolist()) for column, value, of in members(found, ["c", "b", "a", "d"])]
    assert shown == [
        ("age", "40, or more", [False, False, True, False]),
        ("site", "Basel", [False, False, True, False]),
        ("site", "Bern", [True, False, False, False]),
    ]


def test_a_table_by_path_gives_the_ids_of_the_conversion(tmp_path: Path, manifest: Manifest) -> None:
    path = table(tmp_path, "path,view\n./train/A/1.png,AP\ntrain/B/2.png,PA\n")
    assert read_subgroups(path, manifest)["view"] == {
        pseudonym("id", "train/A/1.png"): "AP",
        pseudonym("id", "train/B/2.png"): "PA",
    }
    keyed = replace(manifest, settings={"keyed_ids": True})
    with pytest.raises(UsageError, match="the ids of toy are keyed; give --id_key_file"):
        read_subgroups(path, keyed)
    assert read_subgroups(path, keyed, KEY)["view"][pseudonym("id", "train/B/2.png", KEY)] == "PA"
    assert read_subgroups(table(tmp_path, "id,view\na,AP\n"), keyed) == {"view": {"a": "AP"}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name,view\na,AP\n", "has neither a column id nor a column path"),
        ("", "has neither a column id"),
        ("id,path\na,b\n", "has no column but id and path"),
        ("id,view,view\na,b,c\n", "two of one name"),
        ("id,view\na,b,c\n", "line 2 has more cells"),
        ("id,view\n,b\n", "line 2 has no id"),
        ("id,view\na,b\na,c\n", "a has two values in column view"),
        ('id,view\na,"b\n', "is not a CSV in UTF-8"),
        ("id,view\n" + "".join(f"{n},{n}\n" for n in range(MOST_VALUES + 1)), f"view has {MOST_VALUES + 1} values"),
    ],
)
def test_refused_tables(tmp_path: Path, manifest: Manifest, text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read_subgroups(table(tmp_path, text), manifest)


def test_missing_files(tmp_path: Path, manifest: Manifest) -> None:
    with pytest.raises(UsageError, match=r"--subgroups .* cannot be read: No such file"):
        read_subgroups(str(tmp_path / "x.csv"), manifest)
    with pytest.raises(UsageError, match="no file in this folder is named like those of the Kermany set"):
        read_subgroups(str(tmp_path), manifest)


def test_a_key_is_read_as_in_conversion(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(KEY + b"\r\n")
    assert read_key(str(tmp_path / "key")) == KEY
    (tmp_path / "key").write_bytes(b"short\n")
    with pytest.raises(UsageError, match="too short"):
        read_key(str(tmp_path / "key"))
    with pytest.raises(UsageError, match="cannot be read"):
        read_key(str(tmp_path / "none"))


@pytest.fixture
def kermany(tmp_path: Path) -> Path:
    """Images of six persons in train, two of the first; of six and one normals; and one person of test."""
    root = tmp_path / "kermany" / "chest_xray"
    persons = [f"PNEUMONIA/person{n}_{'virus' if n % 2 else 'bacteria'}_{n}.jpeg" for n in (1, 2, 30, 40, 500, 600)]
    normals = [f"NORMAL/IM-{n:04}-0001.jpeg" for n in (7, 8, 9, 10, 11, 12)] + ["NORMAL/NORMAL2-IM-0900-0001.jpeg"]
    for name in (*persons, "PNEUMONIA/person1_virus_99.jpeg", *normals, "NORMAL/.DS_Store", "NORMAL/other.png"):
        path = root / "train" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (root / "test/PNEUMONIA").mkdir(parents=True)
    (root / "test/PNEUMONIA/person3_virus_1.jpeg").touch()
    return root


def test_kermany_names(kermany: Path, manifest: Manifest) -> None:
    found = read_subgroups(str(kermany), manifest)

    def of(column: str, *paths: str) -> list[str]:
        return [found[column][pseudonym("id", f"train/{path}")] for path in paths]

    persons = [f"PNEUMONIA/person{n}.jpeg" for n in ("1_virus_1", "1_virus_99", "2_bacteria_2", "600_bacteria_600")]
    assert of("kind", *persons) == ["virus", "virus", "bacteria", "bacteria"]
    assert of("kind", "NORMAL/IM-0007-0001.jpeg", "NORMAL/NORMAL2-IM-0900-0001.jpeg") == ["IM", "NORMAL2"]
    assert of("number", *persons) == ["person 1-2", "person 1-2", "person 1-2", "person 500-600"]
    assert of("number", *(f"NORMAL/IM-{n:04}-0001.jpeg" for n in (7, 8, 9, 12))) == [
        *("IM 7-8", "IM 7-8", "IM 9-10", "IM 11-12"),
    ]
    assert of("number", "NORMAL/NORMAL2-IM-0900-0001.jpeg") == ["NORMAL2-IM 900-900"]
    # The numbers of test begin again.
    assert found["number"][pseudonym("id", "test/PNEUMONIA/person3_virus_1.jpeg")] == "person 3-3"
    assert pseudonym("id", "train/NORMAL/other.png") not in found["kind"]


@pytest.mark.parametrize(
    ("given", "converted"), [("kermany", "kermany/chest_xray"), ("kermany/chest_xray/train", "kermany")]
)
def test_the_folder_of_kermany_may_be_above_or_below_the_one_that_was_converted(
    kermany: Path, tmp_path: Path, manifest: Manifest, given: str, converted: str
) -> None:
    found = read_subgroups(str(tmp_path / given), manifest)
    image = kermany / "train/NORMAL/IM-0007-0001.jpeg"
    assert found["kind"][pseudonym("id", image.relative_to(tmp_path / converted).as_posix())] == "IM"
