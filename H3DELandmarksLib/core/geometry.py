"""Volumes in physical space: voxel indices (IJK), patient millimeters (LPS), orientation and resampling.

An array of a `Volume` is indexed ``array[i, j, k]``; ``affine`` maps ``(i, j, k, 1)`` to LPS millimeters, the
convention of ITK and .mrk.json. Any invertible affine is valid: oblique, anisotropic, left-handed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from H3DELandmarksLib.core.errors import InputError

# Voxels that `average_blocks` converts to float32 at once.
AVERAGED_AT_ONCE = 2**22


def transform_points(affine: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Apply a homogeneous transform to points.

    Args:
        affine: (4, 4) matrix.
        points: (..., 3) coordinates in the frame that the matrix maps from.

    Returns:
        (..., 3) float64 coordinates in the frame that the matrix maps to; NaN rows stay NaN.
    """
    moved: np.ndarray = np.asarray(points, dtype=np.float64) @ affine[:3, :3].T + affine[:3, 3]
    return moved


@dataclass(frozen=True)
class Grid:
    """A regular lattice in LPS space: where voxel centers lie, without values.

    Attributes:
        affine: (4, 4) float64, IJK -> LPS mm.
        shape: number of voxels along I, J, K.
    """

    affine: np.ndarray
    shape: tuple[int, int, int]

    def __post_init__(self) -> None:
        affine = np.asarray(self.affine, dtype=np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise InputError("The image geometry is not a finite 4 x 4 matrix: check the file's header.")
        edges = np.linalg.norm(affine[:3, :3], axis=0)
        if edges.min() == 0 or abs(np.linalg.det(affine[:3, :3] / edges)) < 1e-9:
            raise InputError("The image has a zero or degenerate voxel spacing: correct it in the file's header.")
        object.__setattr__(self, "affine", affine)
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))

    @property
    def spacing(self) -> np.ndarray:
        """(3,) distance between neighboring voxel centers along I, J, K in mm."""
        edges: np.ndarray = np.linalg.norm(self.affine[:3, :3], axis=0)
        return edges

    @property
    def extent(self) -> np.ndarray:
        """(3,) edge lengths of the field of view in mm."""
        return self.spacing * self.shape

    @property
    def center(self) -> np.ndarray:
        """(3,) center of the field of view, LPS mm."""
        return self.lps_from_ijk((np.asarray(self.shape) - 1) / 2)

    def lps_from_ijk(self, points: np.ndarray) -> np.ndarray:
        """Map (..., 3) continuous voxel indices to LPS mm."""
        return transform_points(self.affine, points)

    def ijk_from_lps(self, points: np.ndarray) -> np.ndarray:
        """Map (..., 3) LPS mm to continuous voxel indices."""
        return transform_points(np.linalg.inv(self.affine), points)

    def contains(self, points: np.ndarray, margin: float = 0.0) -> np.ndarray:
        """Whether (..., 3) LPS points lie inside the field of view (voxel edges included).

        Args:
            points: LPS mm; NaN rows are outside.
            margin: distance in mm by which points must be farther inside (negative: may be outside).

        Returns:
            (...) bool.
        """
        index = self.ijk_from_lps(points)
        limit = margin / self.spacing
        with np.errstate(invalid="ignore"):
            inside = (index >= -0.5 + limit) & (index <= np.asarray(self.shape) - 0.5 - limit)
        return np.asarray(inside.all(axis=-1))

    def depth(self, points: np.ndarray) -> np.ndarray:
        """(...) mm from (..., 3) LPS points to the nearest end of the field of view, below 0 beyond it.

        The thickness of a single slice does not count. NaN rows give NaN.
        """
        index, sizes = self.ijk_from_lps(points), np.array(self.shape)
        depth = np.minimum(index + 0.5, sizes - 0.5 - index) * self.spacing
        nearest: np.ndarray = np.where(sizes > 1, depth, np.inf).min(axis=-1)
        return nearest


@dataclass(frozen=True)
class Volume:
    """A scalar image with its place in the patient.

    Attributes:
        array: (I, J, K) values; a radiograph has K = 1.
        affine: (4, 4) float64, IJK -> LPS mm.
    """

    array: np.ndarray
    affine: np.ndarray

    def __post_init__(self) -> None:
        if self.array.ndim != 3 or self.array.size == 0:
            size = " x ".join(map(str, self.array.shape))
            raise InputError(f"The image must have three axes and at least one voxel, but its size is {size}.")
        object.__setattr__(self, "affine", Grid(self.affine, self.array.shape).affine)

    @property
    def grid(self) -> Grid:
        """The lattice of the voxels."""
        return Grid(self.affine, self.array.shape)

    @property
    def spacing(self) -> np.ndarray:
        """(3,) voxel spacing along I, J, K in mm."""
        return self.grid.spacing


