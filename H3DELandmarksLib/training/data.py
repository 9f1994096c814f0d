"""The cases of a configuration's subsets."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np

from H3DELandmarksLib.datasets.case_folder import read_case
from H3DELandmarksLib.errors import InputError
from H3DELandmarksLib.shape_model import Pose
from H3DELandmarksLib.training.cases import Case
from H3DELandmarksLib.training.configuration import Configuration

logger = logging.getLogger(__name__)


def load_cases(configuration: Configuration, subset: str, cache: Path) -> list[Case]:
    """Load the cases of "train", "validation", "test" or "calibration"; radiographs come on their sheets.

    Where the published points of a specimen lie in another pose than its scan, the file named by ``data.poses`` holds
    the rigid motion from the one to the other.

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
    return [case.laid_flat() for case in readers[reader](configuration, subset, cache)]


def _from_folder(configuration: Configuration, subset: str, cache: Path) -> list[Case]:
    folder = configuration.data_folder()
    data = configuration.values["data"]
    poses = {}
    if "poses" in data:
        poses = json.loads((configuration.path.parent / data["poses"]).read_text(encoding="utf-8"))
    cases = []
    for name in configuration.split()[subset]:
        volume, landmarks = read_case(folder, name, configuration.scheme.names)
        if name in poses:
            pose = Pose(np.array(poses[name]["rotation"]), np.array(poses[name]["translation"]))
            landmarks = landmarks.with_positions(pose.to_lps(landmarks.positions))
        cases.append(Case(name, volume, landmarks))
    return cases


def _from_phantom(configuration: Configuration, subset: str, cache: Path) -> list[Case]:
    data = configuration.values["data"]
    first, last = data["seeds"][subset]
    spacings = data["spacings_mm"]
    return [_phantom_case(seed, spacings[seed % len(spacings)], cache / "phantom") for seed in range(first, last)]


def _phantom_case(seed: int, spacing: float, cache: Path) -> Case:
    """Generate a phantom, or read it back: arrays are kept because one takes seconds to make."""
    from H3DELandmarksLib.datasets.phantom import MOLAR_SCHEME, generate_phantom
    from H3DELandmarksLib.geometry import Volume
    from H3DELandmarksLib.landmarks import LandmarkSet

    path = cache / f"{seed}-{spacing}.npz"
    if path.exists():
        with np.load(path) as kept:
            volume = Volume(kept["array"], kept["affine"])
            return Case(f"phantom-{seed}", volume, LandmarkSet(MOLAR_SCHEME.names, kept["positions"], kept["presence"]))
    case = generate_phantom(seed, spacing=spacing)
    cache.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".partial.npz")
    volume, points = case.volume, case.landmarks
    np.savez(
        beside, array=volume.array, affine=volume.affine, positions=points.positions, presence=points.presence
    )
    beside.replace(path)
    return Case(f"phantom-{seed}", volume, points)
