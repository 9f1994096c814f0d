"""Where the axes of an array run in the patient, found from the points of lower molars.

A lower jaw tells all three directions: right molars to left ones, second to third molars (backward), root apices to
crowns (upward).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksResearch.phantom.scheme import MOLAR_SCHEME

LETTERS = {"L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1), "S": (2, 1), "I": (2, -1)}
CLEAR = 0.6  # of a mean direction's length must lie along one axis
CROWNS, BACKWARD = (("0", "b"), ("0", "c"), ("d", "e"), ("d", "f")), (("0", "d"),)


def parse_axes(text: str) -> np.ndarray:
    """Three letters, such as LPS, as a matrix.

    Args:
        text: for each array axis the side of the patient it runs to: L or R, P or A, S or I.

    Returns:
        (3, 3) whose column k is the unit direction of array axis k in LPS.

    Raises:
        InputError: these are not three different axes.
    """
    pairs = [LETTERS.get(letter, (-1, 0)) for letter in text.upper()]
    if sorted(axis for axis, _ in pairs) != [0, 1, 2]:
        raise InputError(f"The axes '{text}' are not known: give one each of L or R, P or A, S or I, as in LPS.")
    axes = np.zeros((3, 3))
    for column, (row, sign) in enumerate(pairs):
        axes[row, column] = sign
    return axes


def axes_text(axes: np.ndarray) -> str:
    """The three letters of a matrix as `parse_axes` gives it."""
    names = {pair: letter for letter, pair in LETTERS.items()}
    rows = np.abs(axes).argmax(axis=0)
    return "".join(names[int(row), int(np.sign(axes[row, column]))] for column, row in enumerate(rows))


def axes_from_points(cases: Sequence[np.ndarray]) -> np.ndarray:
    """Directions of the array axes that fit the landmarks of all cases together.

    Args:
        cases: (14, 3) positions in mm along the array's axes, NaN where missing, in the order of the molar scheme.

    Returns:
        (3, 3) as `parse_axes`.

    Raises:
        InputError: too few landmarks, or their directions fit no axes.
    """
    index = {name: k for k, name in enumerate(MOLAR_SCHEME.names)}
    stacked = np.stack(cases) if cases else np.full((1, len(index), 3), np.nan)

    def mean_step(pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        steps = np.concatenate([stacked[:, index[end]] - stacked[:, index[start]] for start, end in pairs])
        steps = steps[np.isfinite(steps).all(axis=1)]
        step = steps.mean(axis=0) if len(steps) else np.zeros(3)
        return step / max(float(np.linalg.norm(step)), 1e-9)

    left = mean_step([(f"R{p}", f"L{p}") for p in "0abcdef"])
    backward = mean_step([(f"{side}{a}", f"{side}{b}") for side in "LR" for a, b in BACKWARD])
    up = mean_step([(f"{side}{apex}", f"{side}{crown}") for side in "LR" for crown, apex in CROWNS])
    cosines = np.stack([left, backward, up])
    rows, columns = linear_sum_assignment(-np.abs(cosines))
    chosen = cosines[rows, columns]
    if np.abs(chosen).min() < CLEAR:
        raise InputError("The landmarks don't show where the array's axes run: give them with --axes, such as LPS.")
    axes = np.zeros((3, 3))
    axes[rows, columns] = np.sign(chosen)
    return axes
