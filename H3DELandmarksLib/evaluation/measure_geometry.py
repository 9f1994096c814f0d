"""What measurements are on points: distances, angles, planes, angles of a spine. Positions are millimeters or pixels in
any frame of right angles."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from H3DELandmarksLib.core.measurements import Measurements

Array = NDArray[np.float64]
COLLINEAR = 1e-9  # second extent of points without a plane, as a share of the first


class Geometry:
    """Values of measurements for many variants of the same points at once."""

    def __init__(self, definitions: Measurements, names: Sequence[str], points: Array, middle: Array | None) -> None:
        """Args: definitions, the (K) names of (N, K, 3) points, and the (3,) middle of the picture, for Cobb angles."""
        self._definitions, self._middle = definitions, middle
        self._points = {name: points[:, k] for k, name in enumerate(names)}
        self._made = {made.name: made for made in definitions.constructions}
        self._values: dict[str, Array] = {}
        self._cobb: dict[Sequence[str], Array] = {}

    def value(self, name: str) -> Array:
        """(N,) values of a measurement; NaN where points coincide that make a line or a plane."""
        if name not in self._values:
            measured = self._definitions.measurement(name)
            with np.errstate(invalid="ignore", divide="ignore"):
                self._values[name] = _COMPUTE[measured.kind](self, measured.of)
        return self._values[name]

    def point(self, name: str) -> Array:
        """(N, 3) places of a landmark or a constructed point."""
        if name not in self._points:
            made = self._made[name]
            is_middle = made.kind == "midpoint"
            self._points[name] = self.points(made.of).mean(axis=1) if is_middle else self.foot(*made.of)
        return self._points[name]

    def points(self, names: Sequence[str]) -> Array:
        """(N, len(names), 3) places."""
        return np.stack([self.point(name) for name in names], axis=1)

    def line(self, name: str) -> tuple[Array, Array]:
        """(N, 3) first point and (N, 3) direction, of length 1, of a line."""
        start, end = (self.point(part) for part in self._made[name].of)
        return start, _unit(end - start)

    def plane(self, name: str) -> tuple[Array, Array]:
        """(N, 3) center and (N, 3) normal, of length 1 and on the side that its first three points turn around."""
        points = self.points(self._made[name].of)
        center = points.mean(axis=1)
        turned = np.cross(points[:, 1] - points[:, 0], points[:, 2] - points[:, 0])
        if points.shape[1] == 3:
            return center, _unit(turned)
        if not np.isfinite(points).all():
            return center, np.full_like(center, np.nan)
        _, extents, axes = np.linalg.svd(points - center[:, None], full_matrices=False)
        normal = np.where(extents[:, 1:2] > COLLINEAR * extents[:, :1], axes[:, -1], np.nan)
        return center, normal * np.where(_dot(normal, turned)[:, None] < 0, -1, 1)

    def is_plane(self, name: str) -> bool:
        """Whether a construction is a plane, and not a line."""
        return self._made[name].kind == "plane"

    def foot(self, point: str, surface: str) -> Array:
        """(N, 3) where the perpendicular from a point meets a line or plane."""
        place = self.point(point)
        if self.is_plane(surface):
            center, normal = self.plane(surface)
            return place - _dot(place - center, normal)[:, None] * normal
        start, direction = self.line(surface)
        return start + _dot(place - start, direction)[:, None] * direction

    def distance(self, of: Sequence[str]) -> Array:
        """Between two points."""
        return _length(self.point(of[1]) - self.point(of[0]))

    def directed_distance(self, of: Sequence[str]) -> Array:
        """Between two points, negative where the second lies behind the first in the direction of a line."""
        step = self.point(of[1]) - self.point(of[0])
        return _length(step) * np.where(_dot(step, self.line(of[2])[1]) < 0, -1, 1)

    def projected_distance(self, of: Sequence[str]) -> Array:
        """From the first to the second point along the direction of a line; within a plane, never negative."""
        step = self.point(of[1]) - self.point(of[0])
        if not self.is_plane(of[2]):
            return _dot(step, self.line(of[2])[1])
        normal = self.plane(of[2])[1]
        return _length(step - _dot(step, normal)[:, None] * normal)

    def distance_to(self, of: Sequence[str]) -> Array:
        """Of a point from a line or plane."""
        return _length(self.point(of[0]) - self.foot(of[0], of[1]))

    def height_above(self, of: Sequence[str]) -> Array:
        """Of a point above a line or plane; negative on the side of the third operand, which lies below."""
        own, below = (self.point(name) - self.foot(name, of[1]) for name in (of[0], of[2]))
        return -_dot(own, _unit(below))

    def angle(self, of: Sequence[str]) -> Array:
        """At the second of three points, 0 to 180 degrees."""
        first, vertex, last = (self.point(name) for name in of)
        return _angle(first - vertex, last - vertex)

    def angle_between(self, of: Sequence[str]) -> Array:
        """Of the directions of two lines, 0 to 180 degrees; with a plane 0 to 90 degrees."""
        first, second = (self.plane(name)[1] if self.is_plane(name) else self.line(name)[1] for name in of)
        angle = _angle(first, second)
        planes = sum(self.is_plane(name) for name in of)
        if not planes:
            return angle
        acute = np.minimum(angle, 180 - angle)
        return acute if planes == 2 else 90 - acute

    def tilt(self, of: Sequence[str]) -> Array:
        """From the direction of a line to that of another, positive where it turns toward the side of a point."""
        (start, first), (_, second) = (self.line(name) for name in of[:2])
        aside = self.point(of[2]) - start
        aside = _unit(aside - _dot(aside, first)[:, None] * first)
        return np.degrees(np.arctan2(_dot(second, aside), _dot(second, first)))

    def asymmetry(self, of: Sequence[str]) -> Array:
        """How much farther the first of two points lies from a plane than the second."""
        center, normal = self.plane(of[2])
        left, right = (np.abs(_dot(self.point(name) - center, normal)) for name in of[:2])
        return left - right

    def ratio(self, of: Sequence[str]) -> Array:
        """Of two measurements."""
        return self.value(of[0]) / self.value(of[1])

    def difference(self, of: Sequence[str]) -> Array:
        """Of two measurements."""
        return self.value(of[0]) - self.value(of[1])

    def sum(self, of: Sequence[str]) -> Array:
        """Of measurements."""
        total: Array = np.stack([self.value(name) for name in of]).sum(axis=0)
        return total

    def cobb(self, of: Sequence[str], which: int) -> Array:
        """One of the three angles of a spine, see `cobb_angles`."""
        if of not in self._cobb:
            corners = self.points(of)
            self._cobb[of] = cobb_angles(corners.reshape(len(corners), -1, 4, 3), self._middle)
        return self._cobb[of][:, which]


_COMPUTE: Mapping[str, Callable[[Geometry, Sequence[str]], Array]] = {
    "distance": Geometry.distance,
    "directed distance": Geometry.directed_distance,
    "projected distance": Geometry.projected_distance,
    "distance to": Geometry.distance_to,
    "height above": Geometry.height_above,
    "angle": Geometry.angle,
    "angle between": Geometry.angle_between,
    "tilt": Geometry.tilt,
    "asymmetry": Geometry.asymmetry,
    "ratio": Geometry.ratio,
    "difference": Geometry.difference,
    "sum": Geometry.sum,
    "cobb": lambda geometry, of: geometry.cobb(of, 0),
    "cobb second": lambda geometry, of: geometry.cobb(of, 1),
    "cobb third": lambda geometry, of: geometry.cobb(of, 2),
}


def _dot(a: Array, b: Array) -> Array:
    product: Array = (a * b).sum(axis=-1)
    return product


def _length(vectors: Array) -> Array:
    length: Array = np.linalg.norm(vectors, axis=-1)
    return length


def _unit(vectors: Array) -> Array:
    """The same directions with length 1; NaN for no direction."""
    return vectors / _length(vectors)[..., None]


def _angle(a: Array, b: Array) -> Array:
    """Degrees between vectors, exact for small angles, too; NaN where one has no length."""
    a, b = _unit(a), _unit(b)
    angle: Array = np.degrees(2 * np.arctan2(_length(a - b), _length(a + b)))
    return angle


def _across(corners: Array) -> Array:
    """(..., 3) directions of (..., 4, 3) vertebrae, from the middle of the left edge to that of the right one."""
    return _unit(corners[..., [1, 3], :].mean(axis=-2) - corners[..., [0, 2], :].mean(axis=-2))


def end_vertebrae(corners: Array) -> tuple[int, int]:
    """Numbers, from 0 at the top, of the two of (V, 4, 3) vertebrae whose tilts differ most."""
    across = _across(corners)
    return _furthest(_angle(across[:, None], across[None]))


def neighbor_angles(corners: Array) -> Array:
    """(V - 1,) degrees between each of (V, 4, 3) vertebrae and the next."""
    across = _across(corners)
    return _angle(across[:-1], across[1:])


def _furthest(angles: Array) -> tuple[int, int]:
    upper, lower = np.unravel_index(np.argmax(np.triu(angles)), angles.shape)
    return int(upper), int(lower)


def cobb_angles(corners: Array, middle: Array | None = None) -> Array:
    """Angles of a spine as the AASCE 2019 challenge defines them.

    The tilt of a vertebra is that of the line between the midpoints of its left and its right edge. The first angle is
    the largest between any two vertebrae, the end vertebrae. Of a spine whose end plates all lie on one side of the
    line from top to bottom, the others are the angles of the end vertebrae with the first and the last vertebra. Else
    the second is the largest of the upper end vertebra with one above it, and the third the largest of the lower one
    with one below it; where the end vertebrae lie in the lower half of the picture, the third is that of the next curve
    above the second.

    Args:
        corners: (N, V, 4, 3) upper left, upper right, lower left and lower right corner of each vertebra, from the top.
        middle: (3,) of the picture; the spine's own where nobody knows it.

    Returns:
        (N, 3) degrees.
    """
    across = _across(corners)
    angles = _angle(across[:, :, None], across[:, None])
    plates = corners.reshape(len(corners), -1, 2, 3).mean(axis=2)
    return np.stack([_three_angles(*spine, middle) for spine in zip(angles, plates, across)])


def _three_angles(angles: Array, plates: Array, across: Array, middle: Array | None) -> tuple[float, float, float]:
    """Of one spine: (V, V) degrees, (2 V, 3) midpoints of the end plates and (V, 3) directions of its vertebrae."""
    if not np.isfinite(angles).all():
        return np.nan, np.nan, np.nan
    upper, lower = _furthest(angles)
    largest, above = angles[upper, lower], angles[upper, : upper + 1]
    spine = plates[-1] - plates[0]
    aside = across.sum(axis=0)
    aside = aside - spine * (aside @ spine) / (spine @ spine)
    side = (plates[1:-2] - plates[0]) @ aside
    if (side >= 0).all() or (side <= 0).all():
        return largest, angles[0, upper], angles[-1, lower]
    place = (plates[2 * upper + 1] + plates[2 * lower + 1]) / 2
    down = np.where(np.arange(3) == np.argmax(np.abs(spine)), np.sign(spine), 0)
    if (place - (plates[[0, -1]].mean(axis=0) if middle is None else middle)) @ down < 0:
        return largest, above.max(), angles[lower, lower:].max()
    next_upper = int(np.argmax(above))
    return largest, above.max(), angles[next_upper, : next_upper + 1].max()
