"""Changes of training samples beside their geometry: intensities, scans that end early, no anatomy."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from H3DELandmarksLib.formats.training import Augmentation

# A Gaussian kernel ends after so many standard deviations, as in scipy.ndimage.
KERNEL_DEVIATIONS = 4.0
# Share of images without anatomy that are blank outside a box.
BOXED_SHARE = 0.6


@dataclass(frozen=True)
class IntensityAugmentation:
    """How the intensities of an image are changed: contrast, brightness, gamma, blur, noise, in this order.

    Attributes:
        contrast: factor of the distance from one half.
        brightness: summand.
        exponent: power that values are raised to.
        blur: standard deviation of a Gaussian in voxels; 0 is none.
        noise: standard deviation of normal noise.
        seed: of that noise; each kind of device has its own stream of numbers.
    """

    contrast: float
    brightness: float
    exponent: float
    blur: float
    noise: float
    seed: int

    @classmethod
    def draw(cls, settings: Augmentation, rng: np.random.Generator) -> IntensityAugmentation:
        """Draw one.

        Args:
            settings: how much changes.
            rng: source of randomness; how much is drawn depends on the settings and not on the image or device.
        """
        share = settings.distortion_share

        def kept(width: float) -> float:
            return width if share == 1 or rng.random() < share else 0.0

        contrast = 1 + rng.uniform(-1, 1) * kept(settings.contrast)
        brightness = rng.uniform(-1, 1) * kept(settings.brightness)
        exponent = math.exp(rng.uniform(-1, 1) * kept(settings.gamma))
        blurred = rng.random() < 1 / 3 and settings.blur > 0
        blur = rng.uniform(0.2, settings.blur) if blurred else 0.0
        noise = rng.uniform(0, settings.noise)
        return cls(contrast, brightness, exponent, blur, noise, int(rng.integers(2**62)))

    def apply(self, image: Tensor) -> Tensor:
        """(X, Y, Z) float32 within 0..1, changed; clipped to 0..1."""
        image = (image - 0.5) * self.contrast + (0.5 + self.brightness)
        image = image.clamp(0, 1) ** self.exponent
        if self.blur > 0:
            image = gaussian_blur(image, self.blur)
        if self.noise > 0:
            stream = torch.Generator(image.device).manual_seed(self.seed)
            image = image + torch.randn(image.shape, generator=stream, device=image.device) * self.noise
        return image.clamp(0, 1)


def gaussian_blur(image: Tensor, sigma: float) -> Tensor:
    """Smooth (X, Y, Z) by a Gaussian of `sigma` voxels; beyond the border lies the border's value."""
    radius = int(KERNEL_DEVIATIONS * sigma + 0.5)
    places = torch.arange(-radius, radius + 1, device=image.device, dtype=image.dtype)
    kernel = torch.exp(-(places**2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    result = image[None, None]
    for axis in range(3):
        shape, padding = [1, 1, 1], [0] * 6
        shape[axis] = len(kernel)
        padding[2 * (2 - axis)] = padding[2 * (2 - axis) + 1] = radius
        result = F.conv3d(F.pad(result, padding, mode="replicate"), kernel.view(1, 1, *shape))
    return result[0, 0]


@dataclass(frozen=True)
class FovTruncation:
    """A plane in a crop, beyond which nothing was scanned; in a radiograph a line.

    Attributes:
        middle: (3,) voxel index of the crop's middle.
        normal: (3,) unit vector that points out of the scan.
        offset: distance of the plane from the middle along the normal, in voxels.
    """

    middle: np.ndarray
    normal: np.ndarray
    offset: float

    @classmethod
    def draw(
        cls, shape: tuple[int, ...], index: np.ndarray, rng: np.random.Generator, near: float = 0.0
    ) -> FovTruncation:
        """Draw a plane.

        Args:
            shape: (3,) voxels of the crop.
            index: (C, 3) landmarks in voxels, NaN where unknown.
            rng: source of randomness.
            near: with a positive number of voxels, most planes pass within about this distance of a landmark, where it
                is hardest to tell whether the landmark is still in view, and half are parallel to the faces of the
                crop.
        """
        size = np.array(shape)
        middle = (size - 1) / 2
        normal = rng.normal(size=3)
        normal[size == 1] = 0
        normal /= np.linalg.norm(normal)
        offset = rng.uniform(0.05, 0.4) * np.abs(normal) @ size
        if near > 0:
            normal, offset = _plane_near(index - middle, normal, offset, near, rng)
        return cls(middle, normal, float(offset))

    def beyond(self, index: np.ndarray) -> np.ndarray:
        """(C,) whether each of (C, 3) voxel indices lies in the removed part; False for NaN."""
        with np.errstate(invalid="ignore"):
            return (index - self.middle) @ self.normal > self.offset

    def blanked(self, image: Tensor) -> Tensor:
        """(X, Y, Z) with 0, which is what samples outside a scan have, in the removed part."""
        distance = torch.zeros((), device=image.device)
        for axis, n in enumerate(image.shape):
            along = (torch.arange(n, device=image.device) - float(self.middle[axis])) * float(self.normal[axis])
            distance = distance + along.view([-1 if a == axis else 1 for a in range(3)])
        return image.masked_fill(distance > self.offset, 0.0)


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


def synthetic_negative(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """An image without anatomy: noise, a smooth texture, or solids of several brightnesses, partly blanked.

    Args:
        shape: voxels of the image.
        rng: source of randomness.

    Returns:
        float32 in 0..1.
    """
    kind = rng.integers(3)
    if kind == 0:
        image = rng.normal(rng.uniform(0, 1), rng.uniform(0.02, 0.5), shape)
    elif kind == 1:
        image = _texture(shape, rng)
    else:
        image = _solids(shape, rng)
    image = np.clip(image, 0, 1).astype(np.float32)
    if rng.random() < BOXED_SHARE:
        image = _within_a_box(image, rng)
    return image


def _texture(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Smoothed noise with a random contrast, thresholded in half of the cases."""
    field = ndimage.gaussian_filter(rng.standard_normal(shape), rng.uniform(0.7, 5.0), mode="wrap")
    field = rng.uniform(0.2, 0.6) + rng.uniform(0.1, 0.5) * field / max(field.std(), 1e-6)
    return np.where(field > 0.5, rng.uniform(0.5, 1), rng.uniform(0, 0.5)) if rng.random() < 0.5 else field


def _solids(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Shells and bodies of random ellipsoids and rods in soft tissue."""
    size = np.array(shape)
    axes = np.stack(np.meshgrid(*(np.arange(n, dtype=np.float32) for n in size), indexing="ij"), axis=-1)
    image = np.full(shape, rng.uniform(0, 0.4))
    for _ in range(rng.integers(2, 9)):
        radii = np.exp(rng.uniform(np.log(2), np.log(np.maximum(size / 2, 3))))
        distance = np.sqrt((((axes - rng.uniform(0, size)) / radii) ** 2).sum(axis=-1))
        hollow = rng.uniform(0.5, 0.95) if rng.random() < 0.5 else 0.0
        image[(distance < 1) & (distance >= hollow)] = rng.uniform(0.2, 1.0)
    return image + rng.normal(0, 0.02, shape)


def _within_a_box(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blank what lies outside a random box, as around a small scan."""
    result = np.zeros_like(image)
    box = []
    for n in image.shape:
        length = int(np.ceil(n * rng.uniform(0.4, 1.0)))
        start = int(rng.integers(0, n - length + 1))
        box.append(slice(start, start + length))
    result[tuple(box)] = image[tuple(box)]
    return result
