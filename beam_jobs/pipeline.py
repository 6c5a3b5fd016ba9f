"""The conversion, from its checked settings to a published data set: `define_pipeline` is its table of contents."""

import logging
import uuid
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import apache_beam as beam
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions
from apache_beam.pvalue import AsList, AsSingleton, PCollection
from apache_beam.runners.runner import PipelineResult

from beam_jobs.discover.listing import Discover, check_input
from beam_jobs.elements import Plan, Reference, ShardResult
from beam_jobs.engines import failures
from beam_jobs.leakage import report, search
from beam_jobs.leakage.near_duplicates import Found, merged
from beam_jobs.passing import counters, status
from beam_jobs.passing.blocks import Block, SortByKey, kept_in
from beam_jobs.passing.tally import TALLY, SourcesAndTally
from beam_jobs.plan import plan, sampling
from beam_jobs.plan.duplicates import DropDuplicates
from beam_jobs.plan.splits import AssignSplits, ReferencesAndTally
from beam_jobs.plan.together import KeepTogether
from beam_jobs.publish import publish, releases, summary
from beam_jobs.remote.equip import equipped
from beam_jobs.settings import costs, dataflow
from beam_jobs.settings.config import ConvertConfig
from beam_jobs.settings.pickles import without_paths
from beam_jobs.settings.runners import check_places, local_runner, on_dataflow
from beam_jobs.storage import storage
from beam_jobs.storage.parallel import begun
from beam_jobs.write import reuse, shards, trial
from beam_jobs.write.images import convert_batch
from schemas.dataset import Manifest, Published
from schemas.errors import JobFailed
from schemas.scratch import scratch_folder

ByShard = PCollection[tuple[tuple[str, int], Block[Reference]]]  # by (split, index)

_Config = TypeVar("_Config", bound=ConvertConfig)

# Adds the steps of a job to a pipeline, as define_pipeline does.
Define = Callable[..., None]


def convert_and_print(config: ConvertConfig, options: PipelineOptions, debug: bool) -> None:
    """Converts and prints the summary; with --dry_run, prints what it would do."""
    if not debug:
        quiet_beam(on_dataflow(options))
    elif not config.local:
        logging.getLogger().setLevel(logging.INFO)
    if config.local and config.dicom_decoder == "tfio":
        from beam_jobs.decoding import tfio_dicom

        with status.quiet_workers(not debug):
            tfio_dicom.load()  # fails early if it does not work
    config = checked(config, options)
    if config.dry_run:
        prices = costs.read_prices(config.prices)
        with scratch_folder() as status_folder:
            planned = plan_only(config, define_pipeline, status_folder, quiet=not debug)
            with status.quiet_workers(not debug):
                the_plan = Plan(**planned)
                rate = trial.rate(status_folder, lambda batch, took: convert_batch(batch, the_plan, config, took))
            summary.print_plan(config, planned)
            size = summary.planned_record_bytes(config, planned)
            summary.print_estimate(config, planned, costs.CONVERSION, rate, size, prices)
        return
    if options.view_as(GoogleCloudOptions).template_location:
        stage_template(config, options, define_pipeline)
        summary.print_template(options.view_as(GoogleCloudOptions))
        return
    manifest, counted, leakage = run_and_publish(
        config, options, define_pipeline, not debug, also=lambda: publish.read_leakage(config.output)
    )
    assert isinstance(manifest, Manifest)
    summary.print_manifest(manifest, config.output)
    print(report.summary(leakage))
    summary.print_counted(counted)


def checked(config: _Config, options: PipelineOptions) -> _Config:
    """The config, with the defaults of Dataflow for a job there. Raises UsageError for inputs that are not there, or that
    the workers could not reach."""
    with nullcontext() if config.local or config.dry_run else failures.telling_that_nothing_was_published():
        check_places(config, options)
        config = dataflow.with_defaults(config, options)
        small = check_input(config)
        if config.retry_quarantine:
            reuse.check(config)
    # The input of a template is that of the day on which it runs.
    return replace(config, small_input=small and not options.view_as(GoogleCloudOptions).template_location)


