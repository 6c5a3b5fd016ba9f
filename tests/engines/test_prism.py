"""Conversions with Beam's engine Prism: the bytes of a local run, and an interrupt that leaves nothing behind."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import files_of, write_images
from tests.engines import downloads
from tests.engines.cluster import processes
from tests.engines.launched import finish, interrupt, start

pytestmark = pytest.mark.prism

FLAGS = ("--preset", "kermany", "--shards", "3")


@pytest.fixture(scope="module")
def engine() -> tuple[str, ...]:
    """The flags that choose Prism."""
    return ("--runner=PrismRunner", f"--prism_location={downloads.prism()}")


def test_prism_gives_the_bytes_of_a_local_run(
    engine: tuple[str, ...], sample: Path, tmp_path: Path, locally: Callable[..., dict[str, bytes]]
) -> None:
    result = finish(start(sample, tmp_path / "1.0.0", *FLAGS, *engine))
    assert result.code == 0, result.err
    assert not [line for line in result.err.splitlines() if not line.startswith(("planned: ", "finished: "))]
    assert files_of(tmp_path / "1.0.0") == locally(sample, *FLAGS)


def test_an_error_of_the_plan_is_one_line(engine: tuple[str, ...], tmp_path: Path) -> None:
    raw = write_images(tmp_path / "raw", [f"train/NORMAL/{n}.png" for n in range(3)])
    for _ in range(3):  # Beam's threads print what they print at any moment
        result = finish(start(raw, tmp_path / "1.0.0", *engine))
        assert result.code == 2
        assert "only one class" in result.error


def test_an_interrupt_ends_prism(engine: tuple[str, ...], sample: Path, tmp_path: Path) -> None:
    launch = start(sample, tmp_path / "1.0.0", *FLAGS, *engine)
    while not any("prism" in Path(words[0]).name for words in processes().values()):
        assert launch.poll() is None, launch.communicate()
    interrupt(launch)
    result = finish(launch)
    assert (result.code, result.out) == (130, "")
    assert result.err == "interrupted; nothing was published; run the same command again to continue\n"
    assert not (tmp_path / "1.0.0").exists()
