"""Attenuation along the rays of a cone beam."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksResearch.radiographs.cone_beam import ConeBeam

MOST_PARTS = 4


def line_integrals(attenuation: Volume, beam: ConeBeam, step: float = 1.0) -> np.ndarray:
    """Integrate a volume along the rays from the source to the centers of the detector's pixels.

    Planes parallel to the detector are sampled one after another: the rays meet such a plane in an affine grid, so each
    is one linear interpolation by SimpleITK, and memory holds one radiograph and no cone of samples. Pixels whose
    shadow is wider than a voxel are cut into parts (up to 4 along each axis) and averaged.

    Args:
        attenuation: linear attenuation coefficients, 1/mm; 0 outside the volume.
        beam: source and detector, in the space of the volume.
        step: distance of the planes in voxels (of the smallest edge).

    Returns:
        (X, Y) float32 line integrals, no unit.

    Raises:
        InputError: the source lies among the voxels.
    """
    part = _attenuating_part(attenuation)
    if part is None:
        return np.zeros(beam.shape, dtype=np.float32)
    near, far = _depths(part, beam)
    parts = _pixel_parts(part, beam, (near + far) / 2)
    fine = beam.refined(parts)
    planes = max(1, int(np.ceil((far - near) * beam.source_to_detector / (step * part.spacing.min()))))
    width = (far - near) / planes
    total = _sum_of_planes(part, fine, near + width * (np.arange(planes) + 0.5))
    lines = total * (width * fine.pixel_distances()).astype(np.float32)
    return lines.reshape(beam.shape[0], parts[0], beam.shape[1], parts[1]).mean(axis=(1, 3))


def _attenuating_part(volume: Volume) -> Volume | None:
    """The smallest block of voxels around all that attenuate, with a margin of one; None where nothing does."""
    solid = volume.array > 0
    slices = []
    for axis in range(3):
        where = np.flatnonzero(solid.any(axis=tuple(a for a in range(3) if a != axis)))
        if len(where) == 0:
            return None
        slices.append(slice(max(int(where[0]) - 1, 0), int(where[-1]) + 2))
    affine = volume.affine.copy()
    affine[:3, 3] = volume.grid.lps_from_ijk([s.start for s in slices])
    return Volume(volume.array[tuple(slices)], affine)


def _depths(volume: Volume, beam: ConeBeam) -> tuple[float, float]:
    """Where the volume begins and ends between source (0) and detector (1)."""
    edges = np.array(np.meshgrid(*([-0.5, n - 0.5] for n in volume.array.shape), indexing="ij")).reshape(3, -1).T
    depths = (volume.grid.lps_from_ijk(edges) - beam.source) @ beam.toward / beam.source_to_detector
    near, far = float(depths.min()), float(min(depths.max(), 1.0))
    if near <= 0:
        raise InputError("The X-ray source lies inside the scan or behind it: move the source farther away.")
    return near, max(far, near)


def _pixel_parts(volume: Volume, beam: ConeBeam, depth: float) -> tuple[int, int]:
    ratio = beam.spacing * depth / volume.spacing.min()
    return tuple(int(n) for n in np.clip(np.ceil(ratio - 0.05), 1, MOST_PARTS))


def _sum_of_planes(volume: Volume, beam: ConeBeam, depths: np.ndarray) -> np.ndarray:
    """(X, Y) sum of the values that the rays meet at the given depths, from source (0) to detector (1)."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.array.transpose(2, 1, 0), dtype=np.float32))
    inverse = np.linalg.inv(volume.affine)
    pixels = np.stack([beam.right * beam.spacing[0], beam.down * beam.spacing[1], beam.toward], axis=1)
    size, transform = (*beam.shape, 1), sitk.AffineTransform(3)
    total = np.zeros(beam.shape[::-1], dtype=np.float32)
    for depth in depths:
        first = beam.source + depth * (beam.corner - beam.source)
        transform.SetMatrix((inverse[:3, :3] @ pixels * [depth, depth, 1.0]).ravel().tolist())
        transform.SetTranslation((inverse[:3, :3] @ first + inverse[:3, 3]).tolist())
        plane = sitk.Resample(
            image,
            size,
            transform,
            sitk.sitkLinear,
            (0.0, 0.0, 0.0),
            (1.0, 1.0, 1.0),
            np.eye(3).ravel().tolist(),
            0.0,
            sitk.sitkFloat32,
        )
        total += sitk.GetArrayViewFromImage(plane)[0]
    return total.T
