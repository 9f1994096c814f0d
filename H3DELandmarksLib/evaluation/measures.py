"""Measurements on landmarks, with the uncertainty that the radii of the points give them.

The error of each point is taken as normal, the same in all directions in which it can lie (in a picture within its
plane), independent of other points, and 90 % of it within the radius. `DRAWS` such errors are added to the points
(Monte Carlo, always the same draws), and the interval reaches as far to both sides of the value as 90 % of the drawn
values lie from it. The delta method was tried and holds too little where a value can jump, such as the Cobb angles:
see `docs/measurements.md` for the measured coverage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from H3DELandmarksLib.core.landmarks import SAME_PLACE_MM, LandmarkSet, Statement
from H3DELandmarksLib.core.measurements import Measurement, Measurements
from H3DELandmarksLib.core.text import first_of
from H3DELandmarksLib.evaluation.measure_geometry import Geometry, end_vertebrae, neighbor_angles
from H3DELandmarksLib.formats.results import MeasurementResult, Unit

DRAWS, SEED, SHARE = 1000, 0, 0.9
# Radius that holds 90 % of a normal error with standard deviation 1 in each direction of a plane, and of space.
RADIUS_PER_SD = {2: 2.1460, 3: 2.5003}
FLAT = 1e-3  # mm that points of a picture may lie off its plane
ALWAYS_FLAT = 3  # points, which lie in a plane wherever they are
DECIMALS = 4
CORNERS = 4  # of a vertebra
ENOUGH = 0.75  # share of the vertebrae of a spine without which none of its angles is told
_OF_SPINES = ("cobb", "cobb second", "cobb third")
_NEVER_NEGATIVE = ("distance", "distance to", "angle", "angle between", "cobb", "cobb second", "cobb third")


@dataclass(frozen=True)
class Shape:
    """What a measurement looks like among the points.

    Attributes:
        name: of the measurement, or of the line or plane that it uses.
        kind: what it is.
        points: (2, 3) ends of a line; (3, 3) points of an angle with its vertex in the middle; (2, 3) center of a plane
            and the end of its normal, as long as the points reach. LPS mm.
    """

    name: str
    kind: Literal["line", "angle", "plane"]
    points: np.ndarray


def measure(
    landmarks: LandmarkSet,
    definitions: Measurements,
    *,
    flat: bool | None = None,
    middle: np.ndarray | None = None,
    pixels: bool = False,
    reaches: Mapping[str, float] | None = None,
) -> tuple[MeasurementResult, ...]:
    """Everything that is defined, in its order; nothing where it is meant for volumes and the points are a picture's.

    Args:
        landmarks: positions and radii, LPS mm; or pixels.
        definitions: of measurements on landmarks of these names; others are not there.
        flat: whether the points are those of a picture; None looks whether they lie in a plane, where more than three
            can tell, and takes fewer for what the definitions are meant for.
        middle: (3,) of the picture in the same frame, which decides about the third Cobb angle.
        pixels: whether positions and radii are pixels of a picture that does not say how large they are.
        reaches: by measurement, how many times as far its interval reaches as by independent errors; see
            `formats.manifest.CalibrationData`.
    """
    given = definitions
    if flat is None and definitions.points_of and landmarks.present.sum() <= ALWAYS_FLAT:
        flat = definitions.points_of == "picture"
    definitions = _of_known_vertebrae(given, landmarks)
    needed = {name for part in definitions.measurements for name in definitions.landmarks_of(part.name)}
    landmarks = landmarks.ordered_as((*landmarks.names, *sorted(needed - set(landmarks.names))))
    points, axes = landmarks.positions, _axes(landmarks.positions[landmarks.present], flat)
    lies_in = "picture" if len(axes) == 2 else "volume"
    if definitions.points_of not in (None, lies_in):
        return ()
    exact = Geometry(definitions, landmarks.names, points[None], middle)
    drawn = Geometry(definitions, landmarks.names, points + _errors(landmarks, axes), middle)
    results = []
    for part, whole in zip(definitions.measurements, given.measurements):
        reach = (reaches or {}).get(part.name, 1.0)
        result = _result(part, definitions, landmarks, exact, drawn, pixels, reach)
        if len(part.of) < len(whole.of):
            result = _with_left_out(result, part, whole, landmarks, exact)
        if lies_in == "picture" and definitions.needs_space(part.name):
            result = MeasurementResult(part.name, result.unit, None, reason="a picture has no planes", title=part.title)
        results.append(result)
    return tuple(results)


def _of_known_vertebrae(definitions: Measurements, landmarks: LandmarkSet) -> Measurements:
    """Angles of a spine are those of the vertebrae that are known with all corners, where enough of them are."""
    there = {name for name, present in zip(landmarks.names, landmarks.present) if present}

    def known(part: Measurement) -> Measurement:
        if part.kind not in _OF_SPINES:
            return part
        vertebrae = [part.of[k : k + CORNERS] for k in range(0, len(part.of), CORNERS)]
        whole = [corners for corners in vertebrae if there.issuperset(corners)]
        if len(whole) < max(ENOUGH * len(vertebrae), 2):
            return part
        return replace(part, of=tuple(name for corners in whole for name in corners))

    return replace(definitions, measurements=tuple(map(known, definitions.measurements)))


def _with_left_out(
    result: MeasurementResult, part: Measurement, whole: Measurement, landmarks: LandmarkSet, exact: Geometry
) -> MeasurementResult:
    """An angle that says which vertebrae it leaves out; one of them may be tilted more than those beside it.

    The interval reaches farther by the usual angle between neighboring vertebrae.
    """
    names = [name for name in whole.of if name not in part.of]
    rows = [landmarks.names.index(name) for name in names if name in landmarks.names]
    told = _why_not(landmarks, rows)
    left_out = "; ".join(
        filter(None, [f"{len(names) // CORNERS} of {len(whole.of) // CORNERS} vertebrae left out", told])
    )
    reason = "; ".join(filter(None, [result.reason, left_out]))
    if result.low90 is None or result.high90 is None:
        return replace(result, reason=reason)
    reach = float(np.mean(neighbor_angles(exact.points(part.of).reshape(-1, CORNERS, 3))))
    low, high = max(result.low90 - reach, 0.0), min(result.high90 + reach, 180.0)
    return replace(result, low90=round(low, DECIMALS), high90=round(high, DECIMALS), reason=reason)


def without_moved_radii(landmarks: LandmarkSet, proposed: LandmarkSet) -> LandmarkSet:
    """The same landmarks without the radii and confidences of those that a person has moved or made absent.

    They were a model's, about its points.

    Args:
        landmarks: as they lie now.
        proposed: where the model saw them, in the same frame.
    """
    seen = proposed.ordered_as(landmarks.names).positions
    moved = np.linalg.norm(landmarks.positions - seen, axis=1) > SAME_PLACE_MM
    gone = moved | ~landmarks.present
    confidence, radius = (np.where(gone, np.nan, each) for each in (landmarks.confidence, landmarks.radius))
    return replace(landmarks, confidence=confidence, radius=radius)


def _errors(landmarks: LandmarkSet, axes: np.ndarray) -> np.ndarray:
    """(DRAWS, K, 3) errors along the axes that the points may have; 0 where no radius is known."""
    deviations = np.nan_to_num(landmarks.radius) / RADIUS_PER_SD[len(axes)]
    normal = np.random.default_rng(SEED).normal(size=(DRAWS, len(landmarks), len(axes)))
    errors: np.ndarray = normal * deviations[:, None] @ axes
    return errors


def _axes(points: np.ndarray, flat: bool | None) -> np.ndarray:
    """(2, 3) or (3, 3) directions in which points of a picture, or of a volume, can lie."""
    if flat is False or not len(points):
        return np.eye(3)[: 2 if flat else 3]
    constant = np.ptp(points, axis=0) < FLAT
    if constant.any():  # pictures follow an axis, as a rule
        return np.delete(np.eye(3), np.flatnonzero(constant)[-1], axis=0)
    _, extents, axes = np.linalg.svd(points - points.mean(axis=0))
    if flat or (len(points) > 3 and extents[2] < FLAT):
        return axes[:2]
    return np.eye(3)


def _result(
    part: Measurement,
    definitions: Measurements,
    landmarks: LandmarkSet,
    exact: Geometry,
    drawn: Geometry,
    pixels: bool,
    times: float,
) -> MeasurementResult:
    plain = definitions.unit(part)
    unit: Unit = "px" if pixels and plain == "mm" else plain
    if unit == "px":  # norms and limits of classes are mm
        part = replace(part, norm=None, classes=())
    rows = [landmarks.names.index(name) for name in definitions.landmarks_of(part.name)]
    reason = _why_not(landmarks, rows)
    value = np.nan if reason else float(exact.value(part.name)[0])
    if not np.isfinite(value):
        reason = reason or "points that must lie apart coincide"
        return MeasurementResult(part.name, unit, None, reason=reason, norm=part.norm, title=part.title)
    low, high, reason = _interval(part, unit, value, landmarks, rows, drawn, times)
    z = (value - part.norm.mean) / part.norm.sd if part.norm else np.nan
    return MeasurementResult(
        name=part.name,
        unit=unit,
        value=round(value, DECIMALS),
        low90=low,
        high90=high,
        reason=reason,
        norm=part.norm,
        z=round(z, DECIMALS) if np.isfinite(z) else None,
        within_norm=abs(z) <= part.norm.within_sd if part.norm else None,
        category=part.class_of(value),
        title=part.title,
    )


def _why_not(landmarks: LandmarkSet, rows: Sequence[int]) -> str | None:
    """Which points have no position, and why."""
    told: dict[Statement, list[str]] = {statement: [] for statement in Statement}
    for row in rows:
        told[landmarks.statements[row]].append(landmarks.names[row])
    del told[Statement.FOUND]
    return "; ".join(f"{first_of(names)}: {why.value}" for why, names in told.items() if names) or None


def _interval(
    part: Measurement,
    unit: str,
    value: float,
    landmarks: LandmarkSet,
    rows: Sequence[int],
    drawn: Geometry,
    times: float,
) -> tuple[float | None, float | None, str | None]:
    """Lower and upper end, or why there are none."""
    without = [landmarks.names[row] for row in rows if not np.isfinite(landmarks.radius[row])]
    if without:
        return None, None, f"no interval, as no radius is known of {first_of(without)}"
    off = np.abs(drawn.value(part.name) - value)
    reach = times * float(np.quantile(off[np.isfinite(off)], SHARE)) if np.isfinite(off).any() else np.inf
    low, high = value - reach, value + reach
    if part.kind in _NEVER_NEGATIVE:
        low = max(low, 0.0)
        high = min(high, 180.0) if unit == "degrees" else high
    return round(low, DECIMALS), round(high, DECIMALS), None


def shapes(landmarks: LandmarkSet, definitions: Measurements) -> list[Shape]:
    """What can be drawn of the measurements whose points are all there, each once.

    Args:
        landmarks: LPS mm.
        definitions: of measurements on landmarks of these names.
    """
    there = [name for name, present in zip(landmarks.names, landmarks.present) if present]
    possible = _of_known_vertebrae(definitions, landmarks).adapted(there)
    if possible is None:
        return []
    geometry = Geometry(possible, landmarks.names, landmarks.positions[None], None)
    extent = float(np.ptp(landmarks.positions[landmarks.present], axis=0).max())
    found: dict[str, Shape] = {}
    for part in possible.measurements:
        for shape in _shapes_of(part, possible, geometry, extent):
            if np.isfinite(shape.points).all():
                found.setdefault(shape.name, shape)
    return list(found.values())


def _shapes_of(part: Measurement, definitions: Measurements, geometry: Geometry, extent: float) -> Iterator[Shape]:
    """The shape of a measurement; sums, ratios and differences have none beside those of their parts."""
    made = {construction.name: construction for construction in definitions.constructions}
    for name in part.of:  # the lines and planes that it uses
        if name in made and made[name].kind == "line":
            yield Shape(name, "line", geometry.points(made[name].of)[0])
        elif name in made and made[name].kind == "plane":
            (center,), (normal,) = geometry.plane(name)
            yield Shape(name, "plane", np.stack([center, center + extent * normal]))
    if part.kind == "angle":
        yield Shape(part.name, "angle", geometry.points(part.of)[0])
    elif part.kind in ("asymmetry", "cobb"):
        yield from _pair_of_lines(part, geometry)
    elif part.kind in _SEGMENTS:
        yield Shape(part.name, "line", _SEGMENTS[part.kind](geometry, part.of))


def _pair_of_lines(part: Measurement, geometry: Geometry) -> Iterator[Shape]:
    """The distances of both points from a plane, or the tilts of both end vertebrae."""
    if part.kind == "asymmetry":
        for name in part.of[:2]:
            yield Shape(f"{part.name}: {name}", "line", _to_foot(geometry, (name, part.of[2])))
        return
    corners = geometry.points(part.of)[0].reshape(-1, 2, 2, 3)
    for which, vertebra in zip(("upper", "lower"), end_vertebrae(corners.reshape(-1, 4, 3))):
        yield Shape(f"{part.name}: {which} end vertebra", "line", corners[vertebra].mean(axis=0))


def _to_foot(geometry: Geometry, of: Sequence[str]) -> np.ndarray:
    """(2, 3) a point and the foot of its perpendicular on a line or plane."""
    return np.stack([geometry.point(of[0])[0], geometry.foot(of[0], of[1])[0]])


def _feet(geometry: Geometry, of: Sequence[str]) -> np.ndarray:
    """(2, 3) feet of two points on a line or plane."""
    return np.stack([geometry.foot(name, of[2])[0] for name in of[:2]])


def _ends(geometry: Geometry, of: Sequence[str]) -> np.ndarray:
    """(2, 3) two points."""
    return np.stack([geometry.point(name)[0] for name in of[:2]])


_SEGMENTS: dict[str, Callable[[Geometry, Sequence[str]], np.ndarray]] = {
    "distance": _ends,
    "directed distance": _ends,
    "distance to": _to_foot,
    "height above": _to_foot,
    "projected distance": _feet,
}
