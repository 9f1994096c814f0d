"""The upper jaw as far as a scan of the lower one shows it: alveolar process, palate, nasal floor and sinuses."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from H3DELandmarksResearch.phantom.curves import PlanarCurve
from H3DELandmarksResearch.phantom.jaw import Profile
from H3DELandmarksResearch.phantom.solids import ellipsoid, join, meet
from H3DELandmarksResearch.phantom.teeth import Tooth
from H3DELandmarksResearch.phantom.toothshapes import jitter

_CONDYLE_Y = 95.0


def opening(gap: float, y: np.ndarray) -> np.ndarray:
    """How far the upper jaw is lifted at depth y (mm) when the incisors are `gap` mm apart: a hinge at the condyles."""
    return gap * (1 - np.asarray(y) / _CONDYLE_Y)


def hung_up(tooth: Tooth, gap: float) -> Tooth:
    """An upper tooth lifted by the opening of the mouth."""
    lift = float(opening(gap, tooth.origin[1]))
    return replace(tooth, origin=tooth.origin + (0, 0, lift), crest=tooth.crest + lift)


@dataclass(frozen=True)
class Maxilla:
    """The upper jaw's bone.

    Attributes:
        arch: of the upper teeth.
        crest: z of the alveolar crest along the arch, mouth closed.
        half: half thickness of the process at the crest, mm.
        palate: z of the vault's top at the midline, mouth closed.
        sinus_floor: z of the floor of the maxillary sinuses.
        gap: opening of the mouth.
    """

    arch: PlanarCurve
    crest: Profile
    half: Profile
    palate: float
    sinus_floor: float
    gap: float

    def depths(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> MaxillaDepths:
        """Depths on the lattice spanned by the coordinates x, y, z (1D, jaw mm)."""
        arc, offset = self.arch.project_lattice(x, y)
        x, y = (a.astype(np.float32) for a in (x[:, None, None], y[None, :, None]))
        z = z[None, None].astype(np.float32) - opening(self.gap, y).astype(np.float32)
        process = self._process(arc, offset, z)
        palate = self._palate(x, y, z, offset)
        sinus = np.maximum(
            *(ellipsoid(x, y, z, (side * 25, 44, self.sinus_floor + 15), (11, 19, 15)) for side in (1, -1))
        )
        nose = self._nose(x, y, z)
        bone = meet(join(process, palate, 5.0), -join(sinus, nose, 1.0), 0.5)
        walls = np.minimum(1.1 - np.abs(sinus + 1.1), 60 - z)
        velum = self._soft_palate(x, y, z)
        return MaxillaDepths(
            join(bone, walls, 1.0), np.minimum(join(sinus, nose, 0.5), -velum), velum, offset + 0 * z, z
        )

    def _process(self, arc, offset, z) -> np.ndarray:
        height = z - self.crest(arc)
        half = self.half(arc) + 0.16 * np.clip(height, 0, 20)
        wall = half - np.abs(offset + 0.18 * np.clip(height, 0, 20))
        ends = np.minimum(arc - self.crest.arc[0], self.crest.arc[-1] - arc)
        return meet(meet(wall, height, 3.0), np.minimum(26 - z, ends), 3.0)

    def _palate(self, x, y, z, offset) -> np.ndarray:
        vault = self.palate - 0.016 * x * x - 0.09 * np.clip(14 - y, 0, 20) ** 1.4
        plate = 1.5 - np.abs(z - vault)
        return np.minimum(np.minimum(plate, 4 - offset), np.minimum(50 - y, 20 - np.abs(x)))

    def _soft_palate(self, x, y, z) -> np.ndarray:
        """The velum, which hangs from the back of the hard palate."""
        behind = np.clip(y - 48, 0, 40)
        sheet = 3.4 - 0.05 * behind - np.abs(z - self.palate + 0.5 + 0.022 * behind * behind + 0.01 * x * x)
        return meet(sheet, np.minimum(np.minimum(y - 44, 77 - y), 17 - np.abs(x)), 2.0)

    def _nose(self, x, y, z) -> np.ndarray:
        cavity = meet(13 - np.abs(x), np.minimum(z - self.palate - 2.2, np.minimum(y - 4, 76 - y)), 4.0)
        septum = 1.3 - np.abs(x)
        shells = ellipsoid(np.abs(x), y, z, (9.5, 32, self.palate + 8), (4, 22, 4))
        return np.minimum(cavity, -np.maximum(septum, shells))


@dataclass(frozen=True)
class MaxillaDepths:
    """Depths in mm of bone, air and soft palate; offset from the arch, and z as if the mouth were closed."""

    bone: np.ndarray
    air: np.ndarray
    velum: np.ndarray
    offset: np.ndarray
    z: np.ndarray


def draw_maxilla(arch: PlanarCurve, upper: list[Tooth], gap: float, rng: np.random.Generator) -> Maxilla:
    """Draw the upper jaw around its teeth (given as if the mouth were closed)."""
    crest, half = {"R": [], "L": []}, {"R": [], "L": []}
    reach = 0.0
    for tooth in upper:
        side, kind = tooth.name[1], tooth.kind
        arc, _ = arch.project(tooth.origin[None, :2])
        crest[side].append((abs(float(arc[0])), tooth.origin[2] + 1.6))
        half[side].append((abs(float(arc[0])), 6.5 if kind[0] == "M" else 4.6))
        reach = max(reach, abs(float(arc[0])))
    for side in "RL":
        crest[side].append((reach + 7, crest[side][-1][1] + 2))
        half[side].append((reach + 7, 5.0))
    return Maxilla(
        arch=arch,
        crest=Profile.through(crest),
        half=Profile.through(half),
        palate=19 + jitter(rng, 1.6),
        sinus_floor=19 + jitter(rng, 2.0),
        gap=gap,
    )
