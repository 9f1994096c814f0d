"""Tissues of a composite: the patient's soft tissue, air and bone, with the phantom's jaws where teeth are to stand.

Planning CT has voxels of several mm. Its edges are made sharp again by reading a signed depth off each value and the
slope around it: bone and air then have the patient's shape and the surface of a fine scan.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter

from H3DELandmarksLib.core.geometry import Grid, Volume, covered_part, resample
from H3DELandmarksResearch.composites.patient import Patient
from H3DELandmarksResearch.phantom.anatomy import Anatomy
from H3DELandmarksResearch.phantom.jaw import JawDepths
from H3DELandmarksResearch.phantom.maxilla import MaxillaDepths
from H3DELandmarksResearch.phantom.scene import Lattice, Texture, Tissues, draw_texture, rough_tissues
from H3DELandmarksResearch.phantom.solids import meet

STEP_MM = 1.2
SMOOTH_MM = 1.6
BONE_HU, AIR_HU = 200.0, -420.0
# Slopes (HU/mm) below which an edge is no edge.
BONE_SLOPE, AIR_SLOPE = 90.0, 150.0
SOFT_LOW, SOFT_HIGH = -250.0, 170.0
FILL_MM = 3.5
CORTEX_MM = 1.5
GUM_MM = 2.2


@dataclass(frozen=True)
class Plan:
    """What of the patient gives way to the phantom.

    Attributes:
        replaced: whether the phantom's mandible takes the place of the patient's; else the two are joined.
        height: up to which z (jaw mm, mouth closed) the phantom's upper jaw reaches.
        mouth_air: whether air lies between the rows of an open mouth.
        contrast: how far soft tissue is parted into fat and muscle, 0 to 1.
    """

    replaced: bool
    height: float
    mouth_air: bool
    contrast: float


def draw_plan(rng: np.random.Generator) -> Plan:
    """Draw how patient and phantom are put together."""
    return Plan(
        replaced=bool(rng.random() < 0.5),
        height=float(rng.choice([26.0, 42.0])),
        mouth_air=bool(rng.random() < 0.6),
        contrast=float(rng.random()),
    )


def composite_tissues(
    patient: Patient, plan: Plan, anatomy: Anatomy, lattice: Lattice, rng: np.random.Generator
) -> Tissues:
    """What surrounds the teeth of a composite.

    Args:
        patient: whose head it is.
        plan: what of it stays.
        anatomy: the phantom in jaw coordinates.
        lattice: where to sample, in the patient.
        rng: stream of textures.
    """
    xs, ys, zs = lattice.x, lattice.y, lattice.z
    texture = draw_texture(lattice.grid.shape, rng)
    jaw, maxilla = anatomy.jaw.depths(xs, ys, zs), anatomy.maxilla.depths(xs, ys, zs)
    body = (resample(Volume(patient.body.astype(np.float32), patient.scan.affine), lattice.grid, 0.0).array - 0.5) * 8
    region = _Region.of(anatomy, plan, lattice, jaw, maxilla, body)
    step = float(lattice.x[1] - lattice.x[0])
    hu = cubic(patient.scan, lattice.grid)
    bone, air = bone_and_air(hu, step)
    soft = soft_tissue(hu, bone, air, plan, texture, step)
    bone = np.minimum(bone, -region.cleared)
    if plan.replaced:
        bone = np.minimum(bone, -mandible_depth(patient, lattice.grid))
    upper = np.minimum(maxilla.bone, region.upper)
    lower = jaw.outer if plan.replaced else meet(jaw.outer, region.behind, 3.0)
    made = np.maximum(lower, upper)
    air = np.minimum(air, -np.maximum(region.upper, region.gums))
    air = np.maximum(air, _made_air(anatomy, plan, lattice, jaw, maxilla, region, texture))
    air = np.minimum(air, -made - np.where(region.upper > 0, 0.0, GUM_MM))
    inner = np.maximum(np.minimum(jaw.inner, lower), np.minimum(maxilla.bone - 1.2, upper))
    spongy = anatomy.jaw.spongy(jaw, texture.coarse + 0.5 * texture.fine, texture.broad, step)
    return rough_tissues(soft, air, np.maximum(made, bone), np.maximum(inner, bone - CORTEX_MM), spongy, texture)


@dataclass(frozen=True)
class _Region:
    """Depths in mm of what the phantom takes over.

    Attributes:
        cleared: where the patient's bone, teeth and metal are taken away.
        upper: the phantom's upper jaw with its cavities.
        gums: what covers the lower jaw's crest.
        behind: in front of where the phantom's lower jaw ends behind its third molars.
    """

    cleared: np.ndarray
    upper: np.ndarray
    gums: np.ndarray
    behind: np.ndarray

    @classmethod
    def of(
        cls, anatomy: Anatomy, plan: Plan, lattice: Lattice, jaw: JawDepths, maxilla: MaxillaDepths, body
    ) -> _Region:
        """The regions of a drawn head; `body` is the depth in mm within the patient's."""
        arc, offset = anatomy.arch.project_lattice(lattice.x, lattice.y)
        end = float(anatomy.arch.arc[-1])
        x, y, z = lattice.x[:, None, None], lattice.y[None, :, None], lattice.z[None, None, :]
        along = meet(20 - offset, end + 2 - np.abs(arc), 4.0)
        crest = float(np.median([tooth.crest for tooth in anatomy.lower] or [-9.0]))
        rows = meet(along, np.minimum(z - crest + 2, 24 - maxilla.z), 3.0)
        vault = meet(np.minimum(35 - np.abs(x), np.minimum(y + 9, 60 - y)), plan.height - maxilla.z, 4.0)
        vault = np.minimum(np.minimum(vault, 9 - offset), body)
        upper = meet(vault, maxilla.z - 2.5, 2.0)
        tongue = meet(np.minimum(-offset, 50 - y), np.minimum(z + 4, 8 - maxilla.z), 3.0)
        cleared = np.maximum(np.maximum(rows, upper), tongue)
        behind = end + 12 - np.abs(arc) + 0 * z
        gums = np.minimum(jaw.outer + GUM_MM, behind)
        return cls(*(np.asarray(d, dtype=np.float32) for d in (cleared, upper, gums, behind)))


