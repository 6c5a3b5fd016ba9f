"""A Flink cluster with workers in an environment of their own, and conversions that are launched on it as users do."""

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from beam_jobs.sample import main as draw_sample
from tests.conftest import ROOT, Result, convert_command, files_of
from tests.engines import downloads
from tests.engines.cluster import Cluster
from tests.engines.launched import PATIENCE_SECONDS, Launch, finish, start
from tests.engines.worker_environment import worker_environment

PAGE = ROOT / "docs/engines.md"
SETTING = re.compile(r"^\| `([\w.-]+): ([^`]+)` \|", re.MULTILINE)


def documented_settings() -> dict[str, str]:
    """The settings of Flink that docs/engines.md asks for."""
    return dict(SETTING.findall(PAGE.read_text()))


@dataclass(frozen=True)
class OnFlink:
    """Conversions on one cluster."""

    cluster: Cluster
    job_server: Path

    def start(self, raw: Path | str, output: Path | str, *flags: object) -> Launch:
        """Starts a conversion with the flags that a user gives."""
        jar = f"--flink_job_server_jar={self.job_server}"
        return start(raw, output, "--runner=FlinkRunner", f"--flink_master={self.cluster.master}", jar, *flags)

    def run(self, raw: Path | str, output: Path | str, *flags: object) -> Result:
        """A conversion from its start to its end."""
        return finish(self.start(raw, output, *flags))

    def wait_for_job(self, launch: Launch) -> str:
        """Waits until the job of the only launch has workers. Returns its name."""
        before = set(self.cluster.jobs())

        def runs() -> bool:
            assert launch.poll() is None, launch.communicate()
            return bool({*self.cluster.jobs()} - before) and bool(self.cluster.workers())

        self.cluster.wait_until(runs)
        (name,) = {*self.cluster.jobs()} - before
        return name


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The venv of the worker machines."""
    downloads.need("java", "mvn")
    return worker_environment(tmp_path_factory.mktemp("environment"))


@pytest.fixture(scope="session")
def on_flink(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnFlink]:
    """A cluster of one TaskManager, set up as docs/engines.md says."""
    jar, lib = downloads.job_server(), downloads.flink()
    settings = {
        "taskmanager.memory.process.size": "1400m",
        "taskmanager.numberOfTaskSlots": "2",
        **documented_settings(),
    }
    folder = tmp_path_factory.mktemp("flink") / "cluster"
    with Cluster(lib, folder, settings, f"{environment}/bin:{os.defpath}") as cluster:
        cluster.start_task_managers(1)
        yield OnFlink(cluster, jar)


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The images of `beam_jobs.sample`."""
    folder = tmp_path_factory.mktemp("sample") / "images"
    draw_sample(["--output", str(folder), "--images", "150", "--seed", "0"])
    return folder


@pytest.fixture(scope="session")
def locally(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, bytes]]:
    """`locally(raw, *flags)` is what a conversion on this machine gives: name -> content."""

    def run(raw: Path, *flags: object) -> dict[str, bytes]:
        output = tmp_path_factory.mktemp("locally") / "1.0.0"
        subprocess.run(convert_command(raw, output, *flags), check=True, capture_output=True, timeout=PATIENCE_SECONDS)
        return files_of(output)

    return run
