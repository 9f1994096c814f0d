"""The phantom as cases to train from: what configurations with the reader "phantom" are made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.training.cases import Case
from H3DELandmarksResearch.phantom.case import generate_phantom
from H3DELandmarksResearch.phantom.scheme import MOLAR_SCHEME

__all__ = ["MOLAR_SCHEME", "phantom_case"]


def phantom_case(seed: int, spacing_mm: float, folder: Path) -> Case:
    """Generate a phantom, or read it back: arrays are kept because one takes seconds to make.

    Args:
        seed: the same number gives the same phantom.
        spacing_mm: size of its voxels.
        folder: where arrays are kept.
    """
    path = folder / f"{seed}-{spacing_mm}.npz"
    if path.exists():
        with np.load(path) as kept:
            volume = Volume(kept["array"], kept["affine"])
            points = LandmarkSet(MOLAR_SCHEME.names, kept["positions"], kept["presence"])
        return Case(f"phantom-{seed}", volume, points)
    case = generate_phantom(seed, spacing=spacing_mm)
    volume, points = case.volume, case.landmarks
    folder.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".partial.npz")
    np.savez(beside, array=volume.array, affine=volume.affine, positions=points.positions, presence=points.presence)
    beside.replace(path)
    return Case(f"phantom-{seed}", volume, points)
