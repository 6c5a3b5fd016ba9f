"""Raw radiographs -> a published TFRecord data set: `python -m beam_jobs.convert --input DIR --output DIR`."""

import argparse
import csv
import functools
import logging
import os
import sys
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, SetupOptions, StandardOptions
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner

from beam_jobs import (
    feedback,
    id_key,
    isolation,
    leakage,
    plan,
    publish,
    retry,
    shards,
    storage,
    supervise,
    workers,
)
from beam_jobs.config import ConvertConfig
from beam_jobs.decoder import DICOM_DECODERS, decoder_of
from beam_jobs.discover import Discover, check_input
from beam_jobs.duplicates import DropDuplicates
from beam_jobs.published import read_manifest
from beam_jobs.splits import AssignSplits
from beam_jobs.tally import TALLY
from schemas.dataset import Manifest
from schemas.errors import CommandParser, JobFailed, RadrecordsError, UsageError, run_command
from schemas.example import record_bytes
from schemas.image import ImageSettings
from schemas.labels import MULTI_HOT, class_totals
from schemas.source import PRESETS

# The engine inside Beam's local runners. By name, because DirectRunner would first try to download another one.
_LOCAL_RUNNERS = ("", "FnApiRunner", "DirectRunner", "BundleBasedDirectRunner", "SwitchingDirectRunner")
# Their job servers know more options than Python does.
_OPEN_ENDED_RUNNERS = ("PortableRunner", "FlinkRunner", "SparkRunner", "PrismRunner")


def main(argv: Sequence[str], supervised: bool = False) -> None:
    """Converts, and prints the summary; or says with --dry_run what it would do. `supervised`: a local run happens in a
    child of this process, and is run again where a decoder ends it."""
    flags, beam_flags = parser().parse_known_args(argv)
    if flags.retry_quarantine:
        flags = retry.parse_with_settings(parser(), list(argv), flags.retry_quarantine.rstrip("/"))
    options = beam_options(beam_flags)
    config = config_of(flags, local=options.view_as(StandardOptions).runner is None)
    if not flags.debug:
        quiet_beam(config.local)
    if supervised and config.local and not config.dry_run and supervise.can_supervise():
        sys.exit(supervise.until_done(lambda: convert_and_print(config, options, flags.debug), config, argv))
    convert_and_print(config, options, flags.debug)


def convert_and_print(config: ConvertConfig, options: PipelineOptions, debug: bool) -> None:
    """Everything after the flags."""
    if config.local:
        with feedback.quiet_workers(not debug):
            decoder_of(config.image, config.dicom_decoder)  # says at once where it does not work
    check_input(config)
    if config.retry_quarantine:
        retry.check(config)
    if config.dry_run:
        with tempfile.TemporaryDirectory(prefix="radrecords-") as folder:
            with feedback.quiet_workers(not debug):
                run(config, None, folder, PipelineOptions([]))
            print_plan(config, feedback.read_plan(folder) or {})
        return
    print_manifest(convert(config, options, quiet=not debug), config.output)
    print(leakage.summary(publish.read_leakage(config.output)))


