"""Where the phantom's jaw lies in a patient: the pose and size that bring its bone onto the bone of the mandible."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import map_coordinates
from scipy.optimize import least_squares
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from H3DELandmarksLib.core.geometry import transform_points
from H3DELandmarksResearch.composites.patient import Patient
from H3DELandmarksResearch.phantom.jaw import Jaw
from H3DELandmarksResearch.phantom.toothshapes import jitter

# Occlusal plane against mandibular plane of the phantom: how much its lower border climbs from chin to angle.
PLANES_DEGREES = 12.0
LATTICE_MM = 2.0
POINTS = 500
# What lies higher than this above the lower incisal edges is ramus and no longer fitted.
HIGHEST_MM = 4.0
FARTHEST_MM = 8.0
# Standard deviations of size and of breadth relative to length, as logarithms.
SIZE, BREADTH = 0.06, 0.03


@dataclass(frozen=True)
class Fit:
    """The phantom's place in a patient.

    Attributes:
        pose: (4, 4) jaw coordinates (mm) -> LPS mm, rotation and a scale along each axis.
        residual: root mean square distance in mm by which the two bones miss each other.
    """

    pose: np.ndarray
    residual: float


class _JawField:
    """Signed depth in the phantom's jaw anywhere, and points in its body."""

    def __init__(self, jaw: Jaw) -> None:
        self.low = np.array([-66.0, -10.0, -50.0])
        axes = [np.arange(low, high, LATTICE_MM) for low, high in zip(self.low, (66.0, 104.0, 24.0))]
        self.depth = jaw.depths(*axes).outer
        inside = self.low + LATTICE_MM * np.argwhere(self.depth > 0)
        self.points = inside[inside[:, 2] < HIGHEST_MM - 8]

    def outside(self, points: np.ndarray) -> np.ndarray:
        """(N,) mm by which (N, 3) jaw coordinates lie outside the bone."""
        index = (points - self.low).T / LATTICE_MM
        return np.maximum(-map_coordinates(self.depth, index, order=1, mode="nearest"), 0)


def fit_jaw(patient: Patient, jaw: Jaw, rng: np.random.Generator) -> Fit:
    """Fit the phantom's jaw to a patient's mandible.

    Args:
        patient: whose mandible it is.
        jaw: of the phantom.
        rng: chooses the points that are compared.
    """
    field, tree = _JawField(jaw), cKDTree(patient.bone)
    bone = rng.choice(patient.bone, min(POINTS, len(patient.bone)), replace=False)
    own = rng.choice(field.points, min(POINTS, len(field.points)), replace=False)
    start = _first_pose(patient, field.points)

    def misses(values: np.ndarray) -> np.ndarray:
        pose = _changed(start, values)
        local = transform_points(np.linalg.inv(pose), bone)
        out = field.outside(local) * (local[:, 2] < HIGHEST_MM)
        beyond = np.maximum(tree.query(transform_points(pose, own))[0] - 1.2, 0)
        return np.concatenate([out, beyond]).clip(0, FARTHEST_MM)

    def residuals(values: np.ndarray) -> np.ndarray:
        prior = values[6:] / (SIZE, BREADTH) * np.sqrt(0.3 * POINTS)
        return np.concatenate([misses(values), prior])

    best = least_squares(residuals, np.zeros(8), loss="soft_l1", f_scale=2.0, diff_step=1e-3, x_scale=_STEPS).x
    return Fit(_changed(start, best), float(np.sqrt((misses(best) ** 2).mean())))


_STEPS = np.array([4, 4, 4, 0.1, 0.1, 0.1, 0.06, 0.06])


def _first_pose(patient: Patient, points: np.ndarray) -> np.ndarray:
    """The phantom with its mandibular plane in the patient's, chin on chin."""
    lean = Rotation.from_euler("x", -PLANES_DEGREES, degrees=True).as_matrix()
    local, own = patient.frame.local(patient.bone), points @ lean.T
    move = np.percentile(local, 1, axis=0) - np.percentile(own, 1, axis=0)
    move[0] = 0
    pose = np.eye(4)
    pose[:3, :3] = patient.frame.axes @ lean
    pose[:3, 3] = patient.frame.lps(move)
    return pose


def _changed(pose: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A pose after a shift (mm) and a turn (rotation vector) in its own axes, with logarithms of size and breadth."""
    size, breadth = np.exp(values[6]), np.exp(values[7])
    own = np.eye(4)
    own[:3, :3] = Rotation.from_rotvec(values[3:6]).as_matrix() * (size * breadth, size, size)
    own[:3, 3] = values[:3]
    return pose @ own


def varied(pose: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A fitted pose changed a little: by about 1 mm, 2 degrees and 2 %."""
    shift, turn = ([jitter(rng, scale) for _ in range(3)] for scale in (1.0, np.radians(1.5)))
    return _changed(pose, np.array([*shift, *turn, jitter(rng, 0.015), jitter(rng, 0.01)]))
