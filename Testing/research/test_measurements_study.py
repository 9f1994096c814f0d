"""The study of measurements: agreement of readers, and the sets where they are there."""

from pathlib import Path

import numpy as np
import pytest

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.core.measurements import Measurement, Measurements
from H3DELandmarksResearch.studies import measurements

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def test_agreement_counts_pictures_and_classes():
    classes = [("I", "I"), ("I", "I"), ("I", "I"), ("II", "I")]
    assert measurements._agreement(classes) == (0.75, 0.5)


def test_simulated_errors_are_held_nine_times_in_ten():
    truth = LandmarkSet(("a", "b", "c"), [[0, 0, 0], [50, 0, 0], [0, 60, 0]], radius=[2, 3, 4])
    parts = (Measurement("length", "distance", ("a", "b")), Measurement("angle", "angle", ("a", "b", "c")))
    raised = truth.with_positions(truth.positions + [[0, 0, 0], [0, 0, 9], [1, 2, 3]])
    for where, shape in (("picture", truth), ("volume", raised)):
        shares = measurements.held([shape], Measurements(parts, points_of=where), 150, [None])
        assert all(0.85 <= share <= 0.95 for share in shares.values()), where


def test_a_folder_without_the_set_is_told(tmp_path):
    with pytest.raises(InputError, match="README"):
        measurements.cobb(tmp_path)


@pytest.mark.data
@pytest.mark.skipif(not (DATA / "aasce2019-spine").is_dir(), reason="the set is not there")
def test_the_angles_of_the_set_are_found_again():
    rows = [line.split(" | ") for line in measurements.cobb(DATA / "aasce2019-spine").splitlines()[2:]]
    assert len(rows) == 3 and all(row[1] == row[2] == "454" for row in rows)
    assert np.all([float(row[4].strip(" |")) < 0.1 for row in rows])
