"""beam_jobs.predict: scores of raw images, as published for other software."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from PIL import Image

pytest.importorskip("onnx", reason="prediction needs it")
pytest.importorskip("onnxruntime", reason="prediction needs it")

from beam_jobs import convert, predict, verify
from beam_jobs.pipeline import run_and_publish
from beam_jobs.predict_flags import config_of, parser
from beam_jobs.prediction import define_scoring
from beam_jobs.scoring import export, inference
from beam_jobs.scoring.inference import ExportHandler
from beam_jobs.settings import costs
from schemas.errors import JobFailed
from schemas.identity import pseudonym
from schemas.labels import MULTI_HOT
from schemas.pixels.decode import decode
from schemas.pixels.settings import ImageSettings
from tests.beam_jobs.scoring.tiny_exports import write_export
from tests.conftest import ROOT, Result, files_of, manifest_of

Predict = Callable[..., Result]


def write_scans(folder: Path, count: int = 24) -> Path:
    """Uniformly gray images of all levels in folders of any name and at the top, as lossless files."""
    for n in range(count):
        path = folder / ("" if n % 3 == 0 else f"ward {n % 3}/{n % 2}") / f"{n}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((20, 30), 110 + 35 * n // count, np.uint8)).save(path)
    return folder


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    return write_scans(tmp_path / "scans")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_export(tmp_path / "model.onnx")


@pytest.fixture
def score(command: Predict, scans: Path, model: Path) -> Predict:
    """`score(output, *flags)` scores `scans` by `model` in this process."""
    return lambda output, *flags: command(predict.main, "--model", model, "--input", scans, "--output", output, *flags)


def rows_in(folder: Path) -> dict[str, dict[str, Any]]:
    """The rows of all shards that the manifest names, by id."""
    manifest = manifest_of(folder)
    rows = []
    for shard in manifest["shards"]:
        path = folder / shard["file"]
        if manifest["file_format"] == "parquet":
            some = pyarrow.parquet.read_table(path).to_pylist()
        else:
            some = [json.loads(line) for line in path.read_text().splitlines()]
        assert [row["id"] for row in some] == sorted(row["id"] for row in some)
        assert all(tuple(row) == tuple(manifest["columns"]) for row in some)
        rows += some
    return {row["id"]: row for row in rows}


def logit_of(path: Path) -> float:
    """Of the tiny export, from the mean of a uniform image."""
    return (float(np.asarray(Image.open(path)).mean()) - 127.5) / 4


def sigmoid(logit: float) -> float:
    return float(1 / (1 + np.exp(-logit)))


@pytest.mark.parametrize("format", ["jsonl", "parquet"])
def test_each_image_gets_the_probability_that_the_model_gives(
    format: str, scans: Path, tmp_path: Path, score: Predict
) -> None:
    result = score(tmp_path / "scores", "--format", format, "--shards", 3, "--include_source_uri")
    assert result.code == 0, result.err
    rows = rows_in(tmp_path / "scores")
    paths = sorted(scans.rglob("*.png"))
    assert len(rows) == len(paths)
    for path in paths:
        row = rows[pseudonym("id", path.relative_to(scans).as_posix())]
        logit = logit_of(path)
        assert row["uri"] == str(path)
        assert row["probability"] == pytest.approx(sigmoid(logit), abs=1e-6)
        assert row["calibrated_probability"] == pytest.approx(sigmoid(logit / 2), abs=1e-6)
        assert row["class"] == ("PNEUMONIA" if sigmoid(logit) >= 0.4 else "NORMAL")
    named = [row["class"] for row in rows.values()]
    assert manifest_of(tmp_path / "scores")["predicted"] == {
        name: named.count(name) for name in ("NORMAL", "PNEUMONIA")
    }
    assert len(set(named)) == 2
    assert "24 listed = 24 written + 0 quarantined + 0 skipped" in result.out
    assert sorted(path.name for path in (tmp_path / "scores").iterdir()) == [
        "manifest.json",
        "quarantine.jsonl",
        *(f"scores-0000{n}-of-00003.{format}" for n in range(3)),
    ]


def test_both_formats_hold_the_same_numbers_and_no_path(scans: Path, tmp_path: Path, score: Predict) -> None:
    assert score(tmp_path / "lines").code == 0
    assert score(tmp_path / "table", "--format", "parquet").code == 0
    assert rows_in(tmp_path / "lines") == rows_in(tmp_path / "table")
    for content in files_of(tmp_path / "lines").values():
        assert str(scans).encode() not in content
        assert b"ward" not in content


def test_several_classes_and_several_findings(scans: Path, tmp_path: Path, command: Predict) -> None:
    names = ("A", "B", "C")
    for kind, said in (("class", "class"), (MULTI_HOT, "findings")):
        write_export(tmp_path / "model.onnx", classes=names, kind=kind, threshold=0.6)
        for format in ("jsonl", "parquet"):
            flags = ("--model", tmp_path / "model.onnx", "--input", scans, "--include_source_uri", "--format", format)
            result = command(predict.main, *flags, "--output", tmp_path / kind / format)
            assert result.code == 0, result.err
        rows = rows_in(tmp_path / kind / "jsonl")
        assert rows == rows_in(tmp_path / kind / "parquet")
        for row in rows.values():
            logits = logit_of(Path(row["uri"])) * np.arange(1, 4)
            expected = np.exp(logits) / np.exp(logits).sum() if kind == "class" else 1 / (1 + np.exp(-logits))
            halved = np.exp(logits / 2) / np.exp(logits / 2).sum() if kind == "class" else 1 / (1 + np.exp(-logits / 2))
            assert list(row["probabilities"]) == list(row["calibrated_probabilities"]) == list(names)
            np.testing.assert_allclose(list(row["probabilities"].values()), expected, atol=1e-6)
            np.testing.assert_allclose(list(row["calibrated_probabilities"].values()), halved, atol=1e-4)
            reached = [name for name, p in zip(names, expected, strict=True) if p >= 0.6]
            assert row[said] == (names[int(expected.argmax())] if kind == "class" else reached)


def test_images_are_made_as_the_export_says(tmp_path: Path, scans: Path, command: Predict) -> None:
    settings = ImageSettings(image_size=24, channels=3, resize_mode="letterbox", crop=0.8, contrast=1.5)
    write_export(tmp_path / "model.onnx", settings, bias=10)
    flags = ("--model", tmp_path / "model.onnx", "--input", scans, "--output", tmp_path / "out", "--include_source_uri")
    assert command(predict.main, *flags).code == 0
    for row in rows_in(tmp_path / "out").values():
        mean = float(decode(Path(row["uri"]).read_bytes(), settings).pixels.mean())
        assert row["probability"] == pytest.approx(sigmoid((mean - 127.5) / 4 + 10), abs=1e-6)


def test_every_file_is_accounted_for(scans: Path, tmp_path: Path, score: Predict) -> None:
    (scans / "ward 1/1/copy.png").write_bytes((scans / "ward 1/1/1.png").read_bytes())  # scored twice
    (scans / "cut.png").write_bytes((scans / "0.png").read_bytes()[:60])
    (scans / "notes.txt").write_text("x")
    (scans / ".hidden").write_text("x")
    failed = score(tmp_path / "out", "--max_reject_fraction", 0)
    assert failed.code == 1
    assert "1 of 26 images were rejected (1 truncated), more than --max_reject_fraction 0" in failed.error
    assert not (tmp_path / "out/manifest.json").exists()
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "out/_work/r1").glob("scores-*.jsonl.*[!n]")}
    assert len(kept) == 1
    result = score(tmp_path / "out", "--max_reject_fraction", 0.05)
    assert result.code == 0, result.err
    assert (
        "28 listed = 25 written + 1 quarantined (1 truncated) + 2 skipped (1 hidden, 1 not_an_image_name)" in result.out
    )
    (shard,) = manifest_of(tmp_path / "out")["shards"]
    assert (tmp_path / "out" / shard["file"]).stat().st_mtime_ns == next(iter(kept.values()))  # not written again
    (line,) = (tmp_path / "out/quarantine.jsonl").read_text().splitlines()
    assert (json.loads(line)["uri"], json.loads(line)["reason"]) == (str(scans / "cut.png"), "truncated")
    assert not (tmp_path / "out/_work").exists()


def test_nothing_is_published_without_a_row(tmp_path: Path, model: Path, command: Predict) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/page.png").write_text("<html>")
    flags = ("--model", model, "--input", tmp_path / "bad", "--output", tmp_path / "out", "--max_reject_fraction", 1)
    assert "every image was rejected" in command(predict.main, *flags).error
    assert not (tmp_path / "out/manifest.json").exists()


def test_other_models_and_settings_do_not_mix(tmp_path: Path, score: Predict, scans: Path, model: Path) -> None:
    (scans / "cut.png").write_bytes((scans / "0.png").read_bytes()[:60])
    assert score(tmp_path / "out", "--max_reject_fraction", 0).code == 1  # leaves unfinished work
    for flags in (("--format", "parquet"), ("--include_source_uri",), ("--seed", 1)):
        refused = score(tmp_path / "out", *flags)
        assert refused.code == 2
        assert "holds unfinished work of another model or with other settings; finish it" in refused.error
    shutil.copy(model, tmp_path / "first.onnx")
    write_export(model, threshold=0.3)
    assert score(tmp_path / "out").code == 2
    shutil.copy(tmp_path / "first.onnx", model)
    assert score(tmp_path / "out", "--max_reject_fraction", 0.1).code == 0
    before = files_of(tmp_path / "out")
    write_export(model, threshold=0.3)
    refused = score(tmp_path / "out", "--max_reject_fraction", 0.1)
    assert refused.code == 2
    assert "already holds published scores" in refused.error
    assert files_of(tmp_path / "out") == before
    assert score(tmp_path / "out", "--max_reject_fraction", 0.1, "--overwrite").code == 0
    manifest = manifest_of(tmp_path / "out")
    assert manifest["revision"] == 2
    assert manifest["model"]["operating_point"] == {"value": 0.3}
    assert [path.name for path in (tmp_path / "out").glob("scores*")] == ["scores-r2-00000-of-00001.jsonl"]


def test_scores_and_data_sets_do_not_replace_each_other(tmp_path: Path, score: Predict, command: Predict) -> None:
    assert score(tmp_path / "out").code == 0
    before = files_of(tmp_path / "out")
    refused = command(convert.main, "--input", tmp_path / "scans", "--output", tmp_path / "out", "--overwrite")
    assert refused.code == 2
    assert "is not a radrecords manifest" in refused.error
    assert files_of(tmp_path / "out") == before
    (tmp_path / "data").mkdir()
    (tmp_path / "data/manifest.json").write_text('{"format": "radrecords", "format_version": 3}')
    assert "is not a manifest of scores" in score(tmp_path / "data", "--overwrite").error


def test_a_damaged_model_is_refused(tmp_path: Path, score: Predict, model: Path) -> None:
    good = model.read_bytes()
    for content in (good[:-10], good[:200], b"", good[:300] + bytes([good[300] ^ 1]) + good[301:]):
        model.write_bytes(content)
        refused = score(tmp_path / "out")
        assert refused.code == 2
        assert f"--model {model} is not an export in ONNX, or is damaged; export the run again" in refused.error
    model.unlink()
    assert "does not exist; make it with python -m training.export" in score(tmp_path / "out").error
    model.mkdir()
    assert "cannot be read (Is a directory)" in score(tmp_path / "out").error
    assert not (tmp_path / "out").exists()


def test_a_missing_library_is_named(tmp_path: Path, score: Predict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "NEEDED", ("onnx", "no_such_library"))
    refused = score(tmp_path / "out")
    assert refused.code == 2
    assert "prediction needs no_such_library; in a clone, run: pip install '.[predict]'" in refused.error


def test_a_model_whose_numbers_are_not_finite_fails_the_job(tmp_path: Path, score: Predict, model: Path) -> None:
    write_export(model, bias=float("nan"))
    assert "does not give 1 finite number(s) an image" in score(tmp_path / "out").error
    assert not (tmp_path / "out").exists()


def test_a_model_that_is_replaced_after_the_start_is_noticed(model: Path) -> None:
    handler = ExportHandler(str(model), "0" * 64)
    with pytest.raises(JobFailed, match="was replaced or damaged after the job started"):
        handler.load_model()


def test_workers_on_other_machines_get_a_copy_of_the_model(
    tmp_path: Path, scans: Path, model: Path, score: Predict, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--model", str(model), "--input", str(scans), "--output", str(tmp_path / "out")]
    read: list[str] = []

    def noted(place: str, sha256: str) -> bytes:
        read.append(place)
        return export.checked_bytes(place, sha256)

    monkeypatch.setattr(inference, "checked_bytes", noted)
    config = config_of(parser().parse_args(words), local=False)
    run_and_publish(config, PipelineOptions(["--runner=FnApiRunner"]), define_scoring)
    assert [Path(place).parent for place in read] == [tmp_path / "out/_work/r1"]
    assert score(tmp_path / "local").code == 0
    assert files_of(tmp_path / "out") == files_of(tmp_path / "local")


def test_a_table_names_the_images_and_needs_no_label(scans: Path, tmp_path: Path, score: Predict) -> None:
    names = [path.relative_to(scans).as_posix() for path in sorted(scans.rglob("*.png"))][:7]
    (tmp_path / "rows.csv").write_text("\n".join(["note,image_uri", *(f"x,{name}" for name in names), "x,gone.png"]))
    result = score(tmp_path / "out", "--manifest", tmp_path / "rows.csv", "--max_reject_fraction", 0.2)
    assert result.code == 0, result.err
    assert "8 listed = 7 written + 1 quarantined (1 missing) + 0 skipped" in result.out
    assert set(rows_in(tmp_path / "out")) == {pseudonym("id", name) for name in names}
    (tmp_path / "rows.csv").write_text("image,label\na,b\n")
    assert "has no column image_uri" in score(tmp_path / "other", "--manifest", tmp_path / "rows.csv").error


def test_a_sample_a_key_and_a_dry_run(tmp_path: Path, score: Predict, scans: Path) -> None:
    (tmp_path / "key").write_text("0123456789abcdef0123456789abcdef")
    flags = ("--limit", 5, "--id_key_file", tmp_path / "key")
    dry = score(tmp_path / "out", *flags, "--dry_run")
    assert dry.code == 0, dry.err
    assert f"would write scores of 5 images to {tmp_path / 'out'}, 1 shards" in dry.out
    assert "24 listed = 5 to score + 19 skipped (19 not_sampled)" in dry.out
    assert not (tmp_path / "out").exists()
    assert score(tmp_path / "out", *flags).code == 0
    names = [path.relative_to(scans).as_posix() for path in scans.rglob("*.png")]
    key = b"0123456789abcdef0123456789abcdef"
    rows = rows_in(tmp_path / "out")
    assert len(rows) == 5
    assert set(rows) < {pseudonym("id", name, key) for name in names}


def test_a_dry_run_estimates_the_cost_from_images_of_the_run(tmp_path: Path, score: Predict, scans: Path) -> None:
    (tmp_path / "prices.json").write_text('{"date": "2031-02", "currency": "EUR", "dataflow_shuffle_gb": 1000}')
    (scans / "cut.png").write_bytes((scans / "0.png").read_bytes()[:60])
    dry = score(tmp_path / "out", "--dry_run", "--prices", tmp_path / "prices.json")
    assert dry.code == 0, dry.err
    assert not (tmp_path / "out").exists()
    title, read, write, work, shuffle, total, measured = dry.out.splitlines()[-7:]
    assert title.endswith(f"at prices of 2031-02 ({tmp_path / 'prices.json'}):")
    assert "56 class B requests" in read  # one for each of 25 images and for the shard, and 30
    (written,) = re.findall(r"([\d.]+) GB", write)
    assert score(tmp_path / "out", "--max_reject_fraction", 1).code == 0
    (shard,) = manifest_of(tmp_path / "out")["shards"]
    assert float(written) == pytest.approx(shard["bytes"] / 24 * 25 / 1e9, rel=0.02)
    (rate,) = re.findall(r"^  score .*\(25 images / ([\d,.]+) per CPU second", work)
    assert 10 < float(rate.replace(",", "")) < 100_000
    assert float(shuffle.split()[1]) == pytest.approx(25 * costs.SCORING.shuffled_bytes / 1e6, rel=0.02)
    assert "storing the scores costs" in total
    assert measured == "  images per CPU second: measured on 23 of these images, on this machine"


def test_prices_are_checked_before_the_archive_is_listed(tmp_path: Path, score: Predict) -> None:
    refused = score(tmp_path / "out", "--dry_run", "--prices", tmp_path / "none.json")
    assert (refused.code, refused.error) == (2, f"error: --prices {tmp_path / 'none.json'} does not exist")
    assert score(tmp_path / "out", "--prices", tmp_path / "none.json").error.endswith(
        "needs --dry_run, which prints the estimate"
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--format", "csv"), "--format 'csv': must be jsonl or parquet"),
        (("--input", "/no/such/folder"), "--input /no/such/folder does not exist"),
        (("--no_such_flag", "1"), "see python -m beam_jobs.predict --help"),
        (("--runner=DataflowRunner", "--project=p", "--region=r"), "is local, and Dataflow workers cannot reach it"),
        (("--model", "http://x/y.onnx"), "--model http://x/y.onnx: http:// is not supported"),
    ],
)
def test_wrong_flags(flags: tuple[str, ...], message: str, tmp_path: Path, score: Predict) -> None:
    refused = score(tmp_path / "out", *flags)
    assert refused.code == 2
    assert message in refused.error
    assert not (tmp_path / "out").exists()


def test_it_loads_no_tensorflow_and_no_training(tmp_path: Path, scans: Path, model: Path) -> None:
    words = ["--model", str(model), "--input", str(scans), "--output", str(tmp_path / "out")]
    code = f"import sys; from beam_jobs.predict import main; main({words}); print(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = set(done.stdout.split())
    assert "apache_beam.ml.inference.onnx_inference" in loaded
    assert not {"tensorflow", "keras", "torch", "training", "tf2onnx"} & loaded


@pytest.mark.parametrize("format", ["jsonl", "parquet"])
def test_damaged_scores_are_found(format: str, tmp_path: Path, score: Predict, command: Predict) -> None:
    assert score(tmp_path / "out", "--format", format, "--shards", 2).code == 0
    intact = command(verify.main, tmp_path / "out")
    assert intact.code == 0
    assert "is intact: 2 shards, 24 rows" in intact.out
    path = next(iter(sorted((tmp_path / "out").glob("scores-*"))))
    path.write_bytes(path.read_bytes().replace(b"NORMAL", b"NORMAI", 1))
    damaged = command(verify.main, tmp_path / "out")
    assert damaged.code == 1
    assert f"damaged: {path.name}: other bytes than were written" in damaged.out
    path.unlink()
    assert f"damaged: {path.name}: missing" in command(verify.main, tmp_path / "out").out
