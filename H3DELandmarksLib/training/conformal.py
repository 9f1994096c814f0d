"""Radii that hold a share of the errors of scans which nobody has seen: split conformal, case by case."""

from __future__ import annotations

import numpy as np

from H3DELandmarksLib.errors import InputError

SHARE = 0.9
# Extra cases with the error of all landmarks: few cases speak for each landmark.
SHRINKAGE = 10.0
LEVELS = np.linspace(0.8, 1.0, 81)


def radii(error: np.ndarray, share: float = SHARE) -> np.ndarray:
    """(K,) mm that hold a share of the errors of new cases.

    A radius is a quantile of errors over the landmark's usual error (normalized split conformal prediction, Lei et
    al., JASA 113:1094, 2018). The errors of one scan go together, so that cases count and not points: the quantile's
    level is the one at which radii from all other cases hold the share of a left-out case's errors (the jackknife view
    of conformal prediction, Barber et al., Annals of Statistics 49:486, 2021).

    Args:
        error: (N, K) mm of calibration cases, NaN where nothing was found or nothing was there.
        share: from 0 to 1.

    Raises:
        InputError: nothing was found anywhere.
    """
    if not np.isfinite(error).any():
        raise InputError("The network finds no landmark in the calibration cases: train for more steps, then package.")
    return _radii_at(error, np.array([_level(error, share)]))[0]


def radii_without(error: np.ndarray, share: float = SHARE) -> np.ndarray:
    """(N, K) mm: for each case the radii that all other cases give (cross-conformal, Vovk, Ann. Math. AI 74:9, 2015).

    Args:
        error: as for `radii`, of two cases at least.
        share: from 0 to 1.
    """
    return np.stack([radii(np.delete(error, case, axis=0), share) for case in range(len(error))])


def _level(error: np.ndarray, share: float) -> float:
    """The smallest level at which left-out cases are covered; with a single case the share itself."""
    cases = [case for case in range(len(error)) if np.isfinite(error[case]).any()]
    if len(cases) < 2:
        return share
    held, total = np.zeros(len(LEVELS)), 0
    for case in cases:
        others = _radii_at(np.delete(error, case, axis=0), LEVELS)
        known = np.isfinite(error[case])
        held += (error[case] <= others)[:, known].sum(axis=1)
        total += known.sum()
    enough = np.flatnonzero(held >= share * total)
    return float(LEVELS[enough[0]]) if enough.size else 1.0


def _radii_at(error: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """(L, K) quantiles of relative errors, times each landmark's usual error."""
    count = np.isfinite(error).sum(axis=0)
    usual = (np.nansum(error, axis=0) + SHRINKAGE * np.nanmean(error)) / (count + SHRINKAGE)
    scores = (error / usual)[np.isfinite(error)]
    return np.quantile(scores, levels)[:, None] * usual
