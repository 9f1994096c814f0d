"""Stages of a new model: a search of the whole scan in coarse voxels and, where it can add anything, a closer look."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass

import numpy as np

from H3DELandmarksLib.landmarks import LandmarkScheme
from H3DELandmarksLib.training.retraining.settings import STRONG, USUAL_TRAINING, schedule

NETWORK = {
    "architecture": "h3denet",
    "settings": {
        "stem_channels": [16, 32], "dims": [32, 64, 96, 128], "depths": [1, 1, 2, 1], "decoder_dims": [64, 48, 32],
        "fine_dims": [32, 16], "output_stride": 2,
    },
}  # fmt: skip
SMALLEST, SEARCH = 32, 48
# Voxels of a closer look that a computer without a GPU trains on in about a second.
MOST_VOXELS = 600_000
# The part of a crop that the points fill.
FILLED_IN_SEARCH, FILLED = 0.6, 0.7
# A closer look with voxels that are not much finer shows nothing new.
FINER = 0.7


@dataclass(frozen=True)
class Anatomy:
    """What cases tell about sizes, in mm.

    Attributes:
        extent: (3,) between the outermost points, along the axes in which networks see the anatomy.
        voxel: edge of a cube with the volume of a usual voxel.
        coarsest: longest edge of a voxel.
        field_of_view: (3,) of a usual scan.
        own_frame: whether scans lie in any pose.
    """

    extent: np.ndarray
    voxel: float
    coarsest: float
    field_of_view: np.ndarray
    own_frame: bool

    @property
    def reading(self) -> dict:
        """Entries of a manifest that say how scans are read."""
        return {
            "intensity": {"method": "percentile", "low": 1, "high": 99.9},
            "max_spacing_mm": round(1.5 * self.coarsest, 3), "tolerance_mm": round(2 * self.voxel, 3),
        }  # fmt: skip


def new_stages(
    anatomy: Anatomy, scheme: LandmarkScheme, cases: int, steps: int | None, donor: Mapping | None
) -> list[dict]:
    """Stages with their settings.

    Args:
        anatomy: sizes.
        scheme: landmarks.
        cases: that teach.
        steps: of each stage; by default as many as the number of cases asks for.
        donor: stage of another model whose network's settings are taken over.
    """
    network = deepcopy(NETWORK if donor is None else dict(donor["network"]))
    network["settings"]["landmarks"] = len(scheme)
    widest = float(anatomy.extent.max())
    spacing = max(anatomy.voxel, widest / (FILLED_IN_SEARCH * SEARCH), anatomy.field_of_view.max() / (2 * SEARCH))
    room = np.full(3, anatomy.field_of_view.max()) if anatomy.own_frame else anatomy.field_of_view
    shape = _voxels(np.minimum(room, spacing * SEARCH), spacing)
    search = {"name": "localizer", "spacing_mm": _rounded(spacing), "shape": shape,
              "poses": "cube-rotations" if anatomy.own_frame else "scan"}
    stages = [search]
    fine, fine_shape = _closer_look(anatomy)
    if fine < FINER * spacing:
        stages.append({"name": "refiner", "spacing_mm": _rounded(fine), "shape": fine_shape,
                       "poses": "found" if anatomy.own_frame else "scan"})
    count = steps or int(min(4000, 1200 + 60 * cases))
    return [_completed(stage, network, scheme, anatomy, count) for stage in stages]


def _closer_look(anatomy: Anatomy) -> tuple[float, list[int]]:
    """The finest voxels, and the crop of them, that hold all points and are not too many."""
    spacing = anatomy.voxel
    needed = anatomy.extent / FILLED + 8 * spacing
    while np.prod(_voxels(needed, spacing), dtype=float) > MOST_VOXELS:
        spacing *= 1.05
        needed = anatomy.extent / FILLED + 8 * spacing
    return spacing, _voxels(needed, spacing)


def _voxels(size: np.ndarray, spacing: float) -> list[int]:
    """Multiples of eight that cover a size in mm."""
    return [int(max(SMALLEST, 8 * np.ceil(length / spacing / 8 - 1e-6))) for length in size]


def _rounded(spacing: float) -> float:
    return float(f"{spacing:.3g}")


def _completed(stage: dict, network: Mapping, scheme: LandmarkScheme, anatomy: Anatomy, steps: int) -> dict:
    first = stage["name"] == "localizer"
    half = np.array(stage["shape"]) * stage["spacing_mm"] / 2
    spare = np.maximum(half - anatomy.extent / 2, 2 * stage["spacing_mm"])
    paired = {"mirror": 0.5, "views": 2} if scheme.pairs else {"mirror": 0.0, "views": 1}
    augmentation = {
        **STRONG, "mirror": paired["mirror"], "truncate": 0.2, "nothing": 0.05,
        "rotation_degrees": 60 if stage["poses"] == "cube-rotations" else 25 if first else 12,
        "shift_mm": [float(round(x, 3)) for x in (0.9 if first else 0.3) * spare],
    }  # fmt: skip
    return {
        **stage, "network": deepcopy(dict(network)), "views": 1 if first else paired["views"],
        "groups": [{"landmarks": list(scheme.names), "mirrored": False}], "decoding": {"method": "softmax"},
        "training": {**USUAL_TRAINING, "sigma": 1.0, **schedule(steps), "warmup": min(100, max(1, steps // 10)),
                     "ema": min(0.998, max(0.5, 1 - 10 / steps))},
        "augmentation": augmentation,
    }  # fmt: skip
