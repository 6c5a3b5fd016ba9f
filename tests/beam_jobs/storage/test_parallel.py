"""Requests at the same time: in order, bounded for the process, and none begins after a failure."""

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from beam_jobs.settings.config import ConvertConfig
from beam_jobs.storage.parallel import begun, each
from beam_jobs.write.images import batches_at_once


@pytest.mark.parametrize("at_once", [1, 3, 1000])
def test_results_come_in_order(at_once: int) -> None:
    assert each(lambda number: number * number, iter(range(100)), at_once) == [n * n for n in range(100)]


def test_the_number_of_calls_in_flight_is_bounded_whoever_asks() -> None:
    lock, running, seen = threading.Lock(), 0, []
    three = threading.Barrier(3, timeout=30)

    def ask(_: int) -> None:
        nonlocal running
        with lock:
            running += 1
            seen.append(running)
        three.wait()  # passes only if three run at a time
        with lock:
            running -= 1

    with ThreadPoolExecutor(4) as callers:
        list(callers.map(lambda _: each(ask, range(30), 3), range(4)))
    assert max(seen) == 3
    assert len(seen) == 120


@pytest.mark.parametrize("at_once", [1, 2, 30])
def test_nothing_runs_any_more_when_a_failure_is_raised(at_once: int) -> None:
    begun: list[int] = []
    ended: list[int] = []

    def ask(number: int) -> None:
        begun.append(number)
        if number == 5:
            raise ValueError(number)
        ended.append(number)

    with pytest.raises(ValueError, match="5"):
        each(ask, range(1000), at_once)
    assert sorted(ended) == sorted({*begun} - {5})
    if at_once == 1:
        assert begun == list(range(6))


@pytest.mark.parametrize(
    ("threads", "local", "in_bucket"),
    [(0, 3, 16), (1, 1, 1), (2, 2, 2), (8, 8, 3), (40, 40, 10)],
)
def test_a_bucket_gets_several_requests_for_each_batch(threads: int, local: int, in_bucket: int) -> None:
    config = partial(ConvertConfig, output="/out", threads=threads, decoders=2)
    assert batches_at_once(config("/in")) == local
    assert batches_at_once(config("gs://bucket/in")) == in_bucket


@pytest.mark.parametrize("at_once", [1, 2])
def test_a_call_that_has_begun_gives_its_result_or_its_error(at_once: int) -> None:
    with begun(lambda: 7, at_once) as seven, begun(lambda: 1 // 0, at_once) as failed, begun(lambda: 1 // 0, at_once):
        assert seven() == 7
        with pytest.raises(ZeroDivisionError):
            failed()


def test_a_block_ends_after_the_call_that_it_has_begun() -> None:
    go_on, ended = threading.Event(), []

    def slow() -> None:
        go_on.wait(30)
        ended.append(True)

    with begun(slow, 2):
        threading.Timer(0.1, go_on.set).start()
    assert ended == [True]
