"""The MML set (He et al., Neurocomputing 567:127051): dental CT with 14 points of the lower molars, voxel coordinates.

What the published reader (ithet1007/mmld_code) says: coordinates are in the order of the array's axes as pynrrd reads
them, which is the order of the file's axes, first axis first; ``spacing`` has the same order; the header's own geometry
is not used; values are divided by 255. It treats a landmark as missing where its mean coordinate is below -100.

Where the axes run in the patient is found from the points: a lower jaw tells all three directions, right molars to left
ones, second to third molars (backward), root apices to crowns (upward).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.io.isolated import read_volume
from H3DELandmarksResearch.converters.conversion import Progress, SourceCase, Summary, case_name, convert_cases
from H3DELandmarksResearch.phantom.scheme import MOLAR_SCHEME

SUBSET_OF_FOLDER = {"train": "train", "val": "validation", "test": "test"}
VOLUME, LABEL, SPACING = "_volume.nrrd", "_label.npy", "_spacing.npy"
STRONGLY_NEGATIVE = -20.0  # voxels; no landmark of the scan lies that far outside
LANDMARKS = len(MOLAR_SCHEME)
LETTERS = {"L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1), "S": (2, 1), "I": (2, -1)}
CLEAR = 0.6  # of a mean direction's length must lie along one axis
CROWNS, BACKWARD = (("0", "b"), ("0", "c"), ("d", "e"), ("d", "f")), (("0", "d"),)


@dataclass(frozen=True)
class MmlFiles:
    """The three files of a case.

    Attributes:
        stem: path without the endings.
    """

    stem: Path

    @property
    def volume(self) -> Path:
        """The scan."""
        return self.stem.with_name(self.stem.name + VOLUME)

    def points(self) -> np.ndarray:
        """(14, 3) voxel coordinates along the array's axes; NaN where the landmark is missing.

        Raises:
            InputError: the file is missing or holds something else.
        """
        path = self.stem.with_name(self.stem.name + LABEL)
        return missing_as_nan(_numbers(path, (LANDMARKS, 3), f"{LANDMARKS} x 3 coordinates"))

    def spacing(self) -> np.ndarray:
        """(3,) voxel size in mm along the array's axes.

        Raises:
            InputError: the file is missing or holds something else.
        """
        path = self.stem.with_name(self.stem.name + SPACING)
        spacing = _numbers(path, (3,), "three voxel sizes")
        if not (np.isfinite(spacing).all() and (spacing > 0).all()):
            raise InputError(f"'{path}' holds a voxel size that is not positive: correct it.")
        return spacing


def convert(source: Path, target: Path, options: Mapping[str, Any], progress: Progress) -> Summary:
    """Convert the set.

    Args:
        source: folder with ``train``, ``val`` and ``test``.
        target: folder for the cases; a split file joins them.
        options: ``axes``: "auto", or three letters that say where the array's axes run.
        progress: receives the fraction done and the name of the case at hand.

    Raises:
        InputError: there is no case, or the axes cannot be found.
    """
    found = [
        (MmlFiles(path.with_name(path.name.removesuffix(VOLUME))), subset)
        for folder, subset in SUBSET_OF_FOLDER.items()
        for path in sorted((source / folder).glob(f"*{VOLUME}"))
    ]
    if not found:
        raise InputError(f"'{source}' holds no *{VOLUME} in folders train, val or test: choose the folder with these.")
    chosen = str(options.get("axes") or "auto")
    axes = axes_from_points(_all_points([files for files, _ in found])) if chosen == "auto" else parse_axes(chosen)
    extremes: list[float] = []
    cases = [
        SourceCase(case_name(f"{subset}-{files.stem.name}"), partial(_read, files, axes, extremes), (subset,))
        for files, subset in found
    ]
    summary = convert_cases(cases, target, progress, bool(options.get("leave_out_repeats")))
    summary.notes += _notes(axes, chosen, extremes)
    return summary


def missing_as_nan(points: np.ndarray) -> np.ndarray:
    """Coordinates with NaN for missing landmarks: not a number, all 0, all -1, or any strongly negative value.

    Args:
        points: (K, 3) as stored.
    """
    with np.errstate(invalid="ignore"):
        missing = np.isnan(points).any(axis=1) | (points == 0).all(axis=1) | (points == -1).all(axis=1)
        missing |= (points < STRONGLY_NEGATIVE).any(axis=1)
    return np.where(missing[:, np.newaxis], np.nan, points)


def _read(files: MmlFiles, axes: np.ndarray, extremes: list[float]) -> tuple[Volume, LandmarkSet]:
    points, spacing = files.points(), files.spacing()
    array = read_volume(files.volume).array
    inside = ((points >= -1) & (points <= array.shape)).all(axis=1)
    outside = [name for name, ok, p in zip(MOLAR_SCHEME.names, inside, points) if not ok and np.isfinite(p).all()]
    if outside:
        raise InputError(f"'{files.volume}': {', '.join(outside)} of its label lie outside the volume: check the case.")
    affine = np.eye(4)
    affine[:3, :3] = axes * spacing
    extremes += [float(array.min()), float(array.max())]
    volume = Volume(array, affine)
    definitions = tuple(landmark.definition for landmark in MOLAR_SCHEME.landmarks)
    return volume, LandmarkSet(MOLAR_SCHEME.names, volume.grid.lps_from_ijk(points), definitions=definitions)


def _all_points(cases: Sequence[MmlFiles]) -> list[np.ndarray]:
    """(14, 3) positions in mm along the arrays' axes of every case that can be read."""
    result = []
    for files in cases:
        try:
            result.append(files.points() * files.spacing())
        except InputError:
            continue  # told where the case itself is converted
    return result


def _notes(axes: np.ndarray, chosen: str, extremes: Sequence[float]) -> list[str]:
    how = "found from the landmarks" if chosen == "auto" else "as given"
    notes = [f"The array's axes run to {axes_text(axes)} ({how})."]
    if np.linalg.det(axes) < 0:
        notes.append(
            "These axes are left-handed: either the arrays are mirrored, or L and R in names are the viewer's sides."
        )
    if any(not 0 <= value <= 255 for value in extremes):
        notes.append("Values exceed 0..255, which the bundled configuration mml expects: change its entry intensity.")
    return notes


def _numbers(path: Path, shape: tuple[int, ...], what: str) -> np.ndarray:
    try:
        values = np.asarray(np.load(path, allow_pickle=False), dtype=np.float64)
    except FileNotFoundError as error:
        raise InputError(f"'{path}' is missing: every volume needs its label and its spacing.") from error
    except (OSError, ValueError, EOFError, TypeError) as error:
        raise InputError(f"'{path}' is damaged or not a file of numbers: copy it again.") from error
    if values.shape != shape and values.size == int(np.prod(shape)) and values.ndim > len(shape):
        values = values.reshape(shape)
    if values.shape != shape:
        size = " x ".join(map(str, values.shape)) or "one number"
        raise InputError(f"'{path}' should hold {what}, but holds {size}: copy it again.")
    return values


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
