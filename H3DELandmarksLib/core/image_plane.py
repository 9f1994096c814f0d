"""Radiographs: volumes of one slice, and how they lie on a sheet of paper.

The sheet is the frame in which a radiograph is searched and learnt from: x runs to the right, y down, and z is 0 at the
center of the slice. Its directions follow the patient, not the order of storage, as a radiologist holds the picture:

- axial, and everything without an orientation (PNG, most CR): to the patient's left, and posterior;
- coronal: to the patient's left, and down;
- sagittal: posterior, and down.

A file without orientation has the identity, so that its columns run to the right and its rows down, as it was stored.

Lengths in a picture of which nobody knows how large its pixels are have the unit px, in all others mm. Columns and
entries are named by what they hold: ``radius90_mm`` is ``radius90_px`` where lengths are pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from H3DELandmarksLib.core.geometry import Grid, Volume, canonical, crop_grid, transform_points

# Thinner than any pixel, so that no grid around a sheet has a second layer.
THICKNESS = 1e-3
SAME_EDGE = 1e-6  # mm


def is_radiograph(volume: Volume) -> bool:
    """Whether a volume is one slice."""
    return 1 in volume.array.shape


def has_unknown_pixels(shape: Sequence[int], spacing: Sequence[float] | np.ndarray) -> bool:
    """Whether an image is a radiograph with pixels of exactly 1 mm, which programs state where they do not know.

    Args:
        shape: (3,) voxels.
        spacing: (3,) distances of their centers in mm.
    """
    edges = [edge for size, edge in zip(shape, spacing) if size > 1]
    return 1 in shape and all(abs(edge - 1) < SAME_EDGE for edge in edges)


def why_other_kind(model: str, is_2d: bool, shape: Sequence[int]) -> str:
    """One sentence about why a model cannot read an image, as it is made for the other kind; empty where it can.

    Args:
        model: id of the model.
        is_2d: whether it reads radiographs, and not volumes.
        shape: (3,) voxels of the image.
    """
    single = 1 in shape
    if is_2d and not single:
        size = " x ".join(map(str, shape))
        return (
            f"The model '{model}' reads radiographs, but this scan has {size} voxels: choose a single image, or a "
            "model for volumes."
        )
    if single and not is_2d:
        return (
            f"The model '{model}' reads volumes, but this scan is a single slice: choose the whole scan, or a model "
            "for radiographs."
        )
    return ""


def lay_flat(volume: Volume) -> tuple[Volume, np.ndarray]:
    """A radiograph on its sheet.

    Pixels are not interpolated. However a radiograph is stored, with whatever order and direction of axes, the result
    is the same; pixels need not be square, nor have right angles.

    Args:
        volume: one slice in any orientation.

    Returns:
        Volume of (X, Y, 1) pixels, X to the right and Y down, in the frame of the sheet, and the (4, 4) rigid
        transform from the sheet to LPS mm.
    """
    volume = canonical(volume)
    normal = max(axis for axis, size in enumerate(volume.array.shape) if size == 1)
    right, down = (axis for axis in range(3) if axis != normal)
    array = volume.array.transpose(right, down, normal)
    edges = volume.affine[:3, [right, down]]
    corner = volume.affine[:3, 3]
    if down == 2:  # superior: up on the sheet
        array, corner, edges = array[:, ::-1], corner + edges[:, 1] * (array.shape[1] - 1), edges * (1, -1)
    u, _, vt = np.linalg.svd(edges / np.linalg.norm(edges, axis=0), full_matrices=False)
    axes = u @ vt
    lps_from_sheet, affine = np.eye(4), np.diag([1, 1, THICKNESS, 1])
    lps_from_sheet[:3] = np.column_stack([axes, np.cross(*axes.T), corner])
    affine[:2, :2] = axes.T @ edges
    return Volume(array, affine), lps_from_sheet


def crop_about_center(sheet: Grid, axes: np.ndarray, spacing: float | np.ndarray, shape: tuple[int, int, int]) -> Grid:
    """The grid of a crop that shows a whole radiograph, placed as by the authors of HYATT-Net.

    Counted from 0 at the first pixel's center, their crop's pixel (width / 2, height / 2) lies on that of the image.

    Args:
        sheet: of the radiograph, see `lay_flat`.
        axes, spacing, shape: of the crop, as for `crop_grid`; mm.
    """
    width, height, _ = sheet.shape
    half = np.broadcast_to(spacing, 3) / 2 * (1, 1, 0)
    return crop_grid(sheet.lps_from_ijk(np.array([width / 2, height / 2, 0])) - axes @ half, axes, spacing, shape)


def counted_as_high(volume: Volume, height: float) -> tuple[Volume, float]:
    """A radiograph with pixels of such a size that it is so many mm high, about the origin.

    Args:
        volume: one slice in any orientation.
        height: mm of its sheet along J.

    Returns:
        The radiograph, and what its lengths were multiplied by.
    """
    factor = height / float(lay_flat(volume)[0].grid.extent[1])
    affine = volume.affine.copy()
    affine[:3] *= factor
    return Volume(volume.array, affine), factor


def points_on_sheet(lps_from_sheet: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Map (..., 3) LPS mm to the sheet and into its plane: z becomes 0."""
    return transform_points(np.linalg.inv(lps_from_sheet), points) * (1, 1, 0)


LengthUnit = Literal["mm", "px"]


def length_unit(shape: Sequence[int], spacing: Sequence[float] | np.ndarray, is_stated: bool = False) -> LengthUnit:
    """The unit of lengths in an image.

    Args:
        shape: (3,) voxels.
        spacing: (3,) distances of their centers, as the file says.
        is_stated: whether the user has said how large they are.
    """
    return "px" if not is_stated and has_unknown_pixels(shape, spacing) else "mm"


def in_unit(name: str, unit: LengthUnit) -> str:
    """The name of a column or entry for lengths of a unit, from that for mm; names of other things stay."""
    return name.removesuffix("_mm") + "_px" if unit == "px" and name.endswith("_mm") else name


def named_in(content: Any, unit: LengthUnit) -> Any:
    """JSON content whose entries are named for mm, with the names for a unit."""
    if isinstance(content, dict):
        return {in_unit(name, unit): named_in(entry, unit) for name, entry in content.items()}
    return [named_in(entry, unit) for entry in content] if isinstance(content, list) else content


def named_in_mm(content: Any) -> Any:
    """The inverse of `named_in`; an entry that is there under both names keeps both."""
    if isinstance(content, dict):
        return {_in_mm(name, content): named_in_mm(entry) for name, entry in content.items()}
    return [named_in_mm(entry) for entry in content] if isinstance(content, list) else content


def _in_mm(name: str, others: dict[str, Any]) -> str:
    plain = name.removesuffix("_px") + "_mm" if name.endswith("_px") else name
    return plain if plain not in others else name
