"""The import rules of the design: schemas import neither Beam nor TensorFlow, beam_jobs and training share only schemas,
and a layer imports only layers below it."""

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
MAY_IMPORT = {
    # The DICOM op of tensorflow-io, loaded only when --dicom_decoder tfio asks for it.
    "beam_jobs/decoding/tfio_dicom.py": {"tensorflow"},
    # Loaded only for gs:// where TensorFlow is not the backend.
    "training/reading/buckets/google_client.py": {"google"},
    "training/runs/run_bucket.py": {"google"},  # loaded only for runs in a bucket
}
MODULES = sorted(path.relative_to(ROOT).as_posix() for package in FORBIDDEN for path in (ROOT / package).rglob("*.py"))


# Each layer, the lowest first, and the layers that it may import. A single module is a layer if others need it alone.
LAYERS = {
    "schemas.errors": [],
    "schemas.pixels.settings": ["schemas.errors"],
    "schemas": ["schemas.errors", "schemas.pixels.settings"],
    "schemas.pixels": ["schemas.pixels.settings"],
    "schemas.decoders": ["schemas.errors", "schemas.pixels.settings", "schemas.pixels"],
    "training.task": [],
    "training.decisions.operating_points": [],
    "training.shifts.corruptions": [],
    "training.reading": ["training.task"],
    "training.models": ["training.task"],
    "training.loading": ["training.reading", "training.models"],
    "training.config": ["training.decisions.operating_points", "training.models"],
    "training.runs.weights_file": [],
    "training.runs.checked_fields": [],
    "training.runs.run_folder": [
        *("training.task", "training.decisions.operating_points", "training.models", "training.runs.weights_file"),
        "training.runs.checked_fields",
    ],
    "training.runs.run_bucket": ["training.reading", "training.runs.run_folder"],
    "training.assessment.page": ["training.task", "training.models", "training.runs.run_folder"],
    "training.metrics": ["training.task"],
    "training.decisions": ["training.task", "training.runs.run_folder", "training.metrics"],
    "training.assessment": [
        *("training.task", "training.shifts.corruptions", "training.reading", "training.config"),
        *("training.runs.run_folder", "training.runs.run_bucket", "training.assessment.page", "training.metrics"),
        "training.decisions",
    ],
    "training.exporting": [
        *(
            "training.task",
            "training.config",
            "training.runs.run_folder",
            "training.runs.run_bucket",
            "training.loading",
        ),
        "training.runs.weights_file",
    ],
    "training.explanation": [
        *(
            "training.task",
            "training.reading",
            "training.config",
            "training.runs.weights_file",
            "training.runs.run_folder",
        ),
        *("training.runs.run_bucket", "training.assessment"),
    ],
    "training.comparing": [
        *(
            "training.task",
            "training.reading",
            "training.config",
            "training.runs.run_folder",
            "training.runs.run_bucket",
        ),
        *("training.metrics", "training.assessment"),
    ],
    "training.predicting": [
        *("training.task", "training.decisions.operating_points", "training.reading", "training.config"),
        *("training.runs.weights_file", "training.runs.run_folder", "training.runs.run_bucket", "training.decisions"),
        "training.assessment",
    ],
    "training.devices": ["training.reading", "training.models", "training.config"],
    "training.fitting": [
        *("training.task", "training.decisions.operating_points", "training.reading", "training.models"),
        *("training.config", "training.runs.weights_file", "training.runs.run_folder", "training.runs.run_bucket"),
        *("training.metrics", "training.decisions", "training.assessment", "training.comparing"),
        *("training.predicting", "training.devices"),
    ],
    "training.shifts": [
        *(
            "training.task",
            "training.shifts.corruptions",
            "training.reading",
            "training.config",
            "training.runs.run_folder",
        ),
        *("training.runs.run_bucket", "training.assessment", "training.fitting"),
    ],
    "training.tuning": [
        *("training.task", "training.shifts.corruptions", "training.reading", "training.models", "training.config"),
        *("training.runs.run_folder", "training.fitting", "training.loading", "training.shifts"),
    ],
    "training": [
        *("training.decisions.operating_points", "training.loading", "training.models", "training.config"),
        *("training.assessment", "training.exporting", "training.explanation", "training.comparing"),
        *("training.predicting", "training.fitting", "training.shifts", "training.tuning"),
    ],
    "beam_jobs.elements": [],
    "beam_jobs.storage": [],
    "beam_jobs.reading": ["beam_jobs.storage"],
    "beam_jobs.passing": ["beam_jobs.storage"],
    "beam_jobs.settings": ["beam_jobs.storage"],
    "beam_jobs.remote": ["beam_jobs.storage", "beam_jobs.passing", "beam_jobs.settings"],
    "beam_jobs.decoding": ["beam_jobs.settings"],
    "beam_jobs.discover": ["beam_jobs.storage", "beam_jobs.passing", "beam_jobs.settings", "beam_jobs.remote"],
    "beam_jobs.leakage": [
        *("beam_jobs.elements", "beam_jobs.storage", "beam_jobs.reading", "beam_jobs.passing", "beam_jobs.settings"),
    ],
    "beam_jobs.plan": [
        *("beam_jobs.elements", "beam_jobs.storage", "beam_jobs.passing", "beam_jobs.settings", "beam_jobs.decoding"),
        "beam_jobs.leakage",
    ],
    "beam_jobs.write": [
        *("beam_jobs.elements", "beam_jobs.storage", "beam_jobs.reading", "beam_jobs.passing", "beam_jobs.settings"),
        *("beam_jobs.remote", "beam_jobs.decoding", "beam_jobs.leakage"),
    ],
    "beam_jobs.publish": [
        *("beam_jobs.elements", "beam_jobs.storage", "beam_jobs.reading", "beam_jobs.passing", "beam_jobs.settings"),
        *("beam_jobs.leakage", "beam_jobs.write"),
    ],
    "beam_jobs.transfer": ["beam_jobs.storage"],
    "beam_jobs.scoring": [
        *("beam_jobs.elements", "beam_jobs.storage", "beam_jobs.passing", "beam_jobs.settings", "beam_jobs.write"),
        *("beam_jobs.publish", "beam_jobs.remote"),
    ],
    "beam_jobs.local": ["beam_jobs.passing", "beam_jobs.settings", "beam_jobs.publish"],
    "beam_jobs.engines": [
        *("beam_jobs.storage", "beam_jobs.passing", "beam_jobs.settings", "beam_jobs.publish", "beam_jobs.local"),
    ],
    "beam_jobs": [
        *("beam_jobs.storage", "beam_jobs.reading", "beam_jobs.passing", "beam_jobs.settings", "beam_jobs.decoding"),
        *("beam_jobs.discover", "beam_jobs.leakage", "beam_jobs.plan", "beam_jobs.write", "beam_jobs.publish"),
        *("beam_jobs.scoring", "beam_jobs.local", "beam_jobs.elements", "beam_jobs.engines", "beam_jobs.remote"),
        "beam_jobs.transfer",
    ],
}


