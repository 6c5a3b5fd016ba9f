"""The same images as PNGs and as the data set that our own command converts from them, on the disk and in a bucket."""

import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.readers.way import Data
from tests.gcs.bucket import Bucket

_SHAPE = (64, 64, 1)
_NAME = "cxr/1.0.0"


def make_data(folder: Path, examples: int, shards: int, bucket: Bucket) -> Data:
    """Writes them below `folder`, half of them in each of two classes. PNGs of random pixels are the quickest to decode,
    because nothing in them can be compressed."""
    random = np.random.default_rng(0)
    png, records, peers = folder / "png/train", folder / _NAME, folder / "peers"
    peers.mkdir()
    for number in range(examples):
        parent = png / ("NORMAL", "PNEUMONIA")[number % 2]
        if number < 2:
            parent.mkdir(parents=True)
        pixels = random.integers(0, 256, _SHAPE[:2], dtype=np.uint8)
        Image.fromarray(pixels).save(parent / f"{number:06d}.png", compress_level=1)
    flags = ("--shards", str(shards), "--validation_fraction", "0")
    command = [sys.executable, "-m", "beam_jobs.convert", "--input", str(png.parent), "--output", str(records), *flags]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    bucket.upload_folder(records, _NAME)
    return Data(str(png), str(records), f"{bucket.uri}/{_NAME}", str(peers), _SHAPE, examples, shards)
