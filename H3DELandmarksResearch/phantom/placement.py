"""Where teeth stand: along the dental arch, tilted as in life, third molars erupted or impacted.

Jaw coordinates (mm): x to the patient's left, y to the back, z up, origin at the lower incisal edges.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.transform import Rotation

from H3DELandmarksResearch.phantom.curves import PlanarCurve, dental_arch_half
from H3DELandmarksResearch.phantom.teeth import Tooth
from H3DELandmarksResearch.phantom.toothshapes import KINDS, draw_shape, jitter
from H3DELandmarksResearch.phantom.wide_molars import draw_wide_molar

# inclination of the crown to lingual and to mesial, degrees
LOWER_TILT = {
    "I1": (-10, 0),
    "I2": (-8, 1),
    "C": (-2, 3),
    "P1": (4, 4),
    "P2": (8, 5),
    "M1": (12, 7),
    "M2": (15, 9),
    "M3": (17, 11),
}
UPPER_TILT = {
    "I1": (-20, 1),
    "I2": (-18, 2),
    "C": (-8, 4),
    "P1": (-3, 2),
    "P2": (-2, 1),
    "M1": (-8, 0),
    "M2": (-10, -4),
    "M3": (-12, -9),
}


@dataclass(frozen=True)
class Person:
    """What the parts of one head have in common.

    Attributes:
        size: scale of the teeth.
        wear: of the cusps, 0 to 1.
        density: of the bone, about 1.
        pulp: size of the pulp, 1 in a young adult.
        bone_loss: mm by which the alveolar crest has receded.
    """

    size: float
    wear: float
    density: float
    pulp: float
    bone_loss: float


def draw_person(rng: np.random.Generator) -> Person:
    """Draw age-like traits: with age cusps wear, pulps shrink, crest and density go down."""
    age = rng.random()
    return Person(
        size=1 + jitter(rng, 0.035),
        wear=float(np.clip(age * 0.8 + jitter(rng, 0.15), 0, 1)),
        density=float(np.clip(1.15 - 0.3 * age + jitter(rng, 0.12), 0.65, 1.4)),
        pulp=float(np.clip(1.15 - 0.5 * age + jitter(rng, 0.08), 0.55, 1.25)),
        bone_loss=max(0.0, 2.5 * age - 0.8 + jitter(rng, 0.5)),
    )


def draw_arch(rng: np.random.Generator) -> PlanarCurve:
    """Draw the lower dental arch; the two sides differ a little."""
    width, depth, power = 24.3 + jitter(rng, 1.2), 41 + jitter(rng, 1.6), 2.45 + jitter(rng, 0.2)
    halves = [dental_arch_half(width * (1 + jitter(rng, 0.02)), depth, power + jitter(rng, 0.05)) for _ in range(2)]
    return PlanarCurve.from_halves(*halves)


def widened(arch: PlanarCurve, outward: float, forward: float) -> PlanarCurve:
    """The arch of the upper teeth: the lower one moved outward (mm), and forward."""
    along = arch.tangent(arch.arc)
    points = arch.points + outward * np.stack([along[:, 1], -along[:, 0]], axis=1) - (0, forward)
    middle = int(np.argmin(np.abs(arch.arc)))
    points[middle, 0] = 0
    return PlanarCurve.from_halves(points[middle::-1] * (-1, 1), points[middle:])


def draw_row(
    arch: PlanarCurve, person: Person, upper: bool, rng: np.random.Generator, wide: bool = False
) -> list[Tooth]:
    """Draw the 16 teeth of one jaw, side by side along their arch; third molars stand as if erupted.

    Args:
        arch, person: whose teeth they are.
        upper: of the upper jaw.
        rng: random stream.
        wide: let shape, tilt and turn of lower molars vary as widely as in patients.
    """
    row: list[Tooth] = []
    shape_seed = int(rng.integers(2**32))
    for side in ("R", "L"):
        twin = np.random.default_rng(shape_seed)
        reach = 0.05
        leaning = (jitter(rng, 8), jitter(rng, 7)) if wide else (0.0, 0.0)
        for kind in KINDS:
            size, is_wide = person.size * (1 + jitter(rng, 0.015)), wide and kind.startswith("M")
            shape = draw_wide_molar(kind, size, rng) if is_wide else draw_shape(kind, upper, size, person.wear, twin)
            width = 2 * shape[0].contour[0]
            tooth = _stand(arch, side, kind, reach + width / 2, shape, upper, rng)
            if is_wide:
                tooth = _leaning(tooth, leaning, rng)
                tooth = tooth if kind == "M1" else _clear_of(tooth, row[-1], -tooth.axes[:, 0] * (1, 1, 0))
            crest = tooth.origin[2] + (1 if upper else -1) * (1.3 + person.bone_loss)
            row.append(replace(tooth, pulp=person.pulp, crest=float(crest)))
            reach += width + abs(jitter(rng, 0.12))
    return row


def _leaning(tooth: Tooth, leaning: tuple[float, float], rng: np.random.Generator) -> Tooth:
    """A molar leant to mesial and lingual with the others of its side (degrees), and a little by itself."""
    mesial, lingual = (angle + jitter(rng, 3) for angle in leaning)
    axes, top = tilted(tooth.axes, mesial, lingual, jitter(rng, 7)), tooth.crown.top
    return replace(tooth, axes=axes, origin=tooth.origin + (tooth.axes[:, 2] - axes[:, 2]) * top)


def _stand(arch, side, kind, reach, shape, upper, rng) -> Tooth:
    """Put one tooth at an arc length from the midline."""
    sign = 1 if side == "L" else -1
    lingual, mesial = (UPPER_TILT if upper else LOWER_TILT)[kind]
    x, y = arch.at(sign * reach)
    tangent = -sign * arch.tangent(sign * reach)
    axes = np.column_stack([[*tangent, 0], sign * np.array([-tangent[1], tangent[0], 0]), [0, 0, 1.0]])
    axes = tilted(axes, mesial + jitter(rng, 2), lingual + jitter(rng, 2.5), jitter(rng, 4))
    height = 1.4 * max(0, (reach - 20) / 30) ** 2 + (0.6 if kind.startswith("I") else 0) + jitter(rng, 0.25)
    table = np.array([x, y, height])
    if upper:
        axes[2] *= -1
        table[2] = 0.6 * height + jitter(rng, 0.25)
    name = f"{'U' if upper else ''}{side}-{kind}"
    return Tooth(name, table - axes[:, 2] * shape[0].top, axes, *shape)


def tilted(axes: np.ndarray, mesial: float, lingual: float, turn: float) -> np.ndarray:
    """Tooth axes after leaning the crown to mesial and to lingual and turning it about its long axis (degrees)."""
    u, v, w = axes.T
    hand = np.sign(np.linalg.det(axes))
    lean = Rotation.from_rotvec(np.deg2rad(mesial) * hand * v)
    roll = Rotation.from_rotvec(np.deg2rad(lingual) * hand * u)
    spin = Rotation.from_rotvec(np.deg2rad(turn) * w)
    return (lean * roll * spin).apply(axes.T).T


def draw_third_molar(tooth: Tooth, neighbor: Tooth, rng: np.random.Generator) -> Tooth:
    """Draw how a third molar stands: erupted, half erupted, or impacted upright, mesially tilted or lying.

    A tilted tooth is moved back until it no longer cuts into its neighbor.
    """
    kind = rng.choice(["erupted", "upright", "mesioangular", "horizontal"], p=[0.60, 0.14, 0.19, 0.07])
    mesial, depth = {
        "erupted": (jitter(rng, 5), abs(jitter(rng, 0.7))),
        "upright": (jitter(rng, 7), 2 + 5 * rng.random()),
        "mesioangular": (25 + 35 * rng.random(), 2.5 + 4 * rng.random()),
        "horizontal": (66 + 18 * rng.random(), 6.5 + 3 * rng.random()),
    }[kind]
    axes = tilted(tooth.axes, mesial, jitter(rng, 5), jitter(rng, 7))
    center = tooth.to_jaw([0, 0, 0.4 * tooth.crown.height])
    origin = center - [0, 0, depth] - axes[:, 2] * 0.4 * tooth.crown.height
    out = (tooth.axes[:, 1] * (1, 1, 0)) * (1.5 if kind in ("mesioangular", "horizontal") else 0.3)
    buried = kind != "erupted" and depth > 3.5
    crest = neighbor.crest + (1.5 if buried else 0.0)
    crest = max(crest, float(origin[2]) - 1.5) if kind in ("erupted", "upright") else crest
    moved = replace(tooth, axes=axes, origin=origin + out, buried=buried, crest=crest)
    return _clear_of(moved, neighbor, -tooth.axes[:, 0] * (1, 1, 0))


def _clear_of(tooth: Tooth, neighbor: Tooth, direction: np.ndarray) -> Tooth:
    """Move a tooth along `direction` in small steps until it no longer overlaps its neighbor."""
    low, high = tooth.bounds(0.0)
    lattice = np.stack(np.meshgrid(*(np.arange(a, b + 0.9, 0.9) for a, b in zip(low, high)), indexing="ij"), axis=-1)
    lattice = lattice.reshape(-1, 3)
    inside = lattice[tooth.depths(*lattice.T.astype(np.float32)).solid > -0.45]
    for step in range(40):
        moved = replace(tooth, origin=tooth.origin + 0.35 * step * direction)
        local = neighbor.from_jaw(moved.to_jaw(inside)).astype(np.float32)
        if neighbor.depths(*local.T).solid.max() < 0:
            break
    return moved


def draw_restorations(row: list[Tooth], rng: np.random.Generator) -> list[Tooth]:
    """Give some teeth fillings, metal crowns or filled root canals: a person has many, few or none."""
    burden = rng.choice([0.0, 0.06, 0.18, 0.4], p=[0.35, 0.3, 0.2, 0.15])
    restored = []
    for tooth in row:
        lot, pick = rng.random(2)
        weight = {"M": 1.3, "P": 0.7}.get(tooth.kind[0], 0.25) * (0.3 if tooth.kind == "M3" else 1)
        if lot < burden * weight and not tooth.buried:
            kind = "filling" if pick < 0.62 and tooth.kind[0] in "MP" else ("crown" if pick < 0.85 else "rootfilling")
            tooth = replace(tooth, restoration=kind)
        restored.append(tooth)
    return restored
