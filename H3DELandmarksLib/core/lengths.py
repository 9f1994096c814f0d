"""The unit of lengths: mm, or pixels of a picture of which nobody knows how large they are.

Columns and entries are named by what they hold: ``radius90_mm`` is ``radius90_px`` where lengths are pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from H3DELandmarksLib.core.image_plane import has_unknown_pixels

LengthUnit = Literal["mm", "px"]


def length_unit(shape: Sequence[int], spacing: Sequence[float] | np.ndarray, is_stated: bool = False) -> LengthUnit:
    """The unit of lengths in an image.

    Args:
        shape: (3,) voxels.
        spacing: (3,) distances of their centers, as the file says.
        is_stated: whether the user has said how large they are.
    """
    return "px" if not is_stated and has_unknown_pixels(shape, spacing) else "mm"


def in_unit(name: str, unit: LengthUnit) -> str:
    """The name of a column or entry for lengths of a unit, from that for mm; names of other things stay."""
    return name.removesuffix("_mm") + "_px" if unit == "px" and name.endswith("_mm") else name


def named_in(content: Any, unit: LengthUnit) -> Any:
    """JSON content whose entries are named for mm, with the names for a unit."""
    if isinstance(content, dict):
        return {in_unit(name, unit): named_in(entry, unit) for name, entry in content.items()}
    return [named_in(entry, unit) for entry in content] if isinstance(content, list) else content


def named_in_mm(content: Any) -> Any:
    """The inverse of `named_in`; an entry that is there under both names keeps both."""
    if isinstance(content, dict):
        return {_in_mm(name, content): named_in_mm(entry) for name, entry in content.items()}
    return [named_in_mm(entry) for entry in content] if isinstance(content, list) else content


def _in_mm(name: str, others: dict[str, Any]) -> str:
    plain = name.removesuffix("_px") + "_mm" if name.endswith("_px") else name
    return plain if plain not in others else name
