"""Draws docs/architecture.svg from the packages as they are: their modules, their docstrings and their imports.

`python docs/draw_architecture.py` writes it anew; tests/test_architecture.py fails while it is not up to date.
"""

import ast
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs/architecture.svg"

# The steps of a conversion, in order, each with what leaves it.
FLOW = {
    "beam_jobs/discover": "Source",
    "beam_jobs/plan": "Reference, Plan",
    "beam_jobs/write": "ShardResult",
    "beam_jobs/leakage": "Found",
    "beam_jobs/publish": "manifest.json, last",
}
SUPPORT = ("settings", "local", "decoding", "passing", "reading", "storage", "transfer")

WIDTH, MARGIN, PAD, GAP, LINE = 1268, 24, 12, 34, 16
BOX = 372  # the width of a room
CHARACTERS = 54  # of a line in it
# In the order of the flow.
TRAINING = (
    "training",
    *(f"training/{name}" for name in ("reading", "reading/buckets", "models", "devices", "fitting", "assessment")),
    *("training/assessment/page", "training/metrics", "training/decisions", "training/comparing", "training/runs"),
    *("training/shifts", "training/tuning", "training/predicting", "training/explanation", "training/exporting"),
)
COLOURS = {"beam_jobs": "#e8f0fe", "schemas": "#e6f4ea", "training": "#fef3e0"}
EDGES = {"beam_jobs": "#4472c4", "schemas": "#3a8a57", "training": "#c77f1a"}
STYLE = """\
text { font-family: Helvetica, Arial, sans-serif; fill: #202124; font-size: 12px }
.package { font-size: 17px; font-weight: bold }
.room { font-size: 13px; font-weight: bold }
.modules { fill: #3c4043 }
.uses { fill: #5f6368; font-style: italic }
.data { font-size: 13px; font-weight: bold; fill: #ffffff }
.element { font-size: 12px; fill: #1a3f8a; font-weight: bold }"""


def modules_in(folder: str) -> list[Path]:
    """The modules of a room without those of rooms inside it, sorted."""
    return sorted(path for path in (ROOT / folder).glob("*.py") if path.name != "__init__.py")


def rooms() -> list[str]:
    """Every folder with modules in the three packages, the packages themselves included."""
    found = {path.parent for package in COLOURS for path in (ROOT / package).rglob("*.py")}
    return sorted(folder.relative_to(ROOT).as_posix() for folder in found)


def uses(folder: str) -> list[str]:
    """The other rooms that the modules of a room import."""
    every, found = rooms(), set()
    for path in modules_in(folder):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in COLOURS:
                for alias in node.names:
                    name = f"{node.module}.{alias.name}".replace(".", "/") + "/"
                    found.add(max((room for room in every if name.startswith(f"{room}/")), key=len))
    return sorted(found - {folder})


@dataclass
class Picture:
    """SVG elements, and the number of pixels down to which they reach."""

    elements: list[str] = field(default_factory=list)
    bottom: int = 0

    def text(self, x: float, y: float, content: str, kind: str, anchor: str = "start") -> None:
        """One line of text whose baseline is at y."""
        self.elements.append(
            f'<text x="{x:g}" y="{y:g}" class="{kind}" text-anchor="{anchor}">{escape(content)}</text>'
        )

    def box(self, x: int, y: int, width: int, height: int, fill: str, edge: str, round_by: int = 6) -> None:
        """A rectangle with round corners."""
        self.bottom = max(self.bottom, y + height)
        self.elements.append(
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="{round_by}" fill="{fill}" stroke="{edge}"/>'
        )

    def arrow(self, x: float, start: int, end: int, label: str = "") -> None:
        """An arrow downwards, with what travels along it on its right."""
        self.elements.append(
            f'<path d="M{x:g} {start} V{end - 7}" stroke="#1a3f8a" stroke-width="2" fill="none"/>'
            f'<path d="M{x - 5:g} {end - 8} L{x + 5:g} {end - 8} L{x:g} {end} Z" fill="#1a3f8a"/>'
        )
        self.text(x + 12, (start + end) / 2 + 4, label, "element")

    def data(self, x: int, y: int, width: int, content: str) -> int:
        """A dark pill for data that lies somewhere; gives where it ends."""
        self.box(x, y, width, 30, "#3c4043", "#3c4043", 15)
        self.text(x + width / 2, y + 20, content, "data", "middle")
        return y + 30

    def room(self, folder: str, x: int, y: int) -> int:
        """A room: its name, what its docstring says, its modules and the rooms that it uses; gives where it ends."""
        package = folder.split("/")[0]
        lines = [("modules", line) for line in wrapped(", ".join(path.stem for path in modules_in(folder)))]
        if below := [shorter(room, package) for room in uses(folder)]:
            lines += [("uses", line) for line in wrapped("uses " + ", ".join(below))]
        if folder != package:
            tree = ast.parse((ROOT / folder / "__init__.py").read_text(encoding="utf-8"))
            lines = [("", line) for line in wrapped(ast.get_docstring(tree) or "")] + lines
        height = 2 * PAD + 14 + LINE * len(lines)
        self.box(x, y, BOX, height, "#ffffff", EDGES[package])
        self.text(x + PAD, y + PAD + 11, f"{folder}/*.py" if folder == package else f"{folder}/", "room")
        for number, (kind, line) in enumerate(lines, 1):
            self.text(x + PAD, y + PAD + 13 + LINE * number, line, kind)
        return y + height


