"""The small network of `which_case_next`: specimens in the pose of their points, seen in one coarse crop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from H3DELandmarksLib.command_line.train import find_configuration
from H3DELandmarksLib.detection.engine import EngineSettings
from H3DELandmarksLib.detection.stage import StageNetwork
from H3DELandmarksLib.geometry import Volume, crop_grid, resample
from H3DELandmarksLib.shape_model import ShapeModel, learn_shape_model
from H3DELandmarksLib.training.cases import Case, TrainingCase, prepare_case
from H3DELandmarksLib.training.configuration import Configuration, read_configuration
from H3DELandmarksLib.training.data import load_cases
from H3DELandmarksLib.training.loop import StageTrainer, averaged_weights
from H3DELandmarksLib.training.sampling import CropSampler

KEPT_SPACING, KEPT_SIZE = 0.35, (72, 96, 60)
STAGE = {
    "name": "small",
    "network": {
        "architecture": "h3denet",
        "settings": {
            "landmarks": 45, "stem_channels": [8, 16], "dims": [16, 32, 48, 64], "depths": [1, 1, 1, 1],
            "decoder_dims": [48, 32, 24], "fine_dims": [24, 16], "output_stride": 2, "plain_image_skips": True,
        },
    },
    "spacing_mm": 0.6,
    "shape": [32, 48, 32],
    "poses": "found",
    "decoding": {"method": "softmax"},
    "augmentation": {
        "mirror": 0.5, "scale": 0.08, "stretch": 0.05, "contrast": 0.25, "brightness": 0.06, "gamma": 0.3,
        "noise": 0.03, "rotation_degrees": 10, "shift_mm": 0.7,
    },
    "training": {
        "batch": 1, "learning_rate": 0.004, "weight_decay": 0.01, "warmup": 20, "ema": 0.98, "sigma": 1.0,
        "validate_every": 10**9, "checkpoint_seconds": 1e9,
    },
}  # fmt: skip


@dataclass(frozen=True)
class Bench:
    """What all runs share.

    Attributes:
        configuration: of the mouse-skull model; its training strains are the pool.
        shape: mean shape of the pool's points, which defines the pose that specimens are seen in.
        cases: by subset and name.
    """

    configuration: Configuration
    shape: ShapeModel
    cases: Mapping[str, Mapping[str, TrainingCase]]

    @property
    def pool(self) -> list[str]:
        """Names of specimens that can be corrected."""
        return sorted(self.cases["train"])

    def stage(self) -> dict:
        """The stage, which finds all landmarks at once."""
        return {**STAGE, "groups": [{"landmarks": list(self.configuration.scheme.names), "mirrored": False}]}


def load(work: Path) -> Bench:
    """Read all specimens, cut to the skull and coarser, which crops of this size would do anyway."""
    configuration = read_configuration(find_configuration("mouse-skull"))
    read = {subset: load_cases(configuration, subset, work) for subset in ("train", "validation", "test")}
    points = np.stack([case.landmarks.positions for case in read["train"]])
    shape = learn_shape_model(points, configuration.scheme, own_frame=True)
    cases = {
        subset: {case.name: _cut(case, configuration, shape) for case in found} for subset, found in read.items()
    }
    return Bench(configuration, shape, cases)


def _cut(case: Case, configuration: Configuration, shape: ShapeModel) -> TrainingCase:
    """The specimen on a coarse grid in its own pose, its intensities mapped as those of the whole scan."""
    whole = prepare_case(case, configuration.values, shape, own_frame=True)
    grid = crop_grid(whole.pose.to_lps(np.zeros(3)), whole.pose.rotation, KEPT_SPACING, KEPT_SIZE)
    cut = Case(case.name, Volume(resample(whole.case.volume, grid, whole.outside).array, grid.affine), case.landmarks)
    return TrainingCase(cut, whole.intensity, whole.outside, whole.pose)


def train(
    bench: Bench, names: Sequence[str], seed: int, steps: int, folder: Path, start: Mapping | None
) -> dict[str, torch.Tensor]:
    """Averaged weights after training on some specimens."""
    stage = bench.stage()
    checkpoint = folder / "checkpoint.pt"
    if not checkpoint.exists():
        sampler = CropSampler(stage, bench.configuration.scheme, bench.shape, stage["augmentation"])
        settings = {**stage["training"], "steps": steps, "seed": seed}
        trainer = StageTrainer(stage, settings, sampler, folder, torch.device("cpu"))
        if start is not None:
            trainer.network.load_state_dict(start)
            trainer.average.module.load_state_dict(start)
        cases = [bench.cases["train"][name] for name in names]
        trainer.run(cases, cases[:1])
    return averaged_weights(checkpoint)


@dataclass(frozen=True)
class Found:
    """What a network sees in a specimen.

    Attributes:
        positions: (K, 3) LPS mm, mean of two looks.
        concentration: (K,) share of probability around the peaks.
        disagreement: (K,) mm between the look and the one in the mirror.
    """

    positions: np.ndarray
    concentration: np.ndarray
    disagreement: np.ndarray


def look(network: StageNetwork, case: TrainingCase, shape: ShapeModel) -> Found:
    """Find all landmarks in a specimen and in its mirror image."""
    looks = []
    for flip in (False, True):
        axes = case.pose.rotation @ np.diag([-1.0 if flip else 1.0, 1.0, 1.0])
        grid = crop_grid(case.pose.to_lps(np.zeros(3)), axes, network.spacing, network.voxels)
        image = case.intensity(resample(case.case.volume, grid, case.outside).array)
        order = network.mirror_order if flip else np.arange(network.count)
        looks.append(network.find(image, grid, order, case.pose))
    first, second = looks
    return Found(
        (first.positions + second.positions) / 2,
        (first.concentration + second.concentration) / 2,
        np.linalg.norm(first.positions - second.positions, axis=1),
    )


def errors(bench: Bench, network: StageNetwork, subset: str) -> dict[str, float]:
    """Mean error in mm of each specimen of a subset."""
    result = {}
    for name, case in bench.cases[subset].items():
        distance = np.linalg.norm(look(network, case, bench.shape).positions - case.case.landmarks.positions, axis=1)
        result[name] = float(np.nanmean(distance))
    return result


def network_of(bench: Bench, weights: Mapping[str, torch.Tensor]) -> StageNetwork:
    """A network that finds landmarks with these weights."""
    arrays = {name: value.numpy() for name, value in weights.items()}
    settings = EngineSettings.choose("cpu", "torch", "fp32")
    return StageNetwork(bench.stage(), arrays, bench.configuration.scheme, settings)
