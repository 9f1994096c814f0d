"""Proposals that are revised stay proposals, say by what, and are taken back by one undo."""

import numpy as np
import pytest
from head_model import KEY, NAMES, PAIRS, SIDES_EXCHANGED, found_head, write_head_package
from scene_cases import GEOMETRIES, LINEAR, add_linear_transform, add_volume

from H3DELandmarksLib.core.systematic import Systematic
from H3DELandmarksLib.scene import (
    HardeningWatch,
    Review,
    ReviewHistory,
    ReviewState,
    export_review,
    landmarks_from_point_list,
    mend,
    reviewed_case,
    show_case,
    show_detection,
    systematic_error,
)


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
