"""A box in patient space that a search is restricted to, in Slicer's file format for regions of interest."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.files import replaced_when_complete
from H3DELandmarksLib.core.geometry import Volume, transform_points
from H3DELandmarksLib.core.landmarks import LandmarkSet

_LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
# Fewer points do not tell where an anatomy lies and how large it is.
FEWEST = 3
_CORNERS = np.array(list(product((-0.5, 0.5), repeat=3)))


@dataclass(frozen=True)
class Region:
    """A box of any orientation.

    Attributes:
        affine: (4, 4) from the cube of edge 1 around the origin to LPS mm: its columns are the edges and the center.
    """

    affine: np.ndarray

    def __post_init__(self) -> None:
        affine = np.asarray(self.affine, dtype=np.float64)
        edges = np.linalg.norm(affine[:3, :3], axis=0)
        if not np.isfinite(affine).all() or edges.min() == 0 or abs(np.linalg.det(affine[:3, :3] / edges)) < 1e-9:
            raise InputError("The region of interest has no volume: give it a size in all three directions.")
        object.__setattr__(self, "affine", affine)

    def contains(self, points: np.ndarray) -> np.ndarray:
        """(...) bool: whether (..., 3) LPS points lie in the box; NaN rows do not."""
        with np.errstate(invalid="ignore"):
            return (np.abs(transform_points(np.linalg.inv(self.affine), points)) <= 0.5).all(axis=-1)

    def crop(self, volume: Volume) -> Volume:
        """The smallest block of voxels that covers the box, each at its place; not a copy.

        Raises:
            InputError: the box lies outside the scan.
        """
        index = volume.grid.ijk_from_lps(transform_points(self.affine, _CORNERS))
        low = np.maximum(np.floor(index.min(axis=0) + 0.5), 0).astype(int)
        high = np.minimum(np.ceil(index.max(axis=0) - 0.5) + 1, volume.array.shape).astype(int)
        if (low >= high).any():
            raise InputError("The region of interest lies outside the scan: move it over the anatomy.")
        affine = volume.affine.copy()
        affine[:3, 3] = volume.grid.lps_from_ijk(low)
        return Volume(volume.array[tuple(map(slice, low, high))], affine)

    def limit(self, landmarks: LandmarkSet) -> LandmarkSet:
        """The same set, where only landmarks in the box are known: nobody has looked for the others elsewhere."""
        inside = landmarks.present & self.contains(landmarks.positions)

        def where_inside(values: np.ndarray) -> np.ndarray:
            return np.where(inside, values, np.nan)

        return replace(
            landmarks, presence=where_inside(landmarks.presence), confidence=where_inside(landmarks.confidence)
        )


def region_around(landmarks: LandmarkSet, margin_mm: float, fewest: int = FEWEST) -> Region | None:
    """The box along the patient's axes around all present landmarks; None where fewer than `fewest` are present.

    Args:
        landmarks: positions in LPS mm.
        margin_mm: distance of its faces from the outermost landmarks.
        fewest: how many landmarks tell where an anatomy lies and how large it is.
    """
    points = landmarks.positions[landmarks.present]
    if len(points) < fewest:
        return None
    low, high = points.min(axis=0) - margin_mm, points.max(axis=0) + margin_mm
    affine = np.diag([*(high - low), 1.0])
    affine[:3, 3] = (low + high) / 2
    return Region(affine)


def read_region(path: str | Path) -> Region:
    """Read a box that Slicer or `write_region` has saved (.mrk.json).

    Raises:
        InputError: the file cannot be used.
    """
    try:
        markup = json.loads(Path(path).read_text(encoding="utf-8"))["markups"][0]
        if markup["type"] != "ROI":
            raise KeyError("ROI")
        affine = np.eye(4)
        affine[:3, :3] = np.reshape(markup["orientation"], (3, 3)) * np.asarray(markup["size"], dtype=float)
        affine[:3, 3] = markup["center"]
        system = markup.get("coordinateSystem", "LPS")
    except OSError as error:
        raise InputError(f"'{path}' cannot be read: check the path.") from error
    except (ValueError, LookupError, TypeError) as error:
        raise InputError(f"'{path}' holds no region of interest: save one from Slicer as .mrk.json.") from error
    return Region(_LPS_FROM_RAS @ affine if system == "RAS" else affine)


def write_region(path: str | Path, region: Region) -> None:
    """Write a box as Slicer saves one; a file of that name is replaced only when the new one is complete."""
    size = np.linalg.norm(region.affine[:3, :3], axis=0)
    markup = {
        "type": "ROI",
        "coordinateSystem": "LPS",
        "coordinateUnits": "mm",
        "roiType": "Box",
        "center": region.affine[:3, 3].tolist(),
        "orientation": (region.affine[:3, :3] / size).ravel().tolist(),
        "size": size.tolist(),
        "insideOut": False,
    }
    with replaced_when_complete(Path(path)) as temporary:
        temporary.write_text(json.dumps({"markups": [markup]}, indent=4), encoding="utf-8")
