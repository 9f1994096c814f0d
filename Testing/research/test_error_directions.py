"""Directions of errors: along which line a point errs, and whether both sides do."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.landmarks import LandmarkDefinition, LandmarkScheme
from H3DELandmarksResearch.studies import error_directions

SCHEME = LandmarkScheme("toy", "1", tuple(LandmarkDefinition(n, n) for n in ("L", "R", "M")), (("L", "R"),))


def errors_along(line: np.ndarray, along: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return along[:, None] * line + rng.normal(0, 0.01, (len(along), 3))


def test_the_longest_axis_is_the_line_along_which_a_point_errs():
    rng = np.random.default_rng(1)
    line = Rotation.random(random_state=3).as_matrix()[:, 0]
    errors = errors_along(line, rng.normal(0, 0.5, 400), rng)
    errors[5] = np.nan
    deviations, axes = error_directions.spread(errors)
    assert deviations[2] == pytest.approx(0.5, rel=0.1) and deviations[:2] == pytest.approx(0.01, rel=0.2)
    assert abs(axes[:, 2] @ line) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(("shared", "expected"), [(1.0, 1.0), (0.0, 0.0), (-1.0, -1.0)])
def test_sides_that_err_alike_are_correlated_in_the_mirror(shared, expected):
    rng = np.random.default_rng(2)
    line = np.array([0.6, 0.8, 0.0])
    left, own = rng.normal(0, 0.3, (2, 2000))
    right = shared * left + np.sqrt(1 - shared**2) * own
    pair = errors_along(line, left, rng), errors_along(line, right, rng) * (-1, 1, 1)
    assert error_directions.correlation_of_sides(*pair) == pytest.approx(expected, abs=0.05)


def test_the_table_begins_with_the_worst_point_and_tells_points_without_a_pair():
    rng = np.random.default_rng(4)
    errors = rng.normal(0, 0.1, (50, 3, 3)) * np.array([1, 3, 2])[:, None]
    rows = [line.split(" | ") for line in error_directions.table(errors, SCHEME, "command").splitlines()[-3:]]
    assert [row[0] for row in rows] == ["| R", "| M", "| L"]
    assert rows[1][-1] == "no pair |" and rows[0][-1] == rows[2][-1]


def test_a_folder_without_a_trained_fold_is_told(tmp_path):
    with pytest.raises(InputError, match="cross_validation"):
        error_directions.errors_of_folds(tmp_path)
