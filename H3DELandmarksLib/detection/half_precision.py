"""Whether a network may run in half precision: only where its landmarks stay in place."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from H3DELandmarksLib.detection.decoding import Peaks

if TYPE_CHECKING:
    from H3DELandmarksLib.detection.engine import Engine

logger = logging.getLogger(__name__)
Points = Callable[[Sequence[Tensor]], Peaks]
# Voxels of the network's input grid that the worst landmark may move.
LIMIT = 0.25
# Crops in which landmarks must have stayed in place, and crops after which the attempt to see some is given up.
PROOFS = 3
ATTEMPTS = 12


def worst_move(full: Peaks, half: Peaks) -> float:
    """Voxels between the two positions of the landmark that moved most; NaN where none is there.

    Landmarks that ``full`` takes for absent (log-odds below 0) do not count: their places mean nothing.
    """
    there = full.presence_logit > 0
    if not there.any():
        return float("nan")
    move = np.linalg.norm(half.index - full.index, axis=1)[there]
    return float(np.where(np.isfinite(move), move, np.inf).max())


def refusal(full: Engine, half: Engine, crops: Iterable[np.ndarray], points: Points) -> str | None:
    """Why ``half`` must not stand in for ``full``, as a sentence, or None where it may.

    Args:
        full: the network in single precision.
        half: the same network in half precision.
        crops: network inputs (1, channels, *grid) of real scans.
        points: reads landmarks out of the maps of one crop.
    """
    moves = [worst_move(points(full.maps(crop)), points(half.maps(crop))) for crop in crops]
    return _judge([move for move in moves if not np.isnan(move)])


def _judge(moves: Sequence[float]) -> str | None:
    if not moves:
        return "no crop showed a landmark by which half precision could be judged"
    if max(moves) >= LIMIT:
        return f"half precision moves a landmark by {max(moves):.2f} voxels, {LIMIT} or more"
    return None


class GatedEngine:
    """Half precision once it has proved harmless on the first crops, for which single precision answers."""

    def __init__(self, full: Engine, half: Engine, points: Points) -> None:
        """Compare by ``points``, which reads landmarks out of the maps of one crop."""
        self.full = full
        self.half: Engine | None = half
        self.points = points
        self.moves: list[float] = []
        self.attempts = 0

    def maps(self, batch: np.ndarray) -> tuple[Tensor, ...]:
        """See Engine."""
        if self.half is None:
            return self.full.maps(batch)
        if len(self.moves) >= PROOFS:
            return self.half.maps(batch)
        maps = self.full.maps(batch)
        self._compare(maps, self.half.maps(batch))
        return maps

    def _compare(self, full: tuple[Tensor, ...], half: tuple[Tensor, ...]) -> None:
        move = worst_move(self.points(full), self.points(half))
        self.attempts += 1
        self.moves += [] if np.isnan(move) else [move]
        reason = _judge(self.moves)
        if reason and (self.moves or self.attempts >= ATTEMPTS):
            logger.warning("Continuing in single precision: %s.", reason)
            self.half = None
