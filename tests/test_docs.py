"""The README's commands and flags, as printed."""

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from beam_jobs.runners import beam_options
from tests.beam_jobs.published_sets import nih, rsna
from tests.conftest import Result, labelled, write_images

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
COMMANDS = [
    line.split("  #")[0].strip()
    for block in BLOCKS
    for line in block.replace("\\\n", " ").splitlines()
    if line.startswith(("python -m ", "make "))
]


@cache
def help_of(module: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return done.stdout


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("python")])
def test_flags_exist(command: str) -> None:
    _, _, module, *arguments = shlex.split(command)
    unknown = [word for word in arguments if word.startswith("--") and f"{word.split('=')[0]} " not in help_of(module)]
    if module == "beam_jobs.convert":
        beam_options(unknown)  # raises for a flag that Beam does not know
    else:
        assert not unknown


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("make")])
def test_targets_exist(command: str) -> None:
    done = subprocess.run(["make", "-n", *shlex.split(command)[1:]], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_flags_named_in_the_text_exist() -> None:
    modules = ("beam_jobs.convert", "beam_jobs.verify", "beam_jobs.show", "training.train", "training.evaluate")
    beams = [f"--{name}\n" for name in PipelineOptions([]).get_all_options()]
    known = " ".join([*map(help_of, modules), *beams])
    for flag in set(re.findall(r"`(--[a-z_]+)", README)):
        assert f"{flag} " in known or f"{flag}," in known or f"{flag}\n" in known, flag


def test_conversion_commands_run_as_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Callable[..., Result]
) -> None:
    import beam_jobs.convert
    import beam_jobs.show
    import beam_jobs.verify

    names = labelled(6, "train", "test")
    write_images(tmp_path / "scans", names)
    rows = [f"{name},{name.split('/')[1]}" for name in names]
    nih(tmp_path / "nih")
    rsna(tmp_path / "rsna")
    (tmp_path / "scans.csv").write_text("\n".join(["image_uri,label", *rows]))
    (tmp_path / "ids.key").write_text("0123456789abcdef0123456789abcdef\n")
    monkeypatch.chdir(tmp_path)
    mains = {
        "beam_jobs.convert": beam_jobs.convert.main,
        "beam_jobs.verify": beam_jobs.verify.main,
        "beam_jobs.show": beam_jobs.show.main,
    }
    ran = 0
    for line in COMMANDS:
        _, _, module, *arguments = [*shlex.split(line), "", ""]
        arguments = [word for word in arguments if word]
        if module in mains and "gs://" not in line and "kermany" not in line:
            if module == "beam_jobs.convert":
                arguments += ["--overwrite"]  # the README gives several ways to make the same data set
            result = command(mains[module], *arguments)
            assert result.code == 0, (line, result.err)
            ran += 1
    assert ran == 8


def test_a_group_pattern_of_the_text_works() -> None:
    from schemas.source import compile_group_pattern, group_of

    by_folder = re.search(r"`'(\(\?P<pool>.*?)'`", README)
    assert by_folder
    assert group_of("test/ILL/patient7_2.png", compile_group_pattern(by_folder[1])) == "test/patient7"
