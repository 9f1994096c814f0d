"""A configuration with five blob scans on disk, which benchmarks over folds are tested with."""

import json
from pathlib import Path

import numpy as np

from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.io.images import write_volume
from H3DELandmarksLib.io.markups import write_markups

NAMES = ["left", "right", "top"]
SHAPE = np.array([[9.0, 0, 0], [-9.0, 0, 0], [0.0, 3, 11]])
NETWORK = {
    "landmarks": 3,
    "stem_channels": [4, 8],
    "dims": [8, 8, 8, 8],
    "depths": [1, 1, 1, 1],
    "decoder_dims": [8, 8, 8],
    "fine_dims": [8, 8],
    "output_stride": 2,
}
TRAINING = {
    "steps": 2,
    "batch": 1,
    "learning_rate": 2e-3,
    "weight_decay": 0.01,
    "warmup": 1,
    "ema": 0.5,
    "sigma": 1.0,
    "validate_every": 2,
    "checkpoint_seconds": 60,
    "seed": 1,
}


def write_study(folder: Path) -> Path:
    """Write scans, points, scheme and configuration; returns the path of the configuration."""
    cases = [f"case{number}" for number in range(5)]
    for seed, name in enumerate(cases):
        points = SHAPE + np.random.default_rng(seed).uniform(-2, 2, 3) + [20, 20, 20]
        lps = np.stack(np.meshgrid(*[np.arange(40.0)] * 3, indexing="ij"), -1)
        blobs = (np.exp(-((np.linalg.norm(lps - point, axis=-1) / 2) ** 2)) for point in points)
        array = sum(1000 / (k + 1) * blob for k, blob in enumerate(blobs))
        write_volume(folder / f"{name}.nrrd", Volume(array.astype(np.int16), np.eye(4)))
        write_markups(folder / f"{name}.mrk.json", LandmarkSet(tuple(NAMES), points))
    scheme = {
        "id": "blobs",
        "version": "1",
        "landmarks": [{"name": n, "definition": f"the {n} blob"} for n in NAMES],
        "pairs": [["left", "right"]],
    }
    (folder / "scheme.json").write_text(json.dumps(scheme))
    stage = {
        "network": {"architecture": "h3denet", "settings": NETWORK},
        "shape": [32, 32, 32],
        "training": TRAINING,
        "groups": [{"landmarks": NAMES, "mirrored": False}],
        "decoding": {"method": "softmax"},
        "augmentation": {},
    }
    values = {
        "id": "blobs",
        "version": "0.1.0",
        "title": "Blobs",
        "description": "Three blobs.",
        "modality": "CT",
        "anatomy": "none",
        "intended_use": "tests",
        "limitations": ["finds blobs"],
        "tolerance_mm": 3.0,
        "license": {"weights": "CC0-1.0", "data": "CC0-1.0"},
        "own_frame": True,
        "scheme": "scheme.json",
        "intensity": {"method": "window", "low": 0, "high": 1000},
        "thresholds_mm": [2.0, 20.0],
        "data": {
            "reader": "case-folder",
            "folder": str(folder),
            "split": {"train": cases[:2], "validation": cases[2:4], "test": cases[4:]},
        },
        "stages": [
            {**stage, "name": "localizer", "spacing_mm": 2.0, "poses": "scan"},
            {**stage, "name": "refiner", "spacing_mm": 1.0, "poses": "found", "views": 2},
        ],
    }
    (folder / "blobs.json").write_text(json.dumps(values))
    return folder / "blobs.json"
