"""Proposals that are revised stay proposals, say by what, and are taken back by one undo."""

import numpy as np
import pytest
from head_model import KEY, NAMES, PAIRS, SIDES_EXCHANGED, found_head, write_head_package
from scene_cases import GEOMETRIES, LINEAR, add_linear_transform, add_volume

from H3DELandmarksLib.core.candidates import Candidates
from H3DELandmarksLib.core.landmarks import Cause
from H3DELandmarksLib.core.systematic import Systematic
from H3DELandmarksLib.formats.provenance import Provenance
from H3DELandmarksLib.formats.results import MiscountedResult
from H3DELandmarksLib.scene import (
    Follower,
    HardeningWatch,
    Review,
    ReviewHistory,
    ReviewState,
    corrections_of,
    export_review,
    landmarks_from_point_list,
    mend,
    reviewed_case,
    show_case,
    show_detection,
    systematic_error,
)
from H3DELandmarksLib.scene.revision import _decisions, evidence_of

TOP = NAMES.index("top")


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    return write_head_package(tmp_path_factory.mktemp("packages") / "head")


@pytest.fixture
def volume(scene):
    return add_volume(scene, np.zeros((3, 4, 5), dtype=np.int16), GEOMETRIES["oblique"], "CT")


def shown(volume, found):
    return show_detection(found, volume, KEY, "points", pairs=PAIRS)


@pytest.fixture
def exchanged(volume):
    return shown(volume, found_head(SIDES_EXCHANGED))


def places(node):
    return landmarks_from_point_list(node).positions


@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_said_of_ordinary_points(volume, package, seed):
    assert systematic_error(Review(shown(volume, found_head(seed=seed))), package) is None


def counted(volume, doubtful):
    """Ordinary points of a detection that says how likely they are counted one off."""
    doubt = MiscountedResult(0.3, doubtful, 0.8, 0.3, 1)
    origin = Provenance(software="0", time="2026-01-01T00:00:00Z", model=None, scan=None, miscounted=doubt)
    return show_detection(found_head(), volume, KEY, "points", pairs=PAIRS, provenance=origin)


def test_a_count_that_may_be_one_off_can_be_shifted_once(volume, package):
    assert systematic_error(Review(counted(volume, False)), package) is None
    node = counted(volume, True)
    before, review = places(node), Review(node)
    finding = systematic_error(review, package)
    assert finding.kind is Systematic.MISCOUNTED and finding.landmarks == NAMES
    mend(review, package, finding)
    assert np.allclose(places(node)[:-1], before[1:], atol=1e-6), "each landmark has the place of the next"
    again = systematic_error(Review(node), package)
    assert again is None or again.kind is not Systematic.MISCOUNTED


@pytest.mark.parametrize("transform", [None, "rotated and moved"])
def test_exchanged_sides_are_exchanged_back(scene, exchanged, package, transform):
    if transform:
        exchanged.SetAndObserveTransformNodeID(add_linear_transform(scene, LINEAR[transform]).GetID())
    before, review = places(exchanged), Review(exchanged)
    finding = systematic_error(review, package)
    assert finding.kind is Systematic.SIDES and set(finding.landmarks) == {name for pair in PAIRS for name in pair}
    mend(review, package, finding)
    np.testing.assert_allclose(places(exchanged), before[SIDES_EXCHANGED], atol=1e-6)
    landmarks = review.landmarks()
    assert {p.state for p in landmarks} == {ReviewState.PROPOSED}
    assert [p.revised_by for p in landmarks] == ["sides exchanged"] * 8 + [None] * 4
    confidence = landmarks_from_point_list(exchanged).confidence
    np.testing.assert_allclose(confidence, found_head().confidence[SIDES_EXCHANGED], atol=1e-9)
    assert systematic_error(review, package) is None


def test_one_undo_takes_a_remedy_back(exchanged, package):
    before, history, review = landmarks_from_point_list(exchanged), ReviewHistory(exchanged), Review(exchanged)
    mend(review, package, systematic_error(review, package))
    history.note()
    history.undo()
    after = landmarks_from_point_list(exchanged)
    for name in ("positions", "presence", "confidence", "radius"):
        np.testing.assert_allclose(getattr(after, name), getattr(before, name), atol=1e-9)
    assert not any(p.revised_by for p in review.landmarks())
    history.redo()
    assert sum(bool(p.revised_by) for p in review.landmarks()) == 8


