"""Conversions on a real Flink cluster, with workers in a venv of their own: the bytes of a local run, one-line errors."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.beam_jobs.standin_words import EXIT
from tests.conftest import ROOT, Result, files_of, labelled, manifest_of, write_images
from tests.engines.cluster import free_port
from tests.engines.conftest import PAGE, OnFlink
from tests.engines.launched import finish, interrupt, start
from tests.gcs.bucket import Bucket
from tests.schemas.image_files import GOOD, REJECTED
from tests.schemas.pictures import picture, variant

pytestmark = pytest.mark.flink

Locally = Callable[..., dict[str, bytes]]
WORKER = "--environment_options=process_command=radrecords-worker"  # our default, unless other options are given
BUCKET_VARIABLES = ("STORAGE_EMULATOR_HOST", "GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT", "NO_GCE_CHECK")
AGAIN = "nothing was published; run the same command again to continue"


def test_the_workers_have_neither_tensorflow_nor_this_checkout(environment: Path, tmp_path: Path) -> None:
    code = (
        "import beam_jobs as b, importlib.util as u, schemas as s; print(b.__file__, s.__file__, u.find_spec('keras'))"
    )
    done = subprocess.run([environment / "bin/python", "-c", code], capture_output=True, text=True, cwd=tmp_path)
    *files, keras = done.stdout.split()
    assert keras == "None", done.stderr
    assert all(Path(file).is_relative_to(environment / "lib") for file in files)


def test_a_detached_job_goes_on_and_gives_the_bytes_of_a_local_run(
    on_flink: OnFlink, sample: Path, tmp_path: Path, locally: Locally
) -> None:
    output, flags = tmp_path / "1.0.0", ("--preset", "kermany", "--shards", "3")
    launch = on_flink.start(sample, output, *flags, "--detach")
    name = on_flink.wait_for_job(launch)
    launch.send_signal(signal.SIGTERM)
    result = finish(launch)
    assert result.code == 130
    first, last = result.err.splitlines()[0], result.err.splitlines()[-1]
    address = f"http://{on_flink.cluster.master}"
    assert first == f"running as {name} on Flink at {address}, with 2 parallel tasks"
    assert last == (
        f"interrupted; the job {name} goes on at {address}; when it has ended, run the same command again for the summary"
    )
    on_flink.cluster.wait_until(lambda: on_flink.cluster.jobs()[name] == "FINISHED")
    again = on_flink.run(sample, output, *flags)
    assert again.code == 0, again.err
    assert f"published cxr 1.0.0 in {output}" in again.out
    assert files_of(output) == locally(sample, *flags)


def test_from_bucket_to_bucket_gives_the_records_of_a_local_run(
    on_flink: OnFlink, sample: Path, bucket: Bucket, locally: Locally
) -> None:
    bucket.upload_folder(sample, "raw")
    flags = ("--preset", "kermany", "--shards", "3")
    # Where the workers find the local bucket; a real one needs no variables.
    variables = ",".join(f"{name}={os.environ[name]}" for name in BUCKET_VARIABLES)
    local_bucket = (f"--environment_options=process_variables={variables}", WORKER)
    result = on_flink.run(f"{bucket.uri}/raw", f"{bucket.uri}/out/1.0.0", *flags, *local_bucket)
    assert result.code == 0, result.err
    remote = {name.removeprefix("out/1.0.0/"): bucket.read(name) for name in bucket.names() if name.startswith("out/")}
    local = locally(sample, *flags)
    assert remote.keys() == local.keys()
    # These files hold URIs and the versions of objects.
    assert {name for name in local if local[name] != remote[name]} <= {"manifest.json", "reuse.json"}


def test_an_interrupt_cancels_the_job(on_flink: OnFlink, sample: Path, tmp_path: Path) -> None:
    launch = on_flink.start(sample, tmp_path / "1.0.0", "--preset", "kermany")
    name = on_flink.wait_for_job(launch)
    interrupt(launch)
    result = finish(launch)
    assert (result.code, result.out) == (130, "")
    assert result.err.splitlines()[-1] == f"interrupted; the job {name} was cancelled; {AGAIN}"
    assert on_flink.cluster.jobs()[name] == "CANCELED"
    on_flink.cluster.wait_until(lambda: not on_flink.cluster.workers())
    assert not (tmp_path / "1.0.0").exists()


def hostile_files(folder: Path) -> Path:
    """300 files: half of them good ones of all formats, half broken ones, and one that makes the stand-in decoder exit."""
    for number in range(300):
        kinds = list(GOOD.items()) if number % 2 else [(kind, make) for kind, (make, _) in REJECTED.items()]
        kind, make = kinds[number // 2 % len(kinds)]
        path = folder / ("NORMAL", "PNEUMONIA")[number // 2 % 2] / f"{number} {kind}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(variant(make, 1 + number))
    (folder / "NORMAL/exit.png").write_bytes(picture("PNG") + EXIT)
    return folder


def test_hostile_files_fail_the_gate_and_then_give_the_bytes_of_a_local_run(
    on_flink: OnFlink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locally: Locally
) -> None:
    raw, output, flags = hostile_files(tmp_path / "raw"), tmp_path / "1.0.0", ("--shards", "4")
    # The stand-in decoder, and nothing else of this checkout.
    shutil.copytree(ROOT / "tests/beam_jobs/standin", tmp_path / "standin")
    (tmp_path / "standin/tests/beam_jobs").mkdir(parents=True)
    shutil.copy(ROOT / "tests/beam_jobs/standin_words.py", tmp_path / "standin/tests/beam_jobs")
    standin = f"--environment_options=process_variables=PYTHONPATH={tmp_path / 'standin'}"

    refused = on_flink.run(raw, output, *flags, standin, WORKER)
    assert refused.code == 1
    assert "images were rejected (" in refused.err.splitlines()[-1]
    assert "1 decoder_crashed" in refused.err
    assert f"they are listed in {output}/_work/r1/quarantine.jsonl. Nothing was published" in refused.err
    times = {path.name: path.stat().st_mtime_ns for path in output.glob("_work/r1/cxr-*[!n]")}

    # A run on this machine goes on with what Flink has left, and writes no shard again.
    more = (*flags, "--max_reject_fraction", "0.9")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "standin"), str(ROOT)]))
    assert finish(start(raw, output, *more)).code == 0
    shards = {path.name: path.stat().st_mtime_ns for path in output.glob("cxr-*")}
    assert shards == {name.rpartition(".")[0]: time for name, time in times.items()}
    assert files_of(output) == locally(raw, *more)
    assert manifest_of(output)["quarantined"]["decoder_crashed"] == 1


@contextlib.contextmanager
def worker_pool(environment: Path) -> Iterator[str]:
    """The address of a pool that is started as docs/engines.md says."""
    (line,) = re.findall(r"^python (-m apache_beam.*worker_pool_main.*)$", PAGE.read_text(), flags=re.MULTILINE)
    port = free_port()
    process = subprocess.Popen(
        [environment / "bin/python", *line.replace("50000", str(port)).split()],
        env={"PATH": f"{environment}/bin:{os.defpath}"},
        cwd=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield f"localhost:{port}"
    finally:
        process.terminate()
        process.wait()


def test_a_planning_error_of_a_pool_has_the_exit_code_and_the_line_of_a_local_run(
    on_flink: OnFlink, environment: Path, tmp_path: Path, convert: Callable[..., Result]
) -> None:
    raw = write_images(tmp_path / "raw", [f"NORMAL/{n}.png" for n in range(3)])
    with worker_pool(environment) as address:
        pool = ("--environment_type=EXTERNAL", f"--environment_config={address}")
        result = on_flink.run(raw, tmp_path / "out", *pool)
    assert result.code == 2
    assert result.err.splitlines()[1:] == [f"{convert(raw, tmp_path / 'out').error}; nothing was published"]
    assert not (tmp_path / "out").exists()


def test_workers_that_do_not_start_are_reported(on_flink: OnFlink, tmp_path: Path) -> None:
    raw = write_images(tmp_path / "raw", labelled(5))
    missing = "--environment_options=process_command=no-such-worker"
    result = on_flink.run(raw, tmp_path / "out", missing)
    assert result.code == 1
    last = result.err.splitlines()[-1]
    assert last.startswith("error: the workers did not start; is radrecords installed there?")
    assert last.endswith(AGAIN)
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_reported_and_the_same_command_goes_on(
    on_flink: OnFlink, environment: Path, sample: Path, tmp_path: Path, locally: Locally
) -> None:
    output, flags = tmp_path / "1.0.0", ("--preset", "kermany", "--shards", "3")
    # Writing beyond the limit fails with an OSError, as on a full disk. The unit is 512 bytes.
    limited = tmp_path / "limited"
    limited.write_text(f"#!/bin/sh\ntrap '' XFSZ\nulimit -f 40\nexec {environment}/bin/radrecords-worker \"$@\"\n")
    limited.chmod(0o755)
    failed = on_flink.run(sample, output, *flags, f"--environment_options=process_command={limited}")
    assert failed.code == 1
    assert f"error: cannot write {output}/_work/r1" in failed.err.splitlines()[-1]
    assert "nothing was published" in failed.err
    assert finish(start(sample, output, *flags)).code == 0  # on this machine
    assert files_of(output) == locally(sample, *flags)


def test_too_few_network_buffers_name_the_setting(on_flink: OnFlink, tmp_path: Path) -> None:
    (tmp_path / "flink-conf.yaml").write_text(
        "taskmanager.memory.network.min: 4mb\ntaskmanager.memory.network.max: 4mb\n"
    )
    raw = write_images(tmp_path / "raw", labelled(5))
    inside = ("--flink_master=[local]", f"--flink_conf_dir={tmp_path}", "--parallelism=2")
    result = on_flink.run(raw, tmp_path / "out", *inside)
    assert result.code == 1
    last = result.err.splitlines()[-1]
    assert last.startswith("error: Flink has too few network buffers for this job; set taskmanager.memory.network.min")
    assert last.endswith(AGAIN)


def test_a_flink_inside_the_job_server_gives_the_bytes_of_a_local_run(
    on_flink: OnFlink, sample: Path, tmp_path: Path, locally: Locally
) -> None:
    flags = ("--preset", "kermany", "--shards", "3")
    result = on_flink.run(sample, tmp_path / "1.0.0", *flags, "--flink_master=[local]")
    assert result.code == 0, result.err
    assert [line for line in result.err.splitlines() if not line.startswith(("planned: ", "finished: "))] == []
    assert files_of(tmp_path / "1.0.0") == locally(sample, *flags)
    assert json.loads(files_of(tmp_path / "1.0.0")["manifest.json"])["inputs"]["written"] > 100
