"""Soft tissue: skin, fat, muscles, tongue, gums, airway; hyoid and spine. Depths on a lattice in jaw coordinates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from H3DELandmarksResearch.phantom.jaw import Jaw, JawDepths
from H3DELandmarksResearch.phantom.maxilla import MaxillaDepths
from H3DELandmarksResearch.phantom.solids import coverage, ellipsoid, join, meet, mix
from H3DELandmarksResearch.phantom.toothshapes import jitter

FAT, MUSCLE, SKIN, GLAND, GUM, AIR = -95.0, 55.0, 25.0, 10.0, 50.0, -1000.0


@dataclass(frozen=True)
class Face:
    """Soft tissue traits.

    Attributes:
        chin_height: z of the chin below the incisal edges, mm.
        width: half width of the face at the rami.
        fat: thickness of the layer below the skin, mm.
        lip: thickness of lips and chin pad in front of the bone, mm.
        tongue: (center, half axes).
        pharynx: (y, half width, half depth) of the airway behind the tongue.
        hyoid: (y, z) of its body.
        spine: y of the vertebral bodies' centers.
        mouth_air: whether air lies between tongue and palate.
        gap: opening of the mouth.
    """

    chin_height: float
    width: float
    fat: float
    lip: float
    tongue: tuple[tuple[float, float, float], tuple[float, float, float]]
    pharynx: tuple[float, float, float]
    hyoid: tuple[float, float]
    spine: float
    mouth_air: bool
    gap: float

    def skin(self, x, y, z, bone: np.ndarray) -> np.ndarray:
        """Depth below the skin: an egg-shaped outline at each height, at least a lip's thickness over bone."""
        low = -self.chin_height
        heights = (-95, low - 22, low - 13, low - 6, low + 4, low + 16, low + 24, -4, 1, 8, 20, 28, 60)
        front = np.array((48, 38, 22, 2, -4, -2, -4.5, -6, -3, -6, -4.5, -5, -2)) - self.lip + 2
        width = np.array((52, 54, 56, 59, 62, 64, 65, 67, 67, 68, 69, 70, 72)) + self.width - 67
        edge = np.interp(z, heights, front).astype(np.float32)
        half = np.interp(z, heights, width).astype(np.float32)
        middle, back = np.float32(82), np.float32(150)
        depth = np.where(y < middle, middle - edge, back - middle)
        radius = ((np.abs(x) / half) ** 1.85 + (np.abs(y - middle) / depth) ** 1.85) ** np.float32(1 / 1.85)
        return join(((1 - radius) * half * 0.9).astype(np.float32), bone + (self.lip - 3), 8.0)

    def spine_and_hyoid(self, x, y, z) -> np.ndarray:
        """Depth of the bones behind and below the jaw."""
        level = np.abs((z + 200) % 18 - 9)
        disc = 7.3 - level
        body = meet(ellipsoid(x, y, 0 * z, (0, self.spine, 0), (9.5, 8, 99)), disc, 2.0)
        mass = meet(ellipsoid(np.abs(x), y, 0 * z, (19, self.spine + 4, 0), (7, 8, 99)), 7.6 - level, 2.0)
        hy, hz = self.hyoid
        ring = np.sqrt(x**2 + ((y - hy - 20) * 0.85) ** 2) - 19
        tube = 2.9 - np.sqrt(ring**2 + (1.3 * (z - hz - 0.18 * (y - hy))) ** 2)
        ring = np.sqrt((x / 1.15) ** 2 + (y - self.spine - 16) ** 2)
        arch = meet(2.6 - np.abs(ring - 12), disc - 1.5, 2.0)
        return np.maximum(join(np.maximum(body, arch), mass, 3.0), np.minimum(tube, hy + 24 - y))

    def air(self, x, y, z, jaw: JawDepths, maxilla: MaxillaDepths, skin, broad: np.ndarray) -> np.ndarray:
        """Depth inside air: around the head, in throat, mouth, nose and sinuses."""
        back, half, deep = self.pharynx
        middle = back + 0.10 * z + 4 * np.tanh((-z - 45) / 8)
        throat = (1 - np.sqrt((x / half) ** 2 + ((y - middle) / deep) ** 2)) * np.float32(min(half, deep))
        mouth = np.minimum(self._mouth(x, y, z, maxilla, broad), -np.maximum(jaw.outer, maxilla.bone) - 2.2)
        inner = np.maximum(np.maximum(throat.astype(np.float32) + 1.3 * broad, mouth), maxilla.air - 0.3 + 0.6 * broad)
        return np.maximum(-skin, np.minimum(inner, -maxilla.velum))

    def _mouth(self, x, y, z, maxilla: MaxillaDepths, broad: np.ndarray) -> np.ndarray:
        """Air in the mouth: between the rows where it is open, and over the tongue."""
        tongue = self._tongue(x, y, z)
        height = np.minimum(z + 1.5, 0.75 - maxilla.z)
        rows = meet(4.5 - maxilla.offset, height, 3.0) + 1.2 * broad if self.gap > 1.5 else np.float32(-9)
        vault = np.minimum(z + 1, -4 - maxilla.offset) if self.mouth_air else np.float32(-9)
        behind = 54 - y - 0.15 * np.abs(x)
        return meet(np.minimum(np.maximum(rows, vault), -tongue - 0.3), behind, 5.0).astype(np.float32)

    def _tongue(self, x, y, z) -> np.ndarray:
        return ellipsoid(x, y, z, *self.tongue)

    def soft(self, x, y, z, jaw: JawDepths, skin, offset, arc, texture: np.ndarray, broad: np.ndarray) -> np.ndarray:
        """HU of soft tissue, as if there were no bone or air."""
        hu = np.float32(-60) + 14 * texture + 30 * broad
        rami = np.minimum(np.abs(arc) - 62, 98 - np.abs(arc))
        masseter = meet(np.minimum(offset - 3, 15 - offset), np.minimum(rami, np.minimum(z + 32, 34 - z)), 5.0)
        pterygoid = meet(np.minimum(-offset - 3, 14 + offset), np.minimum(rami - 3, np.minimum(z + 28, 30 - z)), 5.0)
        neck = ellipsoid(np.abs(x), y, z, (38, 118, -40), (20, 30, 90))
        wall = np.minimum(30 - np.abs(x), y - 66) + 0 * z
        floor = meet(-offset - 2, z + self.chin_height - 9 - 0.006 * (x * x), 3.0)
        belly = ellipsoid(np.abs(x), y, z, (9, 22, -self.chin_height + 2), (6, 26, 5))
        lips = meet(np.minimum(offset, 40 - np.abs(arc)), skin - self.fat * 0.8, 3.0)
        buccinator = np.minimum(2.0 - np.abs(offset - 11), np.minimum(62 - np.abs(arc), 22 - np.abs(z)))
        for depth in (neck, wall, floor, belly, masseter, pterygoid, lips, buccinator, self._tongue(x, y, z)):
            mix(hu, MUSCLE + 8 * texture, coverage(depth + 1.2 * broad, 1.2))
        sublingual = ellipsoid(-offset, np.abs(arc), z, (7, 38, -17), (3, 22, 6))
        mix(hu, FAT * 0.6, coverage(sublingual + 1.2 * broad, 1.2))
        gland = ellipsoid(np.abs(x), y, z, (31, 52, -self.chin_height + 7), (10, 16, 11))
        mix(hu, GLAND, coverage(gland, 1.2))
        mix(hu, FAT + 12 * texture, coverage(self.fat + 1.8 - skin + 1.2 * broad, 1.5))
        mix(hu, GUM, coverage(jaw.outer + 2.3, 1.0) * (z > -14))
        return mix(hu, SKIN, coverage(1.7 - skin, 1.0))


def draw_face(jaw: Jaw, gap: float, rng: np.random.Generator) -> Face:
    """Draw the soft tissue around a jaw."""
    tongue_half = (23 + jitter(rng, 1.5), 33 + jitter(rng, 2), 20 + jitter(rng, 2))
    base = float(jaw.base(np.zeros(1))[0])
    return Face(
        chin_height=-base,
        width=67 + jitter(rng, 3.5),
        fat=4.5 + 5.5 * rng.random(),
        lip=11 + jitter(rng, 1.3),
        tongue=((jitter(rng, 1.5), 42 + jitter(rng, 2), -8 + jitter(rng, 2)), tongue_half),
        pharynx=(82 + jitter(rng, 2.5), 11 + jitter(rng, 2), 5 + jitter(rng, 1.2)),
        hyoid=(40 + jitter(rng, 4), base - 6 + jitter(rng, 4)),
        spine=105 + jitter(rng, 4),
        mouth_air=bool(rng.random() < 0.5),
        gap=gap,
    )
