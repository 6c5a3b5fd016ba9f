"""What a conversion holds for each image is a reference to it, never its pixels."""

import pytest

from benchmarks.memory import measured

_MORE_IMAGES = 10_000
# 5,800 were measured: the local engine keeps copies of what its steps pass on. A record, of 4,241 bytes, would be beyond.
_MOST_BYTES_EACH = 9_000


@pytest.mark.memory
def test_memory_grows_by_references_only() -> None:
    few, many = (measured(count)["peak_bytes"] for count in (2_000, 2_000 + _MORE_IMAGES))
    assert few < 1 << 30
    assert (many - few) / _MORE_IMAGES < _MOST_BYTES_EACH
