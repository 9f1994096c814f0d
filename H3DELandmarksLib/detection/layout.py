"""How crops enter a network and how its maps come back.

Everything around networks works on crops of (X, Y, Z) voxels. Those of a stage for radiographs are (X, Y, 1): networks
for images get them as rows and columns, and their maps become (X, Y, 1) again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from H3DELandmarksLib.detection.decoding_2d import STRIDES
from H3DELandmarksLib.errors import InputError
from H3DELandmarksLib.networks import ARCHITECTURES, HyattNet

if TYPE_CHECKING:
    from torch import Tensor

Crops = TypeVar("Crops", np.ndarray, "Tensor")


def reads_images(architecture: str) -> bool:
    """Whether a network reads images (rows and columns) and not volumes.

    Raises:
        InputError: there is no such architecture.
    """
    if architecture not in ARCHITECTURES:
        raise InputError(f"There is no network '{architecture}': choose one of {', '.join(ARCHITECTURES)}.")
    return issubclass(ARCHITECTURES[architecture][0], HyattNet)


class Layout(NamedTuple):
    """What a stage's network takes and gives.

    Attributes:
        flat: whether crops are one slice of a radiograph.
        channels: of the network's input; the scan is repeated in all.
        strides: for each map the (3,) voxels of the crop per voxel of the map.
    """

    flat: bool
    channels: int
    strides: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, stage: Mapping) -> Layout:
        """The layout that a stage's ``shape`` and ``network`` define.

        Raises:
            InputError: the network is unknown, or one for images with a crop of several slices, or the reverse.
        """
        architecture, settings = stage["network"]["architecture"], stage["network"]["settings"]
        flat = is_flat(stage)
        if flat != reads_images(architecture):
            shape = " x ".join(map(str, stage["shape"]))
            reads, needed = ("volumes", "more than one slice") if flat else ("radiographs", "one slice")
            raise InputError(f"The network '{architecture}' reads {reads}: its crops need {needed}, not {shape}.")
        channels = settings.get("in_channels", ARCHITECTURES[architecture][1].in_channels)
        strides = STRIDES if flat else (int(settings.get("output_stride", 1)),)
        return cls(flat, int(channels), tuple(np.array([s, s, 1 if flat else s]) for s in strides))

    def to_network(self, crops: np.ndarray) -> np.ndarray:
        """(B, 1, X, Y, Z) float32 to what the network takes: (B, C, X, Y, Z), or of images (B, C, rows, columns)."""
        return np.ascontiguousarray(self.repeated(crops))

    def repeated(self, crops: Crops) -> Crops:
        """The same for an array or a tensor on any device, in any order in memory."""
        images = crops[..., 0].swapaxes(2, 3) if self.flat else crops
        return images if self.channels == 1 else images[:, [0] * self.channels]

    def from_network(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps (B, K, rows, columns) to (B, K, X, Y, 1); those of volumes stay as they are."""
        return [level.transpose(2, 3)[..., None] if self.flat else level for level in maps]


def is_flat(stage: Mapping) -> bool:
    """Whether a stage's crops are one slice of a radiograph: this alone decides."""
    return stage["shape"][2] == 1
