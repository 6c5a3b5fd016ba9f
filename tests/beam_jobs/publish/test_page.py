"""dataset.html: what it says is true, it is the same however a run went, and it needs and gives away nothing."""

import json
import re
import shutil
import sys
import types
from collections.abc import Callable
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from beam_jobs.publish.page.charts import chart
from beam_jobs.publish.page.loading import examples
from beam_jobs.reading.manifest import require_manifest
from beam_jobs.reading.shards import read_examples
from schemas.example import Example
from schemas.identity import pseudonym
from tests.beam_jobs.made import several_labels
from tests.conftest import Result, files_of, labelled, manifest_of, write_images
from tests.schemas.dicom_files import dicom_file
from tests.schemas.pictures import NAMES, scene

Convert = Callable[..., Result]
FLAGS = ("--shards", 2, "--image_size", 16, "--max_reject_fraction", 0.5)
ODD = "<b>&\"'A"  # the name of a class


class Page(HTMLParser):
    """The tags of a page with their attributes, its text, and the rows of its tables by the section that they are in."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: dict[str, list[list[str]]] = {}
        self.text = ""
        self._at, self._section = "", ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._at = tag
        if tag == "h2":
            self._section = ""
        if tag == "tr":
            self.rows.setdefault(self._section, []).append([])
        if tag in ("td", "th"):
            self.rows[self._section][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == self._at:
            self._at = ""

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._at == "h2":
            self._section += data
        if self._at in ("td", "th"):
            self.rows[self._section][-1][-1] += data


def page_of(folder: Path) -> Page:
    return Page((folder / "dataset.html").read_text())


def all_examples(folder: Path) -> dict[str, list[Example]]:
    manifest = require_manifest(str(folder))
    return {split: list(read_examples(str(folder), manifest, split)) for split in manifest.splits}


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of several formats and sizes with a dark and a bright class, some of them broken, and a class whose name is
    HTML."""
    folder = tmp_path_factory.mktemp("mixed") / "secret folder"
    for number, split in enumerate(("train", "val", "test")):
        write_images(folder, {f"{split}/{ODD}/patient name {n}.png": 100 * number + n for n in range(12)}, side=100)
        for n in range(8):
            (folder / split / "BRIGHT").mkdir(parents=True, exist_ok=True)
            pixels = np.full((300, 150), 150 + len(split) + 10 * n, np.uint8)
            pixels[0, n] = 255
            Image.fromarray(pixels).save(folder / split / f"BRIGHT/patient name {n}.jpeg")
        (folder / split / "BRIGHT/a.dcm").write_bytes(dicom_file(scene(30, 50) + np.uint8(len(split))))
        (folder / split / "BRIGHT/cut.png").write_bytes((folder / split / ODD / "patient name 1.png").read_bytes()[:99])
    (folder / "train" / ODD / "empty.png").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def dataset(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from beam_jobs.convert import main

    output = tmp_path_factory.mktemp("mixed") / "2.1.0"
    main([str(word) for word in ("--input", raw, "--output", output, *FLAGS)])
    return output


def test_the_counts_are_those_of_the_manifest(dataset: Path) -> None:
    page, manifest = page_of(dataset), manifest_of(dataset)
    heads, *rows = page.rows["Images by split and class"][:4]
    assert heads == ["", "train", "", "validation", "", "test", "", "all", ""]
    assert rows == [
        [ODD, "12", "57.1%", "12", "57.1%", "12", "57.1%", "36", "57.1%"],
        ["BRIGHT", "9", "42.9%", "9", "42.9%", "9", "42.9%", "27", "42.9%"],
        ["all images", "21", "100.0%", "21", "100.0%", "21", "100.0%", "63", "100.0%"],
    ]
    inputs = {row[0]: row[2] for row in page.rows["What became of the inputs"][1:]}
    assert inputs == {name: str(count) for name, count in manifest["inputs"].items() if count} | {"duplicates": "0"}
    settings = dict(page.rows["Settings"][1:])
    assert settings["image size"] == "16"
    assert settings["classes"] == f"{ODD}, BRIGHT"
    assert "cxr 2.1.0" in page.text


def test_the_gray_levels_are_those_of_the_records(dataset: Path) -> None:
    rows = {tuple(row[:2]): row[2:] for row in page_of(dataset).rows["Gray levels"][1:]}
    shares: dict[tuple[str, str], Any] = {}
    for split, found in all_examples(dataset).items():
        for name, label in (("all images", None), (ODD, 0), ("BRIGHT", 1)):
            images = np.stack([example.image for example in found if label in (None, example.label)])
            shares[name, split] = np.histogram(images, 32, (0, 256))[0] / images.size
    assert rows.keys() == shares.keys()
    for (name, split), share in shares.items():
        mean = float(share @ (np.arange(32) * 8 + 3.5))
        apart = 100 * np.abs(share - shares[name, "train"]).sum() / 2
        expected = [mean, 100 * share[0], 100 * share[-1], *([] if split == "train" else [apart])]
        printed = [float(text.removesuffix("%")) for text in rows[name, split] if text]
        assert printed == pytest.approx(expected, abs=0.0501)
    assert float(rows["BRIGHT", "validation"][-1].removesuffix("%")) > 10  # the shift shows


def test_the_files_are_those_that_were_read(dataset: Path) -> None:
    rows = page_of(dataset).rows["Files read"][1:]
    for split in ("train", "validation", "test"):
        assert ["all images", split, "jpeg 8, png 12, dicom 1", "21"] in [row[:4] for row in rows]
        assert [ODD, split, "png 12", "12", "96 to 127"] in [row[:5] for row in rows]
        # The middle 90% of nine files are all nine: the DICOM file has 50 pixels, the others 300.
        assert ["BRIGHT", split, "jpeg 8, dicom 1", "9", "1 to 383"] in [row[:5] for row in rows]


def test_quarantined_images_are_named_by_id(raw: Path, dataset: Path) -> None:
    rows = page_of(dataset).rows["Quarantine"][1:]
    cut = sorted(pseudonym("id", f"{split}/BRIGHT/cut.png") for split in ("train", "val", "test"))
    assert rows == [
        ["empty", pseudonym("id", f"train/{ODD}/empty.png"), "1"],
        ["truncated", ", ".join(cut), "3"],
    ]


def test_the_page_loads_nothing_runs_nothing_and_holds_no_name(raw: Path, dataset: Path) -> None:
    text, page = (dataset / "dataset.html").read_text(), page_of(dataset)
    assert not {tag for tag, _ in page.tags} & {"script", "img", "link", "iframe", "object", "b", "image", "use"}
    attributes = {name: value for _, given in page.tags for name, value in given.items()}
    assert not [name for name in attributes if name.startswith("on") or name in ("src", "style", "xlink:href")]
    links = {given["href"] for tag, given in page.tags if tag == "a"}
    assert links <= {path.name for path in dataset.iterdir()}
    assert "url(" not in text
    assert "@import" not in text
    assert "://" not in text
    for private in ("secret", "patient name", "cut.png", str(dataset.parent), *NAMES):
        assert private not in text


def test_numbers_are_aligned_at_the_right(dataset: Path) -> None:
    page = page_of(dataset)
    assert {given.get("class") for tag, given in page.tags if tag == "td"} == {None, "n"}
    style = (dataset / "dataset.html").read_text().partition("</style>")[0]
    assert ".n { text-align: right" in style
    assert "@media print" in style
    assert "prefers-color-scheme: dark" in style


def test_a_continued_run_makes_the_same_page(raw: Path, dataset: Path, tmp_path: Path, convert: Convert) -> None:
    output = tmp_path / "2.1.0"
    assert convert(raw, output, *FLAGS, "--max_reject_fraction", 0).code == 1
    marks = sorted(output.glob("_work/r1/*.tfrecord-*.json"))
    assert len(marks) == 6
    # An earlier release left these: one counted nothing, the other named no ids in the quarantine.
    old = json.loads(marks[0].read_text())
    del old["counts"]
    marks[0].write_text(json.dumps(old))
    quarantined = next(path for path in marks[1:] if json.loads(path.read_text())["quarantined"])
    old = json.loads(quarantined.read_text())
    old["quarantined"] = [entry[:-1] for entry in old["quarantined"]]
    quarantined.write_text(json.dumps(old))
    assert convert(raw, output, *FLAGS).code == 0
    assert files_of(output) == files_of(dataset)


def test_what_an_old_version_did_not_count_is_said(raw: Path, dataset: Path, tmp_path: Path, convert: Convert) -> None:
    mended = tmp_path / "raw"
    shutil.copytree(raw, mended)
    shutil.copytree(dataset, tmp_path / "1.0.0")
    (tmp_path / "1.0.0/dataset.html").unlink()
    flags = ("--retry_quarantine", tmp_path / "1.0.0", "--max_reject_fraction", 0.5)
    assert convert(raw, tmp_path / "new/2.1.0", *flags).code == 0
    new, full = files_of(tmp_path / "new/2.1.0"), files_of(dataset)
    assert {name for name in full if new[name] != full[name]} == {"dataset.html"}
    page = page_of(tmp_path / "new/2.1.0")
    assert "63 images are not counted here" in page.text
    assert page.rows["Gray levels"] == page_of(dataset).rows["Gray levels"]


def test_images_with_several_labels_count_for_each(tmp_path: Path, convert: Convert) -> None:
    raw, table, _ = several_labels(tmp_path)
    assert convert(raw, tmp_path / "out", "--manifest", table, "--image_size", 16).code == 0
    page, manifest = page_of(tmp_path / "out"), manifest_of(tmp_path / "out")
    files = {tuple(row[:2]): row[3] for row in page.rows["Files read"][1:]}
    for split, content in manifest["splits"].items():
        labels = [example.label for example in all_examples(tmp_path / "out")[split]]
        expected = {"all images": content["examples"], **content["labels"], "(no class)": labels.count((0, 0, 0))}
        for name, count in expected.items():
            assert files.get((name, split), "0") == str(count)
    assert "A label has a value for each of: A, B, C." in page.text


def test_many_classes_are_counted_but_not_drawn(tmp_path: Path, convert: Convert) -> None:
    names = [f"train/{n:02d}/{k}.png" for n in range(45) for k in range(2)]
    raw = write_images(tmp_path / "raw", [*names, "val/00/1.png"], side=8)
    assert convert(raw, tmp_path / "out", "--image_size", 8).code == 0
    page = page_of(tmp_path / "out")
    assert ["44", "2", "2.2%", "0", "0.0%", "2", "2.2%"] in page.rows["Images by split and class"]
    assert [row[:4] for row in page.rows["Files read"][1:]] == [
        ["all images", "train", "png 90", "90"],
        ["all images", "validation", "png 1", "1"],
    ]


def test_a_chart_has_a_line_for_each_series_and_cuts_only_the_edges() -> None:
    drawn = chart("a & b", [[8, 1, 1, 0], [0, 0, 0, 0], [1, 2, 1, 0]], {0.0: "0", 4.0: "<"}, edges_may_leave=True)
    paths = re.findall(r'<path class="(s\d)" d="([^"]*)"', drawn)
    assert [name for name, _ in paths] == ["s0", "s2"]
    # The scale is 2 of 4, the greatest share between the edges; 120 units high, and the cut edge is 10% above that.
    assert paths[0][1] == "M0,136V4.0H80.0V112.0H160.0V112.0H240.0V136.0H320.0V136"
    assert paths[1][1] == "M0,136V76.0H80.0V16.0H160.0V76.0H240.0V136.0H320.0V136"
    assert "50.0%" in drawn
    assert "a &amp; b" in drawn
    assert "&lt;" in drawn
    assert "80.0%" in chart("all", [[8, 1, 1, 0]], {})
    assert "0.0%" in chart("none", [[0, 0]], {})


class Tensor(np.ndarray[Any, Any]):
    """The few functions of torch.Tensor that the page uses, with NumPy."""

    def permute(self, *axes: int) -> Any:
        return self.transpose(axes)

    def long(self) -> Any:
        return self.astype(np.int64)


def torch_stand_in() -> Any:
    """PyTorch is not in the environment of the tests, because it takes gigabytes."""
    made: Any = types.ModuleType("torch")
    made.from_numpy = lambda array: array.view(Tensor)
    made.tensor = lambda value: np.array(value).view(Tensor)

    def batches(pairs: Any, batch_size: int, shuffle: bool) -> list[Any]:
        columns = pairs if isinstance(pairs, tuple) else [np.stack(column) for column in zip(*pairs, strict=True)]
        return [[column[at : at + batch_size] for column in columns] for at in range(0, len(columns[0]), batch_size)]

    made.utils = types.SimpleNamespace(
        data=types.SimpleNamespace(TensorDataset=lambda *columns: columns, DataLoader=batches)
    )
    return made


def run(code: str, title: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Runs the code, and returns the names that it defines."""
    given: dict[str, Any] = {}
    with monkeypatch.context() as patch:
        if title == "PyTorch" and find_spec("torch") is None:  # only now: Keras takes it for PyTorch
            patch.setitem(sys.modules, "torch", torch_stand_in())
        exec(code, given)
    return given


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of TensorFlow Datasets' own imports
@pytest.mark.parametrize("kind", ["classes", "three channels", "several labels", "source URIs"])
def test_the_code_on_the_page_loads_every_example(
    tmp_path: Path, convert: Convert, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    flags: list[object] = ["--channels", 3] if kind == "three channels" else []
    if kind == "several labels":
        raw, table, _ = several_labels(tmp_path)
        flags = ["--manifest", table]
    else:
        raw = write_images(tmp_path / "raw", labelled(20))
    if kind == "source URIs":
        flags = ["--include_source_uri"]
    folder = tmp_path / "cxr/1.0.0"
    assert convert(raw, folder, "--image_size", 16, "--shards", 2, *flags).code == 0
    page = page_of(folder)
    expected = sorted(
        (example.image.tobytes(), np.array(example.label).tolist()) for example in all_examples(folder)["train"]
    )
    for title, code in examples(require_manifest(str(folder))).items():
        assert code in page.text
        assert len(code.splitlines()) <= 5
        assert max(map(len, code.splitlines())) <= 140
        if title == "TensorFlow Datasets":
            pytest.importorskip("tensorflow_datasets", exc_type=ImportError)
        given = run(code.replace("FOLDER", str(folder)), title, monkeypatch)
        batches = [[np.asarray(part) for part in batch] for batch in given["train"]]
        assert len(batches[0][0]) == min(32, len(expected))
        images = np.concatenate([images for images, _ in batches])
        if title == "PyTorch":
            assert images.shape[1:] == (3 if kind == "three channels" else 1, 16, 16)
            images = images.transpose(0, 2, 3, 1)
        assert images.dtype == np.uint8
        labels = np.concatenate([labels for _, labels in batches])
        found = sorted((image.tobytes(), label) for image, label in zip(images, labels.tolist(), strict=True))
        assert found == expected, title
