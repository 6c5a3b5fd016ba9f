"""The flags of `beam_jobs.predict`, and the config that they make."""

import argparse

from beam_jobs.flags import add_running, auto_or_positive, positive
from beam_jobs.scoring.config import ScoringConfig
from beam_jobs.scoring.export import read_export
from beam_jobs.settings import id_key
from beam_jobs.storage import storage
from schemas.errors import CommandParser
from schemas.shard_name import JSONL, SCORE_FORMATS
from schemas.source import check_place

_PLACES = ("model", "input", "output", "manifest", "id_key_file", "prices")


def parser() -> argparse.ArgumentParser:
    """The parser of this command's own flags. Beam's are parsed separately."""
    result = CommandParser(
        "beam_jobs.predict",
        "Scores radiographs (JPEG, PNG, TIFF, BMP, GIF, WebP, DICOM) with a model that training.export wrote as ONNX. Also "
        "accepts every Apache Beam option, such as --runner=DataflowRunner; without one, the job runs on this machine.",
    )
    group, place = result.add_argument_group("places"), {"metavar": "DIR|gs://..."}
    group.add_argument("--model", required=True, help="the export, in ONNX", metavar="FILE|gs://...")
    group.add_argument("--input", required=True, help="folder of the images, in any layout", **place)
    group.add_argument("--output", required=True, help="folder for the scores", **place)
    group.add_argument(
        "--manifest", default="", metavar="FILE", help="table of the images: CSV or Parquet with image_uri"
    )
    _add_scores(result)
    _add_images(result)
    add_running(result)
    return result


def _add_scores(result: argparse.ArgumentParser) -> None:
    group = result.add_argument_group("scores")
    group.add_argument("--format", default=JSONL, metavar="FORMAT", help=f"{' or '.join(SCORE_FORMATS)}")
    group.add_argument("--shards", type=auto_or_positive, default="auto", metavar="N", help="number of shards")
    group.add_argument(
        "--id_key_file",
        default="",
        metavar="FILE|gs://...|projects/P/secrets/S/versions/V",
        help="secret key for ids; without one, anyone who guesses a file name can check the guess",
    )
    group.add_argument("--include_source_uri", action="store_true", help="store each image's URI in its row")
    group.add_argument("--overwrite", action="store_true", help="replace the scores published in --output")


def _add_images(result: argparse.ArgumentParser) -> None:
    group = result.add_argument_group("images")
    group.add_argument(
        "--sample_fraction", type=float, default=1.0, metavar="F", help="score this fraction of the images"
    )
    group.add_argument("--limit", type=positive, metavar="N", help="score at most N images")
    group.add_argument("--seed", type=int, default=0, help="seed of the sample, and of the images of a shard")
    group.add_argument(
        "--max_reject_fraction",
        type=float,
        default=0.01,
        metavar="F",
        help="fail if a larger fraction of the images is quarantined",
    )


def config_of(flags: argparse.Namespace, local: bool) -> ScoringConfig:
    """The checked config, with absolute paths and what the export says. Raises UsageError if the export cannot be used."""
    given = {
        name: value
        for name, value in vars(flags).items()
        if name in ScoringConfig.__dataclass_fields__ and name not in _PLACES and value is not None
    }
    key_place = id_key.absolute(check_place("--id_key_file", flags.id_key_file))
    id_key.check_place(key_place, local)
    return ScoringConfig(
        input=_absolute("input", flags.input),
        output=_absolute("output", flags.output),
        manifest=_absolute("manifest", flags.manifest),
        prices=_absolute("prices", flags.prices),
        id_key_file=key_place,
        id_key_check=id_key.check_value(id_key.read_key(key_place)) if key_place else "",
        local=local,
        **given,
        **read_export(_absolute("model", flags.model)),
    )


def _absolute(flag: str, place: str) -> str:
    return storage.absolute(check_place(f"--{flag}", place)) if place else ""
