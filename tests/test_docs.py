"""The commands, flags, links and file names in README.md and docs/ work as printed."""

import contextlib
import importlib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from beam_jobs import predict_flags
from beam_jobs.flags import config_of, parser
from beam_jobs.settings.beam_flags import is_local
from beam_jobs.settings.runners import beam_options
from schemas.source import compile_group_pattern, group_of
from tests.beam_jobs.published_sets import chexpert, mimic, nih, rsna
from tests.beam_jobs.remote.dockerfile import steps
from tests.beam_jobs.scoring.tiny_exports import write_export
from tests.conftest import Result, labelled, write_images

ROOT = Path(__file__).parent.parent
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
}
OTHER_PAGES = ("SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md")
MODULES = (
    *(f"beam_jobs.{name}" for name in ("sample", "upload", "download", "convert", "verify", "show", "predict")),
    *(f"training.{name}" for name in ("train", "evaluate", "predict", "compare", "reproduce", "shift", "tune")),
    *(f"training.{name}" for name in ("explain", "export", "verify")),
)
# Commands are fenced without a language. Python is run by the test of what it shows.
FENCED = re.compile(r"^```(?:python)?\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)
COMMAND_BLOCK = re.compile(r"^```\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)
PYTHON_BLOCK = re.compile(r"^```python\n.*?^```\n", flags=re.MULTILINE | re.DOTALL)
FLAG = re.compile(r"(?<![\w-])--[a-z_]+")


def lines_of(text: str) -> list[str]:
    """The command lines of a page, without comments; continued lines are joined."""
    lines = [
        line
        for block in COMMAND_BLOCK.findall(PYTHON_BLOCK.sub("", text))
        for line in block.replace("\\\n", " ").splitlines()
    ]
    return [line.split("  #")[0].strip() for line in lines]


COMMANDS = list(dict.fromkeys(line for page in PAGES.values() for line in lines_of(page)))
PYTHON = [line for line in COMMANDS if line.startswith("python ")]
MAKE = [line for line in COMMANDS if line.startswith("make ")]
PROSE = {name: FENCED.sub("", text) for name, text in PAGES.items()}
PROSE["SECURITY.md"] = (ROOT / "SECURITY.md").read_text()


@cache
def flags_of(module: str) -> frozenset[str]:
    """The flags that a command's --help lists."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        importlib.import_module(module).main(["--help"])
    return frozenset(FLAG.findall(printed.getvalue()))


def parse(line: str) -> None:
    """Raises an error if the command refuses these arguments."""
    _, _, module, *arguments = shlex.split(line)
    if module == "beam_jobs.convert":
        flags, beam_flags = parser().parse_known_args(arguments)
        beam_options(beam_flags)
        if "gs://" in line:  # a test below runs the local commands
            config_of(flags, is_local(beam_flags))
    elif module == "beam_jobs.predict":
        _, beam_flags = predict_flags.parser().parse_known_args(arguments)
        beam_options(beam_flags)
    elif module.startswith("training."):
        importlib.import_module(module).parse(arguments)
    else:
        assert {word for word in arguments if word.startswith("--")} <= flags_of(module)


def test_every_fenced_line_is_a_known_command() -> None:
    known = ("python -m ", "make ", "pip install ", "openssl ", "docker ", "gcloud ")
    assert not [line for line in COMMANDS if not line.startswith(known)]


@pytest.mark.parametrize("line", PYTHON)
def test_the_arguments_of_a_command_are_accepted(line: str) -> None:
    parse(line)


@pytest.mark.parametrize("line", MAKE)
def test_make_targets_exist_and_their_commands_are_accepted(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MAKEFLAGS", "ARGS"):  # of the make that runs these tests, whose ARGS are for pytest
        monkeypatch.delenv(name, raising=False)
    done = subprocess.run(["make", "-n", *shlex.split(line)[1:]], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    for command in re.findall(r"python (-m (?:training|beam_jobs)\..*)", done.stdout.replace("\\\n", " ")):
        parse(f"python {command}")


def test_flags_named_in_the_text_exist() -> None:
    of_beam = {f"--{no}{name}" for name in PipelineOptions([]).get_all_options() for no in ("", "no_")}
    known = of_beam.union(*map(flags_of, MODULES))
    known |= {"--target", "--worker_pool"}  # of docker, and of the program that Beam's images start
    for name, text in PROSE.items():
        assert not set(FLAG.findall(text)) - known, name


@pytest.mark.parametrize("module", MODULES)
def test_every_flag_is_documented(module: str) -> None:
    assert not flags_of(module) - set(FLAG.findall("\n".join(PAGES.values())))


def test_modules_and_targets_named_in_the_text_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for name, text in PROSE.items():
        for module in re.findall(r"`python -m ([\w.]+)", text):
            assert find_spec(module), (name, module)
        for target in re.findall(r"`make ([a-z-]+)", text):
            assert f"\n{target}:" in makefile, (name, target)


def test_links_point_to_files_and_headings() -> None:
    pages = PAGES | {name: (ROOT / name).read_text() for name in OTHER_PAGES}
    for name, text in pages.items():
        for target in re.findall(r"\]\(([^)\s]+)\)", FENCED.sub("", text)):
            if "://" in target:
                continue
            file, _, anchor = target.partition("#")
            path = ROOT / os.path.normpath(ROOT / name / ".." / file) if file else ROOT / name
            assert path.is_file(), (name, target)
            assert not anchor or anchor in anchors(path.read_text()), (name, target)


def anchors(text: str) -> list[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.*)", FENCED.sub("", text), flags=re.MULTILINE)
    return [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached = {name for name in (*PAGES, *OTHER_PAGES) if f"]({name})" in PAGES["README.md"]}
    in_docs = "\n".join(PAGES[name] for name in reached & set(PAGES))
    reached |= {name for name in PAGES if f"]({name.removeprefix('docs/')})" in in_docs}
    assert not {*PAGES, *OTHER_PAGES} - reached - {"README.md"}


def test_commands_for_images_fit_the_dockerfile_and_the_template() -> None:
    of_image = [step.rest for step in steps() if step.instruction in ("ARG", "FROM")]
    for line in (line for line in COMMANDS if line.startswith("docker build ")):
        words = shlex.split(line)
        given = [words[at + 1].split("=")[0] for at, word in enumerate(words) if word == "--build-arg"]
        assert all(any(rest.startswith(f"{name}=") for rest in of_image) for name in given)
        assert "--target" not in words or any(
            rest.endswith(f" AS {words[words.index('--target') + 1]}") for rest in of_image
        )
    parameters = {one["name"] for one in json.loads((ROOT / "metadata.json").read_text())["parameters"]}
    given = re.findall(r"--parameters (\S+)", "\n".join(line for line in COMMANDS if line.startswith("gcloud ")))
    assert given
    assert {pair.split("=")[0] for pairs in given for pair in pairs.split(",")} <= parameters


def test_extras_exist_and_are_documented() -> None:
    extras = set(re.findall(r'^        "(\w+)": \[', (ROOT / "setup.py").read_text(), flags=re.MULTILINE))
    named = re.findall(r"pip install '\.\[([\w,]+)\]'", "\n".join(PAGES.values()))
    assert named
    assert set(",".join(named).split(",")) <= extras
    assert extras == set(
        re.findall(r"^\| `(\w+)` \|", PAGES["docs/convert.md"].split("## Extras")[1], flags=re.MULTILINE)
    )


def test_commands_run_as_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Callable[..., Result]
) -> None:
    names = labelled(6, "train", "test")
    write_images(tmp_path / "scans", names)
    rows = [f"{name},{name.split('/')[1]}" for name in names]
    (tmp_path / "scans.csv").write_text("\n".join(["image_uri,label", *rows]))
    write_export(tmp_path / "model.onnx")
    nih(tmp_path / "nih")
    rsna(tmp_path / "rsna")
    chexpert(tmp_path / "CheXpert-v1.0-small")
    mimic(tmp_path / "mimic-cxr-jpg")
    persons = [
        f"{split}/{label}/person{n}_1.png" for split in ("train", "val", "test") for label in "AB" for n in range(3)
    ]
    write_images(
        tmp_path / "kermany", [name.replace("/A/", "/NORMAL/").replace("/B/", "/PNEUMONIA/") for name in persons]
    )
    monkeypatch.chdir(tmp_path)
    if not shutil.which("openssl"):
        (tmp_path / "ids.key").write_text("0123456789abcdef0123456789abcdef\n")
    for line in COMMANDS:
        if line.startswith("openssl ") and shutil.which("openssl"):
            subprocess.run(line, shell=True, check=True)
        elif line.startswith("python -m beam_jobs.") and "gs://" not in line:
            _, _, module, *arguments = shlex.split(line)
            result = command(importlib.import_module(module).main, *arguments)
            assert result.code == 0, (line, result.err)
    section = PAGES["docs/convert.md"].split("## What a data set folder holds")[1]
    undocumented = [
        path.name
        for path in (tmp_path / "records/cxr/1.0.0").iterdir()
        if ".tfrecord-" not in path.name and f"`{path.name}`" not in section
    ]
    assert not undocumented


def test_the_group_patterns_in_the_text_work() -> None:
    by_folder = re.search(r"`'(\(\?P<pool>.*?)'`", PAGES["docs/convert.md"])
    assert by_folder
    assert group_of("test/ILL/patient7_2.png", compile_group_pattern(by_folder[1])) == "test/patient7"
    by_name = re.search(r"`--group_pattern '(.*?)'`", PAGES["docs/convert.md"])
    assert by_name
    assert group_of("ILL/patient7_2.png", compile_group_pattern(by_name[1])) == "/patient7"
