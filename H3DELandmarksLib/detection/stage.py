"""One stage of a model at work: crop grids in, landmark findings out."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from H3DELandmarksLib.detection.decoding import DECODERS, Peaks
from H3DELandmarksLib.detection.engine import make_engine
from H3DELandmarksLib.detection.intensity import IntensityMapping
from H3DELandmarksLib.errors import InputError
from H3DELandmarksLib.geometry import Grid, Volume, resample
from H3DELandmarksLib.landmarks import LandmarkScheme
from H3DELandmarksLib.shape_model import Pose


@dataclass(frozen=True)
class Scan:
    """A volume with canonical axis order and how its values are read.

    Attributes:
        volume: the image.
        intensity: mapping of stored values to 0..1.
        outside: stored value that stands for samples beyond the field of view.
    """

    volume: Volume
    intensity: IntensityMapping
    outside: float

    def crop(self, grid: Grid) -> np.ndarray:
        """(X, Y, Z) float32 in 0..1, sampled on `grid`."""
        return self.intensity(resample(self.volume, grid, self.outside).array)


@dataclass(frozen=True)
class Findings:
    """Best guesses for all K landmarks of a scheme, whether they exist or not.

    Attributes:
        positions: (K, 3) LPS mm, NaN where no stage has looked yet.
        presence_logit: (K,) uncalibrated log-odds of presence; -inf where no stage has looked yet.
        concentration: (K,) share of probability around the peak.
        pose: placement of the model frame.
    """

    positions: np.ndarray
    presence_logit: np.ndarray
    concentration: np.ndarray
    pose: Pose

    @classmethod
    def nothing(cls, count: int, pose: Pose) -> Findings:
        """No landmark found yet."""
        return cls(np.full((count, 3), np.nan), np.full(count, -np.inf), np.zeros(count), pose)

    @property
    def weights(self) -> np.ndarray:
        """(K,) trust in each position, from 0 to 1, before calibration."""
        finite = np.isfinite(self.positions).all(axis=1)
        return np.where(finite, self.concentration / (1 + np.exp(-np.clip(self.presence_logit, -50, 50))), 0.0)


def choose_decoder(stage: Mapping) -> Callable[[torch.Tensor, int], Peaks]:
    """The function that reads landmarks out of a stage's maps and their stride, by the stage's entry ``decoding``.

    Raises:
        InputError: the method, or one of its settings, does not exist.
    """
    settings = dict(stage.get("decoding", {}))
    method = settings.pop("method", "softmax")
    if method not in DECODERS:
        raise InputError(f"There is no decoding method '{method}': choose one of {', '.join(DECODERS)}.")
    known = list(inspect.signature(DECODERS[method]).parameters)[2:]
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise InputError(
            f"The decoding method '{method}' has no setting {', '.join(unknown)}: its settings are {', '.join(known)}."
        )
    return partial(DECODERS[method], **settings)


class StageNetwork:
    """The network of a stage with its weights, and the landmarks that its channels stand for."""

    def __init__(
        self, stage: Mapping, weights: Mapping[str, np.ndarray], scheme: LandmarkScheme, device: torch.device
    ) -> None:
        """Build the network of a package's stage.

        Args:
            stage: entry of the manifest's ``stages``.
            weights: arrays by parameter name, any floating type.
            scheme: landmarks of the package.
            device: where to run; a CUDA or MPS device that runs out of memory is replaced by the CPU.
        """
        self.stage = stage
        self.engine = make_engine(stage["network"], weights, device)
        self.stride = int(stage["network"]["settings"].get("output_stride", 1))
        self.decode = choose_decoder(stage)
        index = {name: k for k, name in enumerate(scheme.names)}
        self.groups = [np.array([index[name] for name in group["landmarks"]]) for group in stage["groups"]]
        self.mirrored = [bool(group.get("mirrored", False)) for group in stage["groups"]]
        self.spacing = float(stage["spacing_mm"])
        self.voxels = tuple(stage["shape"])
        self.count = len(scheme)
        self.mirror_order = scheme.mirror_order()

    def find(self, image: np.ndarray, grid: Grid, channels: Sequence[int], pose: Pose) -> Findings:
        """Look for landmarks in one crop.

        Args:
            image: (X, Y, Z) float32 in 0..1, the scan sampled on `grid`.
            grid: where the crop lies.
            channels: scheme index that each of the network's channels stands for in this crop; -1 for none.
            pose: handed on to the result.
        """
        peaks = self.decode(self.engine.maps(image[None, None])[0][0], self.stride)
        channels = np.asarray(channels)
        used, rows = channels >= 0, channels[channels >= 0]
        result = Findings.nothing(self.count, pose)
        result.positions[rows] = grid.lps_from_ijk(peaks.index[used])
        result.presence_logit[rows] = peaks.presence_logit[used]
        result.concentration[rows] = peaks.concentration[used]
        return result


def merge_best(findings: Sequence[Findings]) -> Findings:
    """For each landmark the finding with the most evidence of presence."""
    best = np.argmax([f.presence_logit for f in findings], axis=0)
    rows = np.arange(len(best))

    def pick(name: str) -> np.ndarray:
        return np.stack([getattr(f, name) for f in findings])[best, rows]

    return Findings(pick("positions"), pick("presence_logit"), pick("concentration"), findings[0].pose)


def merge_mean(findings: Sequence[Findings]) -> Findings:
    """Mean of several looks at the same landmarks, positions weighted by trust."""
    weights = np.stack([np.maximum(f.weights, 1e-9) * np.isfinite(f.positions).all(axis=1) for f in findings])
    total = weights.sum(axis=0)
    positions = np.nan_to_num(np.stack([f.positions for f in findings]))
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = (positions * weights[..., None]).sum(axis=0) / total[:, None]
    seen = weights > 0

    def average(name: str, nothing: float) -> np.ndarray:
        values = np.where(seen, np.stack([getattr(f, name) for f in findings]), 0.0).sum(axis=0)
        return np.where(seen.any(axis=0), values / np.maximum(seen.sum(axis=0), 1), nothing)

    return Findings(
        np.where(total[:, None] > 0, mean, np.nan),
        average("presence_logit", -np.inf),
        average("concentration", 0.0),
        findings[0].pose,
    )
