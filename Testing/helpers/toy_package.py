"""Small model packages whose networks have random weights: enough to be kept, compared by content and found."""

from copy import deepcopy
from functools import cache
from pathlib import Path

import numpy as np
from tiny_model import NETWORK

from H3DELandmarksLib.models import ModelPackage, write_package
from H3DELandmarksLib.networks import build_network

TINY = {name: value for name, value in NETWORK["settings"].items() if name != "landmarks"}
MANIFEST = {
    "schema_version": 1,
    "id": "toy",
    "version": "1.0.0",
    "title": "Toy",
    "description": "Two points.",
    "modality": "CT",
    "anatomy": "skull",
    "intended_use": "tests",
    "limitations": ["finds nothing"],
    "license": {"weights": "CC0", "data": "CC0"},
    "scheme": {
        "id": "toy-2",
        "version": "1",
        "landmarks": [{"name": "L", "definition": "left"}, {"name": "R", "definition": "right"}],
    },
    "intensity": {"method": "window", "low": -500, "high": 1500},
    "stages": [
        {
            "name": "localizer",
            "network": {"architecture": "h3denet", "settings": {**TINY, "landmarks": 2}},
            "weights": {"file": "a.safetensors"},
            "spacing_mm": 2.0,
            "shape": [64, 64, 64],
            "poses": "scan",
            "groups": [{"landmarks": ["L", "R"], "mirrored": False}],
            "decoding": {"method": "softmax"},
        }
    ],
    "shape_model": {"file": "shape.safetensors"},
    "calibration": {
        "presence": {"scale": 1.0, "bias": 0.0},
        "confidence": {"weights": [0.0, 1.0, 0.0, 0.0], "tolerance_mm": 2.0},
        "radius90_mm": [1.5, 2.5],
    },
    "training": {"date": "2026-01-01"},
    "accuracy": {},
}


def toy_weights(seed: int = 0, landmarks: int = 2) -> dict[str, np.ndarray]:
    """Weights of the toy's network."""
    random = np.random.default_rng(seed)
    return {name: random.normal(size=shape).astype(np.float16) for name, shape in _shapes(landmarks).items()}


@cache
def _shapes(landmarks: int) -> dict[str, tuple[int, ...]]:
    network = build_network("h3denet", {**TINY, "landmarks": landmarks})
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


CARD = "# Toy\n\nFor tests.\n"


def toy_package(folder: Path, seed: int = 0, replace: bool = False, **changes) -> ModelPackage:
    """A package whose weights follow from the seed."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    weights = {
        "a.safetensors": toy_weights(seed),
        "shape.safetensors": {"mean": np.zeros((2, 3)), "tolerance": np.ones(2)},
    }
    return write_package(folder, {**deepcopy(MANIFEST), **changes}, weights, CARD, replace=replace)
