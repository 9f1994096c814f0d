"""Recipes: JSON files that say from what, from where and how radiographs of one anatomy are taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.formats.reading import FormatError, parse_json

RECIPES = Path(__file__).resolve().parent / "recipes"
REQUIRED = (
    *("id", "configuration", "attenuation", "views", "spread_degrees", "pixels"),
    *("beam", "exposure", "display", "bits", "collimator", "collimator_open"),
)


@dataclass(frozen=True)
class Recipe:
    """How radiographs of one anatomy are taken.

    Wherever a number stands, ``[low, high]`` may stand instead: each radiograph then draws its own value.

    Attributes:
        id: identifier.
        values: the file's content. ``views`` are named directions in the subject's axes (left, posterior, superior):
            ``toward`` from source to detector, ``up`` in the picture, and optionally ``aim``, mm from the center.
    """

    id: str
    values: Mapping

    @property
    def views(self) -> tuple[str, ...]:
        """Names of the views."""
        return tuple(self.values["views"])

    def with_views(self, names: Sequence[str] | None) -> Recipe:
        """The same recipe with only these views, in this order; None keeps all.

        Raises:
            InputError: the recipe has no such view.
        """
        for name in names or ():
            if name not in self.views:
                raise InputError(f"The recipe '{self.id}' has no view '{name}': choose one of {', '.join(self.views)}.")
        views = {name: self.values["views"][name] for name in names or self.views}
        return Recipe(self.id, {**self.values, "views": views})

    def draw(self, part: str, rng: np.random.Generator) -> dict:
        """The entries of one part of the recipe, every range replaced by a number drawn from it."""
        return {name: drawn(value, rng) for name, value in self.values[part].items()}


def drawn(value, rng: np.random.Generator):
    """A number from a range ``[low, high]``: uniform, or log-uniform where it spans a factor of five or more."""
    if not (isinstance(value, list) and len(value) == 2):
        return value
    low, high = value
    if low > 0 and high >= 5 * low:
        return float(np.exp(rng.uniform(np.log(low), np.log(high))))
    return float(rng.uniform(low, high))


def read_recipe(name: str) -> Recipe:
    """A recipe file by path, or a bundled one by name.

    Raises:
        InputError: there is neither, or the file lacks something.
    """
    bundled = ", ".join(sorted(path.stem for path in RECIPES.glob("*.json")))
    path = next((p for p in (Path(name), RECIPES / f"{name}.json") if p.is_file()), None)
    if path is None:
        raise InputError(f"The recipe '{name}' does not exist: give the path of a JSON file, or one of {bundled}.")
    try:
        values = parse_json(path.read_bytes())
    except (OSError, FormatError) as error:
        raise InputError(f"The recipe '{path}' is not readable JSON: {error}.") from error
    missing = [key for key in REQUIRED if key not in values] if isinstance(values, dict) else list(REQUIRED)
    if missing:
        raise InputError(f"The recipe '{path}' lacks the entries {', '.join(missing)}: add them.")
    return Recipe(values["id"], values)
