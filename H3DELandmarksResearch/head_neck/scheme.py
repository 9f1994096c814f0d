"""The eleven points of the head and neck, in words that can be checked on a contour.

The mandible's own frame, in which its points are defined, does not depend on how the head is tilted: the mandibular
plane touches the lower border of the jaw at the chin and at the angles; "back" runs in it from chin to angles, "up" is
perpendicular to it, and "left" joins the paired points of both sides.

Version 1.0 placed menton midway between the paired points, and took all points of the mandible from the contour alone,
not from the bone that the scan shows in it.
"""

from __future__ import annotations

from H3DELandmarksLib.core.landmarks import LandmarkDefinition, LandmarkScheme

# Values of a label volume.
ORGANS = {"brainstem": 1, "spinal cord": 2, "parotid-R": 3, "parotid-L": 4, "esophagus": 5, "larynx": 6, "mandible": 7}

_GONION = (
    "Gonion, patient's {side}: the point of the jaw's angle that lies farthest back and down, in the direction 60"
    " degrees below the mandibular plane's backward direction (about the bisector of the angle)."
)
_CONDYLION = (
    "Condylion, patient's {side}: the point of the mandibular condyle that lies farthest up and back, in the direction"
    " 58 degrees above the mandibular plane's backward direction (about that of the ramus)."
)
_CORONOID = (
    "Tip of the coronoid process, patient's {side}: the point of the ramus in front of the mandibular notch that lies"
    " highest above the mandibular plane."
)
_PAROTID = "Centroid of the patient's {side} parotid gland as clinicians contour it."
_TEXTS = {
    "menton": "Menton: the lowest point of the chin above the mandibular plane, midway between the left and right"
    " surfaces of the front of the jaw; where the border is flat, the middle of the flat part from front to back.",
    "gonion-L": _GONION.format(side="left"),
    "gonion-R": _GONION.format(side="right"),
    "condylion-L": _CONDYLION.format(side="left"),
    "condylion-R": _CONDYLION.format(side="right"),
    "coronoid-L": _CORONOID.format(side="left"),
    "coronoid-R": _CORONOID.format(side="right"),
    "parotid-L": _PAROTID.format(side="left"),
    "parotid-R": _PAROTID.format(side="right"),
    "larynx": "Centroid of the larynx as clinicians contour it for radiotherapy, air included.",
    "brainstem": "Centroid of the brainstem (midbrain, pons and medulla oblongata) as clinicians contour it.",
}
_PAIRS = tuple((f"{name}-L", f"{name}-R") for name in ("gonion", "condylion", "coronoid", "parotid"))

HEAD_NECK_SCHEME = LandmarkScheme(
    "head-neck-11", "1.1", tuple(LandmarkDefinition(name, text) for name, text in _TEXTS.items()), _PAIRS
)
