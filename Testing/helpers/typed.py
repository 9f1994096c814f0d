"""Typed records for tests, from the few entries that a test cares about."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from H3DELandmarksLib.core.landmarks import LandmarkScheme
from H3DELandmarksLib.core.shape_model import ShapeModel
from H3DELandmarksLib.formats.manifest import Intensity, ModelDescription, StageDesign
from H3DELandmarksLib.formats.reading import build
from H3DELandmarksLib.formats.training import Augmentation, Training, TrainingStage
from H3DELandmarksLib.training.loop import StageTrainer
from H3DELandmarksLib.training.sampling import CropSampler

TINY_NETWORK = {
    "architecture": "h3denet",
    "settings": {
        "stem_channels": [8, 8],
        "dims": [8, 8, 8, 8],
        "depths": [1, 1, 1, 1],
        "decoder_dims": [8, 8, 8],
        "fine_dims": [8, 8],
        "output_stride": 2,
    },
}


def training_stage(**entries: Any) -> TrainingStage:
    """A stage with a tiny network for as many landmarks as its first group names."""
    return build(TrainingStage, {**_usual_design(entries), "training": {"steps": 1, "learning_rate": 1e-3}, **entries})


def _usual_design(entries: Mapping[str, Any]) -> dict[str, Any]:
    settings = {**TINY_NETWORK["settings"], "landmarks": len(entries["groups"][0]["landmarks"])}
    network = {**TINY_NETWORK, "settings": settings}
    return {"name": "toy", "network": network, "spacing_mm": 1.0, "shape": [32, 32, 32]}


def training(**entries: Any) -> Training:
    """How a stage is trained."""
    return build(Training, {"steps": 1, "learning_rate": 1e-3, **entries})


def augmentation(**entries: Any) -> Augmentation:
    """How samples are changed."""
    return build(Augmentation, entries)


def reading(low: float = 0.0, high: float = 1.0, outside: float | None = None) -> ModelDescription:
    """A model that maps stored values from `low` to `high` to 0..1."""
    intensity = Intensity("window", float(low), float(high))
    return ModelDescription(id="toy", version="0.1.0", title="Toy", intensity=intensity, outside=outside)


def typed_stage(entries: Mapping[str, Any], settings: Mapping[str, Any] | None = None) -> TrainingStage:
    """A stage from the entries of a configuration's, its training settings apart."""
    training = {} if settings is None else {"training": {"learning_rate": 1e-3, "steps": 1, **settings}}
    given = {**entries, **training}
    if "training" in given:
        given["training"] = {"learning_rate": 1e-3, "steps": 1, **given["training"]}
    return training_stage(**given)


def crop_sampler(
    stage: Mapping[str, Any], scheme: LandmarkScheme, shape: ShapeModel, changes: Mapping[str, Any]
) -> CropSampler:
    """A sampler from entries of a configuration."""
    design = {name: value for name, value in stage.items() if name != "training"}
    return CropSampler(build(StageDesign, {**_usual_design(design), **design}), scheme, shape, augmentation(**changes))


def stage_trainer(
    stage: Mapping[str, Any], settings: Mapping[str, Any], sampler: CropSampler, folder: Path, device: torch.device
) -> StageTrainer:
    """A trainer from entries of a configuration."""
    return StageTrainer(typed_stage(stage, settings), sampler, folder, device)