def parser() -> argparse.ArgumentParser:
    """The flags of this command. Beam's own come on top."""
    result = CommandParser(
        "beam_jobs.convert",
        "Converts radiographs (JPEG, PNG, TIFF, BMP, WebP, DICOM) to sharded TFRecords. Any Apache Beam option may be "
        "given too, such as --runner=DataflowRunner; without one it runs in this process.",
    )
    image = ImageSettings()
    text = {"metavar": "DIR|gs://..."}
    result.add_argument(
        "--input", required=True, help="folder of the images: [SPLIT/]LABEL/FILE, or any with a table", **text
    )
    result.add_argument("--output", required=True, help="folder of the data set, one a version: .../cxr/1.0.0", **text)
    result.add_argument("--name", default="cxr", help="name of the data set")
    result.add_argument("--image_size", type=int, default=image.image_size, help="height and width, in pixels")
    result.add_argument("--channels", type=int, default=image.channels, help="1, or 3 for gray three times")
    result.add_argument(
        "--manifest",
        default="",
        metavar="FILE",
        help="table of the images: CSV or Parquet with image_uri,label[,split][,group], or AutoML's CSV",
    )
    result.add_argument("--classes", type=class_list, default=(), metavar="A,B", help="in label order, not sorted")
    result.add_argument("--multi_label", action="store_true", help="labels are A|B, even if no image has two")
    result.add_argument("--preset", default="", help=f"a set whose names and tables are known: {', '.join(PRESETS)}")
    result.add_argument("--group_pattern", default="", metavar="REGEX", help="captures the patient in a path")
    result.add_argument("--validation_fraction", type=float, default=0.1, help="of the groups, where none is given")
    result.add_argument("--test_fraction", type=float, default=0.0, help="of the groups, where none is given")
    result.add_argument("--sample_fraction", type=float, default=1.0, metavar="F", help="convert this part only")
    result.add_argument("--limit", type=positive, metavar="N", help="convert at most N images")
    result.add_argument("--shards", type=auto_or_positive, default="auto", metavar="N", help="of each split")
    result.add_argument("--resize_mode", default=image.resize_mode, help="stretch, letterbox or crop")
    result.add_argument("--crop", type=float, default=image.crop, metavar="FRACTION", help="central part of each side")
    result.add_argument("--brightness", type=float, default=image.brightness, metavar="B", help="added, -1 to 1")
    result.add_argument("--contrast", type=float, default=image.contrast, metavar="C", help="factor around mid-gray")
    result.add_argument("--max_pixels", type=int, default=image.max_pixels, help="larger images are quarantined")
    result.add_argument(
        "--allow_burned_in", action="store_true", help="take DICOM images that say a text is in the pixels"
    )
    result.add_argument(
        "--dicom_decoder", default="pydicom", help=f"{' or '.join(DICOM_DECODERS)} (needs the extra tfio)"
    )
    result.add_argument("--seed", type=int, default=0, help="of splits, sampling and shards")
    result.add_argument("--max_reject_fraction", type=float, default=0.01, help="more broken images fail the job")
    result.add_argument("--allow_group_overlap", action="store_true", help="patients may be in several splits")
    result.add_argument("--include_source_uri", action="store_true", help="store each image's URI in its record")
    result.add_argument(
        "--id_key_file",
        default="",
        metavar="FILE|gs://...|projects/P/secrets/S/versions/V",
        help="secret key of the ids and groups; without one, who can guess a name can check it",
    )
    result.add_argument(
        "--retry_quarantine",
        default="",
        metavar="DATASET",
        help="make a new version of this data set, reading again only what it quarantined",
    )
    result.add_argument("--threads", type=auto_or_positive, default="auto", metavar="N", help="decoding, per worker")
    result.add_argument("--decode_timeout", type=float, default=60.0, metavar="S", help="seconds an image may take")
    result.add_argument("--dry_run", action="store_true", help="say what would be done, and write nothing")
    result.add_argument("--overwrite", action="store_true", help="replace the data set published in --output")
    return result


def positive(text: str) -> int:
    """argparse type of a whole number above 0."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def class_list(text: str) -> tuple[str, ...]:
    """argparse type of names with commas between them; one that holds a comma is quoted as in CSV."""
    return tuple(name.strip() for name in next(csv.reader([text]), []))


def auto_or_positive(text: str) -> int:
    """argparse type of `auto` (0) or a whole number above 0."""
    return 0 if text == "auto" else positive(text)


def config_of(flags: argparse.Namespace, local: bool) -> ConvertConfig:
    """The checked settings of these flags, with absolute paths, so that workers may run in another folder."""

    def absolute(path: str) -> str:
        if storage.is_remote(path) and not path.removeprefix("gs://").strip("/"):
            raise UsageError(f"{path} names no bucket; write gs://BUCKET/FOLDER")
        return path.rstrip("/") if storage.is_remote(path) or not path else os.path.abspath(path)

    places = ("input", "output", "manifest", "id_key_file", "retry_quarantine")
    image = {name: getattr(flags, name) for name in asdict(ImageSettings()) if hasattr(flags, name)}
    given = {
        name: value
        for name, value in vars(flags).items()
        if name in ConvertConfig.__dataclass_fields__ and name not in places and value is not None
    }
    key_place = id_key.absolute(flags.id_key_file)
    id_key.check_place(key_place, local)
    return ConvertConfig(
        input=absolute(flags.input),
        output=absolute(flags.output),
        manifest=absolute(flags.manifest),
        id_key_file=key_place,
        id_key_check=id_key.check_value(id_key.read_key(key_place)) if key_place else "",
        retry_quarantine=absolute(flags.retry_quarantine),
        image=ImageSettings(**image),
        local=local,
        **given,
    )


def beam_options(flags: list[str]) -> PipelineOptions:
    """Beam's options. `runner` is None where the job runs on this machine. Raises UsageError for a flag nobody knows."""
    known = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for kind in PipelineOptions.__subclasses__():
        if "_add_argparse_args" in vars(kind):
            kind._add_argparse_args(known)
    _, unknown = known.parse_known_args(flags)
    options = PipelineOptions(flags)
    runner = options.view_as(StandardOptions).runner or ""
    if unknown and runner not in _OPEN_ENDED_RUNNERS:
        raise UsageError(f"unknown argument {unknown[0]}; see python -m beam_jobs.convert --help")
    if runner in _LOCAL_RUNNERS:
        options.view_as(StandardOptions).runner = None
    setup = options.view_as(SetupOptions)
    setup.save_main_session = False  # every function lives in an installed module
    if runner == "DataflowRunner" and not setup.setup_file and Path("setup.py").exists():
        setup.setup_file = "./setup.py"
    return options


