"""Training configurations: one JSON file per model says data, split, networks and schedule."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from H3DELandmarksLib.datasets.conversion import read_split
from H3DELandmarksLib.errors import InputError
from H3DELandmarksLib.landmarks import LandmarkScheme
from H3DELandmarksLib.networks import build_network
from H3DELandmarksLib.training.objectives import check_objective

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


def _scheme(path: Path, values: Mapping) -> LandmarkScheme:
    """The phantom brings its own scheme; others are named by a file beside the configuration."""
    if values["data"]["reader"] == "phantom":
        from H3DELandmarksLib.datasets.phantom import MOLAR_SCHEME

        return MOLAR_SCHEME
    if "scheme" not in values:
        raise InputError(f"The configuration '{path}' lacks the entry scheme: name the landmarks' file.")
    return LandmarkScheme.from_dict(json.loads((path.parent / values["scheme"]).read_text(encoding="utf-8")))
