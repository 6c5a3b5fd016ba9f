"""Several launches into one folder at once: one publishes, the others end with a clear line, and nothing is mixed."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from beam_jobs import verify
from tests.conftest import Result
from tests.faults.launch import Place, finish, start

pytestmark = pytest.mark.faults

OVERTAKEN = "was published by another run in the meantime; this run changed nothing|already holds a published data set"
CLAIMED = "holds an unfinished conversion with other settings"


def test_three_launches_of_the_same_job_give_one_data_set(
    place: Place, raw: Path, undisturbed: dict[str, bytes], command: Callable[..., Result]
) -> None:
    results = [finish(launch) for launch in [start(raw, place.uri) for _ in range(3)]]
    assert sorted(result.code == 0 for result in results)[-1], results
    for result in results:
        # A launch may also find that another one has just published but not cleaned up. Then it cleans up and succeeds.
        assert result.code == 0 or re.search(OVERTAKEN, result.err), results
    assert place.files() == undisturbed
    assert command(verify.main, place.uri).code == 0


def test_one_of_three_launches_with_different_settings_publishes(
    place: Place, raw: Path, command: Callable[..., Result]
) -> None:
    launches = [start(raw, place.uri, "--image_size", size) for size in ("64", "32", "48")]
    results = [finish(launch) for launch in launches]
    assert [result.code == 0 for result in results].count(True) == 1, results
    for result in results:
        assert result.code == 0 or re.search(f"{OVERTAKEN}|{CLAIMED}", result.err), results
    assert not [name for name in place.names() if name.startswith("_work")]
    assert command(verify.main, place.uri).code == 0


@pytest.mark.parametrize("sizes", [("64", "64"), ("64", "32")], ids=["same settings", "other settings"])
def test_two_launches_that_overwrite_leave_one_intact_data_set(
    place: Place, raw: Path, command: Callable[..., Result], sizes: tuple[str, str]
) -> None:
    assert finish(start(raw, place.uri, "--image_size", "16")).code == 0
    launches = [start(raw, place.uri, "--overwrite", "--image_size", size) for size in sizes]
    results = [finish(launch) for launch in launches]
    assert any(result.code == 0 for result in results), results  # both succeed if one started after the other had ended
    for result in results:
        assert result.code == 0 or re.search(f"{OVERTAKEN}|{CLAIMED}", result.err), results
    verified = command(verify.main, place.uri)
    assert verified.code == 0, verified.out
    assert "not in the manifest" not in verified.out
    assert not [name for name in place.names() if name.startswith("_work")]