def quiet_beam(local: bool) -> None:
    """Leaves failures to our one line. A remote job keeps Beam's progress lines."""
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL if local else logging.INFO)
    logging.getLogger().setLevel(logging.CRITICAL if local else logging.INFO)


def convert(config: ConvertConfig, options: PipelineOptions, quiet: bool = True) -> Manifest:
    """Runs the whole job and gives the manifest it published. Raises RadrecordsError with nothing published."""
    release = publish.begin(config)
    try:
        if release is None:  # published already
            pass
        elif config.local:
            with (
                # Where a worker is lost, another one may write on for a moment; what holds this folder goes later.
                tempfile.TemporaryDirectory(prefix="radrecords-", ignore_cleanup_errors=True) as folder,
                feedback.quiet_workers(quiet) as terminal,
                feedback.ProgressBar(folder, terminal),
            ):
                run(config, release, folder, options)
        else:
            run(config, release, storage.join(release.work, f"told-{uuid.uuid4().hex}"), options)
    except BaseException as error:
        if release and publish.abandon(config, release) and isinstance(error, Exception):
            raise publish.lost(config) from error
        raise
    manifest = read_manifest(config.output)
    if manifest is None:
        raise JobFailed(f"the job ended and published nothing in {config.output}")
    if release:
        publish.tidy(config, release)
    return manifest


def run(config: ConvertConfig, release: publish.Release | None, folder: str, options: PipelineOptions) -> None:
    """Runs the pipeline to its end. Raises what a worker recorded in `folder`, or else what the runner says."""
    runner = local_runner(folder, options) if config.local else None
    try:
        pipeline = beam.Pipeline(runner=runner, options=options)
        define_pipeline(pipeline, config, release, folder)
        pipeline.run().wait_until_finish()
    except Exception as error:
        told = feedback.read_failure(folder)  # before what the runner says: it adds words of its own
        if told is None and isinstance(error, RadrecordsError):
            raise
        if told is None and config.local and (workers.lost(folder) or isolation.attempts(config.work)):
            raise supervise.WorkerLostError(
                "a worker process was lost (killed, out of memory, or by a decoder); nothing was published. Run again: "
                "finished shards are kept, and what it was at is decoded in a process of its own"
            ) from error
        raise told or JobFailed(f"the job failed: {last_line(error)}") from error


def local_runner(folder: str, options: PipelineOptions) -> FnApiRunner:
    """The engine for this machine; in it workers are threads, or processes with --direct_running_mode."""
    direct = options.view_as(DirectOptions)
    if direct.direct_running_mode != "multi_processing":
        return FnApiRunner()
    direct.direct_running_mode = "in_memory"  # or Beam would put its own kind of worker process in place of ours
    return workers.process_runner(folder)


