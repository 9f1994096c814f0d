"""Random changes of an image's intensities, on whatever device the image lies."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

# A Gaussian kernel ends after so many standard deviations, as in scipy.ndimage.
KERNEL_DEVIATIONS = 4.0


@dataclass(frozen=True)
class Appearance:
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
    def draw(cls, settings: Mapping, rng: np.random.Generator) -> Appearance:
        """Draw one.

        Args:
            settings: ``contrast`` and ``brightness`` (half widths), ``gamma`` (half width of its logarithm), ``noise``
                (largest standard deviation), ``blur`` (largest sigma in voxels, of every third image);
                ``distortion_share`` of images get a random contrast, brightness or gamma, drawn for each by itself.
            rng: source of randomness; how much is drawn depends on the settings and not on the image or device.
        """
        share = settings.get("distortion_share", 1.0)

        def width(name: str) -> float:
            return settings.get(name, 0.0) if share == 1 or rng.random() < share else 0.0

        contrast = 1 + rng.uniform(-1, 1) * width("contrast")
        brightness = rng.uniform(-1, 1) * width("brightness")
        exponent = math.exp(rng.uniform(-1, 1) * width("gamma"))
        blurred = rng.random() < 1 / 3 and settings.get("blur", 0.0) > 0
        blur = rng.uniform(0.2, settings["blur"]) if blurred else 0.0
        noise = rng.uniform(0, settings.get("noise", 0.0))
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