def imported(path: Path) -> set[str]:
    """The dotted names that a module imports; `from a import b` is a.b."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def layer_of(name: str) -> str:
    """The layer that a dotted name is in."""
    return max((layer for layer in LAYERS if f"{name}.".startswith(f"{layer}.")), key=len)


@pytest.mark.parametrize("module", MODULES)
def test_packages_import_only_what_is_allowed(module: str) -> None:
    packages = {name.split(".")[0] for name in imported(ROOT / module)}
    assert not packages & (FORBIDDEN[module.split("/")[0]] - MAY_IMPORT.get(module, set()))


@pytest.mark.parametrize("package", ["schemas", "beam_jobs", "training"])
def test_a_layer_imports_only_the_lower_layers_that_the_table_names(package: str) -> None:
    found: dict[str, set[str]] = {layer: set() for layer in LAYERS if layer_of(layer).startswith(package)}
    for module in (module for module in MODULES if module.startswith(f"{package}/")):
        layer = layer_of(module.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
        of_package = {layer_of(name) for name in imported(ROOT / module) if name.split(".")[0] == package}
        found[layer] |= of_package - {layer}
    assert found == {layer: set(below) for layer, below in LAYERS.items() if layer in found}
    order = list(LAYERS)
    assert not [layer for layer, below in LAYERS.items() if any(order.index(one) > order.index(layer) for one in below)]


@pytest.mark.parametrize(
    "opened",
    ["beam_jobs.reading.manifest", "beam_jobs.flags", "beam_jobs.predict_flags", "schemas.dataset", "schemas.presets"],
)
def test_opening_a_manifest_loads_no_decoder(opened: str) -> None:
    code = f"import sys, {opened}; print(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not {"PIL", "pydicom", "simplejpeg", "apache_beam"} & set(done.stdout.split())


def test_a_worker_loads_no_tensorflow() -> None:
    code = "import sys, beam_jobs.convert, beam_jobs.prediction; print(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not {"tensorflow", "keras", "matplotlib", "sklearn"} & set(done.stdout.split())


def test_the_training_commands_load_no_tensorflow() -> None:
    names = ("train", "evaluate", "predict", "compare", "reproduce", "shift", "tune", "explain", "export", "verify")
    code = f"import sys, {', '.join(f'training.{name}' for name in names)}; print(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not {"tensorflow", "keras", "matplotlib", "sklearn", "optuna"} & set(done.stdout.split())


def test_only_training_with_tensorflow_loads_it() -> None:
    code = "import sys, training.reading.array_batches, training.reading.records; print(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not {"tensorflow", "keras", "google.cloud.storage"} & set(done.stdout.split())


def test_setup_py_is_the_only_list_of_dependencies() -> None:
    metadata = importlib.metadata.metadata("radrecords")
    assert metadata["Version"] == "0.1.0"
    assert set(metadata["Requires-Python"].split(",")) == {">=3.10", "<3.14"}
    assert set(metadata.get_all("Provides-Extra") or ()) == {
        "gcp",
        "dicom",
        "train",
        "gpu",
        "tfio",
        "jax",
        "export",
        "predict",
        "tune",
        "bench",
        "dev",
    }
    base = [line for line in metadata.get_all("Requires-Dist") or () if "extra ==" not in line]
    assert any(line.startswith("apache-beam") for line in base)
    assert not any(line.startswith(("tensorflow", "keras")) for line in base)
    assert "dependencies" not in (ROOT / "pyproject.toml").read_text()


def test_the_architecture_diagram_is_up_to_date() -> None:
    code = "import docs.draw_architecture as d, sys; sys.exit(d.drawn() != d.PICTURE.read_text(encoding='utf-8'))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT)
    assert done.returncode == 0, "run: python docs/draw_architecture.py"


def test_there_is_no_utils_module() -> None:
    assert not [module for module in MODULES if Path(module).stem in ("utils", "helpers", "common", "misc")]