def last_line(error: BaseException) -> str:
    """The line of a runner's error that says what happened; the worker's traceback comes before or after it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1] if lines else 'no message'}"


def define_pipeline(root: beam.Pipeline, config: ConvertConfig, release: publish.Release | None, folder: str) -> None:
    """Discover, plan, write, publish. Without a release it ends with the plan (--dry_run)."""
    found = root | "Discover" >> Discover(config)
    chosen = found["sources"] | "Sample" >> plan.Sample(config)
    unique = chosen["sources"] | "DropDuplicates" >> DropDuplicates(config)
    assigned = unique["sources"] | "AssignSplits" >> AssignSplits(config)
    tally = tuple(step[TALLY] for step in (found, chosen, unique, assigned) if step is not chosen or TALLY in chosen)
    everything = {"references": assigned["references"], TALLY: tally | "Tally" >> beam.Flatten()}
    planned = everything | "Plan" >> plan.MakePlan(config, folder)
    if release is None:
        return
    the_plan = beam.pvalue.AsSingleton(planned)
    keys = planned | "ShardKeys" >> beam.FlatMap(plan.shard_keys)
    keyed = assigned["references"] | "ToShards" >> beam.Map(plan.shard_of, the_plan, config.seed)
    results = (
        (keys, keyed)
        | "KeysAndReferences" >> beam.Flatten()
        | "ByShard" >> beam.GroupByKey()
        | "WriteShards" >> beam.Map(shards.write_shard, the_plan, config, release.prefix, release.work, folder)
    )
    hashes = results | "Hashes" >> beam.Map(shards.hashes_of)
    near = hashes | "NearDuplicates" >> leakage.FindNearDuplicates(the_plan)
    finished = beam.pvalue.AsList(results | "Finished" >> beam.Map(shards.without_hashes))
    _ = (
        root
        | "End" >> beam.Create([None])
        | "Publish" >> beam.Map(publish.publish, finished, beam.pvalue.AsIter(near), the_plan, config, release, folder)
    )


def print_plan(config: ConvertConfig, planned: dict[str, Any]) -> None:
    """What --dry_run says: counts by split and class, shards and bytes."""
    classes = tuple(planned["classes"])
    size = record_bytes(config.image.shape, (0,) * len(classes) if planned["label_kind"] == MULTI_HOT else 0)
    print(f"would write {config.name} {config.version} to {config.output}")
    for split, labels in planned["counts"].items():
        examples = sum(labels.values())
        by_class = class_counts(class_totals(labels, classes))
        print(
            f"  {split:<11}{examples:>11,} images ({by_class}), {planned['shards'][split]} shards, "
            f"{'above ' if config.include_source_uri else ''}{examples * size:,} bytes"
        )
    skipped = sum(planned["skipped"].values())
    total = sum(sum(labels.values()) for labels in planned["counts"].values())
    print(
        f"inputs: {total + planned['duplicates'] + skipped:,} listed = {total:,} to convert "
        f"+ {planned['duplicates']:,} duplicates + {skipped:,} skipped{reasons(planned['skipped'])}"
    )
    print_notes(planned["notes"])


def print_manifest(manifest: Manifest, output: str) -> None:
    """The summary after a run; it adds up."""
    print(f"published {manifest.name} {manifest.version} in {output}")
    for split in manifest.splits:
        labels = dict(zip(manifest.classes, manifest.label_counts(split), strict=True))
        split_shards = manifest.shards(split)
        print(
            f"  {split:<11}{manifest.examples(split):>11,} examples ({class_counts(labels)}), {len(split_shards)} shards, "
            f"{sum(shard.bytes for shard in split_shards):,} bytes"
        )
    count = manifest.inputs
    print(
        f"inputs: {count['listed']:,} listed = {count['written']:,} written "
        f"+ {count['quarantined']:,} quarantined{reasons(manifest.quarantined)} "
        f"+ {count['duplicates']:,} duplicates + {count['skipped']:,} skipped{reasons(manifest.skipped)}"
    )
    print_notes(manifest.notes)


def print_notes(notes: Mapping[str, int]) -> None:
    """What was converted and is still worth knowing, such as names that did not fit the content."""
    if notes:
        print(f"noted: {', '.join(f'{number:,} {note}' for note, number in sorted(notes.items()))}")


def class_counts(labels: dict[str, int]) -> str:
    """`NORMAL 3, PNEUMONIA 5`."""
    return ", ".join(f"{name} {count:,}" for name, count in labels.items())


def reasons(counts: Any) -> str:
    """` (2 hidden, 1 unlabelled)`, or nothing."""
    return f" ({', '.join(f'{count:,} {reason}' for reason, count in sorted(counts.items()))})" if counts else ""


if __name__ == "__main__":
    sys.exit(run_command(functools.partial(main, supervised=True)))
