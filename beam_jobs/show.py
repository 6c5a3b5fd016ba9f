"""Shows records of a data set: `python -m beam_jobs.show DATASET [--png FILE]`."""

import itertools
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from beam_jobs.publish.preview import contact_sheet, reduced
from beam_jobs.reading.manifest import require_manifest
from beam_jobs.reading.shards import read_examples
from schemas.errors import CommandParser, UsageError, run_command
from schemas.labels import label_text, positives
from schemas.source import check_place


def main(argv: Sequence[str]) -> None:
    """Prints the first records of a split, one per line, and writes their contact sheet with --png."""
    parser = CommandParser("beam_jobs.show", "Print records of a data set and write a contact sheet of them.")
    parser.add_argument("dataset", metavar="DIR|gs://...", help="folder of the data set")
    parser.add_argument("--split", default="train", help="train, validation or test")
    parser.add_argument("--count", type=int, default=16, help="number of records to show")
    parser.add_argument("--png", default="", metavar="FILE", help="write a contact sheet to this file")
    flags = parser.parse_args(argv)
    if flags.count < 1:
        raise UsageError(f"--count {flags.count}: must be at least 1")
    folder = check_place("dataset", flags.dataset).rstrip("/")
    manifest = require_manifest(folder)
    total = manifest.examples(flags.split)
    shown = min(flags.count, total)
    print(f"{manifest.name} {manifest.version}, {flags.split}: {shown} of {total:,} examples, {manifest.shape}")
    print(f"{'id':<32}  {'group':<32}  {'label':<20}  {'min':>3} {'mean':>5} {'max':>3}")
    sheet: dict[str, list[npt.NDArray[np.uint8]]] = {name: [] for name in manifest.classes}
    for example in itertools.islice(read_examples(folder, manifest, flags.split), flags.count):
        image = example.image
        label = label_text(example.label, manifest.classes)
        uri = "" if example.source_uri is None else f"  {json.dumps(example.source_uri)}"  # safe for any name
        print(
            f"{example.id}  {example.group}  {label:<20}  {image.min():>3} {image.mean():>5.1f} {image.max():>3}{uri}"
        )
        for index in positives(example.label) if flags.png else ():
            sheet[manifest.classes[index]].append(reduced(image))
    if flags.png:
        write_png(flags.png, contact_sheet(sheet))


def write_png(path: str, content: bytes) -> None:
    """Writes the picture and prints its path. Raises UsageError if it cannot be written."""
    try:
        Path(path).write_bytes(content)
    except OSError as error:
        raise UsageError(f"--png {path} cannot be written: {error.strerror}") from error
    print(f"wrote {path}")


if __name__ == "__main__":
    sys.exit(run_command(main))
