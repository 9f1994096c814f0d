"""The lower jaw: body, alveolar process, chin, rami and mandibular canal, as depths on a lattice in jaw coordinates.

The bone is described along its midline, seen from above: at each arc length a cross-section in (offset to buccal, z).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import gaussian_filter1d

from H3DELandmarksResearch.phantom.curves import PlanarCurve, spline_half
from H3DELandmarksResearch.phantom.placement import Person
from H3DELandmarksResearch.phantom.solids import coverage, ellipsoid, join, meet, mix
from H3DELandmarksResearch.phantom.teeth import Tooth
from H3DELandmarksResearch.phantom.toothshapes import KINDS, jitter

# midline of body and ramus from chin to condyle, for an arch 24.3 mm half wide and 41 mm deep at the second molar
_MIDLINE = np.column_stack(
    [(0, 7, 13, 18, 23, 28.4, 34, 39.4, 43.8, 46.8, 48.8), (4.2, 6, 11.5, 20.5, 30, 40, 50, 61, 71, 81, 92)]
)


@dataclass(frozen=True)
class Profile:
    """A quantity along the jaw: values at arc lengths (negative on the right), interpolated and smoothed."""

    arc: np.ndarray
    value: np.ndarray

    @classmethod
    def through(cls, nodes: dict[str, list[tuple[float, float]]], smooth: float = 1.5) -> Profile:
        """From (arc length, value) pairs of the sides "R" and "L", arc lengths positive on both; `smooth` in mm."""
        pairs = sorted([(-s, v) for s, v in nodes["R"]] + [(s, v) for s, v in nodes["L"]])
        merged = {round(s, 3): v for s, v in pairs}
        knots = np.array(list(merged))
        arc = np.arange(knots[0], knots[-1], 0.5)
        return cls(
            arc, gaussian_filter1d(PchipInterpolator(knots, list(merged.values()))(arc), smooth / 0.5, mode="nearest")
        )

    def __call__(self, arc: np.ndarray) -> np.ndarray:
        return np.interp(arc, self.arc, self.value).astype(np.float32)

    def slope(self, arc: np.ndarray) -> np.ndarray:
        """Change of the value per mm."""
        return np.interp(arc, self.arc, np.gradient(self.value, self.arc)).astype(np.float32)


@dataclass(frozen=True)
class Jaw:
    """The bone of the lower jaw.

    Attributes:
        midline: of body and rami, seen from above.
        base, crest: z of the lower border and of the alveolar crest.
        ramus: z of the upper border of the ramus, from the oblique ridge to the condyle.
        lean: offset to buccal of the alveolar crest.
        base_half, crest_half, ramus_half: half thickness there.
        undercut: depth of the submandibular fossa on the lingual side, mm.
        canal_z, canal_offset: course of the mandibular canal; `canal_span` its ends on either side.
        chin: (center, half axes) of the mental protuberance.
        cortex: thickness of the cortical shell at the base, mm.
        density: mineral content relative to the average.
    """

    midline: PlanarCurve
    base: Profile
    crest: Profile
    ramus: Profile
    lean: Profile
    base_half: Profile
    crest_half: Profile
    ramus_half: Profile
    undercut: Profile
    canal_z: Profile
    canal_offset: Profile
    canal_span: dict[str, tuple[float, float]]
    canal_radius: float
    chin: tuple[np.ndarray, np.ndarray]
    cortex: float
    density: float

    def depths(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> JawDepths:
        """Depths on the lattice spanned by the coordinates x, y, z (1D, jaw mm)."""
        arc, offset = self.midline.project_lattice(x, y)
        z = z.astype(np.float32)[None, None]
        body, rise = self._body(arc, offset, z)
        ramus = self._ramus(arc, offset, z)
        outer = join(body, ramus, 3.5)
        chin = ellipsoid(x[:, None, None].astype(np.float32), y[None, :, None].astype(np.float32), z, *self.chin)
        outer = join(outer, np.broadcast_to(chin, outer.shape), 4.0)
        cortex = self.cortex * (1 - 0.68 * np.clip(rise, 0, 1))
        canal = self._canal(arc, offset, z)
        opening = np.where(canal > -0.6, outer + 1.0, -9)
        return JawDepths(outer, np.maximum(outer - cortex, np.minimum(canal, opening)), canal, rise)

    def _body(self, arc, offset, z) -> tuple[np.ndarray, np.ndarray]:
        base, crest = self.base(arc), self.crest(arc)
        rise = (z - base) / np.maximum(crest - base, 4)
        share = np.clip(rise, 0, 1)
        lean = self.lean(arc) * share
        waist = 0.9 * np.sin(np.pi * np.clip(rise, 0, 1)) * np.float32(0.6)
        half = self.base_half(arc) + (self.crest_half(arc) - self.base_half(arc)) * share - waist
        hollow = self.undercut(arc) * np.exp(-(((rise - 0.38) / 0.2) ** 2))
        wall = half - np.abs(offset - lean) - hollow * coverage(lean - offset, 4.0)
        top = (crest - z) / np.sqrt(1 + self.crest.slope(arc) ** 2)
        bottom = (z - base) / np.sqrt(1 + self.base.slope(arc) ** 2)
        return meet(meet(wall, bottom, 7.0), top, 2.6), rise

    def _ramus(self, arc, offset, z) -> np.ndarray:
        top = (self.ramus(arc) - z) / np.sqrt(1 + self.ramus.slope(arc) ** 2)
        bottom = (z - self.base(arc)) / np.sqrt(1 + self.base.slope(arc) ** 2)
        thin = 1.1 * np.clip((z + 12) / 30, 0, 1) * np.float32(1)
        wall = self.ramus_half(arc) - thin - np.abs(offset)
        return meet(meet(wall, bottom, 5.0), top, 3.5)

    def _canal(self, arc, offset, z) -> np.ndarray:
        across = offset - self.canal_offset(arc)
        down = (z - self.canal_z(arc)) / np.sqrt(1 + self.canal_z.slope(arc) ** 2)
        tube = self.canal_radius - np.sqrt(across**2 + down**2)
        first, last = (
            np.where(arc > 0, left, right) for left, right in zip(self.canal_span["L"], self.canal_span["R"])
        )
        return np.minimum(tube, np.minimum(np.abs(arc) - first, last - np.abs(arc)))

    def spongy(self, depths: JawDepths, grain: np.ndarray, marrow: np.ndarray, voxel: float) -> np.ndarray:
        """HU of the spongy interior with its canal: denser near the teeth, fatty marrow low in the body.

        Args:
            depths: of this jaw on a lattice.
            grain, marrow: noise of unit variance on the same lattice, fine and broad.
            voxel: lattice spacing in mm.
        """
        hu = (170 + 260 * np.clip(depths.rise, 0, 1)) * np.float32(self.density) + grain * 75 + marrow * 95
        mix(hu, 950.0, 0.85 * coverage(depths.canal + 0.85, voxel))
        return mix(hu, 30.0, coverage(depths.canal, voxel))


@dataclass(frozen=True)
class JawDepths:
    """Depths in mm of the bone, its spongy interior and the canal; relative height (0 base, 1 crest)."""

    outer: np.ndarray
    inner: np.ndarray
    canal: np.ndarray
    rise: np.ndarray


def draw_jaw(row: list[Tooth], resorbed: dict[str, float], person: Person, scale: np.ndarray, rng) -> Jaw:
    """Draw the bone around a row of lower teeth.

    Args:
        row: all 16 teeth, also those that will be missing.
        resorbed: mm by which the crest has healed lower where a tooth is missing.
        person: shared traits.
        scale: (2,) width and depth of the arch relative to the average.
        rng: random stream.
    """
    controls = _MIDLINE * scale
    halves = []
    for _ in "RL":
        side = controls * (1 + jitter(rng, 0.012))
        side[6:, 0] += np.linspace(0, 1, 5) * jitter(rng, 1.5)
        halves.append(spline_half(side))
    midline = PlanarCurve.from_halves(*halves)
    chin_height = 43 + jitter(rng, 2.6)
    nodes = _Nodes(midline, row, resorbed, person)
    canal_z, canal_offset, span = nodes.canal(chin_height, rng)
    return Jaw(
        midline=midline,
        base=nodes.base(chin_height, 16 + jitter(rng, 2.3), rng),
        crest=nodes.crest(),
        ramus=nodes.ramus(rng),
        lean=nodes.lean(),
        base_half=nodes.constant((6.6, 5.8, 5.6, 5.8, 6.0, 5.6, 4.2), 1 + jitter(rng, 0.08)),
        crest_half=nodes.constant((3.9, 4.6, 5.0, 6.2, 6.6, 6.5, 4.2), 1 + jitter(rng, 0.06)),
        ramus_half=nodes.constant((1.5, 1.5, 1.5, 1.5, 2.2, 3.4, 5.0), 1 + jitter(rng, 0.1)),
        undercut=nodes.constant((0.6, 0.6, 0.8, 2.0, 3.0, 2.6, 0.0), 1 + jitter(rng, 0.25)),
        canal_z=canal_z,
        canal_offset=canal_offset,
        canal_span=span,
        canal_radius=1.25 + 0.4 * rng.random(),
        chin=(np.array([jitter(rng, 0.8), 0.6, 9 - chin_height]), np.array([13.0, 6.5 + jitter(rng, 0.8), 8.5])),
        cortex=(2.9 + jitter(rng, 0.35)) * person.density**0.5,
        density=person.density,
    )


class _Nodes:
    """Builds the profiles of a jaw from where its teeth stand along the midline."""

    def __init__(self, midline: PlanarCurve, row: list[Tooth], resorbed: dict[str, float], person: Person) -> None:
        self.teeth = {tooth.name: tooth for tooth in row}
        self.resorbed, self.person = resorbed, person
        self.arc, self.offset = {}, {}
        for name, tooth in self.teeth.items():
            arc, offset = midline.project(tooth.origin[None, :2])
            self.arc[name], self.offset[name] = abs(float(arc[0])), float(offset[0])
        self.end = {"R": -midline.arc[0], "L": midline.arc[-1]}

    def _at(self, kinds, values, tail=()) -> Profile:
        """Values at tooth kinds of both sides, and at further (function of side -> arc, value) nodes."""
        return Profile.through(
            {
                side: [(self.arc[f"{side}-{kind}"], value) for kind, value in zip(kinds, values)]
                + [(f(side), v) for f, v in tail]
                for side in "RL"
            }
        )

    def constant(self, values, scale: float) -> Profile:
        """Values at I1, C, P2, M1, M2, M3 and at the back end."""
        last = values[-1] * scale
        tail = ((lambda side: self.arc[f"{side}-M3"] + 14, last), (lambda side: self.end[side] - 2, last))
        return self._at(("I1", "C", "P2", "M1", "M2", "M3"), [v * scale for v in values[:-1]], tail)

    def base(self, chin_height: float, climb: float, rng) -> Profile:
        """Lower border: rises from the chin to the jaw angle, then up the back of the ramus."""
        notch = 0.8 + jitter(rng, 0.6)
        shares = (0.0, 0.02, 0.16, 0.36, 0.58, 0.82)
        values = [-chin_height + climb * share for share in shares]
        steps = zip((18.0, 12.0, 7.0, 4.0, 2.0, 0.0), (climb + notch, climb, *(climb + up for up in (5, 18, 40, 70))))
        tail = [(lambda side, back=back: self.end[side] - back, -chin_height + up) for back, up in steps]
        return self._at(("I1", "C", "P2", "M1", "M2", "M3"), values, tail)

    def crest(self) -> Profile:
        """Alveolar crest: below each cervix, lower where a tooth is missing, falling off behind the third molar."""
        sides = {}
        for side in "RL":
            names = [f"{side}-{kind}" for kind in KINDS]
            points = [(self.arc[name], self.teeth[name].crest - self.resorbed.get(name, 0.0)) for name in names]
            last, height = points[-1]
            tail = [(last + 7, height - 1.5), (last + 14, height - 8), (last + 22, height - 16)]
            sides[side] = points + tail + [(self.end[side], height - 16)]
        return Profile.through(sides)

    def ramus(self, rng) -> Profile:
        """Upper border of the ramus: oblique ridge beside the molars, anterior border, coronoid, notch, condyle."""
        along, up = (-10, -3, 2.5, 6, 9, 12, 15.5, 18, 23, 27, 30), (-26, -16, -9.5, -3, 7, 20, 28, 26, 16, 19, 30)
        shift, tall = jitter(rng, 1.5), jitter(rng, 2)
        return Profile.through(
            {
                side: [(0.0, -60.0), (self.arc[f"{side}-M1"] - 5, -50.0)]
                + [(self.arc[f"{side}-M3"] + 1.5 + shift + s, z + tall) for s, z in zip(along, up)]
                + [(self.end[side], 32.0)]
                for side in "RL"
            }
        )

    def lean(self) -> Profile:
        """Offset of the alveolar crest from the body's midline: molars stand to lingual of it."""
        return Profile.through(
            {
                side: [
                    (self.arc[f"{side}-{kind}"], self.offset[f"{side}-{kind}"] + (0.8 if kind[0] == "M" else 0.0))
                    for kind in KINDS
                ]
                + [(self.arc[f"{side}-M3"] + 9, self.offset[f"{side}-M3"] * 0.65), (self.arc[f"{side}-M3"] + 24, 0.0)]
                for side in "RL"
            }
        )

    def canal(self, chin_height: float, rng) -> tuple[Profile, Profile, dict[str, tuple[float, float]]]:
        """Course of the mandibular canal: mental foramen, below the molars, up into the ramus."""
        low, side_shift = jitter(rng, 1.0), jitter(rng, 0.8)
        z, offset, span = {}, {}, {}
        for side in "RL":
            arc = {kind: self.arc[f"{side}-{kind}"] for kind in KINDS}
            start, end = arc["P2"] - 1.5 + jitter(rng, 1.5), arc["M3"] + 19
            z[side] = [
                (start, -chin_height + 15.5),
                (start + 4, -chin_height + 12),
                (arc["M1"], -chin_height + 13 + low),
                (arc["M2"], -chin_height + 16.3 + low),
                (arc["M3"], -chin_height + 20.5 + low),
                (end - 9, -14.0),
                (end, 1.0),
            ]
            offset[side] = [
                (start, 6.0),
                (start + 4, 2.2),
                (arc["M1"], 0.3 + side_shift),
                (arc["M2"], -1.0 + side_shift),
                (arc["M3"], -1.6),
                (end - 9, -1.0),
                (end, -4.5),
            ]
            span[side] = (start - 0.5, end)
        return Profile.through(z), Profile.through(offset, 1.0), span
