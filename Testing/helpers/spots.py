"""Training configurations and scans with three bright spots, for packages whose weights, and points, are random."""

import json
from pathlib import Path

import numpy as np
from tiny_model import NAMES, NETWORK

from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.io.images import write_volume
from H3DELandmarksLib.io.markups import write_markups
from H3DELandmarksResearch.training.configuration import Configuration, load_cases

CASES = [f"case{number}" for number in range(8)]
SPLIT = {"train": CASES[:2], "validation": CASES[2:3], "calibration": CASES[3:6], "test": CASES[6:]}


def write_spots(folder: Path) -> Path:
    """The scans, their points, the scheme and the configuration ``spots.json``; returns the folder."""
    rng = np.random.default_rng(0)
    for name in CASES:
        array = rng.normal(0, 30, (32, 32, 32)).astype(np.int16)
        places = np.array([[22, 16, 16], [16, 22, 14], [10, 16, 16]]) + rng.integers(-2, 3, (3, 3))
        array[tuple(places.T)] = 1000
        volume = Volume(array, np.diag([2.0, 2.0, 2.0, 1.0]))
        write_volume(folder / f"{name}.nrrd", volume)
        write_markups(folder / f"{name}.mrk.json", LandmarkSet(NAMES, volume.grid.lps_from_ijk(places.astype(float))))
    scheme = {"id": "spots", "version": "1", "landmarks": [{"name": n, "definition": f"the {n} spot"} for n in NAMES]}
    (folder / "scheme.json").write_text(json.dumps(scheme))
    write_configuration(folder / "spots.json", folder, SPLIT)
    return folder


def write_configuration(path: Path, data: Path, split: dict, **changes) -> None:
    """A configuration of one stage; keywords replace entries."""
    stage = {
        "name": "localizer",
        "network": NETWORK,
        "spacing_mm": 2.0,
        "shape": [32, 32, 32],
        "poses": "scan",
        "groups": [{"landmarks": list(NAMES), "mirrored": False}],
        "decoding": {"method": "softmax"},
        "training": {"steps": 1, "learning_rate": 1e-3},
        "augmentation": {},
    }
    values = {
        "id": "spots",
        "version": "0.1.0",
        "title": "Spots",
        "description": "Three spots.",
        "modality": "CT",
        "anatomy": "none",
        "intended_use": "tests",
        "limitations": ["finds spots"],
        "tolerance_mm": 20.0,
        "license": {"weights": "CC0-1.0", "data": "CC0-1.0"},
        "scheme": str(data / "scheme.json"),
        "intensity": {"method": "window", "low": 0, "high": 1000},
        "stages": [stage],
        "data": {"reader": "case-folder", "folder": str(data), "split": split},
        **changes,
    }
    path.write_text(json.dumps(values))


def cases_of(configuration: Configuration, cache: Path) -> dict:
    """The calibration and the test cases."""
    return {name: load_cases(configuration, name, cache) for name in (configuration.calibration_subset, "test")}
