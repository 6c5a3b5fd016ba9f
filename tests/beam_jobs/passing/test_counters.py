"""Beam's counters of a run agree with the manifest, and the summary prints them."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from beam_jobs import pipeline
from beam_jobs.flags import config_of, parser
from beam_jobs.passing.counters import Counted, Measured, count_shard
from beam_jobs.publish import summary
from schemas.errors import JobFailed
from tests.conftest import Result, labelled, manifest_of, write_images

Convert = Callable[..., Result]


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Images with every kind of outcome."""
    raw = write_images(tmp_path / "raw", labelled(10))
    shutil.copy(raw / "NORMAL/3.png", raw / "NORMAL/copy.png")
    (raw / "NORMAL/broken.png").write_bytes((raw / "NORMAL/1.png").read_bytes()[:300])
    (raw / "NORMAL/empty.png").write_bytes(b"")
    (raw / "NORMAL/.hidden.png").write_bytes(b"anything")
    return raw


def converted(raw: Path, output: Path, *flags: str) -> Counted:
    """What Beam counted in a conversion."""
    words = ["--input", str(raw), "--output", str(output), "--max_reject_fraction", "0.2", *flags]
    known, beam_flags = parser().parse_known_args(words)
    _, counted, _ = pipeline.run_and_publish(
        config_of(known, local=True), PipelineOptions(beam_flags), pipeline.define_pipeline
    )
    assert counted is not None
    return counted


@pytest.mark.parametrize("engine", [(), ("--direct_running_mode=multi_processing", "--direct_num_workers=2")])
def test_counters_agree_with_the_manifest_and_the_files(raw: Path, tmp_path: Path, engine: tuple[str, ...]) -> None:
    counted = converted(raw, tmp_path / "out", "--shards", "2", *engine)
    manifest = manifest_of(tmp_path / "out")
    shards = [shard for split in manifest["splits"].values() for shard in split["shards"]]
    read = [file.stat().st_size for file in raw.rglob("*.png") if file.name not in (".hidden.png", "copy.png")]
    assert counted.counters == {
        "images_written": 20,
        "images_quarantined_truncated": 1,
        "images_quarantined_empty": 1,
        "images_skipped_hidden": 1,
        "images_duplicate": 1,
        "shards_written": len(shards),
        "bytes_read": sum(read),
        "bytes_written": sum(shard["bytes"] for shard in shards),
    }
    sizes, times = counted.distributions["file_bytes"], counted.distributions["decode_microseconds"]
    assert sizes == (len(read), sum(read), min(read), max(read))
    assert times.number == 20
    assert 0 < times.least <= times.total / times.number <= times.most < 60e6


def test_a_run_that_continues_counts_the_shards_that_it_keeps(raw: Path, tmp_path: Path, convert: Convert) -> None:
    flags = ("--shards", 2, "--max_reject_fraction")
    refused = convert(raw, tmp_path / "out", *flags, 0)
    assert refused.code == 1
    assert re.match(r"this run: 4 shards written \([\d,]+ bytes\); 22 images read ", refused.out)
    assert len(refused.out.splitlines()) == 1
    result = convert(raw, tmp_path / "out", *flags, 0.2)
    assert result.code == 0, result.err
    assert result.out.splitlines()[-1] == "this run: 0 shards written (0 bytes), 4 kept from an earlier run"


def test_the_summary_ends_with_what_was_counted(raw: Path, tmp_path: Path, convert: Convert) -> None:
    result = convert(raw, tmp_path / "out", "--max_reject_fraction", 0.2)
    assert re.fullmatch(
        r"this run: 2 shards written \([\d,]+ bytes\); 22 images read \([\d,]+ bytes, 0 to [\d,]+ each\), "
        r"decoded in \d+\.\d\d ms each \(\d+\.\d\d to \d+\.\d\d\)",
        result.out.splitlines()[-1],
    )


def test_a_failed_job_elsewhere_prints_what_was_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An engine that knows the counters of a job that failed. Its result is a real one, of a job that did not."""

    class Failed:
        def __init__(self, result: Any) -> None:
            self.metrics = result.metrics

        def wait_until_finish(self) -> None:
            raise RuntimeError("Pipeline job-1 failed in state FAILED: JobFailed: too many were rejected")

    run = beam.Pipeline.run
    monkeypatch.setattr(beam.Pipeline, "run", lambda pipeline: Failed(run(pipeline)))

    def count(root: beam.Pipeline, *_: object) -> None:
        _ = root | beam.Impulse() | beam.Map(lambda _: count_shard(3, (), {}, 1234, Measured()))

    known, _ = parser().parse_known_args(["--input", str(tmp_path / "raw"), "--output", str(tmp_path / "out")])
    with pytest.raises(JobFailed, match="too many were rejected"):
        pipeline.run(config_of(known, local=True), None, str(tmp_path), PipelineOptions([]), count)
    assert capsys.readouterr().out == "this run: 1 shards written (1,234 bytes)\n"


def test_an_engine_without_counters_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    summary.print_counted(None)
    assert capsys.readouterr().out == "this run: its engine reports no counters\n"
