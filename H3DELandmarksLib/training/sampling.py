"""Training samples: a randomly placed, turned, scaled or mirrored crop grid is the geometric augmentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from H3DELandmarksLib.detection.layout import is_flat
from H3DELandmarksLib.geometry import Grid, crop_grid, resample
from H3DELandmarksLib.landmarks import LandmarkScheme
from H3DELandmarksLib.shape_model import ShapeModel
from H3DELandmarksLib.training.cases import TrainingCase
from H3DELandmarksLib.training.negatives import nothing_to_find


@dataclass(frozen=True)
class Sample:
    """What a network is trained on.

    Attributes:
        image: (X, Y, Z) float32 in 0..1.
        index: (C, 3) positions of the stage's channels in voxels of `image`; 0 where absent or unknown.
        presence: (C,) 1 present in the crop, 0 absent, NaN unknown.
    """

    image: np.ndarray
    index: np.ndarray
    presence: np.ndarray


class CropSampler:
    """Draws samples of one stage from annotated cases.

    Geometric augmentation is the choice of a crop grid: rotation about the case's pose, anisotropic scale, shift,
    mirroring with left and right names exchanged. Landmarks follow by the same affine, so that image and points
    cannot disagree. Grids of radiographs stay in their plane. Of all samples, a share ``elsewhere`` is centered
    anywhere in the scan, a share ``nothing`` holds no anatomy at all, and a share ``truncate`` ends within the crop.
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

    def draw(self, case: TrainingCase, rng: np.random.Generator) -> Sample:
        """Draw one augmented sample; `rng` decides everything, so that training can resume exactly."""
        channels, mirrored = self.groups[rng.integers(len(self.groups))]
        if _chosen(self.augmentation, "nothing", rng):
            image = augment_intensity(nothing_to_find(self.shape_voxels, rng), self.augmentation, rng)
            return Sample(image, np.zeros((len(channels), 3)), np.zeros(len(channels)))
        flip = rng.random() < self.augmentation.get("mirror", 0.0)
        order = self.mirror_order[channels] if flip else channels
        grid = self._grid(case, order, mirrored != flip, rng)
        return self._sample(case, grid, order, rng)

    def plain(self, case: TrainingCase, group: int = 0) -> Sample:
        """The sample without any augmentation, centered as at inference with a perfect previous stage."""
        channels, mirrored = self.groups[group]
        center = case.pose.to_lps(self.shape.mean[channels].mean(axis=0))
        axes = case.pose.rotation @ np.diag([-1.0 if mirrored else 1.0, 1.0, 1.0])
        return self._sample(case, crop_grid(center, axes, self.spacing, self.shape_voxels), channels, None)

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
        self, case: TrainingCase, grid: Grid, order: np.ndarray, rng: np.random.Generator | None
    ) -> Sample:
        image = case.intensity(resample(case.case.volume, grid, case.outside).array)
        if rng is not None:
            image = augment_intensity(image, self.augmentation, rng)
        landmarks = case.case.landmarks
        positions = np.where((order >= 0)[:, None], landmarks.positions[order], np.nan)
        presence = np.where(order >= 0, landmarks.presence[order], np.nan)
        index = grid.ijk_from_lps(positions)
        with np.errstate(invalid="ignore"):
            inside = ((index > -0.5) & (index < np.array(grid.shape) - 0.5)).all(axis=1)
        presence = np.where((presence == 1) & ~inside, 0.0, presence)
        if rng is not None and rng.random() < self.augmentation.get("truncate", 0.0):
            image, beyond = truncate(image, index, rng, self.augmentation.get("truncate_near_mm", 0.0) / self.spacing)
            presence = np.where((presence == 1) & beyond, 0.0, presence)
        return Sample(image, np.nan_to_num(index), presence)


def _chosen(settings: Mapping, share: str, rng: np.random.Generator) -> bool:
    """Draw whether a sample belongs to a share; draws nothing where there is no such share."""
    return share in settings and rng.random() < settings[share]


