"""Toy anatomies in real projects of corrected cases, and small base models: what retraining is tested with."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import torch
from tiny_model import MANIFEST, NAMES
from typed import crop_sampler, stage_trainer

from H3DELandmarksLib.cases import CaseLandmark, CaseProject, ReviewState, create_project
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkDefinition, LandmarkScheme, LandmarkSet
from H3DELandmarksLib.core.shape_model import ShapeModel
from H3DELandmarksLib.formats.reading import build
from H3DELandmarksLib.models import ModelPackage, write_package
from H3DELandmarksLib.networks import build_network
from H3DELandmarksLib.training.cases import Case, prepare_case
from H3DELandmarksLib.training.losses import start_at_background

SCHEME = build(LandmarkScheme, MANIFEST["scheme"])
SIZE = 32
SHAPE = np.array([[8.0, 0, -2], [0, -3, 6], [-8, 0, -2]])
BRIGHTNESS = {"Left": 1.0, "Middle": 0.6, "Right": 0.3, "Chin": 0.8}
TOY_NETWORK = {
    "architecture": "h3denet",
    "settings": {
        "landmarks": 3,
        "stem_channels": [8, 16],
        "dims": [16, 16, 16, 16],
        "depths": [1, 1, 1, 1],
        "decoder_dims": [16, 16, 16],
        "fine_dims": [8, 8],
        "output_stride": 2,
    },
}
OFFSET = np.array([3.0, 0, 0])
FIRST_DAY = datetime(2026, 1, 1, tzinfo=timezone.utc)


def points_of(seed: int) -> dict[str, np.ndarray]:
    """Places of all blobs, LPS mm; the chin is in the image whether a scheme names it or not."""
    rng = np.random.default_rng(seed)
    middle = np.full(3, SIZE / 2) + rng.uniform(-2, 2, 3)
    shape = {**dict(zip(NAMES, SHAPE)), "Chin": np.array([0.0, -7, -8])}
    return {name: middle + place + rng.normal(0, 0.3, 3) for name, place in shape.items()}


def scan_of(seed: int) -> Volume:
    """Blobs of different brightness in a little noise."""
    rng = np.random.default_rng(1000 + seed)
    lps = np.stack(np.meshgrid(*[np.arange(float(SIZE))] * 3, indexing="ij"), -1)
    spots = points_of(seed).items()
    blobs = sum(BRIGHTNESS[n] * np.exp(-((np.linalg.norm(lps - p, axis=-1) / 2) ** 2)) for n, p in spots)
    return Volume((1000 * blobs + rng.normal(0, 10, lps.shape[:3])).astype(np.int16), np.eye(4))


def corrected(seed: int, scheme: LandmarkScheme = SCHEME) -> list[CaseLandmark]:
    """Every landmark placed where it is."""
    points = points_of(seed)
    return [CaseLandmark(name, ReviewState.PLACED, points[name]) for name in scheme.names]


def add_cases(project: CaseProject, seeds: Sequence[int]) -> list[str]:
    """Add one case for each seed, reviewed on one day after the other; returns their ids."""
    scheme = project.scheme
    return [project.add(scan_of(s), corrected(s, scheme), time=FIRST_DAY + timedelta(days=s)).case for s in seeds]


def toy_project(folder: Path, count: int = 5, scheme: LandmarkScheme = SCHEME) -> CaseProject:
    """A project with so many cases."""
    project = create_project(folder, scheme)
    add_cases(project, range(count))
    return project


def with_chin(**more) -> LandmarkScheme:
    """The scheme with one landmark more, without the middle one."""
    chin = LandmarkDefinition("Chin", "the chin point")
    left, _, right = SCHEME.landmarks
    return LandmarkScheme("tiny-3", "2", (chin, right, left), SCHEME.pairs, **more)


def toy_base(folder: Path, stages: Sequence[dict] = (), **changes) -> ModelPackage:
    """A base model with random weights, which reads the toy scans."""
    stages = [deepcopy(dict(stage)) for stage in stages] or [localizer()]
    contents = {"shape.safetensors": {"mean": SHAPE - SHAPE.mean(axis=0), "tolerance": np.ones(3)}}
    for number, stage in enumerate(stages):
        torch.manual_seed(number)
        network = build_network(**stage["network"])
        start_at_background(network.head, -8.0)
        contents[stage["weights"]["file"]] = network.state_dict()
    manifest = {**deepcopy(MANIFEST), "stages": stages, **changes}
    manifest["intensity"] = {"method": "window", "low": 0.0, "high": 1000.0}
    manifest["outside"] = 0.0
    manifest["training"] = {
        "stages": {
            stage["name"]: {
                "training": {"batch": 1, "learning_rate": 6e-3, "weight_decay": 0.01, "seed": 1, "sigma": 1.0},
                "augmentation": {"shift_mm": 2, "rotation_degrees": 5},
            }
            for stage in stages
        }
    }
    return write_package(folder, manifest, contents, "# Toy\n")


def localizer(**changes) -> dict:
    """A stage that sees the whole toy scan."""
    return {**deepcopy(MANIFEST["stages"][0]), "network": deepcopy(TOY_NETWORK), "spacing_mm": 1.0, **changes}


def learnt_base(folder: Path, seeds: Sequence[int] = range(100, 108), steps: int = 120) -> ModelPackage:
    """A base model that has learnt the points of another convention: all of them lie `OFFSET` from the project's."""
    base = toy_base(folder / "untrained")
    shape = ShapeModel(SHAPE - SHAPE.mean(axis=0), np.ones(3))
    settings = {
        "batch": 1,
        "learning_rate": 6e-3,
        "weight_decay": 0.01,
        "seed": 1,
        "sigma": 1.0,
        "steps": steps,
        "warmup": 10,
        "ema": 0.9,
        "validate_every": steps,
        "checkpoint_seconds": 3600,
    }
    stage = {name: value for name, value in base.content["stages"][0].items() if name != "weights"}
    sampler = crop_sampler(stage, SCHEME, shape, {"shift_mm": 2, "rotation_degrees": 5})
    trainer = stage_trainer(stage, settings, sampler, folder / "stage", torch.device("cpu"))
    cases = [prepare_case(_other_convention(seed), base.manifest, shape, canonical_pose=False) for seed in seeds]
    trainer.run(cases, [])
    contents = {"localizer.safetensors": trainer.weights(), "shape.safetensors": base.load_weights("shape.safetensors")}
    return write_package(folder / "base", base.manifest, contents, "# Toy\n")


def _other_convention(seed: int) -> Case:
    points = points_of(seed)
    return Case(str(seed), scan_of(seed), LandmarkSet(NAMES, np.array([points[name] for name in NAMES]) + OFFSET))
