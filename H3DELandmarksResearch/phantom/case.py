"""A phantom case: a volume with exact landmarks, from a seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Volume, transform_points
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksResearch.phantom.anatomy import Anatomy, draw_anatomy, random_streams
from H3DELandmarksResearch.phantom.framing import Framing, draw_framing
from H3DELandmarksResearch.phantom.imaging import acquire, draw_scanner
from H3DELandmarksResearch.phantom.scene import render
from H3DELandmarksResearch.phantom.scheme import MOLAR_SCHEME

VOXELS_MM = (0.1, 10.0)


@dataclass(frozen=True)
class PhantomCase:
    """A made scan of a lower jaw with its exact points.

    Attributes:
        volume: int16 HU-like values, axes along L, P, S.
        landmarks: the 14 points of `MOLAR_SCHEME`, LPS mm; presence 0 where the molar is missing or out of view.
        seed: what it was made from.
        description: what the seed drew, JSON-ready.
    """

    volume: Volume
    landmarks: LandmarkSet
    seed: int
    description: dict


def generate_phantom(
    seed: int,
    missing: Sequence[str] | None = None,
    spacing: float | None = None,
    wide: bool = False,
    less_room_mm: float = 0.0,
) -> PhantomCase:
    """Make a case; the same arguments give the same voxels and points.

    Args:
        seed: determines everything that the other arguments do not fix.
        missing: names from `MOLARS` to leave out (empty: none); None lets the seed draw them.
        spacing: isotropic voxel size in mm; None lets the seed draw it.
        wide: let the lower molars vary as widely as in patients.
        less_room_mm: see `draw_anatomy`.

    Raises:
        InputError: `missing` names something else than a lower second or third molar, the seed is negative, or the
            voxel size is none that scans of jaws have.
    """
    if seed < 0:
        raise InputError("The seed must not be negative: choose 0 or more.")
    if spacing is not None and not VOXELS_MM[0] <= spacing <= VOXELS_MM[1]:
        raise InputError(f"Voxels cannot be {spacing:g} mm large: choose {VOXELS_MM[0]:g} to {VOXELS_MM[1]:g} mm.")
    streams = random_streams(seed)
    anatomy = draw_anatomy(seed, missing, wide, less_room_mm)
    framing = draw_framing(streams["framing"], spacing)
    scanner = draw_scanner(streams["scanner"])
    hu = render(anatomy, framing, streams["texture"])
    volume = Volume(acquire(hu, framing, scanner, streams["noise"]), framing.grid.affine)
    return PhantomCase(volume, visible_landmarks(anatomy, framing), seed, _describe(anatomy, framing, scanner))


def visible_landmarks(anatomy: Anatomy, framing: Framing) -> LandmarkSet:
    """The points of the scheme that exist and lie in the field of view, LPS mm."""
    found = anatomy.landmarks()
    positions = np.array([found.get(name, np.full(3, np.nan)) for name in MOLAR_SCHEME.names])
    positions = transform_points(framing.pose, positions)
    positions[~framing.sees(positions)] = np.nan
    return LandmarkSet(
        MOLAR_SCHEME.names,
        positions,
        np.isfinite(positions).all(axis=1).astype(float),
        definitions=tuple(landmark.definition for landmark in MOLAR_SCHEME.landmarks),
    )


def _describe(anatomy: Anatomy, framing: Framing, scanner) -> dict:
    """What was drawn, in words and numbers for a case file."""
    return {
        "missing": list(anatomy.missing),
        "teeth": [tooth.name for tooth in (*anatomy.lower, *anatomy.upper)],
        "restorations": {t.name: t.restoration for t in (*anatomy.lower, *anatomy.upper) if t.restoration},
        "impacted": [tooth.name for tooth in anatomy.lower if tooth.buried],
        "mouth_opening_mm": round(float(anatomy.gap), 2),
        "spacing_mm": [round(float(s), 4) for s in framing.grid.spacing],
        "field_of_view_mm": [round(float(s), 2) for s in framing.grid.extent],
        "round_view": framing.radius is not None,
        "blur_mm": round(scanner.blur, 3),
        "noise_hu": round(scanner.noise, 1),
    }