def wrapped(content: str) -> list[str]:
    """The lines of a text in a room."""
    return textwrap.wrap(content, CHARACTERS, break_long_words=False, break_on_hyphens=False)


def shorter(room: str, package: str) -> str:
    """The name of a room as those of `package` call it."""
    if room == package:
        return "elements" if room == "beam_jobs" else room
    return room.removeprefix(f"{package}/")


def column(picture: Picture, folders: Iterable[str], x: int, y: int) -> int:
    """Rooms below one another; gives where the last ends."""
    for folder in folders:
        y = picture.room(folder, x, y) + PAD
    return y - PAD


def drawn() -> str:
    """The text of the SVG."""
    left, middle, right = MARGIN + PAD, MARGIN + 2 * PAD + BOX, WIDTH - MARGIN - PAD - BOX
    shapes = Picture()
    centre = left + BOX / 2
    y = shapes.data(left, MARGIN, BOX, "raw images: JPEG PNG TIFF BMP WebP DICOM")
    top = y + GAP
    y = shapes.room("beam_jobs", left, top + 34)
    label = "what the flags ask for"
    for folder, leaves in FLOW.items():
        shapes.arrow(centre, y, y + GAP, label)
        y, label = shapes.room(folder, left, y + GAP), leaves
    support = column(shapes, (f"beam_jobs/{name}" for name in SUPPORT), middle, top + 34)
    jobs_end = max(y, support) + PAD
    shapes.arrow(centre, MARGIN + 30, top)

    schemas = [room for room in rooms() if room.split("/")[0] == "schemas"]
    schemas_end = column(shapes, schemas, right, top + 34) + PAD
    set_end = shapes.data(left, jobs_end + GAP, BOX, "TFRecord data set")
    shapes.arrow(centre, y, jobs_end + GAP, FLOW["beam_jobs/publish"])

    training_height = column(Picture(), TRAINING, 0, 34) + PAD
    training_top = max(schemas_end + GAP, jobs_end - training_height)
    training_end = column(shapes, TRAINING, right, training_top + 34) + PAD
    run_top = max(jobs_end + GAP, training_end + GAP)
    # From the data set, between the two columns of packages, to training.
    head, target = right - PAD - 8, training_top + training_height // 2
    shapes.elements.append(
        f'<path d="M{left + BOX} {set_end - 15} H{head - 14} V{target} H{head}" stroke="#1a3f8a" stroke-width="2" '
        f'fill="none"/><path d="M{head} {target - 5} v10 L{head + 8} {target} Z" fill="#1a3f8a"/>'
    )
    shapes.arrow(right + BOX / 2, training_end, run_top)
    end = shapes.data(right, run_top, BOX, "run folder: model, metrics, report")

    frames = (
        ("beam_jobs", "raw images to records", MARGIN, top, middle + BOX + PAD - MARGIN, jobs_end),
        ("schemas", "what both sides agree on", right - PAD, top, BOX + 2 * PAD, schemas_end),
        ("training", "records to a model", right - PAD, training_top, BOX + 2 * PAD, training_end),
    )
    return document([*panels(frames), *shapes.elements], max(end, set_end) + MARGIN)


def panels(frames: Iterable[tuple[str, str, int, int, int, int]]) -> list[str]:
    """The panel of each (package, what it is for, left, top, width, bottom)."""
    picture = Picture()
    for package, what, x, top, width, bottom in frames:
        picture.box(x, top, width, bottom - top, COLOURS[package], EDGES[package], 10)
        picture.text(x + PAD, top + 23, f"{package}/ \N{EN DASH} {what}", "package")
    return picture.elements


def document(elements: list[str], height: int) -> str:
    """The SVG of these elements."""
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">'
    paper = f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>'
    return "\n".join([svg, f"<style>{STYLE}</style>", paper, *elements, "</svg>\n"])


if __name__ == "__main__":
    PICTURE.write_text(drawn(), encoding="utf-8")
