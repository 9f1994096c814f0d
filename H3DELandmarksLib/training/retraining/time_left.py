"""How long a run will still take, from the steps that it has made."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np

STEPS_BEFORE_A_GUESS = 5
RECENT = 0.95


class TimeLeft:
    """Guesses the seconds left from the time per voxel of a batch, which all stages have about in common."""

    def __init__(self, stages: Sequence[Mapping]) -> None:
        """Take stages with their settings."""
        self._voxels = {s["name"]: float(np.prod(s["shape"])) * s["training"]["batch"] for s in stages}
        self._last: float | None = None
        self._seconds_per_voxel: float | None = None
        self._steps = 0

    def step_done(self, stage: str) -> None:
        """Tell that a step was made just now; the first one after a pause starts the clock."""
        now = time.monotonic()
        if self._last is not None:
            rate = (now - self._last) / self._voxels[stage]
            share = RECENT if self._steps else 0.0
            self._seconds_per_voxel = share * (self._seconds_per_voxel or 0.0) + (1 - share) * rate
            self._steps += 1
        self._last = now

    def pause(self) -> None:
        """Leave out what happens until the next step."""
        self._last = None

    def seconds(self, remaining: Mapping[str, int]) -> float | None:
        """For so many steps of each stage; None while it is unknown."""
        if self._steps < STEPS_BEFORE_A_GUESS or self._seconds_per_voxel is None:
            return None
        return self._seconds_per_voxel * sum(self._voxels[name] * steps for name, steps in remaining.items())
