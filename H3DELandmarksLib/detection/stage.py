"""One stage of a model at work: crop grids in, raw predictions out.

Everything around networks works on crops of (X, Y, Z) voxels. Those of a stage for radiographs are (X, Y, 1): networks
for images get them as rows and columns, and their maps become (X, Y, 1) again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np
from torch import Tensor

from H3DELandmarksLib.core.candidates import in_patient
from H3DELandmarksLib.core.geometry import Grid
from H3DELandmarksLib.core.landmarks import LandmarkScheme
from H3DELandmarksLib.core.shape_model import Pose
from H3DELandmarksLib.detection.decoding import (
    DECODERS,
    DEEP_DECODERS,
    MIRROR_AXIS,
    MIRROR_SHIFT,
    STRIDES,
    Peaks,
    likeliest_places,
    predict_with_mirror,
)
from H3DELandmarksLib.detection.engine import EngineSettings, make_engine
from H3DELandmarksLib.detection.predictions import RawPredictions
from H3DELandmarksLib.formats.manifest import Decoding, StageDesign
from H3DELandmarksLib.formats.reading import to_plain
from H3DELandmarksLib.networks.arrays import to_array, to_tensor

Crops = TypeVar("Crops", np.ndarray, Tensor)


class NetworkIO(NamedTuple):
    """What a stage's network takes and gives.

    Attributes:
        is_2d: whether crops are one slice of a radiograph.
        channels: of the network's input; the scan is repeated in all.
        strides: for each map the (3,) voxels of the crop per voxel of the map.
    """

    is_2d: bool
    channels: int
    strides: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, stage: StageDesign) -> NetworkIO:
        """What the network of a stage takes and gives."""
        config = stage.network.config
        strides = STRIDES if stage.is_2d else (config.output_stride,)
        return cls(stage.is_2d, config.in_channels, tuple(np.array([s, s, 1 if stage.is_2d else s]) for s in strides))

    def to_network(self, crops: np.ndarray) -> np.ndarray:
        """(B, 1, X, Y, Z) float32 to what the network takes: (B, C, X, Y, Z), or of images (B, C, rows, columns)."""
        return np.ascontiguousarray(self.repeated(crops))

    def repeated(self, crops: Crops) -> Crops:
        """The same for an array or a tensor on any device, in any order in memory."""
        images = crops[..., 0].swapaxes(2, 3) if self.is_2d else crops
        return images if self.channels == 1 else images[:, [0] * self.channels]

    def from_network(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps (B, K, rows, columns) to (B, K, X, Y, 1); those of volumes stay as they are."""
        return [level.transpose(2, 3)[..., None] if self.is_2d else level for level in maps]


def choose_decoder(decoding: Decoding) -> Callable[[Sequence[Tensor], Sequence[np.ndarray]], Peaks]:
    """What reads landmarks out of all maps of a crop and their strides.

    Of several maps, a method that is made for one reads the last, which is the finest.
    """
    method, settings = decoding.method, to_plain(decoding)
    del settings["method"]
    decode = partial((DECODERS | DEEP_DECODERS)[method], **settings)
    return decode if method in DEEP_DECODERS else lambda maps, strides: decode(maps[-1], strides[-1])


class StageNetwork:
    """The network of a stage with its weights, and the landmarks that its channels stand for."""

    def __init__(
        self, stage: StageDesign, weights: Mapping[str, np.ndarray], scheme: LandmarkScheme, settings: EngineSettings
    ) -> None:
        """Build the network of a package's stage.

        Args:
            stage: of the manifest.
            weights: arrays by parameter name, any floating type.
            scheme: landmarks of the package.
            settings: how the network runs.
        """
        self.stage = stage
        self.io = NetworkIO.of(stage)
        self.decode = choose_decoder(stage.decoding)
        self.engine = make_engine(stage.network, weights, settings, self._points)
        index = {name: k for k, name in enumerate(scheme.names)}
        self.groups = [np.array([index[name] for name in group.landmarks]) for group in stage.groups]
        self.mirror_shift = MIRROR_SHIFT if stage.decoding.method in DEEP_DECODERS else 0
        self.count = len(scheme)
        self.mirror_order = scheme.mirror_order()

    def find(
        self, image: np.ndarray, grid: Grid, channels: np.ndarray, pose: Pose, places: bool = True
    ) -> RawPredictions:
        """Look for landmarks in one crop.

        Args:
            image: (X, Y, Z) float32 in 0..1, the scan sampled on `grid`.
            grid: where the crop lies.
            channels: (C,) int, scheme index that each of the network's channels stands for in this crop; -1 for none.
            pose: handed on to the result.
            places: whether the result holds all likely places, and not only the best.

        Raises:
            FloatingPointError: the network's weights lead beyond all numbers.
        """
        maps = self._maps(self.io.to_network(image[None, None]), channels)
        if not all(bool(level.isfinite().all()) for level in maps) and np.isfinite(image).all():
            raise FloatingPointError(f"the stage '{self.stage.name}' computes values that are no numbers")
        peaks = self._points(maps)
        used, rows = channels >= 0, channels[channels >= 0]
        result = RawPredictions.nothing(self.count, pose)
        result.positions[rows] = grid.lps_from_ijk(peaks.index[used])
        result.presence_logit[rows] = peaks.presence_logit[used]
        result.concentration[rows] = peaks.concentration[used]
        if not places or self.stage.decoding.method != "softmax":
            return result
        likeliest = likeliest_places(self.io.from_network(maps)[-1][0], self.io.strides[-1])
        candidates = in_patient(grid, *(values[used] for values in likeliest)).spread_to(rows, self.count)
        return replace(result, candidates=candidates)

    def _points(self, maps: Sequence[Tensor]) -> Peaks:
        """Landmarks in the first crop of a batch, by all maps of the network."""
        return self.decode([level[0] for level in self.io.from_network(maps)], self.io.strides)

    @property
    def mirrored_views(self) -> tuple[bool, ...]:
        """The crops to look at in each place: as it is, and with ``views`` 2 also in the mirror.

        Maps of radiographs are averaged over both within one look.
        """
        return (False, True) if self.stage.views == 2 and not self.stage.is_2d else (False,)

    def _maps(self, batch: np.ndarray, channels: np.ndarray) -> Sequence[Tensor]:
        """All maps of the network; those of radiographs averaged over both views where a stage has two."""
        if not self.stage.is_2d or self.stage.views == 1:
            return self.engine.maps(batch)
        places = {int(landmark): channel for channel, landmark in enumerate(channels)}
        order = [places.get(int(self.mirror_order[k]), -1) if k >= 0 else -1 for k in channels]

        def run(images: Tensor) -> list[Tensor]:
            return [level.cpu() for level in self.engine.maps(to_array(images))]

        return predict_with_mirror(run, to_tensor(batch), order, MIRROR_AXIS, self.mirror_shift)