def plan_only(config: ConvertConfig, define: Define, status_folder: str, quiet: bool) -> dict[str, Any]:
    """The fields of the Plan, for --dry_run. It is made on this machine, whatever the runner, because it takes no more than
    the names of the inputs. Nothing is written but reports in `status_folder`."""
    with status.quiet_workers(quiet):
        run(replace(config, local=True), None, status_folder, PipelineOptions([]), define)
    return status.read_plan(status_folder) or {}


def quiet_beam(on_dataflow: bool) -> None:
    """Silences Beam, because failures are reported in one line, and we say ourselves what goes on. A job on Dataflow keeps
    Beam's lines."""
    logging.getLogger("apache_beam").setLevel(logging.INFO if on_dataflow else logging.CRITICAL)
    logging.getLogger().setLevel(logging.INFO if on_dataflow else logging.CRITICAL)


def run_and_publish(
    config: ConvertConfig,
    options: PipelineOptions,
    define: Define,
    quiet: bool = True,
    also: Callable[[], Any] = lambda: None,
) -> tuple[Published, counters.Counted | None, Any]:
    """Runs the job that `define` adds and returns the published manifest; what Beam counted, if it did; and what `also`,
    which reads something else that is published, returns. Raises RadrecordsError if the job fails; nothing is published
    then."""
    release, counted = releases.next_release(config), None  # None: the runner does not tell
    try:
        if release is None:  # published already
            counted = counters.Counted({}, {})
        elif config.local:
            with (
                scratch_folder() as status_folder,
                status.quiet_workers(quiet) as terminal,
                status.ProgressBar(status_folder, terminal, config.doing),
                # While the pipeline is put together, because three requests of a bucket take longer than that.
                begun(partial(releases.enter, config, release), storage.reads_at_once(config.output)) as entered,
            ):
                counted = run(config, release, status_folder, options, define, entered)
        else:
            from beam_jobs.engines import running  # takes a tenth of a second, which a local run should not wait

            status_folder = status_folder_of(release)
            # If the job has published all the same, its error is dropped below.
            with failures.telling_that_nothing_was_published():
                releases.enter(config, release)
                with running.prepared(options, release.work, status_folder, debug=not quiet):
                    counted = run(config, release, status_folder, options, define)
    except BaseException as error:
        ours = release is not None and releases.is_ours(config, release)
        published = release is not None and releases.abandon(config, release)
        if not published or not isinstance(error, Exception):
            raise
        if not ours:
            raise releases.published_by_another(config) from error
    manifest = releases.read_published(config)
    if manifest is None:
        raise JobFailed(f"the job ended without publishing anything in {config.output}")
    with begun(also, storage.reads_at_once(config.output)) as read:
        if release:
            releases.tidy(config, release)
        return manifest, counted, read()


def stage_template(config: ConvertConfig, options: PipelineOptions, define: Define) -> None:
    """Stages the template in --template_location for Dataflow to run later. Writes nothing to the output folder."""
    release = releases.unclaimed(config)
    run(config, release, status_folder_of(release), options, define)


def status_folder_of(release: releases.Release) -> str:
    """The folder in which the workers of a remote runner report why the job failed."""
    return storage.join(release.work, f"status-{uuid.uuid4().hex}")


