"""Curves seen from above (x to the patient's left, y to the back, mm): the dental arches and the body of the jaw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.spatial import cKDTree


@dataclass(frozen=True)
class PlanarCurve:
    """A polyline from the right end over the midline to the left end.

    Attributes:
        points: (N, 2) x, y in mm.
        arc: (N,) arc length from the midline in mm, negative on the patient's right.
    """

    points: np.ndarray
    arc: np.ndarray

    @classmethod
    def from_halves(cls, right: np.ndarray, left: np.ndarray) -> PlanarCurve:
        """Join two halves that both start at the midline; the right one is given mirrored, with positive x."""
        points = np.concatenate([right[:0:-1] * (-1, 1), left])
        steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
        arc = np.concatenate([[0], np.cumsum(steps)])
        return cls(points, arc - arc[len(right) - 1])

    def at(self, arc: float | np.ndarray) -> np.ndarray:
        """(..., 2) positions at arc lengths (...); straight beyond the ends."""
        arc = np.asarray(arc, dtype=np.float64)
        index = np.clip(np.searchsorted(self.arc, arc), 1, len(self.arc) - 1)
        a, b = self.points[index - 1], self.points[index]
        share = (arc - self.arc[index - 1]) / (self.arc[index] - self.arc[index - 1])
        return a + (b - a) * share[..., None]

    def tangent(self, arc: float | np.ndarray) -> np.ndarray:
        """(..., 2) unit directions of growing arc length, smoothed over 4 mm."""
        arc = np.asarray(arc, dtype=np.float64)
        step = self.at(arc + 2) - self.at(arc - 2)
        return step / np.linalg.norm(step, axis=-1, keepdims=True)

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Arc length of the nearest curve point, and offset from the curve (positive to buccal), of (M, 2) points."""
        _, index = cKDTree(self.points).query(points)
        index = np.clip(index, 1, len(self.arc) - 2)
        chord = self.points[index + 1] - self.points[index - 1]
        length = np.linalg.norm(chord, axis=1)
        chord /= length[:, None]
        away = points - self.points[index]
        along = (away * chord).sum(axis=1)
        across = away[:, 0] * chord[:, 1] - away[:, 1] * chord[:, 0]
        return self.arc[index] + along, across

    def project_lattice(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Arc length and offset as by `project` of all (x, y), each (len(x), len(y), 1) float32."""
        plane = np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1).reshape(-1, 2)
        arc, offset = (a.reshape(len(x), len(y), 1).astype(np.float32) for a in self.project(plane))
        return arc, offset


def dental_arch_half(half_width: float, depth: float, power: float) -> np.ndarray:
    """Half a dental arch from the midline: y = depth (x / half_width) ** power, densely sampled."""
    x = np.concatenate([np.arange(0, half_width * 0.7, 0.25), np.linspace(half_width * 0.7, half_width * 1.16, 80)])
    return np.stack([x, depth * (x / half_width) ** power], axis=1)


def spline_half(controls: np.ndarray) -> np.ndarray:
    """A smooth curve through (N, 2) control points that starts at the midline and leaves it at a right angle."""
    mirrored = np.concatenate([controls[:0:-1] * (-1, 1), controls])
    knots = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(mirrored, axis=0), axis=1))])
    middle = knots[len(controls) - 1]
    curve = CubicSpline(knots, mirrored)(np.arange(middle, knots[-1], 0.4))
    curve[0, 0] = 0
    return curve
