"""What the study of corrections plants, and that its remedies take it back."""

import numpy as np
import pytest

from H3DELandmarksLib.core.anatomy import Anatomy, Factors
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.core.revision import Evidence
from H3DELandmarksLib.core.shape_model import Pose
from H3DELandmarksResearch.studies.corrections import planted, table
from H3DELandmarksResearch.training.revision import Reviewed

CORNERS = np.array([[-8.0, -7, 0], [8, -7, 0], [-8, 7, 0], [8, 7, 0]])
ROW = np.concatenate([CORNERS * (1 + k / 100) + (0, 24.0 * k + k**2 / 20, 0) for k in range(10)])
HEAD = np.random.default_rng(3).normal(0, 20, (10, 3))
PAIRS = (("p0", "p1"), ("p2", "p3"), ("p4", "p5"), ("p6", "p7"))


def judged(mean, flat):
    """An anatomy with a case in which all points are found."""
    count = len(mean)
    single = Factors(np.zeros((0, count, 3)), np.full(count, 1.0))
    anatomy = Anatomy(mean - mean.mean(axis=0), single, Factors(single.modes, np.full(count, 0.5)), 1.0)
    truth = mean + np.random.default_rng(0).normal(0, 0.3, mean.shape) * (1, 1, not flat)
    names = tuple(f"p{k}" for k in range(count))
    found = LandmarkSet(names, truth + (0.1, 0.1, 0), np.ones(count), np.full(count, 0.8), np.full(count, 1.5))
    return anatomy, Reviewed(Evidence(found, Pose(np.eye(3), np.zeros(3))), LandmarkSet(names, truth))


def wrong(case):
    return int((np.linalg.norm(case.evidence.found.positions - case.truth.positions, axis=1) > 1).sum())


@pytest.mark.parametrize(("kind", "mean", "pairs"), [("row", ROW, ()), ("part", ROW, ()), ("sides", HEAD, PAIRS)])
def test_one_click_mends_what_was_planted(kind, mean, pairs):
    anatomy, case = judged(mean, flat=kind != "sides")
    bad = planted(case, kind, anatomy, pairs, 1)
    assert wrong(case) == 0 < 4 < wrong(bad)
    counted = [line.split() for line in table([(anatomy, bad)], 0.0, pairs).splitlines()]
    alone, both = (int(line[1].rstrip(",")) for line in counted if line[0] in ("corrections", "both"))
    assert alone == wrong(bad)
    assert both <= 5


def test_a_mirrored_scan_is_said():
    anatomy, case = judged(HEAD, flat=False)
    bad = planted(case, "mirrored", anatomy, (), 1)
    assert wrong(bad) == 0
    assert "mirrored scan in 1" in table([(anatomy, bad)], 0.0)


@pytest.mark.parametrize("kind", ["row", "part", "sides"])
def test_what_has_neither_sides_nor_rows_is_refused(kind):
    anatomy, case = judged(HEAD, flat=False)
    with pytest.raises(InputError, match="planted"):
        planted(case, kind, anatomy, (), 1)
