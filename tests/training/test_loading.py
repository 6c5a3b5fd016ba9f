"""What a training command writes to stderr: its own lines, and TensorFlow's only where they are asked for."""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

from tests.conftest import ROOT

COMMANDS = {
    "train": ["--data", "absent", "--recipe", "model1", "--output", "run"],
    "evaluate": ["--run", "absent", "--data", "absent"],
    "predict": ["--run", "absent", "image.png"],
}


def said(command: str, *flags: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", f"training.{command}", *COMMANDS[command], *flags],
        env={name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"} | environment,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode != 0
    return done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_an_error_is_the_only_line(command: str) -> None:
    (line,) = said(command).splitlines()
    assert line.startswith("error: ")


@pytest.mark.skipif(find_spec("tensorflow") is None, reason="of TensorFlow")
def test_debug_and_the_users_own_level_show_what_tensorflow_logs() -> None:
    shown = "oneDNN" if sys.platform == "linux" else ""
    assert shown in said("predict", "--debug")
    assert shown in said("predict", TF_CPP_MIN_LOG_LEVEL="0")
    assert "oneDNN" not in said("predict", "--debug", TF_ENABLE_ONEDNN_OPTS="0")


def test_what_was_written_is_shown_where_loading_fails() -> None:
    code = (
        "import os, training.loading\nwith training.loading.quiet_loading():\n os.write(2, b'why')\n raise ImportError"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stderr.startswith("why")


def test_several_models_in_one_process_are_no_reason_for_advice() -> None:
    code = (
        "import logging, training.loading\nwith training.loading.quiet_loading():\n pass\n"
        "log = logging.getLogger('tensorflow')\nlog.warning('%d calls triggered tf.function retracing', 5)\n"
        "log.warning('something else')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stderr.splitlines() == ["something else"]
