"""What a model finds in cases, kept on disk, so that a study of corrections computes it once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from H3DELandmarksLib.core.candidates import Candidates
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.core.shape_model import Pose
from H3DELandmarksLib.detection import Detector
from H3DELandmarksLib.training.cases import Case

_SET = ("positions", "presence", "confidence", "radius")
_CANDIDATES = ("positions", "share", "covariance")


@dataclass(frozen=True)
class SeenCase:
    """A case as a reader meets it.

    Attributes:
        name: of the case.
        truth, found: LPS mm, in the scheme's order.
        pose: of the model frame, as found.
        candidates: all places where the landmarks may lie; None where the model's decoder gives none.
    """

    name: str
    truth: LandmarkSet
    found: LandmarkSet
    pose: Pose
    candidates: Candidates | None


def look(detector: Detector, cases: Iterable[Case], cache: Path) -> Iterator[SeenCase]:
    """What the model finds in each case; what lies in the cache is not looked for again."""
    for case in cases:
        path = cache / f"{re.sub(r'[^A-Za-z0-9._-]+', '-', case.name)}.npz"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.with_suffix(".partial").open("wb") as file:
                np.savez(file, **_kept(detector, case))
            path.with_suffix(".partial").replace(path)
        yield read_seen(path, case.landmarks.names)


def _kept(detector: Detector, case: Case) -> dict[str, np.ndarray]:
    found = detector.findings(case.volume)
    landmarks = detector.conclude(found, case.volume).doubtful
    kept = {f"found_{name}": getattr(landmarks, name) for name in _SET}
    kept |= {f"truth_{name}": getattr(case.landmarks.ordered_as(landmarks.names), name) for name in _SET}
    if found.candidates is not None:
        kept |= {f"candidates_{name}": getattr(found.candidates, name) for name in _CANDIDATES}
    return {**kept, "rotation": found.pose.rotation, "translation": found.pose.translation}


def read_seen(path: Path, names: tuple[str, ...]) -> SeenCase:
    """A case from the cache, with landmarks of these names."""
    with np.load(path) as kept:
        truth, found = (LandmarkSet(names, *(kept[f"{which}_{n}"] for n in _SET)) for which in ("truth", "found"))
        candidates = None
        if "candidates_share" in kept:
            candidates = Candidates(*(kept[f"candidates_{n}"] for n in _CANDIDATES))
        return SeenCase(path.stem, truth, found, Pose(kept["rotation"], kept["translation"]), candidates)
