"""Real model packages that are small enough for tests: networks with few channels and random weights."""

from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from flat_cases import NAMES as FLAT_NAMES
from flat_cases import NETWORK as FLAT_NETWORK
from flat_cases import SCHEME as FLAT_SCHEME
from flat_cases import SIZE, SPOTS

from H3DELandmarksLib.models import ModelPackage, write_package
from H3DELandmarksLib.networks import build_network

NAMES = ("Left", "Middle", "Right")
NETWORK = {
    "architecture": "h3denet",
    "settings": {
        "landmarks": 3,
        "stem_channels": [4, 8],
        "dims": [8, 8, 16, 16],
        "depths": [1, 1, 1, 1],
        "decoder_dims": [8, 8, 8],
        "fine_dims": [4, 4],
        "output_stride": 2,
    },
}
MANIFEST = {
    "schema_version": 1,
    "id": "tiny",
    "version": "1.0.0",
    "title": "Tiny model",
    "description": "Three points at random places.",
    "modality": "CT",
    "anatomy": "none",
    "intended_use": "tests",
    "limitations": ["finds nothing"],
    "license": {"weights": "CC0-1.0", "data": "CC0-1.0"},
    "scheme": {
        "id": "tiny-3",
        "version": "1",
        "landmarks": [{"name": name, "definition": f"the {name.lower()} point"} for name in NAMES],
        "pairs": [["Left", "Right"]],
    },
    "intensity": {"method": "window", "low": -500.0, "high": 1500.0},
    "outside": -1000.0,
    "stages": [
        {
            "name": "localizer",
            "network": NETWORK,
            "weights": {"file": "localizer.safetensors"},
            "spacing_mm": 2.0,
            "shape": [32, 32, 32],
            "poses": "scan",
            "groups": [{"landmarks": list(NAMES), "mirrored": False}],
            "decoding": {"method": "softmax"},
        }
    ],
    "shape_model": {"file": "shape.safetensors"},
    "calibration": {
        "presence": {"scale": 0.0, "bias": 3.0},
        "confidence": {"weights": [0.0, 1.0, 0.0, 0.0], "tolerance_mm": 2.0},
        "radius90_mm": [1.0, 2.0, 3.0],
    },
    "training": {},
    "accuracy": {},
}


def write_tiny_package(folder: Path) -> ModelPackage:
    """Write the package into `folder`; its three landmarks are always present."""
    torch.manual_seed(0)
    weights = build_network(**NETWORK).state_dict()
    shape = {"mean": np.array([[5.0, 0, 0], [0, 0, 0], [-5, 0, 0]]), "tolerance": np.ones(3)}
    contents = {"localizer.safetensors": weights, "shape.safetensors": shape}
    return write_package(folder, deepcopy(MANIFEST), contents, "# Tiny model\n\nFor tests.\n")


def flat_stage(name: str, **changes) -> dict:
    """A stage for radiographs of a package's manifest."""
    return {
        "name": name,
        "network": FLAT_NETWORK,
        "weights": {"file": f"{name}.safetensors"},
        "spacing_mm": 1.0,
        "shape": [64, 64, 1],
        "poses": "scan",
        "groups": [{"landmarks": list(FLAT_NAMES), "mirrored": False}],
        "decoding": {"method": "softmax"},
        **changes,
    }


def write_tiny_radiograph_package(folder: Path, *stages: dict, **changes) -> ModelPackage:
    """Write a package for radiographs into `folder`; its three landmarks are always present."""
    stages = stages or (flat_stage("localizer"),)
    contents = {"shape.safetensors": {"mean": _flat_mean(), "tolerance": np.full(3, 3.0)}}
    for number, stage in enumerate(stages):
        torch.manual_seed(number)
        weights = build_network(**stage["network"]).state_dict()
        for name in ("quarter_maps", "half_maps", "correction"):
            weights[f"head.{name}.2.weight"] *= 1000  # so that random maps have peaks and not plateaus
        contents[stage["weights"]["file"]] = weights
    manifest = {
        **deepcopy(MANIFEST),
        "id": "tiny-radiograph",
        "modality": "radiography",
        "scheme": FLAT_SCHEME.to_dict(),
        "intensity": {"method": "percentile", "low": 0.0, "high": 99.9},
        "stages": list(stages),
        **changes,
    }
    del manifest["outside"]
    return write_package(folder, manifest, contents, "# Tiny model\n\nFor tests of radiographs.\n")


def _flat_mean() -> np.ndarray:
    spots = SPOTS - np.array(SIZE) / 2
    return np.column_stack([spots - spots.mean(axis=0), np.zeros(3)])