@pytest.mark.parametrize("decide", ["accept", "mark_absent"])
def test_what_a_person_has_decided_is_not_put_in_doubt(exchanged, package, decide):
    review = Review(exchanged)
    getattr(review, decide)("left 2")
    assert systematic_error(review, package) is None


def test_dismissing_is_kept_with_the_list(exchanged, package):
    Review(exchanged).dismiss()
    assert systematic_error(Review(exchanged), package) is None


def test_a_point_on_the_structure_of_another_moves_to_where_it_is_expected(volume, package):
    found = found_head()
    wrong = found.positions.copy()
    wrong[2] = wrong[8] + 0.3
    node = shown(volume, found.with_positions(wrong))
    review = Review(node)
    finding = systematic_error(review, package)
    assert finding.kind is Systematic.TOGETHER and set(finding.landmarks) == {NAMES[2], NAMES[8]}
    mend(review, package, finding)
    assert np.linalg.norm(places(node)[2] - found.positions[2]) < 3
    np.testing.assert_allclose(np.delete(places(node), 2, axis=0), np.delete(found.positions, 2, axis=0), atol=1e-6)
    assert np.isnan(review.landmark(NAMES[2]).confidence)  # to be looked at first


def test_a_remedy_survives_a_hardened_transform(scene, exchanged, package):
    transform = add_linear_transform(scene, LINEAR["rotated and moved"])
    exchanged.SetAndObserveTransformNodeID(transform.GetID())
    review, watch = Review(exchanged), HardeningWatch(exchanged)
    mend(review, package, systematic_error(review, package))
    watch.follow()
    exchanged.HardenTransform()
    assert watch.follow()
    assert {p.state for p in Review(exchanged).landmarks()} == {ReviewState.PROPOSED}


def test_files_and_cases_say_what_was_revised(scene, volume, exchanged, package, tmp_path):
    review = Review(exchanged)
    mend(review, package, systematic_error(review, package))
    case = reviewed_case(volume, exchanged)
    assert case.revised_by == {name: "sides exchanged" for pair in PAIRS for name in pair}
    provenance = next(export_review(exchanged, volume, tmp_path).glob("*.provenance.json")).read_text(encoding="utf-8")
    assert provenance.count('"revised_by": "sides exchanged"') == 8
    again = show_case(
        volume, "case-" + "0" * 16, case.corrected, case.proposed, case.states, KEY, PAIRS, case.revised_by
    )
    assert [p.revised_by for p in Review(again).landmarks()] == ["sides exchanged"] * 8 + [None] * 4


# Points that follow


@pytest.fixture
def let_follow(package):
    """Lets the points of a list follow the correction of a landmark."""
    follower = Follower(package)
    return lambda node, name: follower.follow(Review(node), name)


@pytest.fixture
def node(volume):
    """Points of which one, the top, lies 9 mm off."""
    found = found_head()
    positions = found.positions.copy()
    positions[TOP] += (0, 9, 0)
    return shown(volume, found.with_positions(positions))


def drag(node, name, *shift):
    k = NAMES.index(name)
    node.SetNthControlPointPositionWorld(k, *np.add(node.GetNthControlPointPositionWorld(k), shift))


def test_undecided_points_follow_and_decided_ones_stay(node, let_follow):
    before, review = places(node), Review(node)
    review.accept("back")
    drag(node, "front", 0, -1, 0)
    let_follow(node, "front")
    shift = places(node) - before
    assert shift[TOP, 1] < -5 and not shift[NAMES.index("back")].any()
    top, back = review.landmark("top"), review.landmark("back")
    assert (top.state, top.revised_by) == (ReviewState.PROPOSED, "front")
    assert (back.state, back.revised_by) == (ReviewState.ACCEPTED, None)


def test_only_what_a_person_has_looked_at_is_evidence_and_what_was_placed_is_exact(volume):
    found = found_head().unknown_where(np.arange(len(NAMES)) == TOP, Cause.OUTSIDE_SCAN)
    node = shown(volume, found)
    review, free = Review(node), np.isin(NAMES, ("back", "base", "front", "top", "left 0"), invert=True)
    review.accept("back")
    review.accept_in_bulk("base")
    review.mark_absent("left 0")
    drag(node, "front", 0, -1, 0)
    node.SetNthControlPointPositionWorld(TOP, 1, 2, 3)
    decided = _decisions(review, NAMES)
    assert [NAMES[k] for k in np.flatnonzero(decided.accepted)] == ["back"]
    assert [NAMES[k] for k in np.flatnonzero(decided.absent)] == ["left 0"]
    assert {NAMES[k] for k in np.flatnonzero(decided.present)} == {"front", "top", "back"}
    np.testing.assert_allclose(decided.positions[decided.present], places(node)[decided.present])
    assert not decided.made[free].any()


