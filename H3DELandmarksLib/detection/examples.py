"""Proposals for landmarks that no model knows, from one to a few scans in which a person has marked them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress

import numpy as np

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.execution import Progress
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import Cause, LandmarkSet
from H3DELandmarksLib.detection.registration import FEWEST_POINTS, Laid, Picture, lay_over

# Scans whose neighborhoods correlate less do not show the same: of 80 pairs of cephalograms one did; spines and
# mirrored cephalograms reached 0.57.
LEAST_LIKENESS = 0.6
# How much more an example counts whose neighborhoods correlate better.
TRUST = 4
# Of a normal distribution in 2 and 3 dimensions: radius of 90 % by the root of the mean square.
RADIUS_90 = {2: 1.517, 3: 1.444}
# Each landmark's disagreement counts as much as that of all in so many examples.
POOLED = 4.0
ROUNDS = 20


@dataclass(frozen=True)
class Example:
    """A scan with the points that a person has marked.

    Attributes:
        name: of the case.
        picture: the scan.
        landmarks: LPS mm; of the same names in every example.
        guide: what a model has found in it, LPS mm; None where no model guides.
    """

    name: str
    picture: Picture
    landmarks: LandmarkSet
    guide: LandmarkSet | None = None


@dataclass(frozen=True)
class Proposals:
    """What examples say of a scan.

    Attributes:
        landmarks: LPS mm, with radii where examples could disagree; nothing is known where the scan is not alike.
        doubtful: the positions all the same.
        correlation: of the neighborhoods of the points in the scan and in the example that it is most like.
        used: of each example, whether it counts: those that are unlike the scan do only where all are.
        guided_by: in how many examples points of a model have led.
    """

    landmarks: LandmarkSet
    doubtful: LandmarkSet
    correlation: float
    used: tuple[bool, ...]
    guided_by: int = 0

    @property
    def is_alike(self) -> bool:
        """Whether the scan shows what the examples show."""
        return self.correlation >= LEAST_LIKENESS


def propose(
    examples: Sequence[Example], volume: Volume, guide: LandmarkSet | None = None, progress: Progress | None = None
) -> Proposals:
    """Propose the landmarks of examples in another scan.

    Args:
        examples: one or more.
        volume: the scan.
        guide: what the model that guides has found in it, LPS mm; None for none.
        progress: receives the fraction done and what is being done.

    Raises:
        InputError: there is no example, examples have other names than one another, or radiographs meet volumes.
    """
    scan = Picture.of(volume)
    _check(examples, scan)
    laid, guided = [], 0
    for number, example in enumerate(examples):
        if progress is not None:
            progress(number / len(examples), f"Comparing with example {number + 1} of {len(examples)}")
        known = known_in_both(example.guide, guide)
        guided += known is not None
        laid.append(lay_over(example.picture, scan, example.landmarks.positions, known))
    return combine([example.landmarks for example in examples], laid, scan, guided)


def combine(marked: Sequence[LandmarkSet], laid: Sequence[Laid], scan: Picture, guided: int = 0) -> Proposals:
    """What several examples say together.

    Args:
        marked: the points of each example.
        laid: of each, see `lay_over`; those that are unlike the scan count only where all are.
        scan: where they are laid.
        guided: in how many examples points of a model have led.
    """
    likeness = [one.likeness for one in laid]
    is_alike = max(likeness) >= LEAST_LIKENESS
    used = tuple(value >= LEAST_LIKENESS or not is_alike for value in likeness)
    landmarks = _landmark_set(list(compress(marked, used)), list(compress(laid, used)), scan.axes)
    unlike = landmarks.unknown_where(np.ones(len(landmarks), bool), Cause.UNLIKE)
    landmarks = landmarks.unknown_where(landmarks.present & ~scan.contains(landmarks.positions), Cause.OUTSIDE_SCAN)
    lacking = ~landmarks.present & ~landmarks.unknown  # in the examples, which tells nothing of this scan
    landmarks = landmarks.unknown_where(lacking, Cause.NO_PLACE)
    return Proposals(landmarks if is_alike else unlike, landmarks, max(likeness), used, guided)


def why_other_kind(examples_are_flat: bool, scan_is_flat: bool) -> str:
    """One sentence about why examples and a scan do not go together, radiographs with volumes; empty where they do."""
    if examples_are_flat == scan_is_flat:
        return ""
    kind, other = ("volumes", "a radiograph") if scan_is_flat else ("radiographs", "a volume")
    return f"The examples are {kind}, but this scan is {other}: choose a scan like the examples."


def _check(examples: Sequence[Example], scan: Picture) -> None:
    if not examples:
        raise InputError("There is no example: correct one case with these landmarks first.")
    names = examples[0].landmarks.names
    for example in examples:
        if example.landmarks.names != names:
            raise InputError(
                f"The examples '{examples[0].name}' and '{example.name}' follow different schemes: give examples with "
                "points of the same names."
            )
        if not example.landmarks.present.any():
            raise InputError(f"The example '{example.name}' has no point: mark its landmarks, or leave it out.")
        if reason := why_other_kind(example.picture.axes == 2, scan.axes == 2):
            raise InputError(reason)


def known_in_both(here: LandmarkSet | None, there: LandmarkSet | None) -> tuple[np.ndarray, np.ndarray] | None:
    """(M, 3) positions each of what a model has found in two scans; None where that is too little."""
    if here is None or there is None:
        return None
    there = there.ordered_as(here.names)
    both = here.present & there.present
    return (here.positions[both], there.positions[both]) if both.sum() > FEWEST_POINTS else None


def _landmark_set(marked: Sequence[LandmarkSet], laid: Sequence[Laid], axes: int) -> LandmarkSet:
    """All examples together: a landmark has a position where most of those that know it have it."""
    positions = np.stack([one.positions for one in laid])
    trust = np.stack([np.maximum(one.similarity, 0.05) * max(one.likeness, 0.05) ** 2 for one in laid]) ** TRUST
    weights = trust * np.isfinite(positions).all(axis=2)
    presence = np.stack([landmarks.presence for landmarks in marked])
    stated = np.isfinite(presence).sum(axis=0)
    share = np.where(stated > 0, np.nansum(presence, axis=0) / np.maximum(stated, 1), np.nan)
    middle = robust_middle(positions, weights)
    radius = disagreement(positions, weights, axes)
    radius = np.where(np.nan_to_num(share) >= 0.5, radius, np.nan)
    return LandmarkSet(marked[0].names, middle, share, radius=radius, definitions=marked[0].definitions)


def robust_middle(positions: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(K, 3) weighted geometric medians of (N, K, 3) positions; between few that lie close, their mean.

    Args:
        positions: mm; rows of weight 0 do not count.
        weights: (N, K).
    """
    known = np.nan_to_num(positions)
    middle: np.ndarray = _mean(known, weights)
    for _ in range(ROUNDS):
        away = np.linalg.norm(known - middle, axis=2)
        near = np.ma.median(np.ma.masked_array(away, weights == 0), axis=0).filled(0)
        middle = _mean(known, weights / np.maximum(away, np.maximum(near, 1e-6)))  # closer ones all pull alike
    middle[weights.sum(axis=0) == 0] = np.nan
    return middle


