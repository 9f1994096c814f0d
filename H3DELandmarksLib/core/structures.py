"""Where each structure of a row in a radiograph lies, how it is turned and how large it is.

Seen in such frames, all structures of a kind look alike, and one network learns from all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

UP = np.array([0.0, 0.0, 1.0])


@dataclass(frozen=True)
class Structures:
    """Frames of the structures of a row, in LPS mm of a radiograph's sheet; NaN where they are not known.

    Attributes:
        center: (S, 3) mean of each structure's landmarks.
        across: (S, 3) from the landmarks of one side to their partners, mean of a structure and its neighbors.
        along: (S, 3) from one structure to the next, likewise.
    """

    center: np.ndarray
    across: np.ndarray
    along: np.ndarray

    @classmethod
    def of(cls, points: np.ndarray, groups: Sequence[np.ndarray], partners: np.ndarray) -> Structures:
        """The frames of structures whose landmarks are known.

        Args:
            points: (K, 3) mm.
            groups: two at least, in the order of the row, the landmarks of each, partners among them.
            partners: (K,) of each landmark the one on the other side.
        """
        center = np.stack([points[group].mean(axis=0) for group in groups])
        across = np.stack([_across(points, group, partners) for group in groups])
        return cls(center, _with_neighbors(across), _with_neighbors(np.gradient(center, axis=0)))

    @property
    def known(self) -> np.ndarray:
        """(S,) bool, which have a frame."""
        size = self.size
        known: np.ndarray = np.isfinite(self.center + size).all(axis=1) & (size > 0).all(axis=1)
        return known

    @property
    def size(self) -> np.ndarray:
        """(S, 3) mm: how wide each structure is, how far its neighbors are, and 1 across the sheet."""
        lengths = [np.linalg.norm(part, axis=1) for part in (self.across, self.along)]
        return np.stack([*lengths, np.ones(len(self.center))], axis=1)

    def axes(self, number: int) -> np.ndarray:
        """(3, 3) rotation whose first column points across a structure, and whose last leaves the sheet."""
        first = self.across[number] / np.linalg.norm(self.across[number])
        return np.stack([first, np.cross(UP, first), UP], axis=1)


def _across(points: np.ndarray, group: np.ndarray, partners: np.ndarray) -> np.ndarray:
    firsts = np.array([k for k in group if k < partners[k]])
    across: np.ndarray = (points[partners[firsts]] - points[firsts]).mean(axis=0) * (1, 1, 0)
    return across


def _with_neighbors(vectors: np.ndarray) -> np.ndarray:
    """(S, 3) mean with both neighbors, which count half; the ends count for the neighbor that they lack."""
    padded = np.pad(vectors, ((1, 1), (0, 0)), mode="edge")
    parts = np.stack([padded[:-2], padded[1:-1], padded[2:]])
    weights = np.array([1.0, 2, 1])[:, None, None] * np.isfinite(parts)
    with np.errstate(invalid="ignore"):
        mean: np.ndarray = (weights * np.nan_to_num(parts)).sum(axis=0) / weights.sum(axis=0)
    return mean
