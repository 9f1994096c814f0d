"""A patient's head with another person's mandible, whose surface is known exactly, in voxels finer than the patient's.

Meant for the mandible of OpenMandible (Vukicevic et al., Computer Methods and Programs in Biomedicine 206:106107, 2021,
github.com/ArsoVukicevic/OpenMandible), without teeth: ``CorticalBone.1.node`` and ``CorticalBone.1.ele`` in one folder,
as tetgen writes them. It is deformed affinely onto the patient's points. No mesh is part of this project.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import binary_closing, binary_fill_holes, distance_transform_edt, gaussian_filter, label

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Volume, crop_grid, field_of_view_grid, resample
from H3DELandmarksResearch.composites.patient import Patient
from H3DELandmarksResearch.composites.tissues import Plan, bone_and_air, cubic, mandible_depth, soft_tissue
from H3DELandmarksResearch.head_neck.contours import Contour
from H3DELandmarksResearch.head_neck.mandible import mandible_points
from H3DELandmarksResearch.phantom.scene import draw_texture
from H3DELandmarksResearch.phantom.solids import coverage, mix

MESH = "CorticalBone.1"
LATTICE_MM, MARGIN_MM, SMOOTH_MM = 0.4, 6.0, 0.6
# Samples along an edge of a tetrahedron, of less than 3 mm.
SAMPLES = 8
OUTSIDE = -9.0
VIEW_MM, VIEW_SHIFT_MM = np.array([170.0, 185.0, 200.0]), np.array([0.0, 8.0, 0.0])
JOINT_MM, CORTEX_MM = 2.0, 1.6
AIR_HU, CORTEX_HU, SPONGY_HU = -1000.0, 1350.0, 350.0
# Pieces of bone smaller than this (mm3) are what is left of the patient's own mandible.
REMNANT_MM3 = 8000.0
LEAST_POINTS = 5


@dataclass(frozen=True)
class MandibleCase:
    """A scan with a mandible of known surface.

    Attributes:
        volume: int16, axes along L, P, S.
        points: LPS mm by name, by the rules of the labels from the exact surface; NaN where they give none.
    """

    volume: Volume
    points: dict[str, np.ndarray]


def read_mandible(folder: Path) -> Volume:
    """Signed depth in mm, positive inside, of a tetrahedral mesh in LPS mm; its inside is filled.

    Raises:
        InputError: the files are not there.
    """
    try:
        nodes, corners = (_numbers(folder / f"{MESH}.{kind}") for kind in ("node", "ele"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"'{folder}' holds no {MESH}.node and .ele: give the folder of OpenMandible's mesh."
        ) from error
    nodes, corners = nodes[:, :3], corners[:, :4].astype(int) - int(corners[:, :4].min())
    low = nodes.min(axis=0) - MARGIN_MM
    inside = np.zeros(np.ceil((nodes.max(axis=0) + MARGIN_MM - low) / LATTICE_MM).astype(int), dtype=bool)
    steps = np.array(np.meshgrid(*[np.arange(SAMPLES + 1)] * 3, indexing="ij")).reshape(3, -1).T
    steps = steps[steps.sum(axis=1) <= SAMPLES]
    shares = np.concatenate([steps, SAMPLES - steps.sum(axis=1, keepdims=True)], axis=1) / SAMPLES
    for part in np.array_split(corners, 200):
        places = np.einsum("bv,tvx->tbx", shares, nodes[part]).reshape(-1, 3)
        inside[tuple(np.round((places - low) / LATTICE_MM).astype(int).T)] = True
    inside = binary_fill_holes(binary_closing(inside, iterations=2))
    depth = (distance_transform_edt(inside) - distance_transform_edt(~inside)) * LATTICE_MM
    affine = np.diag([LATTICE_MM] * 3 + [1.0])
    affine[:3, 3] = low
    return Volume(gaussian_filter(depth, SMOOTH_MM / LATTICE_MM).astype(np.float32), affine)


def _numbers(path: Path) -> np.ndarray:
    """Rows of a file of tetgen, without their numbers."""
    rows = [line.split()[1:] for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]
    return np.array(rows[1:], dtype=float)


def points_on(depth: Volume) -> dict[str, np.ndarray]:
    """The points of a mandible, LPS mm, by the rules of the labels on its own lattice."""
    mask = depth.array > 0
    return mandible_points(Contour(mask, depth.affine, depth.grid.lps_from_ijk(np.argwhere(mask)[::3])))


def mandible_case(patient: Patient, mesh: Volume, spacing: float, noise: float, blur: float, seed: int) -> MandibleCase:
    """Put a mandible into a patient.

    Args:
        patient: whose head it is.
        mesh: depth as `read_mandible` gives it.
        spacing: edge of the voxels, mm.
        noise: standard deviation, HU.
        blur: standard deviation of the scanner's, mm.
        seed: of texture and noise.

    Raises:
        InputError: the patient's contour tells too few points.
    """
    own, wanted = points_on(mesh), mandible_points(patient.mandible, patient.scan)
    names = [name for name in own if np.isfinite([own[name], wanted[name]]).all()]
    if len(names) < LEAST_POINTS:
        raise InputError(f"The mandible of the patient '{patient.name}' is not drawn whole: choose another patient.")
    pose = _affine(np.array([own[name] for name in names]), np.array([wanted[name] for name in names]))
    size = float(np.linalg.det(pose[:3, :3]) ** (1 / 3))
    placed = Volume(mesh.array * np.float32(size), pose @ mesh.affine)
    rng = np.random.default_rng(seed)
    center = np.mean([wanted[name] for name in names], axis=0) + VIEW_SHIFT_MM
    grid = crop_grid(center, np.eye(3), spacing, tuple(np.round(VIEW_MM / spacing).astype(int)))
    depth = resample(placed, grid, OUTSIDE, average=False).array
    hu = cubic(patient.scan, grid)
    bone, air = bone_and_air(hu, spacing)
    texture = draw_texture(grid.shape, rng)
    hu = soft_tissue(hu, bone, air, Plan(True, 0.0, False, 0.5), texture, spacing)
    bone = np.minimum(bone, np.minimum(-mandible_depth(patient, grid), -depth - JOINT_MM))
    pieces, _ = label(bone > 0)
    sizes = np.bincount(pieces.ravel()) * spacing**3
    outer = np.maximum(np.where(sizes[pieces] < REMNANT_MM3, OUTSIDE, bone), depth)
    mix(hu, AIR_HU, coverage(np.minimum(air, -depth - JOINT_MM), spacing))
    mix(hu, CORTEX_HU, coverage(outer, spacing))
    mix(hu, SPONGY_HU + 80 * texture.coarse, coverage(outer - CORTEX_MM, spacing))
    hu = gaussian_filter(hu, blur / spacing) + rng.normal(0, noise, hu.shape)
    fine = resample(placed, field_of_view_grid(placed.grid, 0.5, np.eye(3)), OUTSIDE, average=False)
    return MandibleCase(Volume(np.clip(hu, -1024, 3071).astype(np.int16), grid.affine), points_on(fine))


def _affine(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(4, 4) least-squares affine transform of (N, 3) points."""
    rows, *_ = np.linalg.lstsq(np.c_[source, np.ones(len(source))], target, rcond=None)
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rows[:3].T, rows[3]
    return pose
