import pytest

from schemas.shard_name import ShardName

NAMES = {
    "cxr-train.tfrecord-00003-of-00016": ShardName("cxr", "train", 3, 16),
    "cxr-r2-validation.tfrecord-00000-of-00001": ShardName("cxr-r2", "validation", 0, 1),
    "a_b-test.tfrecord-123456-of-200000": ShardName("a_b", "test", 123_456, 200_000),
}


@pytest.mark.parametrize("text", NAMES)
def test_a_name_is_written_and_read_back(text: str) -> None:
    assert str(NAMES[text]) == text
    assert ShardName.parse(text) == NAMES[text]
    assert ShardName.parse(f"{text}.0123456789abcdef.json") == NAMES[text]


@pytest.mark.parametrize(
    "text",
    ["", "manifest.json", "cxr.tfrecord", "cxr-train.tfrecord-3-of-16", "cxr-train.tfrecord-00016-of-00016"]
    + ["-train.tfrecord-00000-of-00001", "cxr-train.tfrecord-00000-of-00001x"],
)
def test_any_other_name_is_not_a_shard_name(text: str) -> None:
    assert ShardName.parse(text) is None


def test_a_shard_beyond_the_last_has_no_name() -> None:
    with pytest.raises(ValueError, match="shard 16 of 16"):
        ShardName("cxr", "train", 16, 16)
