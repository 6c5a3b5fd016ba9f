"""What a conversion holds for each image is a reference to it, never its pixels."""

import pytest

from benchmarks.memory import measured

_MORE_IMAGES = 10_000
# 11,200 were measured here, and 5,600 between 10,000 and 50,000 images: the local engine keeps several copies of what its
# steps pass on, and its buffers grow in leaps. The bound notices another copy of everything, or decoded images held.
_MOST_BYTES_EACH = 20_000


@pytest.mark.memory
def test_memory_grows_by_references_only() -> None:
    few, many = (measured(count)["peak_bytes"] for count in (2_000, 2_000 + _MORE_IMAGES))
    assert few < 1 << 30
    assert (many - few) / _MORE_IMAGES < _MOST_BYTES_EACH
