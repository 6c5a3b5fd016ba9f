"""A run's temporary folder: gone with the run, and with the next one where the run was killed."""

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from beam_jobs.local.scratch import scratch_folder

_HOLD = """
from beam_jobs.local.scratch import scratch_folder
with scratch_folder() as folder:
    open(folder + "/large", "w").write("x")
    print(folder, flush=True)
    input()
"""


@pytest.fixture(autouse=True)
def own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)


def test_it_goes_at_the_end_and_after_an_error(tmp_path: Path) -> None:
    def fail() -> None:
        with scratch_folder() as folder:
            assert Path(folder).parent == tmp_path
            (Path(folder) / "file").write_text("x")
            raise ValueError("odd")

    with pytest.raises(ValueError, match="odd"):
        fail()
    assert not list(tmp_path.iterdir())


def test_what_a_killed_run_left_goes_and_what_a_running_one_needs_stays(tmp_path: Path) -> None:
    (tmp_path / "radrecords-of-somebody").mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout
        theirs = Path(run.stdout.readline().strip())
        with scratch_folder():
            assert (theirs / "large").exists()
        run.send_signal(signal.SIGKILL)
        run.wait()
        assert (theirs / "large").exists()
        with scratch_folder():
            assert not theirs.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["radrecords-of-somebody"]
