"""What paths mean: splits, classes, patients, and which files are skipped."""

import pytest

from schemas.errors import UsageError
from schemas.presets import PRESETS
from schemas.source import UNASSIGNED, compile_group_pattern, group_of, skip_reason, split_and_label, split_name


@pytest.mark.parametrize(
    ("text", "split"),
    [
        ("train", "train"),
        ("TRAIN", "train"),
        ("Training", "train"),
        ("val", "validation"),
        ("VALIDATION", "validation"),
        ("valid", "validation"),
        ("test", "test"),
        (" Test ", "test"),
        ("", UNASSIGNED),
        ("UNASSIGNED", UNASSIGNED),
        ("holdout", None),
    ],
)
def test_split_names_are_recognised(text: str, split: str | None) -> None:
    assert split_name(text) == split


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("train/NORMAL/a.png", ("train", "NORMAL")),
        ("chest_xray/VAL/NORMAL/a.png", ("validation", "NORMAL")),
        ("test/NORMAL/patient 7/a.png", ("test", "NORMAL")),
        ("NORMAL/a.png", (UNASSIGNED, "NORMAL")),
        ("set/NORMAL/a.png", (UNASSIGNED, "NORMAL")),
        ("a.png", None),
        ("train/a.png", None),
    ],
)
def test_split_and_label_are_read_from_a_path(path: str, place: tuple[str, str] | None) -> None:
    assert split_and_label(path) == place


@pytest.mark.parametrize(
    ("path", "size", "reason"),
    [
        ("NORMAL/a.png", 10, None),
        ("NORMAL/1.2.840.113619", 10, None),
        ("NORMAL/noextension", 10, None),
        ("NORMAL/txt", 10, None),
        ("NORMAL/empty.png", 0, None),
        ("NORMAL/", 0, "folder_marker"),
        ("NORMAL/.DS_Store", 10, "hidden"),
        (".cache/NORMAL/a.png", 10, "hidden"),
        ("__MACOSX/NORMAL/a.png", 10, "macos_metadata"),
        ("NORMAL/readme.TXT", 10, "not_an_image_name"),
        ("NORMAL/DICOMDIR", 10, "not_an_image_name"),
    ],
)
def test_files_are_skipped_for_the_right_reason(path: str, size: int, reason: str | None) -> None:
    assert skip_reason(path, size) == reason


@pytest.mark.parametrize(
    ("path", "group"),
    [
        ("chest_xray/train/PNEUMONIA/person12_bacteria_34.jpeg", "/person12"),
        ("train/PNEUMONIA/person12_virus_5.jpeg", "/person12"),
        ("val/PNEUMONIA/person12_virus_5.jpeg", "/person12"),
        ("test/PNEUMONIA/person12_virus_5.jpeg", "test/person12"),
        ("chest_xray/TEST/PNEUMONIA/person12_virus_5.jpeg", "test/person12"),
        ("train/NORMAL/IM-0115-0001.jpeg", "/IM-0115"),
        ("train/NORMAL/NORMAL2-IM-0195-0001-0002.jpeg", "/NORMAL2-IM-0195"),
        ("train/NORMAL/other.jpeg", None),
    ],
)
def test_the_kermany_pattern_captures_the_patient(path: str, group: str | None) -> None:
    assert group_of(path, compile_group_pattern(PRESETS["kermany"].group_pattern)) == group


def test_a_pattern_can_capture_by_position_or_by_name() -> None:
    assert group_of("a/p7_1.png", compile_group_pattern(r"(p\d+)_")) == "/p7"
    assert group_of("B/p7_1.png", compile_group_pattern(r"(?P<pool>\w+)/(?P<group>p\d+)_")) == "b/p7"
    assert group_of("a/p7_1.png", None) is None


@pytest.mark.parametrize(("pattern", "says"), [("(", "regular expression"), (r"p\d+", "captures nothing")])
def test_an_invalid_pattern_is_refused(pattern: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        compile_group_pattern(pattern)
