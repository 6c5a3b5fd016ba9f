"""A recipe file that holds what a search has found."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.models.recipes import Recipe

_OF_A_RECIPE = '''"""{about}"""

from dataclasses import replace

from training.models.recipes import {name}

RECIPE = replace({recipe}, {changes})
'''
_OF_A_FILE = """{text}


# {about}
from dataclasses import replace as _replace  # noqa: E402

RECIPE = _replace(RECIPE, {changes})
"""


def recipe_text(recipe: Recipe, changed: Mapping[str, Any], about: str) -> str:
    """The text of a Python file whose RECIPE is `recipe` with other values in the fields `changed`.

    A recipe that is not the user's own is named. Of one in a file, the text is copied, so that the SHA-256 of the new file
    covers it.
    """
    changes = ", ".join(f"{name}={value!r}" for name, value in {"name": f"{recipe.name}_tuned", **changed}.items())
    if not recipe.sha256:
        return _OF_A_RECIPE.format(about=about, name="RECIPES", recipe=f'RECIPES["{recipe.name}"]', changes=changes)
    if not recipe.source.endswith(".py"):
        return _OF_A_RECIPE.format(about=about, name="recipe", recipe=f'recipe("{recipe.source}")', changes=changes)
    text = Path(recipe.source).read_text(encoding="utf-8").rstrip()
    return _OF_A_FILE.format(text=text, about=about, changes=changes)
