"""What a Dataflow job gets where the user says nothing, and what is refused before anything is read."""

from collections.abc import Callable
from pathlib import Path

import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from beam_jobs.flags import config_of, parser
from beam_jobs.settings import dataflow
from beam_jobs.settings.config import ConvertConfig
from beam_jobs.settings.pickles import inside_package
from schemas.errors import UsageError
from tests.conftest import ROOT, Result

Convert = Callable[..., Result]
PLACES = ("--input", "gs://scans/raw", "--output", "gs://records/cxr/1.0.0")
CLOUD = ("--runner=DataflowRunner", "--project=some-project", "--region=us-central1")


def settled(*flags: str) -> tuple[ConvertConfig, dict[str, object]]:
    """The config and Beam's options of a job with these flags."""
    known, beam_flags = parser().parse_known_args([*PLACES, *flags])
    options = PipelineOptions(beam_flags)
    config = dataflow.with_defaults(config_of(known, local=False), options)
    return config, options.get_all_options()


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        (("--runner=DataflowRunner",), "--input, --output, --project and --region; give them"),
        ((*PLACES, "--runner", "DataflowRunner"), "--project and --region; give them"),
        ((*PLACES, "--runner=DataflowRunner", "--project=p", "--dry_run"), "--region; give it"),
    ],
)
def test_one_line_names_all_options_that_are_missing(
    command: Callable[..., Result], given: tuple[str, ...], missing: str
) -> None:
    from beam_jobs.convert import main

    result = command(main, *given)
    assert result.code == 2
    assert result.error == f"error: --runner=DataflowRunner needs {missing}"


def test_a_prediction_needs_a_model_too(command: Callable[..., Result]) -> None:
    from beam_jobs.predict import main

    result = command(main, *PLACES, "--runner=DataflowRunner", "--region=r")
    assert result.error == "error: --runner=DataflowRunner needs --model and --project; give them"


def test_help_and_other_runners_need_none_of_them() -> None:
    dataflow.check_given(["--runner=DataflowRunner", "--help"])
    dataflow.check_given(["--runner=FlinkRunner"])
    dataflow.check_given([*PLACES, "--runner=DataflowRunner", "--project"])  # Beam's parser says what is wrong
    dataflow.check_given([*PLACES, *CLOUD])


@pytest.mark.usefixtures("bucket_server")
def test_reading_threads_and_decoders_fit_one_process_per_vcpu() -> None:
    config, options = settled(*CLOUD)
    assert (config.threads, config.decoders, options["number_of_worker_harness_threads"]) == (8, 1, 2)
    config, options = settled(*CLOUD, "--threads=7", "--decoders=3", "--number_of_worker_harness_threads=1")
    assert (config.threads, config.decoders, options["number_of_worker_harness_threads"]) == (7, 3, 1)
    # One process per machine chooses by its cores, like a worker of any other runner.
    config, options = settled(*CLOUD, "--experiments=no_use_multiple_sdk_containers")
    assert (config.threads, config.decoders, options["number_of_worker_harness_threads"]) == (0, 0, None)


@pytest.mark.usefixtures("bucket_server")
def test_temporary_folders_are_in_the_bucket_of_the_output() -> None:
    _, options = settled(*CLOUD)
    assert options["temp_location"] == "gs://records/radrecords-temp"
    assert options["staging_location"] == "gs://records/radrecords-temp/staging"
    _, options = settled(*CLOUD, "--temp_location=gs://other/tmp")
    assert (options["temp_location"], options["staging_location"]) == ("gs://other/tmp", "gs://other/tmp/staging")
    _, options = settled(*CLOUD, "--staging_location=gs://other/staging")
    assert (options["temp_location"], options["staging_location"]) == ("gs://other/staging", "gs://other/staging")


@pytest.mark.usefixtures("bucket_server")
def test_what_dataflow_would_refuse_is_one_line() -> None:
    with pytest.raises(UsageError, match="Invalid Project ID"):
        settled("--runner=DataflowRunner", "--project=My Project", "--region=us-central1")
    for place in ("tmp", "/tmp/here", "gs://bucket"):
        with pytest.raises(UsageError, match=f"--temp_location {place} is no folder in a bucket"):
            settled(*CLOUD, f"--temp_location={place}")


def test_other_runners_keep_their_options() -> None:
    config, options = settled("--runner=FlinkRunner")
    assert (config.threads, config.decoders) == (0, 0)
    assert (options["machine_type"], options["temp_location"], options["labels"]) == (None, None, None)


def test_paths_in_pickles_begin_in_their_package() -> None:
    assert inside_package(str(ROOT / "beam_jobs/pipeline.py")) == "beam_jobs/pipeline.py"
    assert inside_package(pytest.__file__) == "pytest/__init__.py"
    assert inside_package("/nowhere/to/be/found.py") == "found.py"
    assert inside_package("<string>") == "<string>"


def test_the_key_of_the_estimate_does_not_travel(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs --dry_run"):
        settled("--prices", str(tmp_path / "prices.json"))
