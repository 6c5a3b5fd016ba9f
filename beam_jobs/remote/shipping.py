"""What a job sends to workers that install packages when they start (Dataflow, and containers of other runners): this
package as a wheel, and the launcher's versions of what it needs."""

import contextlib
import copy
import logging
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from apache_beam.options.pipeline_options import (
    DebugOptions,
    FlinkRunnerOptions,
    PipelineOptions,
    PortableOptions,
    SetupOptions,
    SparkRunnerOptions,
    StandardOptions,
    WorkerOptions,
)
from apache_beam.portability import common_urns
from apache_beam.runners.portability import stager

from beam_jobs.remote.pins import pinned
from beam_jobs.remote.versions import DISTRIBUTION, decoders
from beam_jobs.remote.wheel import write_wheel
from schemas.scratch import scratch_folder

# What the Linux of Beam's images (Debian 12, glibc 2.36) takes, the newest first.
_PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in range(36, 16, -1)] + ["manylinux2014_x86_64"]
_NO_PYPI_SECONDS = 15
_DOCKER = ("DOCKER", common_urns.environments.DOCKER.urn)  # values of --environment_type


@contextlib.contextmanager
def shipped(options: PipelineOptions, extras: Iterable[str] = (), also: Iterable[str] = ()) -> Iterator[None]:
    """While the body of the `with` starts a job with Beam's `options`, its workers are sent this package, what it needs with
    `extras`, the installed decoders and the packages of `also`. What the user gives takes precedence: an image is expected
    to hold all of this, and a --requirements_file, a --setup_file or an --extra_package is not replaced.

    Raises UsageError if there is neither a package to send nor an image.
    """
    # Beam would send a list of all that is installed here, with the folders it was installed from.
    options.view_as(DebugOptions).add_experiment("disable_logging_submission_environment")
    _use_image(options)
    if not installs_packages(options):
        yield
        return
    setup = options.view_as(SetupOptions)
    with scratch_folder("packages-") as folder, _staging() as staged:
        if not setup.setup_file and not any(_is_ours(package) for package in setup.extra_packages or ()):
            staged.append(("extra_packages", [*(setup.extra_packages or ()), write_wheel(folder)]))
        if not setup.requirements_file:
            staged += _requirements(setup, pinned(extras, decoders(also)), Path(folder))
        yield


@contextlib.contextmanager
def _staging() -> Iterator[list[tuple[str, Any]]]:
    """Yields a list for (name, value) pairs of Beam's options that count only while it stages files: workers get all other
    options, where these would be folders of this machine. Beam has no other way."""
    staged: list[tuple[str, Any]] = []
    beams: Any = stager.Stager
    stage, log = beams.create_job_resources, logging.getLogger(stager.__name__)
    level = log.level

    def with_ours(given: PipelineOptions, *others: Any, **more: Any) -> Any:
        changed = copy.deepcopy(given)
        for name, value in staged:
            setattr(changed.view_as(SetupOptions), name, value)
        return stage(changed, *others, **more)

    beams.create_job_resources = with_ours
    log.setLevel(logging.ERROR)  # it warns that a wheel must fit the workers, and ours has no compiled parts
    try:
        yield staged
    finally:
        beams.create_job_resources = stage
        log.setLevel(level)


def installs_packages(options: PipelineOptions) -> bool:
    """Whether the workers of this job start from an image of Beam's, and install what the job sends."""
    runner: str = options.view_as(StandardOptions).runner
    if options.view_as(WorkerOptions).sdk_container_image:
        return False
    if runner == "DataflowRunner":
        return True
    portable = options.view_as(PortableOptions)
    if portable.environment_type:
        image = portable.environment_config or portable.lookup_environment_option("docker_container_image")
        return portable.environment_type in _DOCKER and not image
    here = ("[local]", "[auto]", "[collection]")
    if runner == "FlinkRunner" and options.view_as(FlinkRunnerOptions).flink_master in here:
        return False  # Beam's workers are threads of the launcher then
    if runner == "SparkRunner" and options.view_as(SparkRunnerOptions).spark_master_url.startswith("local"):
        return False
    return runner != "PrismRunner"


def _use_image(options: PipelineOptions) -> None:
    """Lets --sdk_container_image, which Beam knows on Dataflow only, name the image of every runner with containers."""
    image, portable = options.view_as(WorkerOptions).sdk_container_image, options.view_as(PortableOptions)
    dataflow = options.view_as(StandardOptions).runner == "DataflowRunner"
    if image and not dataflow and not portable.environment_config and portable.environment_type in (None, *_DOCKER):
        portable.environment_type, portable.environment_config = "DOCKER", image


def _is_ours(package: str) -> bool:
    return package.rpartition("/")[2].startswith(f"{DISTRIBUTION}-")


def _requirements(setup: Any, lines: list[str], folder: Path) -> Iterator[tuple[str, Any]]:
    """The options that send the pinned requirements and, unless --requirements_cache=skip says otherwise, their wheels, so
    that workers need no package index. Beam would download them one by one, which takes a minute."""
    file = folder / "requirements.txt"
    file.write_text("".join(f"{line}\n" for line in lines))
    yield "requirements_file", str(file)
    if setup.requirements_cache != stager.SKIP_REQUIREMENTS_CACHE:
        wheels = _downloaded(lines[1:], folder, setup.requirements_cache)  # Beam itself is in the image
        yield "files_to_stage", [*(setup.files_to_stage or ()), *wheels]
    yield "requirements_cache", stager.SKIP_REQUIREMENTS_CACHE


def _downloaded(lines: list[str], folder: Path, cache: str | None) -> list[str]:
    """The wheels of the requirements, for workers with this version of Python on x86-64 Linux. Without them, workers
    install the same versions from PyPI."""
    wheels = folder / "wheels"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--retries=1", f"--timeout={_NO_PYPI_SECONDS}", "--no-deps", "--only-binary=:all:", f"--dest={wheels}"]
    command += ["--python-version={}.{}".format(*sys.version_info[:2])]
    command += [f"--platform={platform}" for platform in _PLATFORMS] + ([f"--find-links={cache}"] if cache else [])
    if subprocess.run([*command, *lines], stdin=subprocess.DEVNULL, capture_output=True).returncode:
        print(
            "note: pip cannot download the workers' packages here; they get the same versions from PyPI",
            file=sys.stderr,
        )
        return []
    return sorted(str(path) for path in wheels.iterdir())
