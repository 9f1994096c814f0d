"""Training samples: a randomly placed, turned, scaled or mirrored crop grid is the geometric augmentation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from scipy.spatial.transform import Rotation
from torch import Tensor

from H3DELandmarksLib.core.geometry import Grid, Volume, block_size, covered_part, crop_grid, resample
from H3DELandmarksLib.core.image_plane import crop_about_center
from H3DELandmarksLib.core.landmarks import LandmarkScheme
from H3DELandmarksLib.core.rows import Structures
from H3DELandmarksLib.core.shape_model import Pose, ShapeModel
from H3DELandmarksLib.detection.closer import structure_grid
from H3DELandmarksLib.formats.manifest import StageDesign
from H3DELandmarksLib.formats.training import Augmentation
from H3DELandmarksLib.networks.arrays import to_tensor
from H3DELandmarksLib.training.augmentation import FovTruncation, IntensityAugmentation, synthetic_negative
from H3DELandmarksLib.training.cases import TrainingCase, release

# Types that are sent as they are; others become float32 before.
SENT = (np.uint8, np.int8, np.int16, np.int32, np.float32)
REVERSED = [2, 1, 0]
KEPT_HEIGHT = 0.4, 0.95  # what is left of the height of a radiograph that is cut off


def resample_on(volume: Volume, grid: Grid, outside: float, device: torch.device, average: bool = True) -> Tensor:
    """`geometry.resample` on a device: by SimpleITK for a CPU, by PyTorch for others.

    Args:
        volume: image to sample, in `canonical` order.
        grid: where to sample.
        outside: value of samples outside the volume.
        device: where the result lies.
        average: see `geometry.resample`.

    Returns:
        (X, Y, Z) float32 in stored units.
    """
    if device.type == "cpu":
        return to_tensor(resample(volume, grid, outside, average).array)
    return resample_by_torch(volume, grid, outside, device, average)


def resample_by_torch(volume: Volume, grid: Grid, outside: float, device: torch.device, average: bool = True) -> Tensor:
    """The same function as `geometry.resample`, computed by PyTorch; arguments as for `resample_on`."""
    part = covered_part(volume, grid)
    if part is None:
        return torch.full(grid.shape, float(outside), device=device)
    blocks = block_size(part, grid) if average else [1, 1, 1]
    means = _block_means(_sent(part.array, device), blocks)
    index_of_mean = np.diag([*(1 / np.array(blocks)), 1.0])
    index_of_mean[:3, 3] = -(np.array(blocks) - 1) / 2 / blocks
    return _interpolated(means, index_of_mean @ np.linalg.inv(part.affine) @ grid.affine, grid.shape, float(outside))


def _sent(array: np.ndarray, device: torch.device) -> Tensor:
    as_it_is = array.dtype.type in SENT and array.dtype.isnative
    return to_tensor(np.array(array, None if as_it_is else np.float32, order="C")).to(device).float()


def _block_means(image: Tensor, blocks: list[int]) -> Tensor:
    """Mean over blocks of voxels; the last voxels are repeated where an axis is no multiple of its blocks."""
    if max(blocks) == 1:
        return image
    missing = [-size % block for size, block in zip(image.shape, blocks)]
    padding = [0, missing[2], 0, missing[1], 0, missing[0]]
    return F.avg_pool3d(F.pad(image[None, None], padding, mode="replicate"), blocks)[0, 0]


def _interpolated(image: Tensor, index: np.ndarray, shape: tuple[int, int, int], outside: float) -> Tensor:
    """Linear interpolation; a sample belongs to the image up to half a voxel beyond its outermost centers.

    Args:
        image: (I, J, K).
        index: (4, 4) from voxels of the result to those of `image`.
        shape: of the result.
        outside: value beyond the image.
    """
    last = np.array(image.shape) - 1
    # PyTorch counts from -1 at the first voxel to 1 at the last, and names axes in reverse order.
    width = np.maximum(last, 1)
    normalized = np.diag([*(2 / width), 1.0])
    normalized[:3, 3] = -1
    rows = (normalized @ index)[REVERSED].tolist()
    ramps = [
        torch.arange(n, device=image.device).view([-1 if a == axis else 1 for a in range(3)])
        for axis, n in enumerate(shape)
    ]
    places = torch.stack([sum(along * ramp for along, ramp in zip(row, ramps)) + row[3] for row in rows], dim=-1)
    sampled = F.grid_sample(image[None, None], places[None], padding_mode="border", align_corners=True)[0, 0]
    low, high = (
        torch.tensor((edge / width - 1)[REVERSED].tolist(), device=image.device) for edge in (-1.0, 2.0 * last + 1)
    )
    within = ((places >= low) & (places <= high)).all(dim=-1)
    return torch.where(within, sampled, sampled.new_tensor(outside))


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
    cannot disagree. Grids of radiographs stay in their plane. Where a stage shows the whole radiograph, crops lie
    about its center and not about the landmarks; where the radiograph says how large pixels are, shifts grow with
    them. A share ``cut`` of radiographs is cut off before, and counted as high as whole ones. Of all samples, a
    share ``elsewhere`` is centered anywhere in the scan, a share ``nothing`` holds no anatomy at all, and a share
    ``truncate`` ends within the crop. What is drawn does not depend on the device that makes the images.
    """

    def __init__(
        self, stage: StageDesign, scheme: LandmarkScheme, shape: ShapeModel, augmentation: Augmentation
    ) -> None:
        """Take the design of a stage, what its landmarks are, and how samples are changed."""
        self.stage = stage
        self.augmentation = augmentation
        index = {name: k for k, name in enumerate(scheme.names)}
        self.groups = [(np.array([index[name] for name in group.landmarks]), group.mirrored) for group in stage.groups]
        self.mirror_order = scheme.mirror_order()
        self.shape = shape

    def draw(self, case: TrainingCase, rng: np.random.Generator, device: torch.device = CPU) -> Sample:
        """Draw one augmented sample; `rng` decides everything, so that training can resume exactly.

        Args:
            case: what it shows.
            rng: source of randomness.
            device: where the image is made.
        """
        number = self._seen_of(case, int(rng.integers(len(self.groups))))
        channels, mirrored = self.groups[number or 0]
        if number is None or _chosen(self.augmentation.nothing, rng):
            image = to_tensor(synthetic_negative(self.stage.shape, rng)).to(device)
            image = IntensityAugmentation.draw(self.augmentation, rng).apply(image)
            return Sample(image, np.zeros((len(channels), 3)), np.zeros(len(channels)))
        if _chosen(self.augmentation.cut, rng):
            case = self._cut(case, rng)
        flip = rng.random() < self.augmentation.mirror
        order = self.mirror_order[channels] if flip else channels
        grid = self._grid(case, number, order, mirrored != flip, rng)
        return self._sample(case, grid, order, rng, device)

    def plain(self, case: TrainingCase, group: int = 0, device: torch.device = CPU) -> Sample:
        """The sample without any augmentation, centered as at inference with a perfect previous stage."""
        channels, mirrored = self.groups[group]
        if self.stage.is_closer and self._seen_of(case, group) != group:  # it lies nowhere: nothing is known
            image = torch.zeros(self.stage.shape, device=device)
            return Sample(image, np.zeros((len(channels), 3)), np.full(len(channels), np.nan))
        if self.stage.is_closer:
            grid = self._structure(case, group)
        else:
            axes = case.pose.rotation @ np.diag([-1.0 if mirrored else 1.0, 1.0, 1.0])
            grid = self._centered(case, channels, axes, self.spacing(case))
        return self._sample(case, grid, channels, None, device)

    def spacing(self, case: TrainingCase) -> float:
        """Edge in mm of a voxel of a case's crops without augmentation."""
        return self.stage.spacing_in(case.case.volume.grid.extent.tolist())

    def _seen_of(self, case: TrainingCase, number: int) -> int | None:
        """The group that is asked for; of structures one whose place in a case is known, None where none is."""
        if not self.stage.is_closer:
            return number
        known = np.flatnonzero(self._structures(case.case.landmarks.positions).known)
        if len(known) == 0:
            return None
        return number if number in known else int(known[number % len(known)])

    def _structures(self, points: np.ndarray) -> Structures:
        return Structures.of(points, [channels for channels, _ in self.groups], self.mirror_order)

    def _structure(self, case: TrainingCase, number: int) -> Grid:
        """The crop of a structure at its true place."""
        here, usual = (self._structures(points) for points in (case.case.landmarks.positions, self.shape.mean))
        return structure_grid(self.stage, here, usual, number)

    def _cut(self, case: TrainingCase, rng: np.random.Generator) -> TrainingCase:
        """A radiograph cut off above, below or at both ends, counted as high as before, seen as a search sees it.

        That is what a detector makes of a cut picture whose pixels have no known size: all of it is larger. The crop
        lies where a search may put one that covers the picture, as a cut picture is often wider than a crop.
        """
        whole = case.case.volume
        (width, rows, _), height = whole.array.shape, float(whole.grid.extent[1])
        kept = max(1, round(rows * rng.uniform(*KEPT_HEIGHT)))
        first = round((rows - kept) * (0.0, rng.random(), 1.0)[rng.integers(3)])
        cut = case.case.part((0, first, 0), (width, kept, 1)).counted_as_high(height)
        grid = cut.volume.grid
        free = grid.extent - np.array(self.stage.shape) * self.stage.spacing_in(grid.extent.tolist())
        center = grid.center + rng.uniform(-0.5, 0.5, 3) * np.maximum(free, 0) * (1, 1, 0)
        pose = Pose(case.pose.rotation, center - case.pose.rotation @ self.shape.mean.mean(axis=0))
        return replace(case, case=cut, pose=pose)

    def _centered(
        self, case: TrainingCase, channels: np.ndarray, axes: np.ndarray, spacing: float | np.ndarray
    ) -> Grid:
        """A crop about the whole radiograph, or about where the mean shape expects the landmarks."""
        if self.stage.shows_all:
            return crop_about_center(case.case.volume.grid, axes, spacing, self.stage.shape)
        center = case.pose.to_lps(self.shape.mean[channels].mean(axis=0))
        return crop_grid(center, axes, spacing, self.stage.shape)

    def _grid(
        self, case: TrainingCase, number: int, order: np.ndarray, mirrored: bool, rng: np.random.Generator
    ) -> Grid:
        settings = self.augmentation
        upright, voxel = case.pose.rotation, np.full(3, self.spacing(case))
        if self.stage.is_closer:
            structure = self._structure(case, number)
            upright, voxel = structure.affine[:3, :3] / structure.spacing, structure.spacing
        turn = Rotation.from_rotvec(_random_turn(settings, rng, self.stage.is_2d)).as_matrix()
        axes = upright @ turn @ np.diag([-1.0 if mirrored else 1.0, 1.0, 1.0])
        spread, stretch = settings.scale, settings.stretch
        spacing = voxel * np.exp(rng.uniform(-spread, spread) + rng.uniform(-stretch, stretch, 3))
        jitter = np.asarray(settings.shift_mm) * rng.uniform(-1, 1, 3)
        if self.stage.is_2d:
            jitter = jitter * (1, 1, 0)
        if _chosen(settings.elsewhere, rng):
            scan = case.case.volume.grid
            center = scan.lps_from_ijk(rng.uniform(0, np.array(scan.shape) - 1))
            return crop_grid(center, axes, spacing, self.stage.shape)
        grid = structure if self.stage.is_closer else self._centered(case, order[order >= 0], axes, spacing)
        shift = upright @ (jitter * (voxel / self.stage.spacing_mm))
        return crop_grid(grid.center + shift, axes, spacing, self.stage.shape)

    def _sample(
        self, case: TrainingCase, grid: Grid, order: np.ndarray, rng: np.random.Generator | None, device: torch.device
    ) -> Sample:
        """The scan and the landmarks `order` on a grid; intensities and ends change where there is an `rng`."""
        average = self.stage.sampling != "linear"
        image = case.intensity.scaled(resample_on(case.case.volume, grid, case.outside, device, average))
        release(case.case.volume.array)
        landmarks = case.case.landmarks
        positions = np.where((order >= 0)[:, None], landmarks.positions[order], np.nan)
        presence = np.where(order >= 0, landmarks.presence[order], np.nan)
        index = grid.ijk_from_lps(positions)
        with np.errstate(invalid="ignore"):
            inside = ((index > -0.5) & (index < np.array(grid.shape) - 0.5)).all(axis=1)
        presence = np.where((presence == 1) & ~inside, 0.0, presence)
        if rng is not None:
            image = IntensityAugmentation.draw(self.augmentation, rng).apply(image)
            if rng.random() < self.augmentation.truncate:
                near = self.augmentation.truncate_near_mm / self.stage.spacing_mm
                end = FovTruncation.draw(grid.shape, index, rng, near)
                image = end.blanked(image)
                presence = np.where((presence == 1) & end.beyond(index), 0.0, presence)
        return Sample(image, np.nan_to_num(index), presence)


