"""How much a model would learn from a scan: how unsure it is of the points, and how unlike the known shapes they lie.

Scans are chosen one after the other. In the order "combined", each choice takes the scan with the largest product of
its uncertainty and its distance from what is known: the mean shape, which stands for the cases that the model was
trained on, the cases of the project and the scans chosen before. In every order, a scan that nearly repeats what is
known comes late. None of the orders has beaten chance on mouse skulls (benchmarks/which_case_next.md), which is why
"random" is the default.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# In usual distances of a landmark from the mean shape.
FARTHEST = 5.0  # a point that lies farther off counts as one that was found wrongly, not as an unusual shape
MISSING = 2.0  # between a point and none
NEARLY_SAME = 0.4
LEAST_UNCERTAINTY = 0.1
ORDERS = ("random", "combined", "uncertainty", "distance")
DEFAULT_ORDER = ORDERS[0]


@dataclass(frozen=True)
class Choice:
    """One place in the order.

    Attributes:
        scan: index.
        score: expected benefit; comparable within one order only.
        distance: from what is known at this moment, in usual distances of a landmark from the mean shape.
        nearest: index of the scan chosen before that is nearest; None where the mean shape or a case is nearer.
    """

    scan: int
    score: float
    distance: float
    nearest: int | None


def point_uncertainty(
    presence: np.ndarray, confidence: np.ndarray, disagreement: np.ndarray, tolerance_mm: float
) -> np.ndarray:
    """(K,) from 0 to 1: how far each landmark of a scan is from being known.

    Args:
        presence: (K,) calibrated probability that it is in the scan.
        confidence: (K,) calibrated probability that it is there and lies within the tolerance.
        disagreement: (K,) mm between two looks; NaN where there are no two.
        tolerance_mm: what counts as right.
    """
    wrong = np.clip(presence - confidence, 0, 1)
    doubt = 1 - np.abs(2 * presence - 1)
    apart = np.nan_to_num(disagreement)
    unstable = presence * apart / (apart + tolerance_mm)
    return 1 - (1 - wrong) * (1 - doubt) * (1 - unstable)


def shape_distances(
    shapes: np.ndarray, others: np.ndarray, tolerance: np.ndarray, reviewed: np.ndarray | None = None
) -> np.ndarray:
    """(N, M) root mean square distance of corresponding points, each in its landmark's usual distance from the mean.

    Args:
        shapes: (N, K, 3) mm in the frame of the mean shape; NaN where a point is missing.
        others: (M, K, 3) likewise.
        tolerance: (K,) mm, root mean square distance of training subjects from the mean.
        reviewed: (M, K) whether it is known of `others` where a point is or that it is missing; by default of all.
    """
    result = np.full((len(shapes), len(others)), MISSING)
    for n, shape in enumerate(shapes):
        apart = np.minimum(np.linalg.norm(shape - others, axis=2) / tolerance, FARTHEST)
        here, there = np.isfinite(shape).all(axis=1), np.isfinite(others).all(axis=2)
        compared = (here | there) & (True if reviewed is None else reviewed)
        apart = np.where(compared, np.where(here & there, apart, MISSING), 0.0)
        count = compared.sum(axis=1)
        result[n] = np.where(count, np.sqrt((apart**2).sum(axis=1) / np.maximum(count, 1)), MISSING)
    return result


def choose_order(
    order: str, uncertainty: Sequence[float], chance: Sequence[float], to_known: Sequence[float], between: np.ndarray
) -> list[Choice]:
    """The order in which to correct scans.

    Args:
        order: one of ORDERS; "random" and "uncertainty" look at distances only to put near repetitions last.
        uncertainty: (N,) of each scan, from 0 to 1.
        chance: (N,) a random number for each scan, from 0 to 1.
        to_known: (N,) distance of each scan from the nearest of what is known.
        between: (N, N) distances of the scans from each other.
    """
    unsure = LEAST_UNCERTAINTY + np.asarray(uncertainty, dtype=float)
    weights = {"random": chance, "combined": unsure, "uncertainty": unsure, "distance": np.ones(len(unsure))}
    most = NEARLY_SAME if order in ("random", "uncertainty") else np.inf
    return greedy_order(weights[order], to_known, between, most)


def greedy_order(
    weight: Sequence[float], to_known: Sequence[float], between: np.ndarray, most: float = np.inf
) -> list[Choice]:
    """The order in which to correct scans.

    Args:
        weight: (N,) what the distance of each scan is multiplied with.
        to_known: (N,) distance of each scan from the nearest of what is known.
        between: (N, N) distances of the scans from each other.
        most: distance from which on more does not count.
    """
    weight, distance = np.asarray(weight, dtype=float), np.array(to_known, dtype=float)
    nearest: list[int | None] = [None] * len(distance)
    left, choices = list(range(len(distance))), []
    while left:
        benefit = weight * np.minimum(distance, most)
        scan = max(left, key=lambda n: benefit[n])
        choices.append(Choice(scan, float(benefit[scan]), float(distance[scan]), nearest[scan]))
        left.remove(scan)
        for other in left:
            if between[other, scan] < distance[other]:
                distance[other], nearest[other] = between[other, scan], scan
    return choices
