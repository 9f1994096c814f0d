"""Which case next: what is unlike everything known and uncertain comes first, what repeats something comes last."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sample_cases import NAMES, SCHEME, SHAPE, placed, points_of, scan_of

from H3DELandmarksLib.cases import CaseLandmark, ReviewState, create_project
from H3DELandmarksLib.cases.next_case import (
    DEFAULT_ORDER,
    FARTHEST,
    ORDERS,
    LookedAt,
    choose_order,
    in_frame,
    known_shapes,
    point_uncertainty,
    ranked,
    scans_in,
    shape_distances,
)
from H3DELandmarksLib.cases.store import content_of
from H3DELandmarksLib.cli.cases import ORDERS as cli_orders
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.shape_model import ShapeModel

MODEL = ShapeModel(SHAPE - SHAPE.mean(axis=0), np.full(len(NAMES), 0.6))
COUNT = len(NAMES)
unit = st.floats(0, 1)


def seen(name, points, uncertainty=0.2, voxel=None):
    """A scan of one voxel in which these points were found."""
    value = sum(map(ord, name)) if voxel is None else voxel
    content = content_of(Volume(np.full((2, 2, 2), value, dtype=np.int16), np.eye(4)))
    return LookedAt(Path(name), content, in_frame(MODEL, points), np.full(COUNT, uncertainty))


def order_of(scans, known=(), order="combined"):
    return [place.scan.name for place in ranked(scans, known, SCHEME, MODEL, order)]


def long_faced(seed):
    points = points_of(seed)
    points[9] += [0, -4, -3]
    points[:8] += np.where(points[:8, :1] > 20, 1.5, -1.5) * [1, 0, 0]
    return points


def test_a_scan_unlike_the_others_ranks_first():
    scans = [seen(f"usual {n}", points_of(n)) for n in range(6)]
    scans.insert(3, seen("long", long_faced(9)))
    first = ranked(scans, [], SCHEME, MODEL, "combined")[0]
    assert first.scan.name == "long" and first.reasons[0].startswith("unusual shape")


@pytest.mark.parametrize("order", ORDERS)
def test_a_scan_that_repeats_a_ranked_one_ranks_last_however_uncertain(order):
    scans = [seen(f"usual {n}", points_of(n)) for n in range(5)]
    scans.insert(0, seen("long", long_faced(9), 0.9, voxel=1))
    scans.insert(1, seen("long again", long_faced(9), 0.9, voxel=1))
    scans.insert(2, seen("same subject", long_faced(9) + 3, 0.9))
    places = ranked(scans, [], SCHEME, MODEL, order)
    alike = {"long", "long again", "same subject"}
    last = {place.scan.name: place.reasons[0] for place in places[-2:]}
    assert set(last) < alike
    assert last["long again"] in {"the same scan as long", "nearly the same shape as same subject"}
    assert order == "random" or (places[0].scan.name, last["same subject"]) == ("long", "nearly the same shape as long")
    assert places[-1].score == pytest.approx(0, abs=1e-6)


def test_of_equally_distant_scans_the_uncertain_one_comes_first():
    scans = [seen("sure", points_of(0), 0.1), seen("unsure", points_of(0) + 5, 0.7)]
    assert order_of(scans) == order_of(scans[::-1]) == ["unsure", "sure"]
    told = ranked(scans, [], SCHEME, MODEL, "combined")[0].reasons
    assert told == (f"10 points uncertain: {', '.join(NAMES[:5])}, ...",)


def test_each_order_looks_at_what_it_is_named_for():
    unsure, to_known, between = [0.1, 0.2, 0.9, 0.3], [1.0, 3.0, 1.1, 2.0], np.full((4, 4), 9.0)
    chance = [0.4, 0.3, 0.1, 0.2]
    order = {name: [c.scan for c in choose_order(name, unsure, chance, to_known, between)] for name in ORDERS}
    assert order == {
        "random": [0, 1, 3, 2],
        "combined": [2, 1, 3, 0],
        "uncertainty": [2, 3, 1, 0],
        "distance": [1, 3, 2, 0],
    }
    between[2, 3] = between[3, 2] = 0.0
    for name in ORDERS:
        assert choose_order(name, unsure, chance, to_known, between)[-1].scan in (2, 3), "one of two alike comes last"
    assert cli_orders[0] == DEFAULT_ORDER and set(cli_orders) == set(ORDERS)


def test_what_a_case_of_the_project_shows_already_comes_late(tmp_path):
    project = create_project(tmp_path / "project", SCHEME)
    project.add(scan_of(9, long_faced(9)), placed(long_faced(9)))
    known = known_shapes(project, SCHEME, MODEL, flat=False)
    scans = [seen("long", long_faced(9) + 2), *(seen(f"usual {n}", points_of(n)) for n in range(3))]
    assert order_of(scans)[0] == "long"
    assert order_of(scans, known)[-1] == "long"
    assert ranked(scans, known, SCHEME, MODEL, "combined")[-1].reasons == ("nearly a known shape",)


def test_points_that_nobody_has_placed_in_a_case_say_nothing(tmp_path):
    project = create_project(tmp_path / "project", SCHEME)
    points = points_of(0)
    project.add(scan_of(0), [CaseLandmark(n, ReviewState.PLACED, p) for n, p in zip(NAMES[:6], points)])
    known = known_shapes(project, SCHEME, MODEL, flat=False)
    assert known[0][1].tolist() == [True] * 6 + [False] * 4
    other = points.copy()
    other[6:] += 9
    apart = shape_distances(in_frame(MODEL, points)[None], known[0][0][None], MODEL.tolerance, known[0][1][None])
    assert apart[0, 0] < 0.7


def test_a_scan_with_almost_no_point_comes_last_and_says_so():
    nothing = np.full((COUNT, 3), np.nan)
    scan = LookedAt(Path("shoulder"), seen("x", points_of(0)).content, nothing, np.zeros(COUNT))
    places = ranked([scan, seen("usual", points_of(1))], [], SCHEME, MODEL)
    assert [place.scan.name for place in places] == ["usual", "shoulder"]
    assert "almost no point" in places[1].reasons[0] and np.isnan(places[1].distance)
    assert ranked([], [], SCHEME, MODEL) == []


def test_more_missing_points_make_a_scan_more_unlike_the_complete_ones():
    few = points_of(1).copy()
    few[:3] = np.nan
    scans = [seen("complete", points_of(0)), seen("few", few), seen("complete too", points_of(0) + 1)]
    shapes = np.stack([scan.shape for scan in scans])
    apart = shape_distances(shapes, shapes, MODEL.tolerance)
    assert apart[0, 1] > apart[0, 2] and apart[0, 2] == pytest.approx(0, abs=1e-6)


@given(presence=unit, share=unit, apart=st.floats(0, 50))
def test_uncertainty_is_a_share_and_grows_with_every_doubt(presence, share, apart):
    def value(presence, confidence, apart):
        return float(point_uncertainty(*(np.array([x]) for x in (presence, confidence, apart)), 2.0)[0])

    here = value(presence, share * presence, apart)
    assert 0 <= here <= 1
    assert value(presence, share * presence, apart + 1) >= here - 1e-12
    assert value(presence, share * share * presence, apart) >= here - 1e-12
    assert value(0.5, 0.4, apart) == pytest.approx(1)
    assert value(1, 1, 0) == value(0, 0, apart) == 0


@given(hnp.arrays(float, (4, COUNT, 3), elements=st.floats(-50, 50)), hnp.arrays(bool, (4, COUNT)))
def test_distances_of_shapes_are_symmetric_and_limited(shapes, missing):
    shapes = np.where(missing[..., None], np.nan, shapes)
    apart = shape_distances(shapes, shapes, MODEL.tolerance)
    np.testing.assert_allclose(apart, apart.T)
    assert (apart >= 0).all() and (apart <= FARTHEST).all()


@settings(max_examples=50)
@given(st.data())
def test_every_scan_gets_one_place_and_scores_fall(data):
    count = data.draw(st.integers(0, 8))
    numbers = st.floats(0, 5)
    unsure = data.draw(st.lists(unit, min_size=count, max_size=count))
    to_known = data.draw(st.lists(numbers, min_size=count, max_size=count))
    points = data.draw(hnp.arrays(float, (count, 2), elements=numbers))
    between = np.linalg.norm(points[:, None] - points[None], axis=2)
    order = choose_order(data.draw(st.sampled_from(ORDERS)), unsure, unsure[::-1], to_known, between)
    assert sorted(choice.scan for choice in order) == list(range(count))
    scores = [choice.score for choice in order]
    assert scores == sorted(scores, reverse=True)


def test_scans_of_a_folder_are_found(tmp_path):
    for name in ("b.nrrd", "a.nii.gz", "points.mrk.json", "part.seg.nrrd", ".hidden.nrrd", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    for name in ("patient", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "patient" / "1").write_bytes(b"\0" * 128 + b"DICM")
    (tmp_path / "patient" / "2").write_bytes(b"\0" * 128 + b"DICM")
    assert [path.name for path in scans_in(tmp_path)] == ["a.nii.gz", "b.nrrd", "patient"]
    assert [path.name for path in scans_in(tmp_path, radiographs=True)] == ["a.nii.gz", "b.nrrd", "1", "2"]
    assert scans_in(tmp_path / "patient") == [tmp_path / "patient"]
    for folder in ("other", "none"):
        with pytest.raises(InputError, match="no scans|cannot be read"):
            scans_in(tmp_path / folder)
