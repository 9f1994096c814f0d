"""Errors without what two people's habits, or a model's and a person's, differ by at every landmark."""

from __future__ import annotations

import numpy as np

from H3DELandmarksLib.core.shape_model import rigid_fit

LEAST_POINTS = 3  # for a rigid fit
ROUNDS = 5


def offset_free_errors(predicted: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Distances after a rigid fit and without each landmark's systematic offset.

    Each case's predicted points are laid on its reference by a rigid fit without scaling. The differences that remain
    are turned into one frame, that of the references' mean shape. A landmark's systematic offset in a case is the mean
    of its differences in the *other* cases, so that no case explains its own error; what is left without it is the
    error. The pose and a habit (where on a rim a point is put) are removed, scatter is not: these errors stand beside
    raw ones, not in place of them.

    Args:
        predicted: (N, K, 3) mm, NaN where there is none; each case in a frame of its own.
        reference: (N, K, 3) mm, in the same frames.

    Returns:
        (N, K) mm; NaN where either point is missing, where no other case has both, and in cases with fewer than three
        common points.
    """
    common = np.isfinite(predicted).all(axis=2) & np.isfinite(reference).all(axis=2)
    common &= (common.sum(axis=1) >= LEAST_POINTS)[:, None]
    apart = np.zeros(reference.shape)
    cases = np.flatnonzero(common.any(axis=1))
    for case, turn in zip(cases, _turns_to_mean([reference[n][common[n]] for n in cases], common[cases])):
        found, truth = predicted[case][common[case]], reference[case][common[case]]
        apart[case, common[case]] = (rigid_fit(found, truth).to_lps(found) - truth) @ turn
    others = common.sum(axis=0) - common
    offset = (apart.sum(axis=0) - apart) / np.maximum(others, 1)[..., None]
    errors: np.ndarray = np.where(common & (others > 0), np.linalg.norm(apart - offset, axis=2), np.nan)
    return errors


def _turns_to_mean(cases: list[np.ndarray], common: np.ndarray) -> list[np.ndarray]:
    """(3, 3) matrices that turn row vectors of each case onto the mean shape, found by alternating.

    Args:
        cases: the points of each that count, as many as its row of `common` has.
        common: (N, K) bool, which landmarks these are.
    """
    turns = [np.eye(3) for _ in cases]
    if not cases:
        return turns
    start = int(np.argmax(common.sum(axis=1)))
    known, mean = common[start].copy(), np.zeros((common.shape[1], 3))
    mean[known] = cases[start]
    for _ in range(ROUNDS):
        total = np.zeros_like(mean)
        counted = np.zeros(len(mean), int)
        for number, (points, here) in enumerate(zip(cases, common)):
            both = here & known
            if both.sum() < LEAST_POINTS:
                continue
            pose = rigid_fit(mean[both], points[both[here]])
            turns[number] = pose.rotation
            total[here] += pose.to_model(points)
            counted += here
        known = counted > 0
        mean[known] = total[known] / counted[known, None]
    return turns
