"""The flags of the conversion, and the config that they make."""

import argparse
import csv
from dataclasses import asdict

from beam_jobs.leakage.reported_pairs import read_pairs
from beam_jobs.settings import id_key
from beam_jobs.settings.config import DICOM_DECODERS, ConvertConfig
from beam_jobs.storage import storage
from schemas.errors import CommandParser
from schemas.pixels.settings import RESIZE_MODES, ImageSettings
from schemas.presets import PRESETS, UNCERTAIN_AS, VIEWS
from schemas.source import check_place


def parser() -> argparse.ArgumentParser:
    """The parser of this command's own flags. Beam's are parsed separately."""
    result = CommandParser(
        "beam_jobs.convert",
        "Converts radiographs (JPEG, PNG, TIFF, BMP, GIF, WebP, DICOM) to sharded TFRecords. Also accepts every Apache Beam "
        "option, such as --runner=DataflowRunner; without one, the job runs on this machine.",
    )
    _add_places(result)
    _add_table_and_splits(result)
    _add_image(result)
    _add_privacy(result)
    _add_versions(result)
    add_running(result)
    return result


def _add_places(result: argparse.ArgumentParser) -> None:
    group = result.add_argument_group("places")
    place = {"metavar": "DIR|gs://..."}
    group.add_argument(
        "--input", required=True, help="folder of the images: [SPLIT/]LABEL/FILE, or any layout with a table", **place
    )
    group.add_argument(
        "--output", required=True, help="folder for this version of the data set: .../cxr/1.0.0", **place
    )
    group.add_argument("--name", default="cxr", help="name of the data set")


def _add_table_and_splits(result: argparse.ArgumentParser) -> None:
    group = result.add_argument_group("labels, splits and shards")
    group.add_argument("--preset", default="", help=f"a public set with known names and tables: {', '.join(PRESETS)}")
    group.add_argument(
        "--manifest",
        default="",
        metavar="FILE",
        help="table of images: CSV or Parquet with image_uri,label[,split][,group], or AutoML's CSV",
    )
    group.add_argument("--classes", type=class_list, default=(), metavar="A,B", help="the classes, in label order")
    group.add_argument("--multi_label", action="store_true", help="read labels as A|B, even if no image has two")
    for name, values, what in (
        ("uncertain", UNCERTAIN_AS, "what the uncertain findings of chexpert and mimic-cxr become"),
        ("view", VIEWS, "which images of chexpert and mimic-cxr to convert"),
    ):
        help = f"{what}: {', '.join(values)} (default: {values[0]})"
        group.add_argument(f"--{name}", default="", metavar=name.upper(), help=help)
    group.add_argument(
        "--group_pattern", default="", metavar="REGEX", help="pattern that captures the patient in a path"
    )
    group.add_argument(
        "--validation_fraction",
        type=float,
        default=0.1,
        metavar="F",
        help="fraction of the patients, unless the input has this split",
    )
    group.add_argument(
        "--test_fraction",
        type=float,
        default=0.0,
        metavar="F",
        help="fraction of the patients, unless the input has this split",
    )
    group.add_argument("--allow_group_overlap", action="store_true", help="allow a patient in several splits")
    group.add_argument(
        "--sample_fraction", type=float, default=1.0, metavar="F", help="convert this fraction of the images"
    )
    group.add_argument("--limit", type=positive, metavar="N", help="convert at most N images")
    group.add_argument(
        "--shards", type=auto_or_positive, default="auto", metavar="N", help="number of shards per split"
    )
    group.add_argument("--seed", type=int, default=0, help="seed of sampling, splits and the order of examples")


def _add_image(result: argparse.ArgumentParser) -> None:
    group, image = result.add_argument_group("images"), ImageSettings()
    group.add_argument(
        "--image_size", type=int, default=image.image_size, metavar="N", help="height and width in pixels"
    )
    group.add_argument("--channels", type=int, default=image.channels, metavar="N", help="1, or 3 equal channels")
    group.add_argument(
        "--resize_mode", default=image.resize_mode, metavar="MODE", help=f"one of {', '.join(RESIZE_MODES)}"
    )
    group.add_argument("--crop", type=float, default=image.crop, metavar="F", help="fraction of each side to keep")
    group.add_argument(
        "--brightness",
        type=float,
        default=image.brightness,
        metavar="B",
        help="fraction of the range to add, from -1 to 1",
    )
    group.add_argument(
        "--contrast", type=float, default=image.contrast, metavar="C", help="contrast factor around mid-gray"
    )
    group.add_argument("--max_pixels", type=int, default=image.max_pixels, metavar="N", help="quarantine larger images")
    group.add_argument(
        "--max_reject_fraction",
        type=float,
        default=0.01,
        metavar="F",
        help="fail if a larger fraction of the images is quarantined",
    )
    group.add_argument(
        "--dicom_decoder",
        default="pydicom",
        metavar="NAME",
        help=f"{' or '.join(DICOM_DECODERS)} (needs the extra tfio)",
    )


