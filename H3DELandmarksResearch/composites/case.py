"""A composite: a volume of a patient with made teeth and their exact landmarks, from a seed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksResearch.composites.fit import fit_jaw, varied
from H3DELandmarksResearch.composites.framing import draw_view
from H3DELandmarksResearch.composites.patient import Patient
from H3DELandmarksResearch.composites.scanner import as_stored, coarsened, draw_any_scanner
from H3DELandmarksResearch.composites.tissues import STEP_MM, composite_tissues, draw_plan
from H3DELandmarksResearch.phantom.anatomy import Anatomy, draw_anatomy
from H3DELandmarksResearch.phantom.case import visible_landmarks
from H3DELandmarksResearch.phantom.imaging import acquire
from H3DELandmarksResearch.phantom.scene import render
from H3DELandmarksResearch.phantom.scheme import MOLARS

WORST_FIT_MM = 3.0
SIZES = (0.82, 1.2)
TOOTHLESS, LOWER_TOOTHLESS = 0.05, 0.04
# Lattice of the tissues against the voxels of the largest views.
STEP = 1.7
_STREAMS = ("anatomy", "fit", "pose", "teeth", "plan", "framing", "scanner", "texture", "noise", "storage")


@dataclass(frozen=True)
class CompositeCase:
    """A patient's scan with made teeth.

    Attributes:
        volume: int16, axes along L, P, S.
        landmarks: the 14 points of the molars, LPS mm; presence 0 where the molar is missing or out of view.
        fit_mm: how well the phantom's jaw fitted the patient's, see `Fit`.
        anatomy: the teeth and jaws in jaw coordinates.
        pose: (4, 4) jaw coordinates -> LPS mm.
    """

    volume: Volume
    landmarks: LandmarkSet
    fit_mm: float
    anatomy: Anatomy
    pose: np.ndarray


def generate_composite(
    patient: Patient,
    seed: int,
    spacing: float,
    missing: tuple[str, ...] | None = None,
    coarse: bool = False,
    wide: bool = False,
) -> CompositeCase:
    """Make a case; the same patient and numbers give the same voxels and points.

    Args:
        patient: whose jaw holds the teeth.
        seed: of everything that is drawn.
        spacing: voxel size in mm, for views of the jaw; of the head it is 0.8 mm at least.
        missing: names from `MOLARS` to leave out; None lets the seed draw them.
        coarse: store the scan with the voxels of planning CT; its points stay exact.
        wide: let the lower molars vary as widely as in patients.

    Raises:
        InputError: the patient's jaw has a shape that the phantom's cannot take.
    """
    children = np.random.SeedSequence([seed, *patient.name.encode()]).spawn(len(_STREAMS))
    rng = {name: np.random.default_rng(child) for name, child in zip(_STREAMS, children)}
    anatomy = _draw_teeth(int(rng["anatomy"].integers(2**31)), missing, wide, rng["teeth"])
    fit = fit_jaw(patient, anatomy.jaw, rng["fit"])
    sizes = np.linalg.norm(fit.pose[:3, :3], axis=0)
    if fit.residual > WORST_FIT_MM or not SIZES[0] < sizes.min() <= sizes.max() < SIZES[1]:
        raise InputError(f"The jaw of the patient '{patient.name}' has an unusual shape: choose another patient.")
    pose = varied(fit.pose, rng["pose"])
    scanner, is_cone_beam = draw_any_scanner(rng["scanner"])
    framing = draw_view(rng["framing"], pose, spacing, is_cone_beam)
    tissues = partial(composite_tissues, patient, draw_plan(rng["plan"]))
    hu = render(anatomy, framing, rng["texture"], tissues, max(STEP_MM, STEP * framing.grid.spacing[0]))
    volume = Volume(acquire(hu, framing, scanner, rng["noise"]), framing.grid.affine)
    volume = as_stored(volume, rng["noise"])
    if coarse:
        volume = coarsened(volume, rng["storage"])
    return CompositeCase(volume, visible_landmarks(anatomy, framing), fit.residual, anatomy, pose)


def _draw_teeth(seed: int, missing: tuple[str, ...] | None, wide: bool, rng: np.random.Generator) -> Anatomy:
    """A drawn head; in a few of those whose molars are not prescribed, a jaw or both have no tooth."""
    lot = rng.random()
    toothless = missing is None and lot < TOOTHLESS + LOWER_TOOTHLESS
    anatomy = draw_anatomy(seed, MOLARS if toothless else missing, wide)
    if not toothless:
        return anatomy
    return replace(anatomy, lower=(), upper=() if lot < TOOTHLESS else anatomy.upper)
