"""How each network is trained. Those of the paper: layers and epochs as printed. README.md says what they reached.

The paper states neither batch size nor optimiser. Adam (Kingma and Ba 2015) at its default rate of 0.001, and batches of
32 (16 for model3), are our choices.

A recipe of your own is a Python file with a Recipe called RECIPE (docs/train.md has an example).
"""

import hashlib
import importlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from schemas.errors import UsageError

NO_WEIGHTS = "none"
SCHEDULES = CONSTANT, COSINE = "constant", "cosine"
KEPT = BEST_EPOCH, LAST_EPOCH = "best", "last"
MOST_MEMBERS = 100
_NAME = "RECIPE"  # in a recipe file


@dataclass(frozen=True)
class Recipe:
    """One way to train one model.

    model: a name of networks.MODELS, or the name of `body`.
    epochs, batch_size, learning_rate: of Adam.
    augment: random layers of augment.py in front of the model.
    augment_strength: of shifts.RandomShift in front of the model, which changes images far more; 0 is off.
    network: options of the model's network, such as its width and its dropout; see networks.py.
    label_smoothing: how far targets are moved towards 0.5, or towards equal probabilities (Szegedy et al. 2016, CVPR).
    weight_decay: of AdamW (Loshchilov and Hutter 2019, ICLR), a part per step at a learning rate of 1; 0 is Adam.
    schedule: of the learning rate: CONSTANT, or COSINE, which rises in half an epoch and falls to zero at the end
    (Loshchilov and Hutter 2017, ICLR). A run with it cannot be continued for more epochs.
    keep: whose weights a run keeps: those of the BEST_EPOCH by validation AUC, or of the LAST_EPOCH.
    weights: what training starts from: NO_WEIGHTS, or what networks.load_pretrained takes.
    balanced: weights the loss so that the classes count the same (of several findings: so that each counts the same
    where it is present and where it is absent).
    ensemble: how many networks are trained, with seeds of their own, whose probabilities are averaged; 1 is a single one.
    body: of a recipe of the user's own, the function (images, dtype) -> features of its network; see networks.Body.
    source, sha256: where that recipe is, as given to --recipe, and the hash of that file; "" for the recipes here.
    """

    name: str
    model: str
    epochs: int
    batch_size: int = 32
    learning_rate: float = 1e-3
    augment: bool = False
    balanced: bool = False
    augment_strength: float = 0.0
    network: Mapping[str, float] = field(default_factory=dict)
    label_smoothing: float = 0.0
    weight_decay: float = 0.0
    schedule: str = CONSTANT
    keep: str = BEST_EPOCH
    weights: str = NO_WEIGHTS
    ensemble: int = 1
    body: Callable[[Any, str], Any] | None = field(default=None, repr=False, compare=False)
    source: str = field(default="", compare=False)
    sha256: str = ""

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise UsageError(f"epochs {self.epochs}: must be at least 1")
        if self.batch_size < 1:
            raise UsageError(f"batch size {self.batch_size}: must be at least 1")
        if not 1 <= self.ensemble <= MOST_MEMBERS:
            raise UsageError(f"ensemble {self.ensemble}: must be from 1 to {MOST_MEMBERS} networks")
        if not 0 < self.learning_rate < 1:
            raise UsageError(f"learning rate {self.learning_rate}: must be above 0 and below 1")
        for name, most in (("augment_strength", 3), ("label_smoothing", 1), ("weight_decay", 1)):
            if not 0 <= getattr(self, name) < most:
                raise UsageError(f"{name} {getattr(self, name)}: must be from 0 to below {most}")
        for name, known in (("schedule", SCHEDULES), ("keep", KEPT)):
            if getattr(self, name) not in known:
                raise UsageError(f"{name} {getattr(self, name)!r}: must be {' or '.join(known)}")

    def to_json(self) -> dict[str, Any]:
        """The fields for config.json. No code is stored: a recipe of the user's own is named and hashed."""
        content = asdict(self)
        del content["body"]
        if not self.sha256:
            del content["source"], content["sha256"]
        # As earlier releases wrote them, which had fewer fields.
        return {name: value for name, value in content.items() if name not in _LATER or value != _LATER[name]}


_FIRST = ("name", "model", "epochs", "batch_size", "learning_rate", "augment", "balanced")
_LATER: dict[str, Any] = {
    each.name: {} if each.name == "network" else each.default
    for each in fields(Recipe)
    if each.name not in _FIRST and each.name not in ("body", "source", "sha256")
}

MODEL1 = Recipe(name="model1", model="model1", epochs=5)
MODEL2 = Recipe(name="model2", model="model2", epochs=10)
MODEL3 = Recipe(name="model3", model="model3", epochs=10, batch_size=16)
SMALL_RESNET = Recipe(name="small_resnet", model="small_resnet", epochs=20, augment=True)
DENSENET121 = Recipe(name="densenet121", model="densenet121", epochs=10, learning_rate=1e-4, augment=True)
BEST = Recipe(
    name="best",
    model="best",
    epochs=16,
    augment_strength=1.0,
    balanced=True,
    label_smoothing=0.05,
    weight_decay=0.01,
    schedule=COSINE,
    keep=LAST_EPOCH,
)
RECIPES = {recipe.name: recipe for recipe in (MODEL1, MODEL2, MODEL3, SMALL_RESNET, DENSENET121, BEST)}


def recipe(name: str) -> Recipe:
    """The recipe called `name`, or the user's own (see own_recipe). Raises UsageError, listing the recipes, for an
    unknown name."""
    if name in RECIPES:
        return RECIPES[name]
    own = own_recipe(name)
    if own is None:
        raise UsageError(f"unknown recipe {name!r}; known recipes: {', '.join(RECIPES)}, or path/to/recipe.py")
    return own


def own_recipe(name: str | None) -> Recipe | None:
    """The user's own recipe in `path/to/recipe.py` or `package.module:NAME`, whose code is run; None for any other name.
    Raises UsageError if the code fails or defines no recipe."""
    name = name or ""
    if name.endswith(".py"):
        return _own(name, _NAME, _module_of_file)
    if ":" in name:
        module, _, attribute = name.partition(":")
        return _own(module, attribute, importlib.import_module)
    return None


def _own(where: str, attribute: str, load: Callable[[str], ModuleType]) -> Recipe:
    source = where if where.endswith(".py") else f"{where}:{attribute}"
    try:
        module = load(where)
        found = getattr(module, attribute)
        data = Path(str(module.__file__)).read_bytes()
    except Exception as error:  # whatever the user's code raises
        raise UsageError(f"--recipe {source} cannot be loaded: {type(error).__name__}: {error}") from error
    if not isinstance(found, Recipe):
        raise UsageError(f"--recipe {source}: {attribute} is not a training.models.recipes.Recipe")
    return replace(found, source=source, sha256=hashlib.sha256(data).hexdigest())


def _module_of_file(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"recipe_{Path(path).stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError("not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
