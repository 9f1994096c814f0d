"""Lower molars as various as those of patients: worn or not, roots wide apart, close, touching, C-shaped or fused.

Ranges follow published measurements; they are drawn evenly, so that rare shapes are seen as often as common ones:

- crowns and lengths: Nelson, Wheeler's Dental Anatomy (mean sizes); Wei et al., Archives of Orofacial Sciences
  15:119-137, 2020 (CBCT: second molars 18.2 mm long, root 1.9 times the crown);
- root trunk and furcation: Mandelaris et al., Journal of Periodontology 69:198, 1998 (trunk 2.2 to 2.9 mm; roots move
  apart by about 0.5 mm per mm);
- second molars: one root in 13 % (Aydın, European Endodontic Journal 9:65-72, 2024), C-shaped ones in 3 to 46 % by
  population (review in BMC Oral Health 22, 2022, doi 10.1186/s12903-022-02299-8), taurodont ones in 2 % (Aydın and
  Mobaraki, Archives of Oral Biology 130:105242, 2021);
- third molars: two roots in 57 to 73 %, one in 19 to 38 % (Park et al., European Journal of Dentistry 7:296-301, 2013).

The points stay exact: the fossa is the lowest point of the relief and lies below any facet of wear, the furcation is
the middle of the trunk's roof, an apex the end of a root's axis. A shape that would cover one of them is drawn again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from H3DELandmarksResearch.phantom.teeth import Crown, Root, Tooth, Trunk

MOST_TRIES = 200
RING = np.linspace(0, 2 * np.pi, 24, endpoint=False)


@dataclass(frozen=True)
class Ranges:
    """What a kind of molar is drawn from: lowest and highest values in mm, and chances.

    Attributes:
        width: mesiodistal, of the crown.
        height: of the crown before wear.
        length: of the roots.
        apart: chances of roots that part in the cervical third, that part late, and that a wall joins (C-shaped).
    """

    width: tuple[float, float]
    height: tuple[float, float]
    length: tuple[float, float]
    apart: tuple[float, float, float]


RANGES = {
    "M1": Ranges((9.6, 12.2), (6.2, 8.2), (10.0, 15.5), (0.95, 0.03, 0.02)),
    "M2": Ranges((8.7, 12.0), (5.8, 8.1), (8.8, 14.8), (0.74, 0.15, 0.11)),
    "M3": Ranges((8.4, 12.2), (5.4, 7.8), (5.6, 13.0), (0.55, 0.37, 0.08)),
}


def draw_wide_molar(kind: str, size: float, rng: np.random.Generator) -> tuple[Crown, Trunk, tuple[Root, ...]]:
    """Draw the shape of a lower molar whose points are exact.

    Args:
        kind: M1, M2 or M3.
        size: overall scale of this person's teeth.
        rng: random stream.

    Returns:
        (crown, trunk, mesial and distal root).
    """
    for _ in range(MOST_TRIES):
        crown = _crown(RANGES[kind], size, rng)
        if crown is None:
            continue
        trunk, roots = _roots(kind, crown, size, rng)
        if shows_its_points(Tooth(f"L-{kind}", np.zeros(3), np.eye(3), crown, trunk, roots)):
            return crown, trunk, roots
    raise RuntimeError(f"No {kind} among {MOST_TRIES} drawn ones shows its points: narrow its ranges.")


def shows_its_points(tooth: Tooth) -> bool:
    """Whether apices and, but for a third molar, the furcation lie on the surface of a molar, free below."""
    points = [root.apex for root in tooth.roots]
    if tooth.kind != "M3":
        points.append(tooth.trunk.furcation)
    steps = np.array([0.0, -0.3, -0.8])
    u, v, w = (np.add.outer([p[k] for p in points], steps * (k == 2)).astype(np.float32) for k in range(3))
    depth = tooth.depths(u, v, w).solid
    return bool((np.abs(depth[:, 0]) < 0.05).all() and (depth[:, 1] < -0.1).all() and (depth[:, 2] < -0.1).all())


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(rng.random())


def _crown(ranges: Ranges, size: float, rng: np.random.Generator) -> Crown | None:
    """A crown, worn or not; None where its relief has no basin with one deepest point."""
    width = size * _between(rng, *ranges.width)
    depth = width * _between(rng, 0.86, 1.06)
    tall = _between(rng, 1.1, 3.0)
    rows = _cusps(width, depth, tall, rng)
    a, b = width / 2, depth / 2
    crown = Crown(
        height=size * _between(rng, *ranges.height) - tall,
        cervix=(a * _between(rng, 0.76, 0.92), b * _between(rng, 0.78, 0.94)),
        contour=(a, b),
        table=(a * _between(rng, 0.74, 0.92), b * _between(rng, 0.68, 0.90)),
        exponent=_between(rng, 2.2, 3.2),
        cusps=np.array(rows),
        enamel=_between(rng, 1.1, 1.9),
    )
    u, v, level = crown.fossa()
    around = [crown.relief(u + r * np.cos(RING), v + r * np.sin(RING)).min() - level for r in (0.15, 0.4, 0.8)]
    return _with_wear(crown, level, rng) if min(around) > 0 and around[2] > 0.1 else None


def _cusps(width: float, depth: float, tall: float, rng: np.random.Generator) -> list[tuple[float, ...]]:
    """Rows of `Crown.cusps`: four or five cusps, the marginal ridges, and the grooves that meet in a pit."""
    grow = width / 10.4
    rows = [
        (
            side * width * _between(rng, 0.20, 0.29),
            way * depth * _between(rng, 0.21, 0.31),
            tall * _between(rng, 0.75, 1.15),
            grow * _between(rng, 1.2, 1.65),
            grow * _between(rng, 1.25, 1.7),
        )
        for side in (1, -1)
        for way in (1, -1)
    ]
    if rng.random() < 0.25:
        rows.append((-0.40 * width, 0.08 * depth, 0.6 * tall, 1.1, 1.3))
    rows += [
        (side * 0.41 * width, _between(rng, -0.5, 0.5), tall * _between(rng, 0.35, 0.7), 0.9, 2.2) for side in (1, -1)
    ]
    pit = (_between(rng, -1.7, 1.7), _between(rng, -1.6, 1.6))
    deep = _between(rng, 0.6, 1.8)
    return [
        *rows,
        (*pit, -0.45 * deep, 2.4, 0.5),
        (pit[0], pit[1] + 0.8, -0.4 * deep, 0.5, 2.2),
        (*pit, -0.5 * deep, 0.8, 0.8),
    ]


def _with_wear(crown: Crown, fossa: float, rng: np.random.Generator) -> Crown:
    """A third of the crowns as they erupted, the others with a facet, down to one that leaves 0.15 mm of the basin."""
    if rng.random() < 0.35:
        return crown
    left = 0.15 + max(0.4, crown.top - fossa) * float(rng.random()) ** 2
    slopes = _between(rng, -0.1, 0.1), _between(rng, -0.1, 0.1)
    u, v, _ = crown.fossa()
    return replace(crown, facet=(fossa + left - slopes[0] * u - slopes[1] * v, *slopes))


def _roots(kind: str, crown: Crown, size: float, rng: np.random.Generator) -> tuple[Trunk, tuple[Root, Root]]:
    """Mesial and distal root: upright in the trunk, then toward apices 1 to 8 mm from each other."""
    ranges = RANGES[kind]
    length = size * _between(rng, *ranges.length)
    form = rng.choice(["early", "late", "C"], p=ranges.apart)
    height = min(_between(rng, 1.8, 5.8), 0.5 * length)
    if form == "late" or rng.random() < 0.06:  # fused to beyond the middle, or taurodont
        height = length * _between(rng, 0.5, 0.75 if kind != "M3" else 0.9)
    least = -0.3 if kind == "M3" and form == "late" else 0.15
    gap = _between(rng, least, 0.5 if form == "late" else 1.1)
    split = (_between(rng, -1.6, 1.1), _between(rng, -0.5, 0.5))
    apart = _between(rng, 1.0, 3.0) if form == "late" else 1.2 + 7.0 * rng.beta(1.1, 1.9)
    shift = np.clip(rng.normal((-0.7, 0.3), (1.4, 1.1)), (-3.6, -2.4), (2.4, 2.6))
    lengths = (length, length - np.clip(rng.normal(0.5, 0.8), -1.3, 2.2))
    roots = [
        _root(side, float(own), height, gap, split, crown, (side * apart / 2 + shift[0], shift[1]), rng)
        for side, own in zip((1, -1), lengths)
    ]
    outer = [(root.section(height / root.length), root) for root in roots]
    reach = max(abs(root.start[0]) + section[0] for section, root in outer)
    breadth = max(section[1] for section, _ in outer)
    narrow = [np.clip(1 - x / half, 0.0, 0.5) / height for x, half in zip((reach, breadth), crown.cervix)]
    web = None
    if form == "C":
        web = (rng.choice([0.7, -0.7], p=[0.75, 0.25]), _between(rng, 0.5, 0.9), _between(rng, 0.6, 0.95))
    return Trunk(split, height, (narrow[0], narrow[1]), _between(rng, 0.3, 0.55), web), (roots[0], roots[1])


def _root(side, length, height, gap, split, crown, apex, rng) -> Root:
    """One root from where it leaves the trunk beside the furcation to its apex, which some turn to distal before."""
    taper = (_between(rng, 0.25, 0.6), _between(rng, 0.4, 0.75))
    t = height / length
    widest = (1.02 * crown.cervix[0] - gap - side * split[0]) / (2 * (1 - taper[0] * t))
    half = (
        min(crown.cervix[0] * _between(rng, 0.28, 0.50), max(widest, 1.0)),
        crown.cervix[1] * _between(rng, 0.50, 0.95),
    )
    root = Root((0.0, split[1]), (0.0, 0.0), (0.0, 0.0), half, length, taper, upright=0.7 * t)
    start = split[0] + side * (gap + root.section(t)[0])
    hook = (-abs(_between(rng, 0.0, 1.8)), _between(rng, -0.6, 0.6)) if rng.random() < 0.3 else (0.0, 0.0)
    end = (apex[0] + split[0], apex[1] + split[1] + _between(rng, -1.6, 1.6))
    drift = (end[0] - start - hook[0], end[1] - split[1] - hook[1])
    bend = (_between(rng, -0.5, 0.5) + 0.2 * side, _between(rng, -0.6, 0.6))
    return replace(root, start=(start, split[1]), drift=drift, bend=bend, hook=hook)
