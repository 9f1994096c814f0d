"""A patient whose jaw is to hold made teeth: the scan, and the bone of the mandible that clinicians have contoured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import binary_dilation, binary_erosion, distance_transform_edt, label

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Volume, canonical
from H3DELandmarksLib.io.isolated import read_volume
from H3DELandmarksResearch.head_neck import ORGANS
from H3DELandmarksResearch.head_neck.contours import BLANK_HU, Contour, bone_within, contour
from H3DELandmarksResearch.head_neck.mandible import LEAST_HEIGHT_MM, THIN_BONE, Frame, mandible_frame

SHELL_MM = 8.0
AIR_HU = -700.0
LARGEST_BLANK_SHARE = 0.12


@dataclass(frozen=True)
class Patient:
    """A head with its lower jaw.

    Attributes:
        name: of the patient.
        scan: CT in Hounsfield units, axes along L, P, S.
        mandible: the clinicians' contour.
        bone: (N, 3) LPS mm, a lattice of points within the mandible's bone.
        frame: the mandible's axes.
        body: (I, J, K) bool, voxels of the scan that are not the air around the head, or parts set to air.
    """

    name: str
    scan: Volume
    mandible: Contour
    bone: np.ndarray
    frame: Frame
    body: np.ndarray


def read_patient(folder: Path, name: str) -> Patient:
    """Read ``NAME_ct.nii.gz`` and ``NAME_organs.nii.gz``.

    Raises:
        InputError: a file is missing or damaged, or the patient's jaw cannot hold teeth, see `patient_of`.
    """
    volumes = (read_volume(Path(folder) / f"{name}_{kind}.nii.gz") for kind in ("ct", "organs"))
    return patient_of(name, *volumes)


def patient_of(name: str, scan: Volume, organs: Volume) -> Patient:
    """A patient from CT and label volume of one size.

    Raises:
        InputError: the mandible is not contoured, is a fragment, or what lies around it was set to air.
    """
    scan, organs = canonical(scan), canonical(organs)
    mandible = contour(organs, ORGANS["mandible"])
    if mandible is None:
        raise InputError(f"The patient '{name}' has no contour of the mandible: choose another one.")
    bone = bone_within(mandible, scan, *THIN_BONE)
    frame = mandible_frame(bone) if mandible.height_mm >= LEAST_HEIGHT_MM else None
    if frame is None:
        raise InputError(f"The mandible of the patient '{name}' is a fragment: choose another patient.")
    away = distance_transform_edt(~mandible.mask, sampling=scan.spacing)
    blank = scan.array[(away > 0) & (away < SHELL_MM)] < BLANK_HU
    if blank.mean() > LARGEST_BLANK_SHARE:
        raise InputError(f"The surroundings of the jaw of the patient '{name}' were erased: choose another patient.")
    return Patient(name, scan, mandible, bone, frame, _body(scan.array))


def _body(array: np.ndarray) -> np.ndarray:
    """Everything but the largest piece of air, which openings narrower than two voxels do not join to cavities."""
    pieces, count = label(binary_erosion(array < AIR_HU, border_value=1))
    if count == 0:
        return np.ones(array.shape, dtype=bool)
    largest = 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
    return ~(binary_dilation(pieces == largest) & (array < AIR_HU))