def _chosen(share: float | None, rng: np.random.Generator) -> bool:
    """Draw whether a sample belongs to a share; draws nothing where there is no such share."""
    return share is not None and rng.random() < share


def _random_turn(settings: Augmentation, rng: np.random.Generator, in_plane: bool) -> np.ndarray:
    """A rotation vector (radians).

    In space, its angle is at most ``rotation_degrees``, drawn uniformly within that ball of SO(3). In a plane, it is
    drawn uniformly up to that limit, or, with ``rotation_deviation_degrees``, from a normal distribution that is
    clipped there; with ``rotation_share``, only that share of samples is turned.
    """
    limit = np.radians(settings.rotation_degrees)
    if in_plane:
        deviation = settings.rotation_deviation_degrees
        angle = rng.uniform(-limit, limit) if deviation is None else rng.normal(0, np.radians(deviation))
        turned = rng.random() < settings.rotation_share
        return np.array([0, 0, np.clip(angle, -limit, limit) if turned else 0.0])
    axis = rng.normal(size=3)
    angle = limit * rng.random() ** (1 / 3)
    return axis / np.linalg.norm(axis) * angle


def draw_batch(
    sampler: CropSampler,
    cases: Sequence[TrainingCase],
    numbers: Sequence[int],
    seed: tuple[int, ...],
    device: torch.device = CPU,
) -> tuple[Tensor, np.ndarray, np.ndarray]:
    """Stacked samples of randomly chosen cases; a sample depends on the seed and its number in the batch alone.

    Args:
        sampler: makes the samples.
        cases: to choose from.
        numbers: which samples of the batch to make.
        seed: of the batch.
        device: where crops are cut out and changed.

    Returns:
        Images (B, 1, X, Y, Z) on the device, indices (B, C, 3), presence (B, C).
    """
    samples = []
    for number in numbers:
        rng = np.random.default_rng((*seed, number))
        samples.append(sampler.draw(cases[int(rng.integers(len(cases)))], rng, device))
    return (
        torch.stack([s.image for s in samples])[:, None],
        np.stack([s.index for s in samples]).astype(np.float32),
        np.stack([s.presence for s in samples]).astype(np.float32),
    )
