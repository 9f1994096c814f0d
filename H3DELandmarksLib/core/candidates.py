"""Places at which a network sees each landmark: the evidence of a detection in compact form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from H3DELandmarksLib.core.geometry import Grid
from H3DELandmarksLib.core.shape_model import Pose

COUNT = 4
# Candidates closer together than so many standard deviations are one.
APART = 3.0


# x, y, z in mm, probability, and root mean square distance in mm of the landmark from it, if it is the right one.
Place = tuple[float, float, float, float, float]


@dataclass(frozen=True)
class Candidates:
    """A Gaussian mixture for each of K landmarks, of at most M places.

    Attributes:
        positions: (K, M, 3) LPS mm; NaN where there are fewer places.
        share: (K, M) probability of each place, descending; what is missing from 1 is elsewhere, or no such landmark.
        covariance: (K, M, 3, 3) mm^2 of each place.
    """

    positions: np.ndarray
    share: np.ndarray
    covariance: np.ndarray

    @classmethod
    def of(cls, places: Sequence[Sequence[Place]]) -> Candidates:
        """What `listed` gave, with as much spread along each axis; superfluous places are left out."""
        result = cls.nothing(len(places))
        for k, rows in enumerate(places):
            for m, (x, y, z, share, spread) in enumerate(rows[:COUNT]):
                result.positions[k, m], result.share[k, m] = (x, y, z), share
                result.covariance[k, m] = spread**2 / 3 * np.eye(3)
        return result

    def listed(self) -> list[list[Place]]:
        """The places of each landmark, rounded to micrometers."""
        spread = np.sqrt(np.trace(self.covariance, axis1=2, axis2=3))
        rows = np.concatenate([self.positions, self.share[..., None], spread[..., None]], axis=2)
        return [
            [
                (*np.round(row[:3], 3).tolist(), float(f"{row[3]:.3g}"), round(float(row[4]), 3))
                for row in landmark
                if row[3] > 0
            ]
            for landmark in rows
        ]

    def only_of(self, wanted: np.ndarray) -> Candidates:
        """The same without the places of landmarks that (K,) bool does not name."""
        return self.reordered(np.where(wanted, np.arange(len(wanted)), -1))

    @classmethod
    def nothing(cls, count: int) -> Candidates:
        """No place of any of ``count`` landmarks."""
        return cls(np.full((count, COUNT, 3), np.nan), np.zeros((count, COUNT)), np.zeros((count, COUNT, 3, 3)))

    def moved(self, motion: Pose) -> Candidates:
        """The same after a rigid motion of everything."""
        turned = motion.rotation @ self.covariance @ motion.rotation.T
        return Candidates(motion.to_lps(self.positions), self.share, turned)

    def magnified(self, factor: float) -> Candidates:
        """The same with all lengths multiplied, about the origin."""
        return Candidates(self.positions * factor, self.share, self.covariance * factor**2)

    def scaled(self, factor: float | np.ndarray) -> Candidates:
        """The same with all shares, or with the (K,) shares of each landmark, multiplied."""
        return replace(self, share=self.share * np.reshape(factor, (-1, 1)))

    def spread_to(self, rows: np.ndarray, count: int) -> Candidates:
        """Candidates of some landmarks (rows of a scheme of ``count``) as those of all."""
        every = Candidates.nothing(count)
        for name in ("positions", "share", "covariance"):
            getattr(every, name)[rows] = getattr(self, name)
        return every

    def reordered(self, order: np.ndarray) -> Candidates:
        """Landmark k gets the places of landmark ``order[k]``; -1 for none."""
        padded = [
            np.concatenate([values, np.zeros((1, *values.shape[1:]))])[order]
            for values in (self.positions, self.share, self.covariance)
        ]
        padded[0][padded[1] == 0] = np.nan
        return Candidates(*padded)


def in_patient(grid: Grid, index: np.ndarray, share: np.ndarray, covariance: np.ndarray) -> Candidates:
    """Candidates in LPS mm from (K, M, 3) voxels of a grid and (K, M, 3, 3) voxel^2."""
    axes = grid.affine[:3, :3]
    return Candidates(grid.lps_from_ijk(index), share, axes @ covariance @ axes.T)


def pooled(looks: Sequence[Candidates], summed: bool = False) -> Candidates:
    """The likeliest places of several looks; those that lie together become the likeliest one of them.

    Args:
        looks: at the same landmarks.
        summed: whether places that lie together add up, or the likeliest counts alone.
    """
    if len(looks) == 1:
        return looks[0]
    positions, share, covariance = (
        np.concatenate([getattr(look, name) for look in looks], axis=1) for name in ("positions", "share", "covariance")
    )
    variance = np.trace(covariance, axis1=2, axis2=3) + 1e-12
    rest, rows, result = share.copy(), np.arange(len(share)), Candidates.nothing(len(share))
    for place in range(COUNT):
        best = rest.argmax(axis=1)
        left = rest[rows, best] > 0
        if not left.any():
            break
        center = positions[rows, best]
        squared = ((np.nan_to_num(positions) - np.nan_to_num(center)[:, None]) ** 2).sum(axis=2)
        together = (squared <= APART**2 * np.maximum(variance, variance[rows, best][:, None])) & (rest > 0)
        total = np.where(together, rest, 0.0).sum(axis=1) if summed else rest[rows, best]
        result.positions[left, place], result.covariance[left, place] = center[left], covariance[rows, best][left]
        result.share[left, place] = np.minimum(total, 1.0)[left]
        rest[together] = 0.0
    return result
