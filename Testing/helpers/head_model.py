"""A small package whose shape tells left from right: four pairs and four points of the midline."""

from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from tiny_model import MANIFEST, NETWORK

from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.models import ModelPackage, write_package
from H3DELandmarksLib.networks import build_network

PAIRS = tuple((f"left {k}", f"right {k}") for k in range(4))
NAMES = tuple(name for pair in PAIRS for name in pair) + ("front", "top", "back", "base")
RIGHT = np.array([[12, 10, 5], [30, -14, -2], [22, -18, 17], [38, 15, -19.0]])
MIDDLE = np.array([[0, 40, 0], [0, 30, 35], [0, -45, 10], [0, 5, -40.0]])
MEAN = np.concatenate([np.stack([RIGHT * (1, 1, 1), RIGHT * (-1, 1, 1)], axis=1).reshape(-1, 3), MIDDLE])
KEY = "head@1.0.0"


# Of a model whose points follow corrections from the beginning.
FOLLOWING = {"cases": 9, "without": 40, "helped": 20, "saved": [0.2, 0.6], "caution": 1.0, "scales": [1.0, 1.0, 1.0]}


def write_head_package(folder: Path, following: dict | None = None, looks_closer: bool = False) -> ModelPackage:
    """Write the package; its landmarks vary by a millimeter, found points err by a quarter of one.

    Args:
        folder: of the package.
        following: what following was worth.
        looks_closer: whether a second stage looks again, in the pose that was found; it sees nothing right.
    """
    manifest = deepcopy(MANIFEST)
    manifest |= {"id": "head", "title": "Head"}
    landmarks = [{"name": name, "definition": f"the {name} point"} for name in NAMES]
    manifest["scheme"] = {"id": "head-12", "version": "1", "landmarks": landmarks, "pairs": [list(p) for p in PAIRS]}
    network = deepcopy(NETWORK)
    network["settings"]["landmarks"] = len(NAMES)
    manifest["stages"][0] |= {"network": network, "groups": [{"landmarks": list(NAMES), "mirrored": False}]}
    manifest["calibration"]["radius90_mm"] = [0.6] * len(NAMES)
    if following:
        manifest["calibration"]["following"] = following
    torch.manual_seed(0)
    weights = {"localizer.safetensors": build_network(**network).state_dict()}
    if looks_closer:
        stage = {**manifest["stages"][0], "name": "closer", "poses": "found", "spacing_mm": 4.0}
        manifest["stages"].append({**stage, "weights": {"file": "closer.safetensors"}})
        weights["closer.safetensors"] = weights["localizer.safetensors"]
    center = MEAN.mean(axis=0)
    shape = {"mean": MEAN - center, "tolerance": np.full(len(NAMES), 1.7)}
    return write_package(folder, manifest, {**weights, "shape.safetensors": shape}, "# Head\n\nFor tests.\n")


def found_head(order=None, seed=0) -> LandmarkSet:
    """Points of a subject in LPS mm: landmark k lies at the place of landmark ``order[k]``."""
    noisy = MEAN + np.random.default_rng(seed).normal(0, 0.4, MEAN.shape) + (3, -20, 50)
    order = range(len(NAMES)) if order is None else order
    count = len(NAMES)
    certain = np.linspace(0.6, 0.95, count)
    definitions = tuple(f"the {name} point" for name in NAMES)
    return LandmarkSet(NAMES, noisy[list(order)], np.full(count, 0.9), certain, np.full(count, 0.6), definitions)


SIDES_EXCHANGED = [1, 0, 3, 2, 5, 4, 7, 6, 8, 9, 10, 11]