def truncate(
    image: np.ndarray, index: np.ndarray, rng: np.random.Generator, near: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Blank everything beyond a random plane, as where a scan ends; in a radiograph beyond a line.

    Args:
        image: (X, Y, Z) in 0..1, where 0 is what samples outside a scan have.
        index: (C, 3) landmarks in voxels, NaN where unknown.
        rng: source of randomness.
        near: with a positive number of voxels, most planes pass within about this distance of a landmark, where it is
            hardest to tell whether the landmark is still in view, and half are parallel to the faces of the crop.

    Returns:
        The cut image and (C,) whether each landmark lies in the removed part.
    """
    size = np.array(image.shape)
    normal = rng.normal(size=3)
    normal[size == 1] = 0
    normal /= np.linalg.norm(normal)
    offset = rng.uniform(0.05, 0.4) * np.abs(normal) @ size
    if near > 0:
        normal, offset = _plane_near(index - (size - 1) / 2, normal, offset, near, rng)
    axes = np.ix_(*(np.arange(n, dtype=np.float32) - np.float32((n - 1) / 2) for n in size))
    distance = sum(along * np.float32(component) for along, component in zip(axes, normal))
    with np.errstate(invalid="ignore"):
        beyond = (index - (size - 1) / 2) @ normal > offset
    return np.where(distance > offset, np.float32(0), image), beyond


def _plane_near(
    places: np.ndarray, normal: np.ndarray, offset: float, near: float, rng: np.random.Generator
) -> tuple[np.ndarray, float]:
    """Normal and offset of a plane that passes close to one of (C, 3) places, two thirds of the time."""
    if rng.random() < 0.5:
        normal = np.sign(normal) * (np.arange(3) == np.argmax(np.abs(normal)))
    known = places[np.isfinite(places).all(axis=1)]
    if len(known) and rng.random() < 2 / 3:
        return normal, float(known[rng.integers(len(known))] @ normal + rng.normal(0, near))
    return normal, offset * rng.uniform(-1, 1)


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


def augment_intensity(image: np.ndarray, settings: Mapping, rng: np.random.Generator) -> np.ndarray:
    """Random contrast, brightness, gamma, blur and noise of an image within 0..1.

    Args:
        image: (X, Y, Z) float32.
        settings: ``contrast`` and ``brightness`` (half widths), ``gamma`` (half width of its logarithm), ``noise``
            (largest standard deviation), ``blur`` (largest sigma in voxels, applied to every third image);
            ``distortion_share`` of images get a random contrast, brightness or gamma, drawn for each by itself.
        rng: source of randomness.
    """
    share = settings.get("distortion_share", 1.0)

    def width(name: str) -> float:
        return settings.get(name, 0.0) if share == 1 or rng.random() < share else 0.0

    contrast = 1 + rng.uniform(-1, 1) * width("contrast")
    image = (image - 0.5) * contrast + 0.5 + rng.uniform(-1, 1) * width("brightness")
    image = np.clip(image, 0, 1) ** np.exp(rng.uniform(-1, 1) * width("gamma"))
    if rng.random() < 1 / 3 and settings.get("blur", 0.0) > 0:
        image = ndimage.gaussian_filter(image, rng.uniform(0.2, settings["blur"]), mode="nearest")
    noise = rng.uniform(0, settings.get("noise", 0.0))
    if noise > 0:
        image = image + rng.standard_normal(image.shape, dtype=np.float32) * np.float32(noise)
    return np.clip(image, 0, 1).astype(np.float32)


def draw_batch(
    sampler: CropSampler, cases: Sequence[TrainingCase], size: int, seed: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Stacked samples of randomly chosen cases; the same seed gives the same batch.

    Returns:
        Images (B, 1, X, Y, Z), indices (B, C, 3), presence (B, C).
    """
    rng = np.random.default_rng(seed)
    samples = [sampler.draw(cases[rng.integers(len(cases))], rng) for _ in range(size)]
    return (
        np.stack([s.image for s in samples])[:, None],
        np.stack([s.index for s in samples]).astype(np.float32),
        np.stack([s.presence for s in samples]).astype(np.float32),
    )
