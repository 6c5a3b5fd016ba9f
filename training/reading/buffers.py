"""Memory that is used again: to touch new memory costs as much as reading a file into it."""

import weakref

import numpy as np
import numpy.typing as npt

_ALIGNMENT = 64  # bytes: TensorFlow uses such memory without a copy

Bytes = npt.NDArray[np.uint8]


class Buffers:
    """Buffers of about one size. A buffer is free again as soon as no array refers to it, whoever made the array."""

    def __init__(self) -> None:
        self._free: list[Bytes] = []

    def take(self, size: int, most: int | None = None) -> Bytes:
        """A free buffer, uint8 [size], with any content. A new one has room for `most`, the largest size to come."""
        try:
            memory = self._free.pop()
        except IndexError:  # none is free
            memory = _aligned(max(1, size, most or 0))
        if len(memory) < size:
            memory = _aligned(max(size, most or 0))
        # The base of all views of `buffer` is `buffer`, because its own base is no array. So it lives as long as they do.
        buffer = np.frombuffer(memory.data, np.uint8)
        weakref.finalize(buffer, self._free.append, memory).atexit = False
        return buffer[:size]


def _aligned(size: int) -> Bytes:
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size]
