"""What report.html and model_card.md are made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from schemas.dataset import Manifest
from training.runs.run_folder import RunConfig

FLATTERED = ("train", "validation")  # train determined the weights, validation the epoch and the threshold


@dataclass(frozen=True)
class Shown:
    """One image that the model got wrong. picture, map: data URIs of PNG files, the image and which parts of it speak for
    what the model said ("" if that is not shown). hidden: the probability when the strongest of these parts is hidden."""

    picture: str
    id: str
    probability: float
    predicted: str = ""
    map: str = ""
    hidden: float | None = None


@dataclass(frozen=True)
class Content:
    """An evaluation of `run` on a split of the data set of `manifest`.

    metrics: the content of metrics.json. leakage: that of the data set's leakage.json, None if there is none to read.
    charts: SVG elements by name. mistakes: the most confident ones by kind, in the order of titles_of. digests: the
    SHA-256 of the run's files, by name.
    """

    run: RunConfig
    metrics: Mapping[str, Any]
    manifest: Manifest
    leakage: Mapping[str, Any] | None = None
    charts: Mapping[str, str] = field(default_factory=dict)
    mistakes: Sequence[Sequence[Shown]] = ()
    digests: Mapping[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The recipe, the data set and the split."""
        data = self.metrics["data"]
        return f"{self.run.recipe.name} on {data['name']} {data['version']}, split {self.metrics['split']}"

    @property
    def is_own_data(self) -> bool:
        """Whether the run was trained on the data set that it is evaluated on."""
        ours = self.manifest
        theirs = (self.run.data.get(name) for name in ("name", "version", "revision"))
        return tuple(theirs) == (ours.name, ours.version, ours.revision)

    @property
    def is_flattered(self) -> bool:
        """Whether the images were used in training."""
        return self.is_own_data and self.metrics["split"] in FLATTERED
