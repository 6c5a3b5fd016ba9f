"""Runs that somebody has changed: each is refused with one line, and nothing of it is executed or read elsewhere."""

import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

from schemas.errors import UsageError
from training import predict
from training.runs.run_folder import load_run, read_config
from training.runs.weights_file import UnsafeWeights, check_contents, sha256_of

WEIGHTS = "model.weights.h5"


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    return shutil.copytree(run, tmp_path / "copy")


def change(copy: Path, **values: object) -> None:
    content = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**content, **values}))


def without_digest(copy: Path) -> Path:
    """The weights of a run as an attacker has them who can change config.json too."""
    change(copy, weights_sha256=None)
    return copy / WEIGHTS


class Executed:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_the_digest_is_that_of_the_weights(run: Path) -> None:
    assert read_config(str(run)).weights_sha256 == sha256_of(run / WEIGHTS)


def test_other_weights_than_training_left_are_refused(copy: Path, fails: Callable[..., str]) -> None:
    model, _ = load_run(str(copy))
    model.set_weights([weight + 1 for weight in model.get_weights()])
    model.save_weights(copy / WEIGHTS)
    line = fails(2, predict.main, "--run", copy, "x.png")
    assert f"{WEIGHTS} of run {copy} is not the file that training left (its SHA-256 is another" in line


def test_a_run_without_a_digest_is_loaded(copy: Path, run: Path) -> None:
    content = json.loads((copy / "config.json").read_text())
    del content["weights_sha256"]
    (copy / "config.json").write_text(json.dumps(content))
    (model, _), (same, _) = load_run(str(copy)), load_run(str(run))
    for weight, expected in zip(model.get_weights(), same.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, expected)


def touching(path: str, value: Any) -> Any:
    Path(path).touch()
    return value


def test_a_pickle_or_a_keras_archive_in_place_of_the_weights(copy: Path, tmp_path: Path) -> None:
    weights, mark = without_digest(copy), tmp_path / "executed"
    path = str(mark)
    code = keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda x: touching(path, x))])
    mark.unlink(missing_ok=True)
    code.save(tmp_path / "hostile.keras")
    pickled, whole = pickle.dumps(Executed(mark)), weights.read_bytes()
    for content in (pickled, (tmp_path / "hostile.keras").read_bytes(), b"", whole[:5000], whole[:-5000]):
        weights.write_bytes(content)
        with pytest.raises(UsageError, match=f"{WEIGHTS} of run {copy} is damaged"):
            load_run(str(copy))
    with zipfile.ZipFile(weights, "w") as archive:
        archive.writestr("model.weights.h5", pickled)
    with pytest.raises(UsageError, match="is damaged"):
        load_run(str(copy))
    assert not mark.exists()


def first_array(group: h5py.Group) -> str:
    names: list[str] = []
    group.visititems(lambda name, member: names.append(name) if isinstance(member, h5py.Dataset) else None)
    return names[0]


def with_external_link(file: h5py.File, name: str, elsewhere: Path) -> None:
    del file[name]
    file[name] = h5py.ExternalLink(str(elsewhere), name)


def with_soft_link(file: h5py.File, name: str, elsewhere: Path) -> None:
    file["moved"] = file[name]
    del file[name]
    file[name] = h5py.SoftLink("/moved")


def with_external_storage(file: h5py.File, name: str, elsewhere: Path) -> None:
    shape = file[name].shape
    del file[name]
    file.create_dataset(name, shape, "float32", external=[(str(elsewhere), 0, h5py.h5f.UNLIMITED)])


def with_virtual_storage(file: h5py.File, name: str, elsewhere: Path) -> None:
    shape = file[name].shape
    del file[name]
    layout = h5py.VirtualLayout(shape, "float32")
    layout[...] = h5py.VirtualSource(str(elsewhere), name, shape)
    file.create_virtual_dataset(name, layout)


