"""`ordered_map`: order, errors, and threads that are stuck."""

import threading

import pytest

from beam_jobs.threads import Pulse, StalledError, ordered_map, parts


@pytest.mark.parametrize("threads", [1, 3, 8])
def test_results_come_in_order(threads: int) -> None:
    done = list(ordered_map(lambda n: n * n, range(50), threads, Pulse(), 60))
    assert done == [n * n for n in range(50)]
    assert list(ordered_map(str, [], threads, Pulse(), None)) == []


def test_an_error_of_the_function_is_raised_in_its_place() -> None:
    results = ordered_map(lambda n: 12 // n, (3, 2, 0, 1), 2, Pulse(), None)
    assert (next(results), next(results)) == (4, 6)
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_only_a_bounded_number_is_taken_ahead() -> None:
    taken = []
    results = ordered_map(lambda n: n, (taken.append(n) or n for n in range(100)), 2, Pulse(), None)
    next(results)
    assert len(taken) == 4


def test_stuck_threads_are_noticed_after_all_else_is_done() -> None:
    release, before = threading.Event(), threading.active_count()
    results = ordered_map(lambda n: n if n != 3 else release.wait(), range(20), 2, Pulse(), 0.2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(StalledError):
        next(results)
    stuck = [thread for thread in threading.enumerate() if thread.name == "decode" and thread.is_alive()]
    assert stuck
    assert all(thread.daemon for thread in stuck)
    release.set()
    for thread in stuck:
        thread.join()
    assert threading.active_count() <= before


def test_a_slow_thread_is_not_stuck_while_the_pulse_beats() -> None:
    pulse, enough = Pulse(), threading.Event()

    def slow(_: int) -> str:
        for _ in range(8):
            enough.wait(0.1)  # longer in all than the limit
            pulse.beat()
        return "done"

    assert list(ordered_map(slow, [0], 1, pulse, 0.5)) == ["done"]


@pytest.mark.parametrize(("count", "threads", "largest"), [(0, 4, 16), (1, 4, 16), (100, 2, 16), (1000, 8, 16)])
def test_parts_cover_everything_once(count: int, threads: int, largest: int) -> None:
    found = parts(count, threads, largest)
    assert [index for part in found for index in part] == list(range(count))
    assert all(1 <= len(part) <= largest for part in found)
    assert len(found) >= min(count, threads)
