"""Subjects to take radiographs of: specimens with points, and phantoms without a scanner's faults."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Volume, crop_grid
from H3DELandmarksLib.core.landmarks import LandmarkScheme, LandmarkSet
from H3DELandmarksResearch.phantom.anatomy import draw_anatomy, random_streams
from H3DELandmarksResearch.phantom.case import visible_landmarks
from H3DELandmarksResearch.phantom.framing import Framing
from H3DELandmarksResearch.phantom.scene import render
from H3DELandmarksResearch.radiographs.case import Subject

JAW_CENTER = np.array([0.0, 50.0, -12.0])
JAW_EXTENT = np.array([150.0, 140.0, 110.0])


def specimen_subject(
    name: str, volume: Volume, landmarks: LandmarkSet, scheme: LandmarkScheme, axes: Mapping | None
) -> Subject:
    """A scan with points; its axes come from them, so that the pose in the scanner does not matter.

    Args:
        name: identifier.
        volume: the scan.
        landmarks: LPS mm, in the order of the scheme.
        scheme: names the left/right pairs.
        axes: names of two midline points, ``front`` and ``back``; None takes the patient's axes of the scan.
    """
    points = landmarks.positions[landmarks.present]
    if len(points) == 0:
        return Subject(name, volume, landmarks, np.eye(3), volume.grid.center)
    directions = np.eye(3) if axes is None else anatomical_axes(landmarks, scheme, axes["front"], axes["back"])
    local = points @ directions
    return Subject(name, volume, landmarks, directions, directions @ (local.min(axis=0) + local.max(axis=0)) / 2)


def anatomical_axes(landmarks: LandmarkSet, scheme: LandmarkScheme, front: str, back: str) -> np.ndarray:
    """(3, 3) columns left, posterior, superior: along the pairs, from front to back across that, and their product.

    Raises:
        InputError: the two points, or all pairs, are missing.
    """
    position = dict(zip(landmarks.names, landmarks.positions))
    nothing = np.full(3, np.nan)
    across = np.array([position[left] - position[right] for left, right in scheme.pairs]).reshape(-1, 3)
    across = across[np.isfinite(across).all(axis=1)]
    along = position.get(back, nothing) - position.get(front, nothing)
    if len(across) == 0 or not np.isfinite(along).all():
        raise InputError(f"The case lacks the points {front} and {back}, or every left/right pair: place them first.")
    left = across.sum(axis=0) / np.linalg.norm(across.sum(axis=0))
    posterior = along - (along @ left) * left
    posterior /= np.linalg.norm(posterior)
    return np.stack([left, posterior, np.cross(left, posterior)], axis=1)


def phantom_subject(seed: int, spacing: float = 0.6) -> Subject:
    """The jaw of a phantom, whole and free of noise, in the axes of the jaw.

    Args:
        seed: the anatomy is that of the phantom scan of this seed; so is the name, for a split by subject.
        spacing: of the voxels, mm.
    """
    shape = tuple(int(n) for n in np.round(JAW_EXTENT / spacing))
    framing = Framing(np.eye(4), crop_grid(JAW_CENTER, np.eye(3), spacing, shape), None)
    anatomy = draw_anatomy(seed)
    hu = render(anatomy, framing, random_streams(seed)["texture"])
    volume = Volume(hu, framing.grid.affine)
    return Subject(f"phantom-{seed}", volume, visible_landmarks(anatomy, framing), np.eye(3), JAW_CENTER)