def _add_privacy(result: argparse.ArgumentParser) -> None:
    group = result.add_argument_group("privacy")
    group.add_argument(
        "--id_key_file",
        default="",
        metavar="FILE|gs://...|projects/P/secrets/S/versions/V",
        help="secret key for ids and groups; without one, anyone who guesses a file name can check the guess",
    )
    group.add_argument("--include_source_uri", action="store_true", help="store each image's URI in its record")
    group.add_argument(
        "--allow_burned_in", action="store_true", help="accept DICOM images that declare text in their pixels"
    )


def _add_versions(result: argparse.ArgumentParser) -> None:
    group = result.add_argument_group("new versions of a data set")
    group.add_argument(
        "--retry_quarantine",
        default="",
        metavar="DATASET",
        help="make a new version of this data set; read again only the images that it quarantined",
    )
    group.add_argument(
        "--near_duplicates_of",
        default="",
        metavar="DATASET",
        help="keep the near-duplicates named in this data set's leakage.json in one split",
    )
    group.add_argument("--overwrite", action="store_true", help="replace the data set published in --output")


def add_running(result: argparse.ArgumentParser) -> None:
    """Adds the flags that say how a job runs."""
    group = result.add_argument_group("running")
    group.add_argument("--dry_run", action="store_true", help="print what would be done, and write nothing")
    group.add_argument(
        "--prices", default="", metavar="FILE", help="table of prices for the cost that --dry_run estimates"
    )
    group.add_argument(
        "--detach",
        action="store_true",
        help="an interrupt ends only this command; without the flag, it cancels the job on the engine too",
    )
    group.add_argument(
        "--threads", type=auto_or_positive, default="auto", metavar="N", help="reading threads for each worker"
    )
    group.add_argument(
        "--decoders", type=auto_or_positive, default="auto", metavar="N", help="decoding processes for each worker"
    )
    group.add_argument(
        "--decoder_memory",
        type=positive,
        default=ConvertConfig.decoder_memory,
        metavar="MIB",
        help="memory of each decoding process in MiB",
    )
    group.add_argument(
        "--decode_timeout",
        type=float,
        default=ConvertConfig.decode_timeout,
        metavar="S",
        help="seconds allowed per image",
    )


def positive(text: str) -> int:
    """argparse type for a whole number above 0."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is below 1")
    return value


def class_list(text: str) -> tuple[str, ...]:
    """argparse type for comma-separated names. A name that holds a comma is quoted as in CSV."""
    return tuple(name.strip() for name in next(csv.reader([text]), []))


def auto_or_positive(text: str) -> int:
    """argparse type for `auto` (0) or a whole number above 0."""
    return 0 if text == "auto" else positive(text)


def config_of(flags: argparse.Namespace, local: bool) -> ConvertConfig:
    """The checked config, with absolute paths, because workers may run in another folder."""

    def absolute(name: str) -> str:
        path = check_place(f"--{name}", getattr(flags, name))
        return storage.absolute(path) if path else ""

    places = ("input", "output", "manifest", "id_key_file", "retry_quarantine", "near_duplicates_of", "prices")
    image = {name: getattr(flags, name) for name in asdict(ImageSettings()) if hasattr(flags, name)}
    given = {
        name: value
        for name, value in vars(flags).items()
        if name in ConvertConfig.__dataclass_fields__ and name not in places and value is not None
    }
    key_place = id_key.absolute(check_place("--id_key_file", flags.id_key_file))
    id_key.check_place(key_place, local)
    near = absolute("near_duplicates_of")
    return ConvertConfig(
        input=absolute("input"),
        output=absolute("output"),
        manifest=absolute("manifest"),
        id_key_file=key_place,
        id_key_check=id_key.check_value(id_key.read_key(key_place)) if key_place else "",
        retry_quarantine=absolute("retry_quarantine"),
        prices=absolute("prices"),
        near_duplicates_of=near,
        near_duplicates_check=read_pairs(near, bool(key_place)).check if near else "",
        image=ImageSettings(**image),
        local=local,
        **given,
    )
