"""Mutated images, manifests, tables and shards have only the promised outcomes. Run with `make test-fuzz`.

An input that breaks a promise is written to tests/fuzz/found/; the default tests try the images there again.
"""

import contextlib
import io
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from beam_jobs.discover.tables import UnreadableTable, check_table, read_rows
from beam_jobs.settings.config import ConvertConfig
from beam_jobs.write.reuse import read_old_dataset
from schemas.dataset import Manifest
from schemas.decoders.pool import DecoderPool
from schemas.errors import RadrecordsError
from schemas.example import DamagedRecord, decode_example, read_records
from schemas.pixels.decode import decode
from schemas.pixels.rejection import Decoded, ImageRejected, ImageSkipped, Reason, SkipReason
from schemas.pixels.settings import ImageSettings
from tests.conftest import Result, files_of, labelled, write_images
from tests.fuzz.mutate import mutated
from tests.schemas.dicom_files import dicom_bytes, dicom_object, twelve_bits
from tests.schemas.image_files import GOOD, REJECTED
from tests.schemas.pictures import NAMES, picture

FOUND = Path(__file__).parent / "found"
SECONDS = float(os.environ.get("SECONDS", "60"))
SETTINGS = ImageSettings(image_size=32)
_MOST_BYTES = 1_500_000_000  # of a decoder: its memory limit and its libraries


def corpus() -> list[bytes]:
    """Files of every format and of the transfer syntaxes that can be written here, and those in RADRECORDS_FUZZ_FOLDER."""
    syntaxes = (ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)
    dicom = [dicom_bytes(dicom_object(twelve_bits()), syntax) for syntax in syntaxes]
    packed = dicom_object(twelve_bits())
    packed.file_meta = FileMetaDataset()
    packed.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    packed.compress(RLELossless)
    dicom.append(dicom_bytes(packed, RLELossless))
    real = Path(os.environ.get("RADRECORDS_FUZZ_FOLDER", FOUND))
    files = sorted(path for path in real.rglob("*") if path.is_file())[:300]
    drawn = [make() for make in GOOD.values()] + [make() for make, _ in REJECTED.values()]
    return [data for data in (*dicom, *drawn, *(file.read_bytes() for file in files)) if len(data) < 1 << 20]


def check_answer(answer: object) -> None:
    if isinstance(answer, Decoded):
        assert answer.pixels.shape == SETTINGS.shape
        assert answer.pixels.dtype == np.uint8
    elif isinstance(answer, ImageRejected):
        assert answer.reason in Reason
        assert len(answer.detail) <= 500
        assert answer.detail.isprintable()
        assert not [name for name in NAMES if name in answer.detail]
    else:
        assert isinstance(answer, ImageSkipped)
        assert answer.reason in SkipReason


@contextlib.contextmanager
def kept(name: str, data: bytes) -> Iterator[None]:
    """Writes `data` to FOUND if the body fails."""
    try:
        yield
    except BaseException:
        (FOUND / name).write_bytes(data)
        raise


def seeds() -> Iterator[str]:
    """Seeds, until half of SECONDS is over: two tests share the time."""
    end, run = time.monotonic() + SECONDS / 2, os.environ.get("SEED", "0")
    number = 0
    while time.monotonic() < end:
        yield f"{run}-{number}"
        number += 1


