"""kill -9 of a worker, of a TaskManager, of the job server and of the launcher, while a conversion runs on Flink."""

import os
import signal
import time
from pathlib import Path

import pytest

from beam_jobs.engines.progress import finished_shards
from tests.conftest import files_of, labelled, write_images
from tests.engines.cluster import kill, parent_of, processes
from tests.engines.conftest import OnFlink
from tests.engines.launched import finish
from tests.engines.test_flink import AGAIN, Locally

pytestmark = pytest.mark.flink


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images that take a while to decode, so that there is time between two shards."""
    return write_images(tmp_path_factory.mktemp("large") / "raw", labelled(60, "train", "test"), side=1000)


def test_a_lost_worker_and_a_lost_task_manager_change_no_byte(
    on_flink: OnFlink, large: Path, tmp_path: Path, locally: Locally
) -> None:
    cluster, output, flags = on_flink.cluster, tmp_path / "1.0.0", ("--shards", "12")
    cluster.start_task_managers(1)
    # Half of the slots, so that the job can go on with one TaskManager.
    launch = on_flink.start(large, output, *flags, "--parallelism=2")

    def shards() -> int:
        assert launch.poll() is None, launch.communicate()
        return len(finished_shards(str(output / "_work/r1"))) if (output / "_work/r1").exists() else 0

    while shards() < 2:
        time.sleep(0.01)
    kill(cluster.workers()[0])
    while shards() < 6:
        time.sleep(0.01)
    while not cluster.workers():
        time.sleep(0.01)
    (lost,) = (each for each in cluster.task_managers if each.pid == parent_of(cluster.workers()[0]))
    lost.kill()
    result = finish(launch)
    assert result.code == 0, (result, cluster.logs())
    assert "warning: a TaskManager or a worker was lost" in result.err
    assert files_of(output) == locally(large, *flags)
    lost.wait()
    cluster.task_managers.remove(lost)
    cluster.wait_until(lambda: not cluster.workers())


def test_a_lost_job_server_cancels_the_job(on_flink: OnFlink, large: Path, tmp_path: Path) -> None:
    launch = on_flink.start(large, tmp_path / "1.0.0")
    name = on_flink.wait_for_job(launch)
    (server,) = (pid for pid, words in processes().items() if str(on_flink.job_server) in words and "-jar" in words)
    kill(server)
    result = finish(launch)
    assert result.code == 1
    assert on_flink.cluster.jobs()[name] == "CANCELED"
    assert result.err.splitlines()[-1] == f"error: Beam's job server was lost (killed, or out of memory); {AGAIN}"
    assert not (tmp_path / "1.0.0").exists()


def test_a_killed_launcher_leaves_no_process_and_the_job_publishes(
    on_flink: OnFlink, large: Path, tmp_path: Path
) -> None:
    launch = on_flink.start(large, tmp_path / "1.0.0")
    name = on_flink.wait_for_job(launch)
    launch.send_signal(signal.SIGKILL)
    launch.communicate()
    on_flink.cluster.wait_until(lambda: on_flink.cluster.jobs()[name] == "FINISHED")
    assert (tmp_path / "1.0.0/manifest.json").exists()
    left = [words for words in processes().values() if os.fsencode(on_flink.job_server) in map(os.fsencode, words)]
    assert not left
    assert on_flink.run(large, tmp_path / "1.0.0").code == 0