def cubic(volume: Volume, grid: Grid) -> np.ndarray:
    """HU on a grid by cubic splines; metal is cut off first, since splines swing beside it."""
    part = covered_part(volume, grid)
    if part is None:
        return np.full(grid.shape, -1024, dtype=np.float32)
    image = sitk.GetImageFromArray(np.clip(part.array, -1024, 1500).astype(np.float32).transpose(2, 1, 0))
    transform = sitk.AffineTransform(3)
    matrix = np.linalg.inv(part.affine) @ grid.affine
    transform.SetMatrix(matrix[:3, :3].ravel().tolist())
    transform.SetTranslation(matrix[:3, 3].tolist())
    where = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), np.eye(3).ravel().tolist()
    result = sitk.Resample(image, grid.shape, transform, sitk.sitkBSpline, *where, -1024.0, sitk.sitkFloat32)
    return sitk.GetArrayFromImage(result).transpose(2, 1, 0)


def bone_and_air(hu: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray]:
    """Signed depths in mm of the patient's bone and air."""
    smooth = gaussian_filter(hu, SMOOTH_MM / step, truncate=2.5)
    squares = sum(np.square(g) for g in np.gradient(smooth, step))
    slope = np.sqrt(squares)
    bone = np.clip((smooth - BONE_HU) / np.maximum(slope, BONE_SLOPE), -9, 6)
    air = np.clip((AIR_HU - smooth) / np.maximum(slope, AIR_SLOPE), -9, 6)
    return bone, air


def soft_tissue(
    hu: np.ndarray, bone: np.ndarray, air: np.ndarray, plan: Plan, texture: Texture, step: float
) -> np.ndarray:
    """HU of soft tissue; where the patient has bone, metal or air, what lies around goes on."""
    valid = ((bone < -0.8) & (air < -0.8)).astype(np.float32)
    values = np.clip(hu, SOFT_LOW, SOFT_HIGH)
    weight = gaussian_filter(valid, FILL_MM / step, truncate=2.5)
    filled = (gaussian_filter(values * valid, FILL_MM / step, truncate=2.5) - 0.3) / (weight + 0.01)
    soft = valid * values + (1 - valid) * filled
    parted = -22 + 78 * np.tanh((soft + 25) / 45)
    return soft + plan.contrast * (parted - soft) + 10 * texture.fine + 8 * texture.broad


def mandible_depth(patient: Patient, grid: Grid) -> np.ndarray:
    """About the depth in mm of the patient's mandible and 3 mm around it."""
    mask = gaussian_filter(patient.mandible.mask.astype(np.float32), 0.5)
    return (resample(Volume(mask, patient.mandible.affine), grid, 0.0).array - 0.12) * 10


def _made_air(anatomy, plan: Plan, lattice: Lattice, jaw, maxilla, region: _Region, texture: Texture) -> np.ndarray:
    """Air in the phantom's nose and sinuses, and in its mouth where the patient's is to be open."""
    cavities = np.minimum(maxilla.air, region.upper)
    if not plan.mouth_air:
        return cavities
    x, y, z = (a.astype(np.float32) for a in np.meshgrid(lattice.x, lattice.y, lattice.z, indexing="ij", sparse=True))
    deep = np.float32(99)
    mouth = anatomy.face.air(x, y, z, jaw, maxilla, deep, texture.broad)
    return np.maximum(cavities, np.minimum(mouth, np.minimum(56 - y, 6 - maxilla.z)))
