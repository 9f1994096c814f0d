"""Which case next: random order, with scans that nearly repeat a case or another scan last."""

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sample_cases import NAMES, SCHEME, SHAPE, placed, points_of, scan_of

from H3DELandmarksLib.cases import CaseLandmark, ReviewState, create_project
from H3DELandmarksLib.cases.next_case import MAX_DISTANCE, FoundShape, case_shapes, in_frame, ranked, shape_distances
from H3DELandmarksLib.cases.store import content_of
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.shape_model import ShapeModel

MODEL = ShapeModel(SHAPE - SHAPE.mean(axis=0), np.full(len(NAMES), 0.6))
COUNT = len(NAMES)
ALL = np.ones((1, COUNT), dtype=bool)


def seen(name, points, voxel=None):
    """A scan in which these points were found; the value of its voxels is its place in the random order."""
    value = sum(map(ord, name)) if voxel is None else voxel
    content = content_of(Volume(np.full((2, 2, 2), value, dtype=np.int16), np.eye(4)))
    return FoundShape(Path(name), content, in_frame(MODEL, points))


def order_of(scans):
    return [place.scan.name for place in ranked(scans, {}, MODEL)]


def long_faced(seed):
    points = points_of(seed)
    points[9] += [0, -4, -3]
    points[:8] += np.where(points[:8, :1] > 20, 1.5, -1.5) * [1, 0, 0]
    return points


def test_the_order_is_random_but_the_same_again_however_the_folder_is_sorted():
    scans = [seen(f"scan {n:02d}", points_of(n), voxel=n) for n in range(12)]
    order = order_of(scans)
    assert sorted(order) == [scan.scan.name for scan in scans] and order != sorted(order)
    assert order_of(scans[::-1]) == order
    assert {place.reason for place in ranked(scans, {}, MODEL)} == {"random"}
    assert [name for name in order if name != "scan 03"] == order_of([s for s in scans if s.scan.name != "scan 03"])


def test_near_copies_come_last_and_say_of_what():
    scans = [seen(f"usual {n}", points_of(n)) for n in range(5)]
    scans.insert(0, seen("long", long_faced(9), voxel=1))
    scans.insert(1, seen("long again", long_faced(9), voxel=1))
    scans.insert(2, seen("same subject", long_faced(9) + 3))
    places = ranked(scans, {}, MODEL)
    reasons = {place.scan.name: place.reason for place in places}
    last = {place.scan.name for place in places[-2:]}
    assert last < {"long", "long again", "same subject"}
    assert {reasons[name] for name in reasons if name not in last} == {"random"}
    kept = ({"long", "long again", "same subject"} - last).pop()
    for name in last:
        assert kept in reasons[name] or "the same scan as long" in reasons[name]
        assert reasons[name].endswith(": last")


def test_a_copy_of_a_case_comes_last(tmp_path):
    project = create_project(tmp_path / "project", SCHEME)
    case = project.add(scan_of(9, long_faced(9)), placed(long_faced(9))).case
    known = case_shapes(project, SCHEME, MODEL, flat=False)
    scans = [seen("long", long_faced(9) + 2), *(seen(f"usual {n}", points_of(n)) for n in range(3))]
    assert {place.reason for place in ranked(scans, {}, MODEL)} == {"random"}
    last = ranked(scans, known, MODEL)[-1]
    assert last.scan.name == "long" and last.reason == f"nearly a copy of {case}: last"


def test_points_that_nobody_has_placed_in_a_case_say_nothing(tmp_path):
    project = create_project(tmp_path / "project", SCHEME)
    points = points_of(0)
    project.add(scan_of(0), [CaseLandmark(n, ReviewState.PLACED, p) for n, p in zip(NAMES[:8], points)])
    known = case_shapes(project, SCHEME, MODEL, flat=False)
    (shape,) = known.values()
    assert np.isfinite(shape).all(axis=1).tolist() == [True] * 8 + [False] * 2
    assert "copy" in ranked([seen("again", points)], known, MODEL)[0].reason


def test_a_point_that_one_of_two_scans_lacks_tells_them_apart():
    few = points_of(0).copy()
    few[:3] = np.nan
    places = ranked([seen("complete", points_of(0)), seen("few", few)], {}, MODEL)
    assert [place.reason for place in places] == ["random", "random"]


def test_a_scan_with_almost_no_point_comes_last_and_says_so():
    scan = FoundShape(Path("shoulder"), seen("x", points_of(0)).content, np.full((COUNT, 3), np.nan))
    places = ranked([scan, seen("usual", points_of(1)), seen("usual again", points_of(1))], {}, MODEL)
    assert places[-1].scan.name == "shoulder" and "almost no point" in places[-1].reason
    assert ranked([], {}, MODEL) == [] and ranked([], {"x": MODEL.mean}, MODEL) == []


@given(hnp.arrays(float, (2, COUNT, 3), elements=st.floats(-50, 50)), hnp.arrays(bool, (2, COUNT)))
def test_distances_of_shapes_are_symmetric_and_limited(shapes, missing):
    one, other = np.where(missing[..., None], np.nan, shapes)
    there = shape_distances(one, other[None], MODEL.tolerance, ALL)
    np.testing.assert_allclose(there, shape_distances(other, one[None], MODEL.tolerance, ALL))
    assert 0 <= there[0] <= MAX_DISTANCE
