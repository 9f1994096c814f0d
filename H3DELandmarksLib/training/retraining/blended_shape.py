"""The mean shape of a model after retraining: that of the base, moved by the corrected cases, in the same frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from H3DELandmarksLib.errors import InputError
from H3DELandmarksLib.landmarks import LandmarkScheme, LandmarkSet
from H3DELandmarksLib.shape_model import ShapeModel, rigid_fit

# The base's cases count as this many at most, so that a different population shows.
MOST_BASE_CASES = 10.0


def blended_shape(
    base: ShapeModel, base_names: Mapping[str, str], base_scheme: LandmarkScheme, scheme: LandmarkScheme,
    cases: Sequence[LandmarkSet], own_frame: bool, base_cases: float = MOST_BASE_CASES,
) -> ShapeModel:
    """Weighted mean of the base's shape and of cases placed onto it.

    Args:
        base: shape of the base model.
        base_names: name in the base's scheme of each landmark that it knows.
        base_scheme: landmarks of the base.
        scheme: landmarks now.
        cases: training cases, LPS mm, in the order of `scheme`.
        own_frame: whether cases are turned onto the shape, or only shifted.
        base_cases: cases that the base stands for.

    Returns:
        Shape in the base's frame, centered; the tolerance counts what both spread around the new mean.

    Raises:
        InputError: a landmark that the base lacks is placed in no case.
    """
    mean, tolerance = _carried_over(base, base_names, base_scheme, scheme)
    alike = _says_the_same(base_names, base_scheme, scheme)
    places = [_placed(case.positions, mean, alike, own_frame) for case in cases if case.present.any()]
    aligned = np.stack(places) if places else np.full((1, len(scheme), 3), np.nan)
    weight = np.where(alike, min(base_cases, MOST_BASE_CASES), 0.0)
    count = np.isfinite(aligned).all(axis=2).sum(axis=0)
    # Where no case shows a landmark whose definition changed, its old place is the best guess.
    weight = np.where((weight + count == 0) & np.isfinite(mean).all(axis=1), 1.0, weight)
    if (weight + count == 0).any():
        missing = ", ".join(name for name, total in zip(scheme.names, weight + count) if total == 0)
        raise InputError(f"The model does not know {missing}, nor is it placed in any case for training: place it in "
                         "more cases, or drop it from the scheme.")
    known = np.nan_to_num(mean) * weight[:, None]
    blended = (known + np.nansum(aligned, axis=0)) / (weight + count)[:, None]
    squares = np.nansum(((aligned - blended) ** 2).sum(axis=2), axis=0)
    moved = np.nan_to_num(((mean - blended) ** 2).sum(axis=1))
    variance = (weight * (np.nan_to_num(tolerance) ** 2 + moved) + squares) / (weight + count)
    floor = np.nanmedian(tolerance)
    spread = np.sqrt(variance)
    return ShapeModel(blended - blended.mean(axis=0), np.where(weight == 0, np.maximum(spread, floor), spread))


def _carried_over(
    base: ShapeModel, base_names: Mapping[str, str], base_scheme: LandmarkScheme, scheme: LandmarkScheme
) -> tuple[np.ndarray, np.ndarray]:
    """Mean (K, 3) and tolerance (K,) in the order of the new scheme, NaN for landmarks that the base lacks."""
    row = {name: k for k, name in enumerate(base_scheme.names)}
    nothing = np.full(3, np.nan)
    rows = [row.get(base_names.get(name, "")) for name in scheme.names]
    mean = np.stack([nothing if k is None else base.mean[k] for k in rows])
    return mean, np.array([np.nan if k is None else base.tolerance[k] for k in rows])


def _says_the_same(
    base_names: Mapping[str, str], base_scheme: LandmarkScheme, scheme: LandmarkScheme
) -> np.ndarray:
    """(K,) whether the base has the landmark with the same definition."""
    before = {landmark.name: landmark.definition for landmark in base_scheme.landmarks}
    return np.array([before.get(base_names.get(p.name, "")) == p.definition for p in scheme.landmarks])


def _placed(points: np.ndarray, mean: np.ndarray, alike: np.ndarray, own_frame: bool) -> np.ndarray:
    """(K, 3) points of a case in the shape's frame, NaN where it cannot be placed there.

    Points whose definition changed say where the case lies only if there are too few others.
    """
    common = np.isfinite(points).all(axis=1) & np.isfinite(mean).all(axis=1)
    needed = 3 if own_frame else 1
    common = common & alike if (common & alike).sum() >= needed else common
    if common.sum() < needed:
        return np.full_like(points, np.nan)
    if own_frame:
        return rigid_fit(mean[common], points[common]).to_model(points)
    return points - (points[common] - mean[common]).mean(axis=0)
