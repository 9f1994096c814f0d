"""The 14 points of the lower molars and their names.

The published MML set places points L0, La..Lf, R0, Ra..Rf on crowns and roots of the lower second and third molars;
its own exact definitions are not available, so the definitions here are this project's.
"""

from __future__ import annotations

from H3DELandmarksLib.core.landmarks import LandmarkDefinition, LandmarkScheme

MOLARS = ("L-M2", "L-M3", "R-M2", "R-M3")
PHANTOM = "phantom-"  # names of scans that this software has made begin so

_FOSSA = (
    "Central fossa of the crown of the patient's {side} lower {tooth} molar: the deepest point, along the long axis of"
    " the crown, of the basin that the cusps enclose on the occlusal surface (of enamel or of a restoration)."
)
_FURCATION = (
    "Root furcation of the patient's {side} lower {tooth} molar: the point on the roof of the furcation, where the"
    " root trunk divides, midway between mesial and distal root and between its buccal and lingual openings."
)
_APEX = (
    "Apex of the {root} root of the patient's {side} lower {tooth} molar: the end of the root that is farthest from"
    " the crown; mesial and distal follow the tooth's own axes, also where it is tilted; fused roots keep an apex each."
)


def _side_definitions(letter: str, side: str) -> list[LandmarkDefinition]:
    texts = {
        "0": _FOSSA.format(side=side, tooth="second"),
        "a": _FURCATION.format(side=side, tooth="second"),
        "b": _APEX.format(root="mesial", side=side, tooth="second"),
        "c": _APEX.format(root="distal", side=side, tooth="second"),
        "d": _FOSSA.format(side=side, tooth="third"),
        "e": _APEX.format(root="mesial", side=side, tooth="third"),
        "f": _APEX.format(root="distal", side=side, tooth="third"),
    }
    return [LandmarkDefinition(letter + suffix, text) for suffix, text in texts.items()]


def _molar_scheme() -> LandmarkScheme:
    left, right = _side_definitions("L", "left"), _side_definitions("R", "right")
    pairs = tuple((a.name, b.name) for a, b in zip(left, right))
    return LandmarkScheme("mandibular-molars-14", "1.0", (*left, *right), pairs)


MOLAR_SCHEME = _molar_scheme()