def peak_bytes_of_children() -> int:
    peaks = [0]
    for tasks in Path("/proc/self/task").glob("*/children"):
        for child in tasks.read_text().split():
            with contextlib.suppress(OSError):
                lines = Path(f"/proc/{child}/status").read_text().splitlines()
                peaks += [int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:")]
    return max(peaks)


@pytest.mark.fuzz
def test_mutated_images_have_only_promised_outcomes(capsys: pytest.CaptureFixture[str]) -> None:
    files, control, number = corpus(), picture("PNG"), 0
    right = decode(control, SETTINGS).pixels
    with DecoderPool(2) as pool:
        batch: list[tuple[str, bytes]] = []
        for seed in seeds():
            batch.append((seed, mutated(seed, files)))
            if len(batch) < 16:
                continue
            answers = pool.decode([data for _, data in batch] + [control], SETTINGS, timeout=20)
            for (name, data), answer in zip(batch, answers, strict=False):
                with kept(f"image-{name}", data):
                    check_answer(answer)
            last = answers[-1]
            assert isinstance(last, Decoded), last
            assert (last.pixels == right).all()
            number += len(batch)
            batch.clear()
        assert peak_bytes_of_children() < _MOST_BYTES
    with capsys.disabled():
        print(f"\n{number:,} mutated images", end=" ")
    assert number


@pytest.mark.fuzz
def test_mutated_manifests_tables_and_shards_raise_only_promised_errors(
    tmp_path: Path, convert: Callable[..., Result], capsys: pytest.CaptureFixture[str]
) -> None:
    raw = write_images(tmp_path / "raw", labelled(8), side=8)
    (raw / "NORMAL/bad.png").write_bytes(b"<html>")
    assert convert(raw, tmp_path / "out", "--image_size", 8, "--shards", 1).code == 0
    published = files_of(tmp_path / "out")
    csv = b'image_uri,label,split,group\na.png,NORMAL,train,1\n"b,c.png",A|B,,2\n'
    parquet = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"image_uri": ["a.png", "b.png"], "label": ["A", "B"]}), parquet)
    number = 0
    for seed in seeds():
        for kind, (read, data) in {
            "manifest.json": (read_manifest, published["manifest.json"]),
            "shard": (read_shard, published["cxr-train.tfrecord-00000-of-00001"]),
            "table.csv": (read_table, csv),
            "table.parquet": (read_table, parquet.getvalue()),
            "reuse.json": (read_reuse, published["reuse.json"]),
            "quarantine.jsonl": (read_reuse, published["quarantine.jsonl"]),
        }.items():
            spoiled = mutated(seed, [data])
            with kept(f"{seed}-{kind}", spoiled):
                read(spoiled, kind, tmp_path / "out")
            if kind in published:
                (tmp_path / "out" / kind).write_bytes(published[kind])
            number += 1
    with capsys.disabled():
        print(f"\n{number:,} mutated manifests, tables and shards", end=" ")
    assert number


def read_manifest(data: bytes, _: str, folder: Path) -> None:
    with contextlib.suppress(RadrecordsError):
        manifest = Manifest.from_json(data.decode(errors="replace"), str(folder))
        Manifest.from_json(manifest.to_json(), str(folder))


def read_shard(data: bytes, _: str, __: Path) -> None:
    with contextlib.suppress(DamagedRecord):
        for record in read_records(io.BytesIO(data)):
            decode_example(record, (8, 8, 1))
    with contextlib.suppress(DamagedRecord):
        decode_example(data[12:-4], (8, 8, 1))


def read_table(data: bytes, kind: str, folder: Path) -> None:
    table = folder.parent / kind
    table.write_bytes(data)
    with contextlib.suppress(RadrecordsError, UnreadableTable):
        check_table(ConvertConfig("/in", "/out", manifest=str(table)).manifest)
        for row in read_rows(str(table)):
            assert isinstance(row.image, str)


def read_reuse(data: bytes, kind: str, folder: Path) -> None:
    (folder / kind).write_bytes(data)
    with contextlib.suppress(RadrecordsError):
        read_old_dataset(str(folder))


@pytest.mark.parametrize("file", [pytest.param(path, id=path.name) for path in FOUND.glob("image-*")])
def test_images_that_once_broke_a_promise_have_only_promised_outcomes(file: Path) -> None:
    with DecoderPool(1) as pool:
        check_answer(pool.decode([file.read_bytes()], SETTINGS, timeout=20)[0])
