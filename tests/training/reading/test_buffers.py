"""Buffers are used again when nothing refers to them, and not before."""

import gc

import numpy as np

from training.reading.buffers import Buffers


def test_a_buffer_is_used_again_when_the_last_view_of_it_is_gone() -> None:
    buffers = Buffers()
    first = buffers.take(100, 200)
    address = first.ctypes.data
    first[:] = 7
    view = first.reshape(10, 10)[3:, 2:].view()[0]
    del first
    gc.collect()
    assert buffers.take(100).ctypes.data != address  # the view may still be read
    np.testing.assert_array_equal(view, np.full(8, 7))
    del view
    again = buffers.take(200)
    assert again.ctypes.data == address
    assert again.shape == (200,)


def test_a_buffer_that_is_too_small_is_replaced() -> None:
    buffers = Buffers()
    assert buffers.take(10).shape == (10,)
    large = buffers.take(10_000)
    large[:] = 1
    assert large.shape == (10_000,)


def test_buffers_begin_where_tensorflow_needs_no_copy() -> None:
    buffers = Buffers()
    held = [buffers.take(size) for size in (0, 1, 4096, 100_000)]
    assert all(some.ctypes.data % 64 == 0 for some in held)
    assert [len(some) for some in held] == [0, 1, 4096, 100_000]
