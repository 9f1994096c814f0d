"""The published sets of radiographs with landmarks: names of the points and what is known of the pixel size.

Sources: ISBI2015 (Wang et al., Medical Image Analysis 31:63, 2016); CEPHA29 = ISBI2023 (Khalid et al., arXiv
2212.04808); hand (Payer et al., Medical Image Analysis 54:207, 2019); CephAdoAdu (Wu et al., MICCAI 2024); pelvis
(CGMH pelvis, HYATT-Net's own 10 points).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RadiographSet:
    """What a set defines.

    Attributes:
        names: landmarks in the order of the keypoints.
        spacing: pixel size in mm where the whole set has one.
        reference: two landmarks and their distance in mm, where the set defines millimeters by it.
    """

    names: tuple[str, ...]
    spacing: float | None = None
    reference: tuple[str, str, float] | None = None


def _numbered(count: int) -> tuple[str, ...]:
    return tuple(str(k + 1) for k in range(count))


RADIOGRAPH_SETS = {
    "isbi2015": RadiographSet(
        (
            "sella",
            "nasion",
            "orbitale",
            "porion",
            "subspinale",
            "supramentale",
            "pogonion",
            "menton",
            "gnathion",
            "gonion",
            "lower incisal incision",
            "upper incisal incision",
            "upper lip",
            "lower lip",
            "subnasale",
            "soft-tissue pogonion",
            "posterior nasal spine",
            "anterior nasal spine",
            "articulare",
        ),
        spacing=0.1,
    ),
    "cepha29": RadiographSet(
        (
            "A-point",
            "anterior nasal spine",
            "B-point",
            "menton",
            "nasion",
            "orbitale",
            "pogonion",
            "posterior nasal spine",
            "pronasale",
            "ramus",
            "sella",
            "articulare",
            "condylion",
            "gnathion",
            "gonion",
            "porion",
            "lower second premolar cusp tip",
            "lower incisor tip",
            "lower molar cusp tip",
            "upper second premolar cusp tip",
            "upper incisor apex",
            "upper incisor tip",
            "upper molar cusp tip",
            "lower incisor apex",
            "labrale inferius",
            "labrale superius",
            "soft-tissue nasion",
            "soft-tissue pogonion",
            "subnasale",
        )
    ),
    "hand": RadiographSet(_numbered(37), reference=("1", "5", 50.0)),
    "cephadoadu": RadiographSet(_numbered(10)),
    "pelvis": RadiographSet(_numbered(10)),
}
