"""The import rule of the design: schemas know neither Beam nor TensorFlow, the two sides meet in schemas only."""

import ast
import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FORBIDDEN = {
    "schemas": {"apache_beam", "tensorflow", "keras", "beam_jobs", "training"},
    "beam_jobs": {"tensorflow", "keras", "training", "tensorflow_datasets", "matplotlib", "sklearn"},
    "training": {"apache_beam", "beam_jobs", "google"},
}
# The DICOM op of tensorflow-io, loaded only when --dicom_decoder tfio asks for it.
MAY_IMPORT = {"beam_jobs/decoding/tfio_dicom.py": {"tensorflow"}}
MODULES = sorted(path.relative_to(ROOT).as_posix() for package in FORBIDDEN for path in (ROOT / package).rglob("*.py"))


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            found.add((node.module or "").split(".")[0])
    return found


@pytest.mark.parametrize("module", MODULES)
def test_packages_import_only_what_they_may(module: str) -> None:
    assert not imported(ROOT / module) & (FORBIDDEN[module.split("/")[0]] - MAY_IMPORT.get(module, set()))


def test_a_worker_loads_no_tensorflow() -> None:
    code = "import sys, beam_jobs.convert; print(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not {"tensorflow", "keras", "matplotlib", "sklearn"} & set(done.stdout.split())


def test_flags_of_training_load_no_tensorflow() -> None:
    code = "import sys, training.train, training.evaluate, training.predict; print(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not {"tensorflow", "keras", "matplotlib", "sklearn"} & set(done.stdout.split())


def test_setup_py_is_the_list_of_dependencies() -> None:
    metadata = importlib.metadata.metadata("radrecords")
    assert metadata["Version"] == "0.1.0"
    assert set(metadata["Requires-Python"].split(",")) == {">=3.10", "<3.14"}
    assert set(metadata.get_all("Provides-Extra")) == {"gcp", "dicom", "train", "gpu", "tfio", "dev"}
    base = [line for line in metadata.get_all("Requires-Dist") if "extra ==" not in line]
    assert any(line.startswith("apache-beam") for line in base)
    assert not any(line.startswith(("tensorflow", "keras")) for line in base)
    assert "dependencies" not in (ROOT / "pyproject.toml").read_text()


def test_there_is_no_utils_module() -> None:
    assert not [module for module in MODULES if Path(module).stem in ("utils", "helpers", "common", "misc")]
