"""The cases of a configuration's subsets."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.landmarks import LandmarkScheme
from H3DELandmarksLib.core.research import research_module
from H3DELandmarksLib.core.shape_model import Pose
from H3DELandmarksLib.io.case_folder import read_case
from H3DELandmarksLib.networks import build_network
from H3DELandmarksLib.training.cases import Case
from H3DELandmarksLib.training.losses import check_objective

REQUIRED = ("id", "version", "title", "data", "intensity", "stages", "tolerance_mm")
SUBSETS = ("train", "validation", "test")
CALIBRATION = "calibration"
DATA_VARIABLE = "H3DE_DATA"


@dataclass(frozen=True)
class Configuration:
    """A training configuration.

    Attributes:
        path: the file it was read from.
        values: the file's content.
        scheme: the landmarks.
    """

    path: Path
    values: Mapping
    scheme: LandmarkScheme

    @property
    def own_frame(self) -> bool:
        """Whether networks see the anatomy in the mean shape's frame (True) or along the patient's axes."""
        return bool(self.values.get("own_frame", False))

    def data_folder(self) -> Path:
        """Folder of the cases; ``${H3DE_DATA}`` in it names the environment variable that holds the data's root."""
        text = self.values["data"]["folder"]
        if f"${{{DATA_VARIABLE}}}" in text:
            root = os.environ.get(DATA_VARIABLE)
            if not root:
                raise InputError(f"Set the environment variable {DATA_VARIABLE} to the folder of the data sets.")
            text = text.replace(f"${{{DATA_VARIABLE}}}", root)
        return Path(text)

    def split(self) -> Mapping[str, Sequence[str]]:
        """Names of the cases of each subset; ``data.split`` may name a file in the data folder, as `convert` writes it.

        Raises:
            InputError: there is no such file, or it leaves a subset without cases.
        """
        split = self.values["data"]["split"]
        if isinstance(split, Mapping):
            return split
        path = self.data_folder() / split
        found = read_split(path)
        empty = [subset for subset in SUBSETS if not found.get(subset)]
        if empty:
            raise InputError(f"'{path}' has no cases for {' and '.join(empty)}: convert the data set completely.")
        return {subset: found[subset] for subset in (*SUBSETS, CALIBRATION) if found.get(subset)}

    @property
    def calibration_subset(self) -> str:
        """The subset that a model's calibration is fitted to: its own where there is one, else the validation cases."""
        data = self.values["data"]
        subsets = data["seeds"] if "seeds" in data else self.split()
        return CALIBRATION if CALIBRATION in subsets else "validation"


def read_configuration(path: Path) -> Configuration:
    """Read and check a configuration.

    Raises:
        InputError: the file is missing, is not JSON or lacks an entry, or a stage's network, loss or decoding is not to
            be had.
    """
    path = Path(path)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"The configuration '{path}' does not exist: check the path.") from error
    except (OSError, ValueError) as error:
        raise InputError(f"The configuration '{path}' is not readable JSON: {error}.") from error
    missing = [key for key in REQUIRED if key not in values]
    if missing:
        raise InputError(f"The configuration '{path}' lacks the entries {', '.join(missing)}: add them.")
    for stage in values["stages"]:
        try:
            check_objective(stage)
            with torch.device("meta"):
                build_network(**stage["network"])
        except (InputError, ValueError) as error:
            raise InputError(f"Stage '{stage['name']}' of the configuration '{path}': {error}") from error
    return Configuration(path, values, _scheme(path, values))


def read_split(path: Path) -> dict[str, list[str]]:
    """Read a split file.

    Raises:
        InputError: it is missing or not a split file.
    """
    try:
        split = json.loads(path.read_text(encoding="utf-8"))
        return {str(subset): [str(name) for name in names] for subset, names in split.items()}
    except FileNotFoundError as error:
        raise InputError(f"The split file '{path}' does not exist: convert the data set again.") from error
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise InputError(f"'{path}' is not a split file: remove it and convert the data set again.") from error


def _scheme(path: Path, values: Mapping) -> LandmarkScheme:
    """The phantom brings its own scheme; others are named by a file beside the configuration."""
    if values["data"]["reader"] == "phantom":
        return _phantom().MOLAR_SCHEME
    if "scheme" not in values:
        raise InputError(f"The configuration '{path}' lacks the entry scheme: name the landmarks' file.")
    return LandmarkScheme.from_dict(json.loads((path.parent / values["scheme"]).read_text(encoding="utf-8")))


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
    make, folder = _phantom().phantom_case, cache / "phantom"
    return [make(seed, spacings[seed % len(spacings)], folder) for seed in range(first, last)]


def _phantom() -> ModuleType:
    return research_module("phantom.training_cases", "The phantom")
