"""The cases of a configuration's subsets."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from H3DELandmarksLib.datasets.case_folder import read_case
from H3DELandmarksLib.errors import InputError
from H3DELandmarksLib.training.cases import Case
from H3DELandmarksLib.training.configuration import Configuration

logger = logging.getLogger(__name__)


def load_cases(configuration: Configuration, subset: str, cache: Path) -> list[Case]:
    """Load the cases of "train", "validation" or "test".

    Args:
        configuration: its ``data`` entry names the reader.
        subset: which part of the split.
        cache: folder in which generated cases are kept between runs.

    Raises:
        InputError: the reader is unknown or the data is not there.
    """
    readers = {"case-folder": _from_folder, "phantom": _from_phantom}
    reader = configuration.values["data"]["reader"]
    if reader not in readers:
        raise InputError(f"The data reader '{reader}' is unknown: use one of {', '.join(readers)}.")
    return readers[reader](configuration, subset, cache)


def _from_folder(configuration: Configuration, subset: str, cache: Path) -> list[Case]:
    folder = configuration.data_folder()
    names = configuration.values["data"]["split"][subset]
    return [Case(name, *read_case(folder, name, configuration.scheme.names)) for name in names]


def _from_phantom(configuration: Configuration, subset: str, cache: Path) -> list[Case]:
    first, last = configuration.values["data"]["seeds"][subset]
    return [_phantom_case(seed, cache / "phantom") for seed in range(first, last)]


def _phantom_case(seed: int, cache: Path) -> Case:
    """Generate a phantom, or read it back: arrays are kept because one takes seconds to make."""
    from H3DELandmarksLib.datasets.phantom import MOLAR_SCHEME, generate_phantom
    from H3DELandmarksLib.geometry import Volume
    from H3DELandmarksLib.landmarks import LandmarkSet

    path = cache / f"{seed}.npz"
    if path.exists():
        with np.load(path) as kept:
            volume = Volume(kept["array"], kept["affine"])
            return Case(f"phantom-{seed}", volume, LandmarkSet(MOLAR_SCHEME.names, kept["positions"], kept["presence"]))
    case = generate_phantom(seed)
    cache.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".partial.npz")
    volume, points = case.volume, case.landmarks
    np.savez(
        beside, array=volume.array, affine=volume.affine, positions=points.positions, presence=points.presence
    )
    beside.replace(path)
    return Case(f"phantom-{seed}", volume, points)
