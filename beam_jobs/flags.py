"""The flags of the conversion, and the settings that they make."""

import argparse
import csv
import os
from dataclasses import asdict

from beam_jobs import id_key, storage
from beam_jobs.config import DICOM_DECODERS, ConvertConfig
from beam_jobs.known_pairs import read_pairs
from schemas.errors import CommandParser, UsageError
from schemas.image_settings import ImageSettings
from schemas.source import PRESETS, check_place

# The engine inside Beam's local runners. By name, because DirectRunner would first try to download another one.
LOCAL_RUNNERS = ("", "FnApiRunner", "DirectRunner", "BundleBasedDirectRunner", "SwitchingDirectRunner")


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
    result.add_argument(
        "--near_duplicates_of",
        default="",
        metavar="DATASET",
        help="keep in one split the near-duplicates that the leakage.json of this data set names",
    )
    result.add_argument("--threads", type=auto_or_positive, default="auto", metavar="N", help="that read, per worker")
    result.add_argument(
        "--decoders", type=auto_or_positive, default="auto", metavar="N", help="processes that decode, per worker"
    )
    result.add_argument(
        "--decoder_memory",
        type=positive,
        default=ConvertConfig.decoder_memory,
        metavar="MIB",
        help="what decoding may take in each of them",
    )
    result.add_argument(
        "--decode_timeout",
        type=float,
        default=ConvertConfig.decode_timeout,
        metavar="S",
        help="seconds an image may take",
    )
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

    def absolute(name: str) -> str:
        path = check_place(f"--{name}", getattr(flags, name))
        if storage.is_remote(path) and not path.removeprefix("gs://").strip("/"):
            raise UsageError(f"{path} names no bucket; write gs://BUCKET/FOLDER")
        return path.rstrip("/") if storage.is_remote(path) or not path else os.path.abspath(path)

    places = ("input", "output", "manifest", "id_key_file", "retry_quarantine", "near_duplicates_of")
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
        near_duplicates_of=near,
        near_duplicates_check=read_pairs(near, bool(key_place)).check if near else "",
        image=ImageSettings(**image),
        local=local,
        **given,
    )


def is_local(beam_flags: list[str]) -> bool:
    """Whether Beam's flags leave the job on this machine."""
    return _beam_flag(beam_flags, "--runner") in LOCAL_RUNNERS


def uses_processes(beam_flags: list[str]) -> bool:
    """Whether a local job has worker processes of its own."""
    return _beam_flag(beam_flags, "--direct_running_mode") == "multi_processing"


def _beam_flag(beam_flags: list[str], name: str) -> str:
    one = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    one.add_argument(name, default="", dest="value")
    try:
        return str(one.parse_known_args(beam_flags)[0].value)
    except SystemExit:  # without a value, which Beam's own parser says
        return ""
