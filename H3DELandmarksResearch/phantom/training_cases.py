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
from H3DELandmarksResearch.phantom.scheme import MOLAR_SCHEME, PHANTOM, THIRD_MOLARS

__all__ = ["MOLAR_SCHEME", "is_of_share", "kept_case", "molars_left_out", "phantom_case"]


class MadeCase(Protocol):
    """A volume with its points."""

    @property
    def volume(self) -> Volume: ...

    @property
    def landmarks(self) -> LandmarkSet: ...


def is_of_share(number: int, share: float) -> bool:
    """Whether a made case belongs to a share of each run of numbers."""
    return int((number + 1) * share) > int(number * share)


def molars_left_out(number: int, share: float) -> tuple[str, ...] | None:
    """The molars that a made case is told to lack, all third ones in a share of cases; None lets its seed draw them."""
    return THIRD_MOLARS if is_of_share(number, share) else None


def phantom_case(
    seed: int, spacing_mm: float, folder: Path, wide_share: float = 0.0, without_third_molars: float = 0.0
) -> Case:
    """Generate a phantom, or read it back: arrays are kept because one takes seconds to make.

    Args:
        seed: the same number gives the same phantom.
        spacing_mm: size of its voxels.
        folder: where arrays are kept.
        wide_share, without_third_molars: shares of cases, see `TrainingData`.
    """
    wide, missing = is_of_share(seed, wide_share), molars_left_out(seed, without_third_molars)

    def make() -> PhantomCase:
        return generate_phantom(seed, missing, spacing_mm, wide)

    return kept_case(folder / f"{seed}-{spacing_mm}{kind_of_case(wide, missing)}.npz", f"{PHANTOM}{seed}", make)


def kind_of_case(wide: bool, missing: tuple[str, ...] | None) -> str:
    """The end of the name of a kept case."""
    return "-wide" * wide + "-no-m3" * (missing is not None)


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
