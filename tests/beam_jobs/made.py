"""Settings and sources for tests of the plan."""

from beam_jobs.config import ConvertConfig
from schemas.source import UNASSIGNED, Source


def config(**changes: object) -> ConvertConfig:
    return ConvertConfig(**{"input": "/in", "output": "/out", **changes})  # type: ignore[arg-type]


def source(
    path: str, split: str = UNASSIGNED, label: str = "A", group: str = "", size: int = 1, md5: str = ""
) -> Source:
    return Source(f"/in/{path}", path, label, split, group or path, size, md5, 0)