def test_without_corrections_all_is_as_the_model_said(node, let_follow):
    before = landmarks_from_point_list(node)
    for way in (-1, 1):  # and back to their places
        for name in ("front", "base"):
            drag(node, name, 0, way, 0)
            let_follow(node, name)
    after = landmarks_from_point_list(node)
    for name in ("positions", "confidence", "radius"):
        np.testing.assert_allclose(getattr(after, name), getattr(before, name), atol=1e-6)
    assert not any(p.revised_by for p in Review(node).landmarks())


def test_what_was_followed_in_one_list_says_nothing_of_another(node, volume, package, let_follow):
    drag(node, "front", 0, -1, 0)
    let_follow(node, "front")
    found = found_head(seed=3)
    found = found.with_positions(found.positions + np.eye(len(NAMES))[TOP][:, None] * (0, 0, 8))
    one, other = shown(volume, found), shown(volume, found)
    for which in (one, other):
        drag(which, "front", 0, -1, 0)
    let_follow(one, "front")
    Follower(package).follow(Review(other), "front")
    here, there = landmarks_from_point_list(one), landmarks_from_point_list(other)
    for name in ("positions", "confidence", "radius"):
        np.testing.assert_array_equal(getattr(here, name), getattr(there, name))


def test_what_networks_saw_of_landmarks_that_a_remedy_has_moved_counts_no_more(volume, package):
    found, places = found_head(SIDES_EXCHANGED), Candidates.nothing(len(NAMES))
    places.positions[:, 0], places.share[:, 0], places.covariance[:, 0] = found.positions, 0.5, np.eye(3)
    node = show_detection(found, volume, KEY, "points", pairs=PAIRS, candidates=places)
    review = Review(node)
    assert evidence_of(review, NAMES).candidates.share[:, 0].all()
    mend(review, package, systematic_error(review, package))
    assert evidence_of(review, NAMES).candidates.share.any(axis=1).tolist() == [False] * 8 + [True] * 4


@pytest.mark.parametrize("protect", ["lock", "list", "absent", "bulk"])
def test_what_is_protected_or_decided_never_moves(node, let_follow, protect):
    review, k = Review(node), NAMES.index("top")
    before = places(node)[k]
    actions = {"lock": lambda: review.set_locked("top", True), "absent": lambda: review.mark_absent("top")}
    actions["list"] = lambda: node.SetLocked(True)
    actions.get(protect, lambda: review.accept_in_bulk("top"))()
    drag(node, "front", 0, -1, 0)
    let_follow(node, "front")
    now = places(node)[k]
    assert np.isnan(now).all() if protect == "absent" else (now == before).all()


def test_one_undo_takes_a_correction_and_its_consequences_back(node, let_follow):
    before, history = landmarks_from_point_list(node), ReviewHistory(node)
    drag(node, "front", 0, -1, 0)
    let_follow(node, "front")
    history.note()
    history.undo()
    after = landmarks_from_point_list(node)
    for name in ("positions", "confidence", "radius"):
        np.testing.assert_allclose(getattr(after, name), getattr(before, name), atol=1e-9)
    assert corrections_of(Review(node)) == {}


def test_points_follow_under_a_transform_and_after_hardening_it(scene, node, let_follow):
    matrix = LINEAR["rotated and moved"]
    plain = places(node) * (-1, -1, 1)
    node.SetAndObserveTransformNodeID(add_linear_transform(scene, matrix).GetID())
    watch = HardeningWatch(node)
    drag(node, "front", *(matrix[:3, :3] @ (0, -1, 0)))
    let_follow(node, "front")
    watch.follow()
    node.HardenTransform()
    assert watch.follow()
    moved = places(node)
    let_follow(node, "front")
    np.testing.assert_allclose(places(node), moved, atol=1e-5)
    back = (places(node) * (-1, -1, 1) - matrix[:3, 3]) @ matrix[:3, :3] - plain
    assert back[TOP, 1] > 5  # RAS: 9 mm to the front in LPS's terms are taken back
    assert Review(node).landmark("top").state is ReviewState.PROPOSED