def run(
    config: ConvertConfig,
    release: releases.Release | None,
    status_folder: str,
    options: PipelineOptions,
    define: Define | None = None,
    entered: Callable[[], None] = lambda: None,
) -> counters.Counted | None:
    """Runs the pipeline of `define`, by default the conversion, to its end and returns what Beam counted, if the runner
    tells. It starts when `entered` returns. Raises the error that a worker recorded in `status_folder`, or else the
    runner's, after it has printed what was counted until then, if the runner tells."""
    here = config.local or release is None
    counted = None
    try:
        with (
            equipped(config, status_folder, options) as for_workers,
            kept_in(status_folder if here else ""),
            nullcontext() if here else without_paths(),
        ):
            pipeline = beam.Pipeline(runner=local_runner(options, status_folder) if here else None, options=options)
            (define or define_pipeline)(pipeline, for_workers, release, status_folder)
            entered()
            result = pipeline.run()
            try:
                with _ended_if_interrupted(result, config, options):
                    result.wait_until_finish()
            except Exception:
                counted = counters.counted(result)
                raise
        counted = counters.counted(result)
        if here and (failure := status.read_failure(status_folder)):
            raise failure
        return counted
    except Exception as error:
        if counted:
            summary.print_counted(counted)
        # Better than the runner's error, which adds words of its own.
        raise status.read_failure(status_folder) or failures.translated(error, here) from error


def _ended_if_interrupted(
    result: PipelineResult, config: ConvertConfig, options: PipelineOptions
) -> AbstractContextManager[None]:
    if not on_dataflow(options):  # jobs on other engines are ended by the process that starts this one
        return nullcontext()
    from beam_jobs.engines import running

    return running.cancelling_on_dataflow(result, config)


def define_pipeline(
    root: beam.Pipeline, config: ConvertConfig, release: releases.Release | None, status_folder: str
) -> None:
    """Adds all steps: discover, plan, write, check leakage, publish. Without a release (--dry_run), the plan is the
    last step, beside the choice of a few images for the estimate."""
    found: SourcesAndTally = root | "Discover" >> Discover(config, status_folder)
    chosen: SourcesAndTally = found["sources"] | "Sample" >> sampling.Sample(config)
    unique: SourcesAndTally = chosen["sources"] | "DropDuplicates" >> DropDuplicates(config)
    steps = [found, chosen, unique]
    if config.near_duplicates_of:
        steps.append(unique["sources"] | "KeepTogether" >> KeepTogether(config, status_folder))
    assigned: ReferencesAndTally = steps[-1]["sources"] | "AssignSplits" >> AssignSplits(config)
    tally = tuple(step[TALLY] for step in (*steps, assigned))
    everything: ReferencesAndTally = {"references": assigned["references"], TALLY: tally | "Tally" >> beam.Flatten()}
    planned: PCollection[Plan] = everything | "Plan" >> plan.MakePlan(config, status_folder)
    if release is None:
        _ = assigned["references"] | "Trial" >> trial.ChooseImages(status_folder)
        return
    the_plan = AsSingleton(planned)
    results: PCollection[ShardResult] = by_shard(assigned["references"], planned, config) | "WriteShards" >> beam.ParDo(
        shards.WriteShards(config, release.prefix, release.work, status_folder), the_plan
    )
    signatures: PCollection[tuple[str, bytes]] = results | "Signatures" >> beam.Map(shards.signatures_of)
    pairs: PCollection[Found] = signatures | "NearDuplicates" >> search.FindNearDuplicates(the_plan)
    near = AsSingleton(pairs, default_value=merged([]))
    finished = AsList(results | "Finished" >> beam.Map(shards.without_signatures))
    _ = (
        root
        | "End" >> beam.Impulse()
        | "Publish" >> beam.Map(publish.publish, finished, near, the_plan, config, release, status_folder)
    )


def by_shard(
    references: PCollection[Block[Reference]], planned: PCollection[Plan], config: ConvertConfig
) -> PCollection[tuple[tuple[str, int], Iterable[Block[Reference]]]]:
    """The references of each (split, index); also of shards that get none."""
    none: ByShard = planned | "EveryShard" >> beam.FlatMap(plan.empty_shards)
    some: ByShard = references | "SortByShard" >> beam.ParDo(
        SortByKey(plan.shard_of), AsSingleton(planned), config.seed
    )
    grouped: PCollection[tuple[tuple[str, int], Iterable[Block[Reference]]]] = (
        (none, some) | "ShardsAndReferences" >> beam.Flatten() | "ByShard" >> beam.GroupByKey()
    )
    return grouped
