"""Sizes and shapes of the kinds of teeth, drawn around published mean crown and root dimensions (mm)."""

from __future__ import annotations

import numpy as np

from H3DELandmarksResearch.phantom.teeth import Crown, Root, Trunk

KINDS = ("I1", "I2", "C", "P1", "P2", "M1", "M2", "M3")

# mesiodistal width, buccolingual width, crown height, root length
LOWER = {
    "I1": (5.3, 6.0, 8.8, 12.5),
    "I2": (5.8, 6.4, 9.2, 13.8),
    "C": (6.9, 7.7, 10.6, 15.8),
    "P1": (7.1, 7.8, 8.6, 14.2),
    "P2": (7.3, 8.3, 8.0, 14.5),
    "M1": (11.2, 10.5, 7.6, 14.0),
    "M2": (10.7, 10.2, 7.2, 13.4),
    "M3": (10.4, 9.7, 6.8, 11.4),
}
UPPER = {
    "I1": (8.6, 7.1, 10.4, 13.0),
    "I2": (6.7, 6.3, 9.2, 13.2),
    "C": (7.7, 8.1, 10.2, 16.5),
    "P1": (7.1, 9.2, 8.5, 14.0),
    "P2": (6.8, 9.1, 7.8, 14.0),
    "M1": (10.4, 11.4, 7.4, 13.0),
    "M2": (9.9, 11.2, 7.1, 12.2),
    "M3": (8.9, 10.6, 6.5, 11.0),
}


def jitter(rng: np.random.Generator, scale: float) -> float:
    """A normal number of the given standard deviation, limited to twice that."""
    return float(np.clip(rng.standard_normal(), -2, 2) * scale)


def draw_shape(kind: str, upper: bool, size: float, wear: float, rng: np.random.Generator):
    """Draw the shape of one tooth.

    Args:
        kind: one of `KINDS`.
        upper: of the upper jaw.
        size: overall scale of this person's teeth.
        wear: 0 for sharp cusps, 1 for flat ones.
        rng: random stream.

    Returns:
        (crown, trunk or None, roots).
    """
    variety = 0.07 if kind == "M3" else 0.03
    width, depth, height, length = (x * size * (1 + jitter(rng, variety)) for x in (UPPER if upper else LOWER)[kind])
    if kind.startswith("M"):
        crown = _molar_crown(kind, upper, width, depth, height, wear, rng)
        return (crown, *(_upper_molar_roots if upper else _lower_molar_roots)(kind, crown, length, rng))
    crown = (_premolar_crown if kind.startswith("P") else _front_crown)(kind, upper, width, depth, height, wear, rng)
    return crown, None, (_single_root(kind, crown, length, rng),)


def _molar_crown(kind, upper, width, depth, height, wear, rng) -> Crown:
    rough = 0.35 if kind == "M3" else 0.15
    tall = (2.7 - 1.1 * wear) * (0.85 if kind == "M3" else 1.0)
    rows = []
    for u, v in ((0.25, 0.26), (0.25, -0.27), (-0.25, 0.26), (-0.24, -0.27)):
        rows.append(
            (u * width + jitter(rng, rough), v * depth + jitter(rng, rough), tall * (1 + jitter(rng, 0.09)), 1.45, 1.5)
        )
    if kind == "M1" and not upper:
        rows.append((-0.40 * width, 0.08 * depth, 0.6 * tall, 1.1, 1.3))
    rows += [(side * 0.41 * width, jitter(rng, 0.3), 0.5 * tall, 0.9, 2.2) for side in (1, -1)]
    pit = (jitter(rng, 0.35), jitter(rng, 0.3))
    rows += [(pit[0], pit[1], -0.45, 2.4, 0.5), (pit[0], pit[1] + 0.8, -0.4, 0.5, 2.2), (*pit, -0.5, 0.8, 0.8)]
    a, b = width / 2, depth / 2
    return Crown(
        height - tall, (0.83 * a, 0.87 * b), (a, b), (0.86 * a, 0.80 * b), 2.7, np.array(rows), 1.75 - 0.3 * wear
    )


