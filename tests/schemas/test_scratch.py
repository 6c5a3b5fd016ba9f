"""A run's temporary folder: the run deletes it, or the next run does if this one was killed."""

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from schemas.scratch import scratch_folder

_HOLD = """
from schemas.scratch import scratch_folder
with scratch_folder() as folder:
    open(folder + "/large", "w").write("x")
    print(folder, flush=True)
    input()
"""


@pytest.fixture(autouse=True)
def own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)


def test_the_folder_is_deleted_at_the_end_even_after_an_error(tmp_path: Path) -> None:
    def fail() -> None:
        with scratch_folder() as folder:
            assert Path(folder).parent == tmp_path
            (Path(folder) / "file").write_text("x")
            raise ValueError("odd")

    with pytest.raises(ValueError, match="odd"):
        fail()
    assert not list(tmp_path.iterdir())


def test_the_next_run_deletes_the_folder_of_a_killed_run_but_not_of_a_live_one(tmp_path: Path) -> None:
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
