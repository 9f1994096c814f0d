"""The audit of shapes nobody made for it: planted faults are told at their place, right sets stay quiet."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from H3DELandmarksLib.cases.findings import IssueKind
from H3DELandmarksLib.cases.point_check import CheckedPoints, check_shapes
from H3DELandmarksLib.cases.same_points import check_same_places
from H3DELandmarksLib.core.landmarks import LandmarkDefinition, LandmarkScheme
from H3DELandmarksResearch.cases.reader_check import check_against, check_readers

CASES = 16
few = settings(max_examples=4, deadline=None, derandomize=True)
seeds = st.integers(0, 2**16)


def scheme_of(count, pairs=0):
    """The first landmarks stand in pairs, left and right."""
    marks = tuple(LandmarkDefinition(f"p{k}", "") for k in range(count))
    return LandmarkScheme("s", "1", marks, tuple((f"p{2 * k}", f"p{2 * k + 1}") for k in range(pairs)))


def heads(seed, landmarks=14, pairs=4):
    """(16, K, 3) mm: subjects of one anatomy with pairs of both sides, 1 mm apart in every point, in other poses."""
    from scipy.spatial.transform import Rotation

    rng = np.random.default_rng(seed)
    while True:
        base = rng.uniform(-60, 60, (landmarks, 3))
        base[: 2 * pairs : 2, 0] = rng.uniform(25, 60, pairs)
        base[1 : 2 * pairs : 2] = base[: 2 * pairs : 2] * [-1, 1, 1]
        apart = np.linalg.norm(base[:, None] - base[None], axis=2) + 99 * np.eye(landmarks)
        if apart.min() > 20:
            break
    turns = Rotation.random(CASES, random_state=seed).as_matrix()
    points = base * rng.normal(1, 0.04, (CASES, 1, 1)) + rng.normal(0, 0.6, (CASES, landmarks, 3))
    return np.einsum("nkd,ned->nke", points, turns) + rng.normal(0, 30, (CASES, 1, 3))


def column(seed, blocks=7):
    """(16, 4 K, 3): corners of blocks in a row that bends otherwise in each subject, in a plane."""
    rng = np.random.default_rng(seed)
    y = np.arange(blocks) * 30.0
    cases = []
    for _ in range(CASES):
        x = rng.normal(0, 5) * np.sin(y / 60 + rng.normal(0, 0.3))
        corners = [[x[k] + sx * 18, y[k] + sy * 10, 0] for k in range(blocks) for sy in (-1, 1) for sx in (-1, 1)]
        cases.append(np.array(corners) * rng.normal(1, 0.06) + rng.normal(0, 0.7, (4 * blocks, 3)) * [1, 1, 0])
    return np.stack(cases)


def told(points, scheme):
    cases = [CheckedPoints(str(n), p) for n, p in enumerate(points)]
    found = [*check_shapes(cases, scheme), *check_same_places(cases, scheme)]
    return {(int(f.case), f.kind, f.landmark) for f in found}


@few
@given(seeds, st.integers(0, CASES - 1), st.integers(0, 3))
def test_exchanged_names_of_a_pair(seed, case, pair):
    points = heads(seed)
    points[case, [2 * pair, 2 * pair + 1]] = points[case, [2 * pair + 1, 2 * pair]]
    assert (case, IssueKind.SWAP, f"p{2 * pair}") in told(points, scheme_of(14, 4))


@few
@given(seeds, st.integers(0, CASES - 1))
def test_exchanged_sides_are_one_finding_about_the_case(seed, case):
    points, scheme = heads(seed), scheme_of(14, 4)
    points[case] = points[case, scheme.mirror_order()]
    assert {f for f in told(points, scheme) if f[0] == case} == {(case, IssueKind.SIDES, None)}


@few
@given(seeds, st.integers(0, CASES - 1), st.integers(0, 13))
def test_a_far_point(seed, case, landmark):
    points = heads(seed)
    points[case, landmark] += 25.0
    kinds = {kind for n, kind, name in told(points, scheme_of(14)) if (n, name) == (case, f"p{landmark}")}
    assert kinds and kinds <= {IssueKind.OUTLIER, IssueKind.SWAP}


@few
@given(seeds, st.integers(0, CASES - 1), st.sampled_from([0.1, 0.4, 2.54, 10]))
def test_points_in_another_unit(seed, case, factor):
    for points, scheme in ((heads(seed), scheme_of(14, 4)), (column(seed), scheme_of(28))):
        points[case] *= factor
        assert {f for f in told(points, scheme) if f[2] is None} == {(case, IssueKind.OUTLIER, None)}


@few
@given(seeds, st.integers(0, CASES - 1), st.integers(0, 5))
def test_neighbours_of_a_row_in_the_wrong_order(seed, case, block):
    points = column(seed)
    here, there = np.arange(4) + 4 * block, np.arange(4) + 4 * block + 4
    points[case, [*here, *there]] = points[case, [*there, *here]]
    kinds = {kind for n, kind, _ in told(points, scheme_of(28)) if n == case}
    assert kinds <= {IssueKind.SWAP, IssueKind.OUTLIER} and kinds


@few
@given(seeds, st.integers(0, CASES - 1), st.integers(0, 5))
def test_a_structure_of_a_row_that_was_marked_twice(seed, case, block):
    points = column(seed)
    points[case, 4 * block + 4 : 4 * block + 8] = points[case, 4 * block : 4 * block + 4] + [0.3, -0.2, 0]
    names = {name for n, kind, name in told(points, scheme_of(28)) if (n, kind) == (case, IssueKind.SAME_PLACE)}
    assert {f"p{4 * block + 4 + k}" for k in range(4)} <= names


@pytest.mark.parametrize(
    "make, scheme, points",
    [
        (heads, scheme_of(14, 4), 14),
        (column, scheme_of(28), 28),
        (heads, scheme_of(4, 2), 4),  # few
        (column, scheme_of(4, 2), 4),  # few, in a plane
        (column, scheme_of(8, 4), 8),
    ],
)
def test_right_sets_are_quiet(make, scheme, points):
    """At most 2 % of the cases; 6 sets of 16: one case."""
    cases = sum(len({case for case, _, _ in told(make(seed)[:, :points], scheme)}) for seed in range(6))
    assert cases <= 0.02 * 6 * CASES


def listed(points):
    return {str(n): CheckedPoints(str(n), p) for n, p in enumerate(points)}


@few
@given(seeds, st.integers(0, CASES - 1), st.integers(0, 13))
def test_a_readers_habit_is_no_finding_and_a_slip_is(seed, case, landmark):
    rng = np.random.default_rng(seed)
    truth = rng.uniform(-60, 60, (14, 3)) + rng.normal(0, 5, (CASES, 1, 3))
    one, other = (truth + rng.normal(0, 0.7, truth.shape) for _ in range(2))
    other += rng.normal(0, 6, (14, 3))  # the habit
    assert list(check_readers({"a": listed(one), "b": listed(other)}, scheme_of(14))) == []
    slip = one.copy()
    slip[case, landmark] += 15.0
    (found,) = check_against(("a", listed(slip)), ("the model", listed(other)), scheme_of(14))
    assert (found.case, found.landmark, found.kind) == (str(case), f"p{landmark}", IssueKind.READERS)
    assert (
        found.value == pytest.approx(15 * 3**0.5, abs=5) and np.linalg.norm(found.expected - truth[case, landmark]) < 5
    )
    assert list(check_readers({"a": dict(list(listed(slip).items())[:4]), "b": listed(other)}, scheme_of(14))) == []
