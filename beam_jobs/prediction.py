"""Prediction at scale, from its checked settings to published scores: `define_scoring` is its table of contents.

Discovery, samples, the plan, shards, decoding and publication are those of a conversion (pipeline.py).
"""

from dataclasses import replace

import apache_beam as beam
from apache_beam.ml.inference.base import RunInference
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions
from apache_beam.pvalue import AsList, AsSingleton, PCollection

from beam_jobs.discover.listing import Discover
from beam_jobs.elements import Plan, Reference, ShardResult
from beam_jobs.passing import status
from beam_jobs.passing.blocks import Block
from beam_jobs.passing.tally import TALLY, SourcesAndTally
from beam_jobs.pipeline import by_shard, checked, plan_only, quiet_beam, run_and_publish, stage_template
from beam_jobs.plan import sampling
from beam_jobs.plan.plan import MakePlan
from beam_jobs.plan.splits import ReferencesAndTally
from beam_jobs.publish import releases
from beam_jobs.publish.summary import print_counted, print_estimate, print_template
from beam_jobs.scoring import plan, publish, summary
from beam_jobs.scoring.config import ScoringConfig
from beam_jobs.scoring.export import place_for_workers
from beam_jobs.scoring.inference import ShardScorer, check_model, trial_of
from beam_jobs.scoring.shards import shard_to_score
from beam_jobs.settings import costs
from beam_jobs.settings.runners import on_dataflow
from beam_jobs.storage import storage
from beam_jobs.write import trial
from schemas.errors import UsageError
from schemas.scores import ScoresManifest
from schemas.scratch import scratch_folder


def predict_and_print(config: ScoringConfig, options: PipelineOptions, debug: bool) -> None:
    """Predicts and prints the summary; with --dry_run, prints what it would do."""
    if not debug:
        quiet_beam(on_dataflow(options))
    template = options.view_as(GoogleCloudOptions).template_location
    config = checked(config, options)
    check_model(config)
    if config.dry_run:
        prices = costs.read_prices(config.prices)
        with scratch_folder() as status_folder:
            planned = plan_only(config, define_scoring, status_folder, quiet=not debug)
            with status.quiet_workers(not debug):
                rate, row_bytes = trial_of(config, status_folder)
        summary.print_plan(config, planned)
        print_estimate(config, planned, costs.SCORING, rate, row_bytes, prices)
    elif template:
        if not storage.is_shared(config.model):
            raise UsageError(f"--model {config.model} is local, and a template starts later; copy it to a gs:// bucket")
        stage_template(config, options, define_scoring)
        print_template(options.view_as(GoogleCloudOptions))
    else:
        manifest, counted, _ = run_and_publish(config, options, define_scoring, quiet=not debug)
        assert isinstance(manifest, ScoresManifest)
        summary.print_manifest(manifest, config.output)
        print_counted(counted)


def define_scoring(
    root: beam.Pipeline, config: ScoringConfig, release: releases.Release | None, status_folder: str
) -> None:
    """Adds all steps: discover, plan, score, publish. Without a release (--dry_run), the plan is the last
    step, beside the choice of a few images for the estimate."""
    found: SourcesAndTally = root | "Discover" >> Discover(config, status_folder)
    chosen: SourcesAndTally = found["sources"] | "Sample" >> sampling.Sample(config)
    references: PCollection[Block[Reference]] = chosen["sources"] | "Refer" >> beam.Map(plan.references, config)
    tally = (found[TALLY], chosen[TALLY])
    everything: ReferencesAndTally = {"references": references, TALLY: tally | "Tally" >> beam.Flatten()}
    planned: PCollection[Plan] = everything | "Plan" >> MakePlan(config, status_folder, plan.plan_of)
    if release is None:
        _ = references | "Trial" >> trial.ChooseImages(status_folder)
        return
    the_plan = AsSingleton(planned)
    config = replace(config, model=place_for_workers(config, release))  # a path of this machine never travels
    scorer = ShardScorer(config, release.prefix, release.work, status_folder)
    results: PCollection[ShardResult] = (
        by_shard(references, planned, config)
        | "ShardToScore" >> beam.Map(shard_to_score, the_plan)
        | "ScoreShards" >> RunInference(scorer)
    )
    _ = (
        root
        | "End" >> beam.Impulse()
        | "Publish" >> beam.Map(publish.publish, AsList(results), the_plan, config, release, status_folder)
    )
