"""Writes a synthetic set of chest radiographs, for the demo and the tests: python -m beam_jobs.sample --output DIR

Folders and file names are those of the Kermany set: chest_xray/{train,val,test}/{NORMAL,PNEUMONIA}/, several images of
some persons, person numbers that start again in test, and a few byte-identical duplicates (two images of one person).
"""

import io
import os
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid
from tqdm import tqdm

from beam_jobs.phantom import CAUSES, Anatomy, draw_chest
from schemas.errors import CommandParser, UsageError, run_command

SUFFIXES = {"gray": "jpeg", "rgb": "jpeg", "progressive": "jpeg", "png": "png", "dicom": "dcm"}
_SHARES = {"rgb": 0.07, "progressive": 0.04, "png": 0.05, "dicom": 0.02}  # of all images; the rest are gray JPEG
_LEAST = {"dicom": 3}  # one of each kind of DICOM
_DRAWN_SIDE = 400  # pixels of the longer side before the enlargement to the final size

README = """\
SYNTHETIC IMAGES. These are drawings made by a program (python -m beam_jobs.sample --images {images} --seed {seed}),
not radiographs of anybody. They show that the software works; they say nothing about real patients, and
no figure measured on them says how well a method performs on real radiographs.

Folders and file names follow the Kermany chest X-ray set; none of its images are included:
chest_xray/{{train,val,test}}/{{NORMAL,PNEUMONIA}}/. A person has one or more images (personN_..., IM-N-...); person
numbers start again in test, where they stand for other persons. {duplicates} of the {images} files repeat,
byte for byte, another image of the same person. Formats: JPEG (gray, RGB with equal channels, progressive),
PNG and DICOM (MONOCHROME1 and MONOCHROME2, 8 and 12 bits).
"""


@dataclass(frozen=True)
class SampleConfig:
    """The flags of `beam_jobs.sample`, checked. Raises UsageError, naming the flag and what to do."""

    output: str
    images: int = 600
    seed: int = 0

    def __post_init__(self) -> None:
        if "://" in self.output or not self.output:
            raise UsageError(f"--output {self.output!r}: give a local folder; copy the images to a bucket afterwards")
        if self.images < 20:
            raise UsageError(f"--images {self.images}: give at least 20, so that every split has both classes")
        if self.seed < 0:
            raise UsageError(f"--seed {self.seed}: give 0 or more")
        folder = Path(self.output)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UsageError(f"--output {self.output} exists and is not an empty folder; name a new one or remove it")


@dataclass(frozen=True)
class SampleImage:
    """One file to write. `person` seeds the anatomy, `index` everything else; files equal in both are duplicates.

    `format` is a key of SUFFIXES; `cause` is None for NORMAL, else one of phantom.CAUSES.
    """

    folder: str
    stem: str
    cause: str | None
    person: int
    index: int
    format: str

    @property
    def path(self) -> str:
        """The path relative to the output folder, with `/` as the separator."""
        return f"{self.folder}/{self.stem}.{SUFFIXES[self.format]}"


