"""Training samples: a randomly placed, turned, scaled or mirrored crop grid is the geometric augmentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from H3DELandmarksLib.detection.layout import is_flat
from H3DELandmarksLib.geometry import Grid, crop_grid
from H3DELandmarksLib.landmarks import LandmarkScheme
from H3DELandmarksLib.shape_model import ShapeModel
from H3DELandmarksLib.training.appearance import Appearance
from H3DELandmarksLib.training.cases import TrainingCase
from H3DELandmarksLib.training.device_resampling import resample_on
from H3DELandmarksLib.training.negatives import nothing_to_find
from H3DELandmarksLib.training.truncation import EndOfScan

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Sample:
    """What a network is trained on.

    Attributes:
        image: (X, Y, Z) float32 in 0..1, on the device that was asked for.
        index: (C, 3) positions of the stage's channels in voxels of `image`; 0 where absent or unknown.
        presence: (C,) 1 present in the crop, 0 absent, NaN unknown.
    """

    image: Tensor
    index: np.ndarray
    presence: np.ndarray


class CropSampler:
    """Draws samples of one stage from annotated cases.

    Geometric augmentation is the choice of a crop grid: rotation about the case's pose, anisotropic scale, shift,
    mirroring with left and right names exchanged. Landmarks follow by the same affine, so that image and points
    cannot disagree. Grids of radiographs stay in their plane. Of all samples, a share ``elsewhere`` is centered
    anywhere in the scan, a share ``nothing`` holds no anatomy at all, and a share ``truncate`` ends within the crop.
    What is drawn does not depend on the device that makes the images.
    """

    def __init__(self, stage: Mapping, scheme: LandmarkScheme, shape: ShapeModel, augmentation: Mapping) -> None:
        """Take a stage as in a model package and the augmentation settings of its training configuration."""
        self.shape_voxels = tuple(stage["shape"])
        self.in_plane = is_flat(stage)
        self.spacing = float(stage["spacing_mm"])
        self.augmentation = augmentation
        index = {name: k for k, name in enumerate(scheme.names)}
        self.groups = [
            (np.array([index[name] for name in group["landmarks"]]), bool(group.get("mirrored", False)))
            for group in stage["groups"]
        ]
        self.mirror_order = scheme.mirror_order()
        self.shape = shape

    def draw(self, case: TrainingCase, rng: np.random.Generator, device: torch.device = CPU) -> Sample:
        """Draw one augmented sample; `rng` decides everything, so that training can resume exactly."""
        channels, mirrored = self.groups[rng.integers(len(self.groups))]
        if _chosen(self.augmentation, "nothing", rng):
            image = torch.from_numpy(nothing_to_find(self.shape_voxels, rng)).to(device)
            image = Appearance.draw(self.augmentation, rng).apply(image)
            return Sample(image, np.zeros((len(channels), 3)), np.zeros(len(channels)))
        flip = rng.random() < self.augmentation.get("mirror", 0.0)
        order = self.mirror_order[channels] if flip else channels
        grid = self._grid(case, order, mirrored != flip, rng)
        return self._sample(case, grid, order, rng, device)

    def plain(self, case: TrainingCase, group: int = 0, device: torch.device = CPU) -> Sample:
        """The sample without any augmentation, centered as at inference with a perfect previous stage."""
        channels, mirrored = self.groups[group]
        center = case.pose.to_lps(self.shape.mean[channels].mean(axis=0))
        axes = case.pose.rotation @ np.diag([-1.0 if mirrored else 1.0, 1.0, 1.0])
        return self._sample(case, crop_grid(center, axes, self.spacing, self.shape_voxels), channels, None, device)

    def _grid(self, case: TrainingCase, order: np.ndarray, mirrored: bool, rng: np.random.Generator) -> Grid:
        settings = self.augmentation
        turn = Rotation.from_rotvec(_random_turn(settings, rng, self.in_plane)).as_matrix()
        axes = case.pose.rotation @ turn @ np.diag([-1.0 if mirrored else 1.0, 1.0, 1.0])
        spread, stretch = settings.get("scale", 0.0), settings.get("stretch", 0.0)
        spacing = self.spacing * np.exp(rng.uniform(-spread, spread) + rng.uniform(-stretch, stretch, 3))
        jitter = np.asarray(settings.get("shift_mm", 0.0)) * rng.uniform(-1, 1, 3)
        if self.in_plane:
            jitter = jitter * (1, 1, 0)
        center = case.pose.to_lps(self.shape.mean[order[order >= 0]].mean(axis=0) + jitter)
        if _chosen(settings, "elsewhere", rng):
            scan = case.case.volume.grid
            center = scan.lps_from_ijk(rng.uniform(0, np.array(scan.shape) - 1))
        return crop_grid(center, axes, spacing, self.shape_voxels)

    def _sample(
        self, case: TrainingCase, grid: Grid, order: np.ndarray, rng: np.random.Generator | None, device: torch.device
    ) -> Sample:
        image = case.intensity.scaled(resample_on(case.case.volume, grid, case.outside, device))
        if rng is not None:
            image = Appearance.draw(self.augmentation, rng).apply(image)
        landmarks = case.case.landmarks
        positions = np.where((order >= 0)[:, None], landmarks.positions[order], np.nan)
        presence = np.where(order >= 0, landmarks.presence[order], np.nan)
        index = grid.ijk_from_lps(positions)
        with np.errstate(invalid="ignore"):
            inside = ((index > -0.5) & (index < np.array(grid.shape) - 0.5)).all(axis=1)
        presence = np.where((presence == 1) & ~inside, 0.0, presence)
        if rng is not None and rng.random() < self.augmentation.get("truncate", 0.0):
            near = self.augmentation.get("truncate_near_mm", 0.0) / self.spacing
            end = EndOfScan.draw(grid.shape, index, rng, near)
            image = end.blanked(image)
            presence = np.where((presence == 1) & end.beyond(index), 0.0, presence)
        return Sample(image, np.nan_to_num(index), presence)


def _chosen(settings: Mapping, share: str, rng: np.random.Generator) -> bool:
    """Draw whether a sample belongs to a share; draws nothing where there is no such share."""
    return share in settings and rng.random() < settings[share]


def _random_turn(settings: Mapping, rng: np.random.Generator, in_plane: bool) -> np.ndarray:
    """A rotation vector (radians).

    In space, its angle is at most ``rotation_degrees``, drawn uniformly within that ball of SO(3). In a plane, it is
    drawn uniformly up to that limit, or, with ``rotation_deviation_degrees``, from a normal distribution that is
    clipped there; with ``rotation_share``, only that share of samples is turned.
    """
    limit = np.radians(settings.get("rotation_degrees", 0.0))
    if in_plane:
        deviation = settings.get("rotation_deviation_degrees")
        angle = rng.uniform(-limit, limit) if deviation is None else rng.normal(0, np.radians(deviation))
        turned = rng.random() < settings.get("rotation_share", 1.0)
        return np.array([0, 0, np.clip(angle, -limit, limit) if turned else 0.0])
    axis = rng.normal(size=3)
    angle = limit * rng.random() ** (1 / 3)
    return axis / np.linalg.norm(axis) * angle


def draw_batch(
    sampler: CropSampler, cases: Sequence[TrainingCase], size: int, seed: tuple[int, ...], device: torch.device = CPU
) -> tuple[Tensor, np.ndarray, np.ndarray]:
    """Stacked samples of randomly chosen cases; the same seed gives the same batch.

    Returns:
        Images (B, 1, X, Y, Z) on the device, indices (B, C, 3), presence (B, C).
    """
    rng = np.random.default_rng(seed)
    samples = [sampler.draw(cases[rng.integers(len(cases))], rng, device) for _ in range(size)]
    return (
        torch.stack([s.image for s in samples])[:, None],
        np.stack([s.index for s in samples]).astype(np.float32),
        np.stack([s.presence for s in samples]).astype(np.float32),
    )