def with_a_huge_shape(file: h5py.File, name: str, elsewhere: Path) -> None:
    del file[name]
    file.create_dataset(name, (1 << 20, 1 << 18), "float32")


def with_compression(file: h5py.File, name: str, elsewhere: Path) -> None:
    del file[name]
    file.create_dataset(name, data=np.zeros((1 << 11, 1 << 11), np.float32), compression="gzip")


def with_texts(file: h5py.File, name: str, elsewhere: Path) -> None:
    del file[name]
    file[name] = ["text"] * 4


def with_a_type(file: h5py.File, name: str, elsewhere: Path) -> None:
    file["type"] = np.dtype("float32")


CHANGES = (
    *(with_external_link, with_soft_link, with_external_storage, with_virtual_storage, with_a_huge_shape),
    *(with_compression, with_texts, with_a_type),
)


@pytest.mark.parametrize("spoil", CHANGES)
def test_hdf5_that_is_more_than_arrays(
    copy: Path, run: Path, spoil: Callable[[h5py.File, str, Path], None], fails: Callable[..., str]
) -> None:
    weights = without_digest(copy)
    with h5py.File(weights, "a") as file:
        spoil(file, first_array(file), run / WEIGHTS)
    line = fails(2, predict.main, "--run", copy, "x.png")
    assert f"{WEIGHTS} of run {copy} is not read: it holds a" in line
    assert "which Keras does not write; train again with --overwrite" in line


def test_a_group_that_holds_itself_is_read_once(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["group/array"] = np.zeros(3)
        file["group/again"] = file["group"]
        file["group/root"] = file["/"]
    check_contents(tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5", "a") as file:
        file["group/link"] = h5py.SoftLink("/group")
    with pytest.raises(UnsafeWeights, match="a link"):
        check_contents(tmp_path / "x.h5")


@pytest.mark.parametrize(
    "values",
    [
        {"model": "Lambda"},
        {"model": ["model1"]},
        {"model": {"class_name": "Lambda", "config": {"function": "x"}}},
        {"body": "os.system"},
        {"epochs": "3"},
        {"epochs": True},
        {"sha256": 5},
        {"weights": ["imagenet"]},
        {"layers": []},
    ],
)
def test_a_recipe_that_is_none(copy: Path, values: dict[str, object]) -> None:
    content = json.loads((copy / "config.json").read_text())
    change(copy, recipe={**content["recipe"], **values})
    with pytest.raises(UsageError, match=r"is damaged|unknown model 'Lambda'"):
        load_run(str(copy))


def spoilt(name: str, *values: object) -> list[dict[str, object]]:
    return [{name: value} for value in values]


@pytest.mark.parametrize(
    "values",
    [
        *spoilt("classes", "AB", ["A", 1], {"A": 1}, [["A"], ["B"]]),
        *spoilt("image", [], "x", {"image_size": 1 << 30}, {"image_size": 64.0}, {"channels": True}),
        *spoilt("threshold", "0.5", [0.5], {"value": [0.5]}, {"value": {}}),
        *spoilt("recipe", [], "model1", 1, None),
        *spoilt("seed", "0", None, 0.5),
        {"label_kind": 1},
        {"weights_sha256": ["x"]},
        {"data": []},
    ],
)
def test_a_config_with_values_of_wrong_types(copy: Path, values: dict[str, object]) -> None:
    change(copy, **values)
    with pytest.raises(UsageError, match=r"config\.json of run .* is damaged"):
        load_run(str(copy))


def test_a_config_that_is_nested_without_end(copy: Path) -> None:
    (copy / "config.json").write_text("[" * 200_000)
    with pytest.raises(UsageError, match=r"is damaged \(not JSON\)"):
        load_run(str(copy))


def test_an_image_size_that_the_weights_are_not_for(copy: Path) -> None:
    content = json.loads((copy / "config.json").read_text())
    change(copy, image={**content["image"], "image_size": 512})
    with pytest.raises(UsageError, match="is damaged or belongs to another model"):
        load_run(str(copy))
