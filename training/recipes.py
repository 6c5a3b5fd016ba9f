"""How each model is trained. The paper's three: layers and epochs as printed. README.md says what they reached.

The paper states neither batch size nor optimiser. Adam (Kingma and Ba 2015) at its default rate of 0.001, and batches of
32 (16 for model3), are our choices.
"""

from dataclasses import dataclass

from schemas.errors import UsageError


@dataclass(frozen=True)
class Recipe:
    """One way to train one model.

    model: a name of models.MODELS.
    epochs, batch_size, learning_rate: of Adam, with binary cross-entropy.
    augment: random layers of augment.py in front of the model.
    balanced: weights the examples so that the two classes count the same in the loss.
    """

    name: str
    model: str
    epochs: int
    batch_size: int = 32
    learning_rate: float = 1e-3
    augment: bool = False
    balanced: bool = False

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise UsageError(f"epochs {self.epochs}: must be at least 1")
        if self.batch_size < 1:
            raise UsageError(f"batch size {self.batch_size}: must be at least 1")
        if not 0 < self.learning_rate < 1:
            raise UsageError(f"learning rate {self.learning_rate}: must be above 0 and below 1")


MODEL1 = Recipe(name="model1", model="model1", epochs=5)
MODEL2 = Recipe(name="model2", model="model2", epochs=10)
MODEL3 = Recipe(name="model3", model="model3", epochs=10, batch_size=16)
RECIPES = {recipe.name: recipe for recipe in (MODEL1, MODEL2, MODEL3)}


def recipe(name: str) -> Recipe:
    """The recipe called `name`. Raises UsageError, listing the recipes, for an unknown name."""
    if name not in RECIPES:
        raise UsageError(f"unknown recipe {name!r}; known recipes: {', '.join(RECIPES)}")
    return RECIPES[name]
