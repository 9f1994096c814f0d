"""The phantom as cases to train from: what configurations with the reader "phantom" are made of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np

from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.training.cases import Case
from H3DELandmarksResearch.phantom.case import PhantomCase, generate_phantom
from H3DELandmarksResearch.phantom.scheme import MOLAR_SCHEME, PHANTOM


class MadeCase(Protocol):
    """A volume with its points."""

    @property
    def volume(self) -> Volume: ...

    @property
    def landmarks(self) -> LandmarkSet: ...


def is_wide(number: int, share: float) -> bool:
    """Whether the lower molars of a made case vary as widely as in patients: a share of each run of numbers."""
    return int((number + 1) * share) > int(number * share)


def phantom_case(
    seed: int, spacing_mm: float, folder: Path, wide_share: float = 0.0, less_room_mm: float = 0.0
) -> Case:
    """Generate a phantom, or read it back: arrays are kept because one takes seconds to make.

    Args:
        seed: the same number gives the same phantom.
        spacing_mm: size of its voxels.
        folder: where arrays are kept.
        wide_share: see `is_wide`.
        less_room_mm: where it is not 0, every other seed has no third molars, and up to so many mm less room for them.
    """
    wide, is_short = is_wide(seed, wide_share), less_room_mm > 0 and seed % 2 == 1

    def make() -> PhantomCase:
        if is_short:
            return generate_phantom(seed, ("L-M3", "R-M3"), spacing_mm, wide, less_room_mm)
        return generate_phantom(seed, spacing=spacing_mm, wide=wide)

    name = f"{seed}-{spacing_mm}{'-wide' * wide}{f'-less-{less_room_mm:g}' * is_short}"
    return kept_case(folder / f"{name}.npz", f"{PHANTOM}{seed}", make)


def kept_case(path: Path, name: str, make: Callable[[], MadeCase]) -> Case:
    """A made case with the points of the molars: read back where it is kept, else made and kept.

    Args:
        path: .npz file.
        name: of the case.
        make: makes it; may raise what its caller is to know.
    """
    if path.exists():
        with np.load(path) as kept:
            volume = Volume(kept["array"], kept["affine"])
            points = LandmarkSet(MOLAR_SCHEME.names, kept["positions"], kept["presence"])
        return Case(name, volume, points)
    case = make()
    volume, points = case.volume, case.landmarks
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".partial.npz")
    np.savez(beside, array=volume.array, affine=volume.affine, positions=points.positions, presence=points.presence)
    beside.replace(path)
    return Case(name, volume, points)