def canonical(volume: Volume) -> Volume:
    """Reorder and flip axes so that I, J, K run as closely as possible to L, P, S.

    Voxels are not interpolated and keep their positions, so that a scan stored with another axis order gives the same
    array.
    """
    axes, signs = _closest_axes(volume.affine[:3, :3])
    array = volume.array.transpose(axes)
    affine = volume.affine[:, [*axes, 3]].copy()
    for axis, sign in enumerate(signs):
        if sign < 0:
            array = np.flip(array, axis)
            affine[:3, 3] += affine[:3, axis] * (array.shape[axis] - 1)
            affine[:3, axis] *= -1
    return Volume(array, affine)


def _closest_axes(directions: np.ndarray) -> tuple[tuple[int, int, int], np.ndarray]:
    """Which voxel axis serves as L, P and S (the assignment of largest cosines), and the sign of each."""
    from scipy.optimize import linear_sum_assignment

    cosines = directions / np.linalg.norm(directions, axis=0)
    _, axes = linear_sum_assignment(-np.abs(cosines))
    signs = np.sign(cosines[np.arange(3), axes])
    for_left, for_posterior, for_superior = (int(axis) for axis in axes)
    return (for_left, for_posterior, for_superior), signs


def crop_grid(center: np.ndarray, axes: np.ndarray, spacing: float | np.ndarray, shape: tuple[int, int, int]) -> Grid:
    """A grid around a point, for crops in any pose.

    Args:
        center: (3,) LPS mm of the grid's center.
        axes: (3, 3) whose columns are the unit directions of I, J, K in LPS; a reflection makes a mirrored crop.
        spacing: voxel size in mm, one number or three.
        shape: voxels along I, J, K.
    """
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(axes, dtype=np.float64) * np.broadcast_to(spacing, 3)
    affine[:3, 3] = np.asarray(center) - affine[:3, :3] @ ((np.asarray(shape) - 1) / 2)
    return Grid(affine, shape)


def orthonormal_axes(grid: Grid) -> np.ndarray:
    """(3, 3) rotation whose columns are closest to the directions of I, J and K in LPS; a mirrored I is turned back."""
    u, _, vt = np.linalg.svd(grid.affine[:3, :3] / grid.spacing)
    axes: np.ndarray = u @ vt
    axes[:, 0] *= np.sign(np.linalg.det(axes))
    return axes


def turn_degrees(rotation: np.ndarray) -> float:
    """The angle of a (3, 3) rotation about its axis, 0 to 180 degrees."""
    return float(np.degrees(np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1))))


def field_of_view_grid(grid: Grid, spacing: float, axes: np.ndarray | None = None) -> Grid:
    """The grid of a given spacing and orientation that covers a whole field of view.

    Args:
        grid: field of view to cover.
        spacing: isotropic voxel size in mm.
        axes: (3, 3) unit directions of I, J, K in LPS (columns); by default `orthonormal_axes`.
    """
    if axes is None:
        axes = orthonormal_axes(grid)
    corners = np.array(np.meshgrid(*([-0.5, n - 0.5] for n in grid.shape), indexing="ij")).reshape(3, -1).T
    local = grid.lps_from_ijk(corners) @ axes
    low, high = local.min(axis=0), local.max(axis=0)
    shape = np.ceil(np.maximum(high - low, spacing) / spacing - 1e-6).astype(int)
    return crop_grid(axes @ ((low + high) / 2), axes, spacing, tuple(shape))