def plan_sample(images: int, seed: int) -> list[SampleImage]:
    """The files of the set: `images` of them, 74% PNEUMONIA, 10% in test and at most 8 + 8 in val. Draws nothing."""
    rng = np.random.default_rng((seed, images))
    formats = _formats(images, rng)
    # Test has its own persons, numbered from the start; val continues the numbers of train.
    numbers = {"NORMAL": 115, "PNEUMONIA": 1}
    plan: list[SampleImage] = []
    for (split, label), count in _folder_sizes(images).items():
        if (split, label) == ("test", "NORMAL"):
            numbers = {"NORMAL": 1, "PNEUMONIA": 1}
        end = len(plan) + count
        while len(plan) < end:
            person = len(plan)
            stems, cause = _person(label, numbers[label], person, end - person, rng)
            numbers[label] += 1
            for index, stem in enumerate(stems, start=person):
                plan.append(SampleImage(f"chest_xray/{split}/{label}", stem, cause, person, index, formats[index]))
    return _with_duplicates(plan, max(1, images // 150), rng)


def write_sample(config: SampleConfig, threads: int | None = None) -> list[SampleImage]:
    """Writes the whole set to `config.output` and returns what was written. The bytes do not depend on `threads`.

    The images get their final names only when all of them are written.
    """
    plan = plan_sample(config.images, config.seed)
    output = Path(config.output)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--output {config.output}: cannot make the folder ({error.strerror})") from error
    duplicates = len(plan) - len({image.index for image in plan})
    with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=output) as unfinished:
        for folder in sorted({image.folder for image in plan}):
            Path(unfinished, folder).mkdir(parents=True)

        def write(image: SampleImage) -> None:
            Path(unfinished, image.path).write_bytes(encode_sample(image, config.seed))

        with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
            for _ in tqdm(pool.map(write, plan), total=len(plan), unit="image", desc="drawing", disable=None):
                pass
        text = README.format(images=config.images, seed=config.seed, duplicates=duplicates)
        (output / "README.txt").write_text(text, encoding="utf-8")
        Path(unfinished, "chest_xray").rename(output / "chest_xray")
    return plan


def encode_sample(image: SampleImage, seed: int) -> bytes:
    """The bytes of one file. They depend only on `seed` and on the image's person, index, cause and format."""
    rng = np.random.default_rng((seed, 1, image.index))
    anatomy = Anatomy.draw(np.random.default_rng((seed, 2, image.person)))
    width = round(640 * 2.5 ** rng.uniform())
    height = int(np.clip(width * rng.uniform(0.6, 1.0), 400, 1600))
    scale = _DRAWN_SIDE / max(width, height)
    drawn = Image.fromarray(draw_chest(anatomy, image.cause, (round(height * scale), round(width * scale)), rng))
    pixels = np.array(drawn.resize((width, height), Image.Resampling.BICUBIC))
    pixels += np.float32(rng.uniform(0.008, 0.03)) * rng.standard_normal(pixels.shape, dtype=np.float32)
    np.clip(pixels, 0, 1, out=pixels)
    quality = int(rng.integers(78, 94))
    if image.format == "dicom":
        return _dicom(pixels, image.index, seed)
    gray = Image.fromarray((pixels * 255 + 0.5).astype(np.uint8))
    stream = io.BytesIO()
    if image.format == "png":
        gray.save(stream, "PNG", compress_level=1)
    else:
        colors = gray.convert("RGB") if image.format == "rgb" else gray
        colors.save(stream, "JPEG", quality=quality, progressive=image.format == "progressive")
    return stream.getvalue()


def _formats(images: int, rng: np.random.Generator) -> list[str]:
    """The format of each index, in random order."""
    special = [name for name, share in _SHARES.items() for _ in range(max(_LEAST.get(name, 1), round(share * images)))]
    return [str(name) for name in rng.permutation(special + ["gray"] * (images - len(special)))]


def _folder_sizes(images: int) -> dict[tuple[str, str], int]:
    """Number of files by split and class."""
    in_test, in_val, pneumonia = max(4, round(0.1 * images)), max(1, min(8, images // 60)), round(0.74 * images)
    pneumonia_in_test = round(0.7 * in_test)
    return {
        ("train", "NORMAL"): images - pneumonia - (in_test - pneumonia_in_test) - in_val,
        ("train", "PNEUMONIA"): pneumonia - pneumonia_in_test - in_val,
        ("val", "NORMAL"): in_val,
        ("val", "PNEUMONIA"): in_val,
        ("test", "NORMAL"): in_test - pneumonia_in_test,
        ("test", "PNEUMONIA"): pneumonia_in_test,
    }


def _person(label: str, number: int, start: int, most: int, rng: np.random.Generator) -> tuple[list[str], str | None]:
    """The file names, without suffixes, of up to `most` images of one person, and the cause of the pneumonia."""
    if label == "PNEUMONIA":
        count = min(int(rng.choice((1, 2, 2, 3, 5))), most)
        cause = str(rng.choice(CAUSES, p=(0.65, 0.35)))
        return [f"person{number}_{cause}_{start + k}" for k in range(1, count + 1)], cause
    count = min(int(rng.choice((1, 1, 1, 2))), most)
    study = f"{rng.choice(('IM', 'NORMAL2-IM'))}-{number:04d}-0001"
    return ([study] if count == 1 else [f"{study}-{k:04d}" for k in range(1, count + 1)]), None


def _with_duplicates(plan: list[SampleImage], count: int, rng: np.random.Generator) -> list[SampleImage]:
    """`plan` with the second of up to `count` pairs made to repeat the first: gray JPEGs of one person in train."""
    pairs = [
        k
        for k, (first, second) in enumerate(pairwise(plan))
        if first.person == second.person and first.format == second.format == "gray" and "/train/" in first.folder
    ]
    repeated = rng.permutation(pairs[::2])[:count]
    return [replace(plan[k - 1], stem=image.stem) if k - 1 in repeated else image for k, image in enumerate(plan)]


def _dicom(pixels: npt.NDArray[np.float32], index: int, seed: int) -> bytes:
    """A computed radiograph: by `index`, 8 bits, 12 bits with a window, or 12 bits with a window and MONOCHROME1."""
    bits, inverted = ((8, False), (12, False), (12, True))[index % 3]
    dataset = Dataset()
    dataset.SOPClassUID = ComputedRadiographyImageStorage
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=["radrecords sample", str(seed), str(index)])
    dataset.Modality = "CR"
    dataset.PatientName = "SYNTHETIC^DRAWING"
    dataset.PatientID = "SYNTHETIC"
    dataset.ImageComments = "Drawn by a program. Not a radiograph of anybody."
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PixelRepresentation = 1, 0
    dataset.PhotometricInterpretation = "MONOCHROME1" if inverted else "MONOCHROME2"
    dataset.BitsAllocated = 8 if bits == 8 else 16
    dataset.BitsStored, dataset.HighBit = bits, bits - 1
    if bits == 8:
        stored = (pixels * 255 + 0.5).astype(np.uint8)
    else:
        stored = (pixels * 2400 + 600.5).astype("<u2")
        if inverted:
            stored = 4095 - stored
        dataset.WindowCenter, dataset.WindowWidth = (2295 if inverted else 1800), 2400
    dataset.add_new("PixelData", "OB" if bits == 8 else "OW", stored.tobytes() + b"\0" * (stored.nbytes % 2))
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def main(argv: Sequence[str]) -> None:
    """The command: parses `argv`, writes the set and prints a summary."""
    parser = CommandParser(
        "beam_jobs.sample", "Write a synthetic set of chest radiographs in the layout of the Kermany set."
    )
    parser.add_argument("--output", required=True, help="local folder for the images, new or empty")
    parser.add_argument("--images", type=int, default=600, help="number of files")
    parser.add_argument("--seed", type=int, default=0, help="the same seed and number of files give the same bytes")
    flags = parser.parse_args(argv)
    config = SampleConfig(flags.output, flags.images, flags.seed)
    plan = write_sample(config)
    sick = sum(image.cause is not None for image in plan)
    print(f"{len(plan)} SYNTHETIC images ({sick} PNEUMONIA, {len(plan) - sick} NORMAL) in {config.output}/chest_xray")
    print("They are computer drawings, not radiographs of anybody: use them to try the software and for nothing else.")


if __name__ == "__main__":
    sys.exit(run_command(main))
