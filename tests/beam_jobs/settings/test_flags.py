"""The flags of the conversion: which are refused, and which are passed on to Beam."""

from collections.abc import Callable
from pathlib import Path

import pytest

from beam_jobs import show, verify
from beam_jobs.flags import config_of, parser
from beam_jobs.settings.beam_flags import with_full_runner
from beam_jobs.settings.runners import beam_options
from schemas.errors import UsageError
from tests.conftest import Result, labelled, write_images

Convert = Callable[..., Result]


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--image_size", 0), "--image_size"),
        (("--channels", 2), "--channels"),
        (("--resize_mode", "squash"), "--resize_mode"),
        (("--crop", 0), "--crop"),
        (("--validation_fraction", 1), "--validation_fraction"),
        (("--validation_fraction", 0.6, "--test_fraction", 0.5), "leave nothing to train on"),
        (("--sample_fraction", 0), "--sample_fraction"),
        (("--max_reject_fraction", 2), "--max_reject_fraction"),
        (("--limit", 0), "--limit"),
        (("--shards", "many"), "--shards"),
        (("--shards", -1), "--shards"),
        (("--name", "Chest X-rays"), "--name"),
        (("--preset", "nobody"), "--preset 'nobody'"),
        (("--preset", "chexpert", "--uncertain", "maybe"), "--uncertain 'maybe': must be one of mask, zero, one"),
        (("--preset", "mimic-cxr", "--view", "PA"), "--view 'PA': must be one of frontal, lateral, all"),
        (("--uncertain", "mask"), "--uncertain mask needs --preset chexpert or mimic-cxr; omit it"),
        (
            ("--preset", "nih14", "--uncertain", "zero"),
            "--uncertain zero needs --preset chexpert or mimic-cxr; omit it",
        ),
        (("--preset", "rsna", "--view", "all"), "--view all needs --preset chexpert or mimic-cxr; omit it"),
        (("--group_pattern", "("), "--group_pattern"),
        (("--group_pattern", "none"), "captures nothing"),
        (("--image_siz", 32), "unknown argument --image_siz"),
        (("--seed", "x"), "--seed"),
        (("--num_workers", "x"), "argument --num_workers: invalid int value: 'x'"),
        (("--runner",), "argument --runner: expected one argument"),
        (("--runner=FlinkRunner", "--flink_master"), "argument --flink_master: expected one argument"),
        (("--runner", "Foo"), "unknown --runner Foo; give one of FnApiRunner, DirectRunner"),
        (("--runner=dataflow",), "--runner=DataflowRunner needs --project and --region; give them"),
        (("--runner", "DATAFLOWRUNNER", "--project=p", "--region=r"), "is local, and Dataflow workers cannot reach it"),
    ],
)
def test_bad_flags_give_one_error_line_and_exit_code_2(
    tmp_path: Path, convert: Convert, flags: object, says: str
) -> None:
    raw = write_images(tmp_path / "raw", labelled(2))
    result = convert(raw, tmp_path / "out", *flags)  # type: ignore[misc]
    assert result.code == 2
    assert says in result.error
    assert not (tmp_path / "out").exists()


def test_a_runner_may_be_written_as_beam_takes_it() -> None:
    assert with_full_runner(["--runner", "flink", "--x", "--runner=a.Class"]) == [
        "--runner=FlinkRunner",
        "--x",
        "--runner=a.Class",
    ]
    assert with_full_runner(["--runner=direct", "--runner"]) == ["--runner=DirectRunner", "--runner"]


def test_beam_options_are_passed_on_and_dataflow_gets_what_it_needs() -> None:
    options = beam_options(["--runner=DataflowRunner", "--project=p", "--region=r"]).get_all_options()
    assert (options["runner"], options["project"], options["save_main_session"]) == ("DataflowRunner", "p", False)
    assert options["setup_file"] is None  # there is one in the current folder, which may be another project's
    assert beam_options(["--runner=FlinkRunner", "--parallelism=4"]).get_all_options()["runner"] == "FlinkRunner"
    assert beam_options([]).get_all_options()["runner"] is None
    with pytest.raises(UsageError, match="--no_such"):
        beam_options(["--no_such=4"])
    with pytest.raises(UsageError, match="--template_location needs --runner=DataflowRunner"):
        beam_options(["--template_location=gs://bucket/template"])


def test_a_job_on_a_remote_runner_needs_no_key() -> None:
    flags = parser().parse_args(["--input", "gs://bucket/raw", "--output", "gs://bucket/out"])
    assert config_of(flags, local=False).id_key_file == ""


@pytest.mark.parametrize(
    "flag", ["input", "output", "manifest", "id_key_file", "retry_quarantine", "near_duplicates_of"]
)
@pytest.mark.parametrize("place", ["s3://bucket/scans", "hdfs://host/scans", "https://host/scans"])
def test_other_schemes_are_not_taken_for_local_folders(tmp_path: Path, convert: Convert, flag: str, place: str) -> None:
    flags = {"input": tmp_path, "output": tmp_path / "out", flag: place}
    source, output = flags.pop("input"), flags.pop("output")
    result = convert(source, output, *(word for name, value in flags.items() for word in (f"--{name}", value)))
    assert result.code == 2
    assert result.error.startswith(f"error: --{flag} {place}: {place.partition(':')[0]}:// is not supported")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("main", [verify.main, show.main])
def test_verify_and_show_refuse_other_schemes(command: Callable[..., Result], main: Callable[..., None]) -> None:
    assert "s3:// is not supported" in command(main, "s3://bucket/cxr/1.0.0").error


def test_local_folders_are_refused_on_dataflow(tmp_path: Path, convert: Convert) -> None:
    result = convert(tmp_path, "gs://bucket/out", "--runner=DataflowRunner", "--project=p", "--region=r")
    assert result.code == 2
    assert f"--input {tmp_path} is local, and Dataflow workers cannot reach it" in result.error