def resample(volume: Volume, grid: Grid, outside: float, average: bool = True) -> Volume:
    """Sample a volume on another grid by linear interpolation, averaging first where the new voxels are larger.

    Averaging is a mean over blocks of whole voxels (the largest that fit into a new voxel), applied only to the part
    of the volume that the grid covers, so that cost follows the crop and not the scan. Blocks start at the first
    voxel: give the volume in `canonical` order where the result must not depend on the stored orientation.

    Args:
        volume: image to sample.
        grid: where to sample.
        outside: value of samples outside the volume.
        average: False: voxels are interpolated alone, so that finer ones between the samples do not count.

    Returns:
        float32 volume on `grid`.
    """
    part = covered_part(volume, grid)
    if part is None:
        return Volume(np.full(grid.shape, outside, dtype=np.float32), grid.affine)
    image = _block_means(part.array, block_size(part, grid) if average else (1, 1, 1))
    transform = sitk.AffineTransform(3)
    matrix = np.linalg.inv(part.affine) @ grid.affine
    transform.SetMatrix(matrix[:3, :3].ravel().tolist())
    transform.SetTranslation(matrix[:3, 3].tolist())
    result = sitk.Resample(
        image,
        grid.shape,
        transform,
        sitk.sitkLinear,
        (0.0, 0.0, 0.0),
        (1.0, 1.0, 1.0),
        np.eye(3).ravel().tolist(),
        float(outside),
        sitk.sitkFloat32,
    )
    return Volume(sitk.GetArrayFromImage(result).transpose(2, 1, 0), grid.affine)


def average_blocks(volume: Volume, spacing: float) -> Volume:
    """Mean over the largest blocks of whole voxels that fit into voxels of `spacing` mm; float32.

    Sampling the result on grids of that spacing along the volume's axes is what `resample` does with the volume itself,
    but for the last voxels of an axis that is no multiple of its blocks. Where the whole volume is sampled, by many
    grids, this does the averaging once.

    Args:
        volume: image.
        spacing: edge of the voxels that will be sampled.
    """
    blocks = [int(n) for n in np.clip(np.floor(spacing / volume.spacing + 1e-6), 1, volume.array.shape)]
    if blocks == [1, 1, 1]:
        return volume
    # In parts, since a copy of the whole in float32 may be larger than the scan itself.
    axis = int(np.argmax(np.abs(volume.array.strides)))
    rows = blocks[axis] * max(1, AVERAGED_AT_ONCE // (volume.array.size // volume.array.shape[axis] * blocks[axis]))
    parts = np.split(volume.array, range(rows, volume.array.shape[axis], rows), axis=axis)
    means = [sitk.GetArrayFromImage(_block_means(part, blocks)).transpose(2, 1, 0) for part in parts]
    affine = volume.affine @ np.diag([*blocks, 1])
    affine[:3, 3] = volume.grid.lps_from_ijk((np.array(blocks) - 1) / 2)
    return Volume(np.concatenate(means, axis=axis), affine)


def _block_means(array: np.ndarray, blocks: Sequence[int]) -> sitk.Image:
    """Mean over blocks of (i, j, k); the last voxels are repeated where an axis is no multiple of its blocks."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.transpose(2, 1, 0), dtype=np.float32))
    remainder = [-size % block for size, block in zip(array.shape, blocks)]
    if any(remainder):
        image = sitk.ZeroFluxNeumannPad(image, [0, 0, 0], remainder)
    return sitk.BinShrink(image, list(blocks)) if max(blocks) > 1 else image


def covered_part(volume: Volume, grid: Grid) -> Volume | None:
    """The smallest block of voxels that `grid` can be interpolated from; None where they do not overlap."""
    corners = np.array(np.meshgrid(*([0, n - 1] for n in grid.shape), indexing="ij")).reshape(3, -1).T
    index = volume.grid.ijk_from_lps(grid.lps_from_ijk(corners))
    margin = block_size(volume, grid)
    low = np.maximum(np.floor(index.min(axis=0)).astype(int) - margin, 0)
    # The block above the last sample may end up to one and a half blocks beyond it.
    high = np.minimum(np.ceil(index.max(axis=0)).astype(int) + 2 * np.array(margin), volume.array.shape)
    low -= low % margin
    if (low >= high).any():
        return None
    affine = volume.affine.copy()
    affine[:3, 3] = volume.grid.lps_from_ijk(low)
    return Volume(volume.array[tuple(slice(a, b) for a, b in zip(low, high))], affine)


def block_size(volume: Volume, grid: Grid) -> list[int]:
    """Whole voxels of `volume`, along each of its axes, that fit into one voxel of `grid`."""
    ratio = np.abs(np.linalg.inv(volume.affine[:3, :3]) @ grid.affine[:3, :3]).max(axis=1)
    return [int(n) for n in np.clip(np.floor(ratio + 1e-6), 1, volume.array.shape)]
