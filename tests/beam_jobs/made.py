"""Settings, sources and images with several labels, for tests."""

from pathlib import Path

from beam_jobs.settings.config import ConvertConfig
from schemas.source import UNASSIGNED, Source
from tests.conftest import write_images


def config(**changes: object) -> ConvertConfig:
    return ConvertConfig(**{"input": "/in", "output": "/out", **changes})  # type: ignore[arg-type]


def source(
    path: str, split: str = UNASSIGNED, label: str = "A", group: str = "", size: int = 1, md5: str = ""
) -> Source:
    return Source(f"/in/{path}", path, label, split, group or path, size, md5, 0)


def several_labels(folder: Path) -> tuple[Path, Path, dict[str, str]]:
    """Writes images and a CSV that gives each of them one label, several or none. Returns the folder of the images, the CSV
    and {name: cell of the CSV, without spaces around its labels}."""
    cells = ("A", "B|A", " C | A ", "No Finding", "|", "A|B|C")
    names = {f"{n}.png": cells[n % len(cells)] for n in range(30)}
    (folder / "rows.csv").write_text("image_uri,label\n" + "".join(f"{n},{cell}\n" for n, cell in names.items()))
    plain = {name: cell.replace(" C ", "C").replace(" A ", "A") for name, cell in names.items()}
    return write_images(folder / "raw", list(names)), folder / "rows.csv", plain