def _mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    mean: np.ndarray = (values * weights[..., None]).sum(axis=0) / np.maximum(weights.sum(axis=0), 1e-12)[:, None]
    return mean


def disagreement(positions: np.ndarray, weights: np.ndarray, axes: int) -> np.ndarray:
    """(K,) mm around the middle that should hold the right place in 90 % of scans; NaN with fewer than two examples.

    Each example is compared with the middle of the others, all of them in the new scan, so that what an alignment gets
    wrong counts too. Landmarks borrow from one another: few examples tell little of each alone.
    """
    count = len(positions)
    if count < 2:
        return np.full(positions.shape[1], np.nan)
    squares = np.full(weights.shape, np.nan)
    for k in range(count):
        others = np.arange(count) != k
        squares[k] = ((positions[k] - robust_middle(positions[others], weights[others])) ** 2).sum(axis=1)
    told = np.isfinite(squares)
    number = told.sum(axis=0)
    overall = squares[told].mean() if told.any() else np.nan
    shrunk = (np.nansum(squares, axis=0) + POOLED * overall) / (number + POOLED)
    fair = (1 + 1 / count) / (1 + 1 / (count - 1))  # all of them lie closer than those that were left out
    radius: np.ndarray = RADIUS_90[axes] * np.sqrt(shrunk * fair)
    return radius