def _premolar_crown(kind, upper, width, depth, height, wear, rng) -> Crown:
    tall = 2.4 - 0.9 * wear
    lingual = 0.9 if upper else {"P1": 0.45, "P2": 0.75}[kind]
    rows = [
        (jitter(rng, 0.2), 0.22 * depth, tall, 1.5, 1.3),
        (jitter(rng, 0.3), -0.24 * depth, lingual * tall, 1.5, 1.2),
    ]
    rows += [(side * 0.38 * width, 0.0, 0.4 * tall, 0.7, 1.8) for side in (1, -1)]
    a, b = width / 2, depth / 2
    return Crown(
        height - tall, (0.70 * a, 0.84 * b), (a, b), (0.80 * a, 0.72 * b), 2.3, np.array(rows), 1.5 - 0.2 * wear
    )


def _front_crown(kind, upper, width, depth, height, wear, rng) -> Crown:
    a, b = width / 2, depth / 2
    point = (1.6 if kind == "C" else 0.2) * (1 - 0.6 * wear)
    rows = [(jitter(rng, 0.2), 0.0, point, 1.6, 9.0)]
    edge = 0.16 if kind != "C" else 0.24
    cervix = (0.66 * a, 0.9 * b)
    return Crown(
        height - point,
        cervix,
        (0.88 * a, 0.66 * b),
        (a * (0.98 if kind != "C" else 0.6), edge * b),
        2.3,
        np.array(rows),
        1.0,
    )


def _single_root(kind, crown, length, rng) -> Root:
    swing = (jitter(rng, 0.35), jitter(rng, 0.25))
    drift = (-0.6 + jitter(rng, 0.8), jitter(rng, 0.6))
    return Root((0.0, 0.0), drift, swing, (0.97 * crown.cervix[0], 0.97 * crown.cervix[1]), length, (0.45, 0.55))


def _lower_molar_roots(kind, crown, length, rng) -> tuple[Trunk, tuple[Root, ...]]:
    """Mesial and distal root; they part at the furcation and leave a gap below it, unless a third molar's are fused."""
    spread = {"M1": 2.6, "M2": 1.7, "M3": 0.9}[kind] + jitter(rng, 0.5 if kind != "M3" else 0.8)
    fused = kind == "M3" and rng.random() < 0.45
    height = {"M1": 3.0, "M2": 3.4, "M3": 3.8}[kind] + jitter(rng, 0.4)
    height, gap = (0.62 * length, -0.3) if fused else (height, 0.45 + 0.3 * rng.random())
    spread = max(spread, 0.2)
    split = (jitter(rng, 0.25), jitter(rng, 0.2))
    roots = []
    for side, breadth, shorter in ((1, 0.88, 0.0), (-1, 0.76, 0.5)):
        half = (0.46 * crown.cervix[0] * (1 + jitter(rng, 0.05)), breadth * crown.cervix[1])
        curve = -0.35 * side * spread if side > 0 else 0.1 * spread
        reach = side * spread * (1 if side > 0 else 0.8) - 0.8 + jitter(rng, 0.5)
        drift = (max(reach, 0.1) if side > 0 else min(reach, -0.1), jitter(rng, 0.8))
        bend = (side * abs(curve) * 0.8 + jitter(rng, 0.25), jitter(rng, 0.35))
        root = Root((0.0, split[1]), drift, bend, half, length - shorter + jitter(rng, 0.5), (0.40, 0.62))
        t = height / root.length
        start = split[0] + side * (gap + root.section(t)[0]) - (root.axis(t)[0] - root.start[0])
        roots.append(Root((start, split[1]), drift, bend, half, root.length, root.taper))
    return Trunk(split, height, (0.45 / length, 0.6 / length)), tuple(roots)


def _upper_molar_roots(kind, crown, length, rng) -> tuple[Trunk, tuple[Root, ...]]:
    a, b = crown.cervix
    spread = 1.6 if kind != "M3" else 0.6
    places = (
        (0.45 * a, 0.42 * b, spread, 0.8),
        (-0.45 * a, 0.42 * b, -spread, 0.8),
        (0.0, -0.42 * b, 0.0, -2.0 * spread),
    )
    roots = tuple(
        Root(
            (u, v),
            (du + jitter(rng, 0.5), dv + jitter(rng, 0.5)),
            (jitter(rng, 0.3), 0.0),
            (0.42 * a, 0.48 * b),
            length * (1 + jitter(rng, 0.05)),
            (0.45, 0.5),
        )
        for u, v, du, dv in places
    )
    return Trunk((0.0, 0.0), 4.2, (0.4 / length, 0.4 / length), 0.3), roots
