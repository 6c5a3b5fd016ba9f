"""The image for workers and for a Flex Template."""

import importlib.metadata
import json
import re

from beam_jobs.flags import parser
from beam_jobs.remote.versions import decoders
from tests.beam_jobs.remote.dockerfile import copied, steps
from tests.conftest import ROOT

# Flags without a value cannot be parameters, and the second decoder is not in the image.
NO_PARAMETERS = {"help", "debug", "dicom_decoder", "prices"}  # "prices": for --dry_run, which a template does not do


def pins(lock: str) -> set[tuple[str, str]]:
    """The (name, version) pairs of a lock file."""
    text = (ROOT / f"requirements-{lock}.lock").read_text()
    return set(re.findall(r"^([\w.-]+)(?:\[.*?\])?==([^\s;]+)", text, flags=re.MULTILINE))


def test_the_base_of_the_image_is_of_the_release_of_beam_that_the_lock_files_pin() -> None:
    arguments = dict(step.rest.split("=") for step in steps() if step.instruction == "ARG")
    assert ("apache-beam", arguments["BEAM"]) in pins("worker")
    assert arguments["BEAM"] == importlib.metadata.version("apache-beam")
    bases = {step.stage: step.rest.split()[0] for step in steps() if step.instruction == "FROM"}
    assert bases["worker"] == "apache/beam_python${PYTHON}_sdk:${BEAM}"
    assert bases["template"] == "worker"


def test_the_image_holds_the_versions_that_make_setup_installs() -> None:
    worker = pins("worker")
    assert worker <= pins("cpu")
    assert {"numpy", "pillow", "pydicom", "simplejpeg", "google-cloud-storage", *decoders()} <= dict(worker).keys()
    assert not {"tensorflow", "tensorflow-cpu", "keras", "pytest"} & dict(worker).keys()


def test_docker_is_given_every_file_that_the_image_needs() -> None:
    given = (ROOT / ".dockerignore").read_text().split()
    assert {line.removeprefix("!") for line in given if line.startswith("!")} == set(copied())
    assert not [name for name in copied() if not (ROOT / name).exists()]


def test_the_parameters_of_the_template_are_the_flags_that_take_a_value() -> None:
    parameters = {one["name"]: one for one in json.loads((ROOT / "metadata.json").read_text())["parameters"]}
    assert "image that the template was built with" in parameters.pop("sdk_container_image")["helpText"]
    flags = {action.dest: action for action in parser()._actions if action.nargs != 0}
    assert set(parameters) == set(flags) - NO_PARAMETERS
    for name, parameter in parameters.items():
        assert parameter.get("isOptional", False) is not flags[name].required, name
        assert parameter["helpText"].lower() == str(flags[name].help).lower(), name
        for regex in parameter.get("regexes", ()):
            assert re.match(regex, "gs://bucket/folder/file")
            assert not re.match(regex, "/folder/file")
