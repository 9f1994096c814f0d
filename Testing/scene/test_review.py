"""The review of a detected point list: states, steps, undo, and what survives in files."""

import json

import numpy as np
import pytest
import slicer
import vtk
from scene_cases import GEOMETRIES, LINEAR, add_linear_transform, add_nonlinear_transform, add_volume

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.landmarks import Cause, LandmarkSet
from H3DELandmarksLib.scene import (
    HardeningWatch,
    HardeningWatches,
    Review,
    ReviewHistory,
    ReviewState,
    create_point_list,
    landmarks_from_point_list,
    may_be_replaced,
    proposed_landmarks,
    show_detection,
)

FOUND = LandmarkSet(
    ("L", "middle", "R", "gone", "é"),
    [[-30, 1, 2], [0, 5 / 3, 7], [30, 1, 2], [np.nan] * 3, [np.nan] * 3],
    presence=[0.99, 0.9, 0.8, 0.3, 0.02],
    confidence=[0.95, 0.4, 0.7, 0.3, 0.02],
    radius=[1.5, 4.0, 2.0, 3.0, np.nan],
    definitions=("left point", "middle point", "right point", "one that is not there", 'größte Tiefe; "=%20&<>'),
)
STATES = ["proposed", "proposed", "proposed", "proposed absent", "proposed absent"]


@pytest.fixture
def volume(scene):
    return add_volume(scene, np.zeros((3, 4, 5), dtype=np.int16), GEOMETRIES["axial"], "CBCT")


@pytest.fixture
def node(volume):
    return show_detection(FOUND, volume, "tiny@1.0.0", "points", pairs=[("L", "R"), ("left", "right")])


@pytest.fixture
def review(node):
    return Review(node)


def accept_above(review, certainty):
    """Accept in bulk what is certain enough; returns how many."""
    names = review.certain_above(certainty)
    review.accept_in_bulk(*names)
    return len(names)


def states(review):
    return [p.state.value for p in review.landmarks()]


def drag(node, k, *shift):
    node.SetNthControlPointPositionWorld(k, np.add(node.GetNthControlPointPositionWorld(k), shift))


def assert_same_set(actual, expected):
    assert actual.names == expected.names and actual.definitions == expected.definitions
    for name in ("positions", "presence", "confidence", "radius"):
        np.testing.assert_allclose(getattr(actual, name), getattr(expected, name), atol=1e-9, err_msg=name)


def everything(node):
    """All that a review shows."""
    return [
        (
            p.name,
            p.definition,
            p.state,
            p.locked,
            p.partner,
            str(np.round([p.confidence, p.radius, p.moved], 6)),
            None if p.position is None else np.round(p.position, 5).tolist(),
            None if p.proposed is None else np.round(p.proposed, 5).tolist(),
        )
        for p in Review(node).landmarks()
    ]


# States


def test_a_detection_waits_for_decisions(review):
    assert states(review) == STATES
    left, middle, _, gone, _ = review.landmarks()
    assert (left.name, left.definition, left.partner, left.radius) == ("L", "left point", "R", 1.5)
    assert middle.partner is None and left.moved == 0
    np.testing.assert_allclose(left.position, (30, -1, 2))
    assert gone.position is None and gone.proposed is None and np.isnan(gone.moved)


def test_where_nobody_says_how_sure_a_point_is_it_comes_first(scene):
    points = LandmarkSet(("sure", "untold", "unsure"), np.eye(3), confidence=[0.9, np.nan, 0.2])
    review = Review(create_point_list(scene, points, "points"))
    assert [p.name for p in review.by_doubt()] == ["untold", "unsure", "sure"]
    assert review.certain_above(0.0) == ["sure", "unsure"]


def test_absence_is_as_certain_as_presence_is_unlikely(review):
    np.testing.assert_allclose([p.certainty for p in review.landmarks()], [0.95, 0.4, 0.7, 0.7, 0.98])
    np.testing.assert_array_equal([p.confidence for p in review.landmarks()], [0.95, 0.4, 0.7, np.nan, np.nan])


def test_the_most_doubtful_come_first_and_decided_ones_last(review):
    assert [p.name for p in review.by_doubt()] == ["middle", "R", "gone", "L", "é"]
    review.accept("middle", "gone")
    assert [p.name for p in review.by_doubt()] == ["R", "L", "é", "middle", "gone"]


def test_stepping_through_doubtful_ones_skips_decided_ones_and_begins_again(review):
    review.accept("R")
    order, name = [], None
    for _ in range(5):
        name = review.doubtful_after(name)
        order.append(name)
    assert order == ["middle", "gone", "L", "é", "middle"]
    assert review.doubtful_after("R") == "gone" and review.doubtful_after("R", backward=True) == "middle"
    assert review.doubtful_after("middle", backward=True) == "é"
    review.accept(*FOUND.names)
    assert review.doubtful_after("middle") is None


def test_accepting_states_what_the_model_said(review):
    review.accept("L", "gone")
    assert states(review) == ["accepted", "proposed", "proposed", "absent", "proposed absent"]


def test_accepting_all_above_a_threshold(review):
    assert accept_above(review, 0.7) == 4
    in_bulk, absent = "accepted in bulk", "absent, accepted in bulk"
    assert states(review) == [in_bulk, "proposed", in_bulk, absent, absent]
    assert accept_above(review, 0.7) == 0


def test_who_looks_at_what_was_accepted_in_bulk_accepts_it_alone(node, review):
    accept_above(review, 0.7)
    review.accept("L", "gone")
    assert states(Review(node)) == ["accepted", "proposed", "accepted in bulk", "absent", "absent, accepted in bulk"]
    review.back_to_proposal("L")
    accept_above(review, 0.99)
    assert states(review)[0] == "proposed"


@pytest.mark.parametrize("cause", list(Cause))
def test_what_was_not_examined_can_neither_be_accepted_nor_waits_for_it(scene, cause):
    volume = add_volume(scene, np.zeros((2, 2, 2), np.uint8), np.eye(4))
    found = FOUND.unknown_where(np.array([True, True, False, True, True]), cause)
    review = Review(show_detection(found, volume, "head@1.0.0", "points"))
    stated = cause.statement.value
    review.accept(*FOUND.names)
    assert states(review) == [stated, stated, "accepted", stated, stated]
    assert accept_above(review, 0.0) == 0 and review.doubtful_after(None) is None
    assert [p.cause for p in review.landmarks()] == list(found.causes)
    review.mark_absent("L")
    assert states(review)[0] == "absent"
    review.back_to_proposal("L")
    assert states(review)[0] == stated


def test_a_proposal_that_an_earlier_version_kept_is_read(node, review):
    accept_above(review, 0.7)
    content = json.loads(node.GetAttribute("H3DELandmarks.Review"))
    del content["in_bulk"]
    for entry in content["landmarks"].values():
        entry.pop("cause", None)
    node.SetAttribute("H3DELandmarks.Review", json.dumps({**content, "version": 1}))
    assert states(Review(node)) == ["accepted", "proposed", "accepted", "absent", "absent"]


def test_a_point_that_somebody_drags_is_moved_by_that_distance(node, review):
    review.accept("R")
    drag(node, 2, 3, 0, 4)
    assert review.landmark("R").state is ReviewState.MOVED
    assert review.landmark("R").moved == pytest.approx(5)
    drag(node, 2, -3, 0, -4)
    assert review.landmark("R").state is ReviewState.ACCEPTED


def test_marking_absent_and_placing(node, review):
    review.mark_absent("L")
    review.mark_absent("gone")
    assert states(review) == ["absent", "proposed", "proposed", "absent", "proposed absent"]
    node.SetNthControlPointPositionWorld(3, 1, 2, 3)
    placed = review.landmark("gone")
    assert placed.state is ReviewState.PLACED and np.isnan(placed.moved)
    np.testing.assert_allclose(placed.position, (1, 2, 3))
    np.testing.assert_array_equal(landmarks_from_point_list(node).present, [0, 1, 1, 1, 0])


def test_going_back_to_the_proposal(node, review):
    before = everything(node)
    review.accept("middle", "é")
    drag(node, 0, 1, 1, 1)
    review.mark_absent("R")
    node.SetNthControlPointPositionWorld(3, 1, 2, 3)
    assert not set(states(review)) & set(STATES)
    for name in FOUND.names:
        review.back_to_proposal(name)
    assert everything(node) == before


def test_swapping_sides_exchanges_positions(node, review):
    review.swap_sides("R")
    left, _, right, *_ = review.landmarks()
    np.testing.assert_allclose((left.position, right.position), [(-30, -1, 2), (30, -1, 2)])
    assert left.state is right.state is ReviewState.MOVED and left.moved == pytest.approx(60)
    review.swap_sides("L")
    assert states(review) == STATES
    review.mark_absent("L")
    review.swap_sides("L")
    assert states(review)[:3] == ["moved", "proposed", "absent"]
    before = everything(node)
    review.swap_sides("middle")
    assert everything(node) == before, "a point of the midline has no partner"


def test_swapping_sides_moves_no_locked_point(node, review):
    for name in ("L", "R"):
        review.set_locked(name, True)
        before = everything(node)
        with pytest.raises(InputError, match="'L' or 'R' is locked: unlock both to exchange them."):
            review.swap_sides("L")
        assert everything(node) == before
        review.set_locked(name, False)
    review.swap_sides("L")
    assert states(review)[0] == "moved"


def test_points_can_be_locked(node, review):
    review.set_locked("R", True)
    assert [p.locked for p in review.landmarks()] == [False, False, True, False, False]
    assert node.GetNthControlPointLocked(2)
    review.set_locked("R", False)
    assert not node.GetNthControlPointLocked(2)


def test_a_deleted_point_is_unknown_and_can_be_accepted_by_nobody(node, review):
    node.UnsetNthControlPointPosition(0)
    review.accept("L")
    assert accept_above(review, 0) == 4
    assert states(review)[0] == "unknown"


def test_points_follow_a_parent_transform_without_being_moved(scene, node, review):
    drag(node, 1, 0, 2, 0)
    node.SetAndObserveTransformNodeID(add_linear_transform(scene, LINEAR["scaled and sheared"]).GetID())
    assert states(review)[:3] == ["proposed", "moved", "proposed"]
    assert review.landmark("middle").moved == pytest.approx(np.linalg.norm((0.2 * 2, 0.9 * 2, 0)))
    np.testing.assert_allclose(review.landmark("L").position, review.landmark("L").proposed)


@pytest.mark.parametrize("transform", [*LINEAR, "nonlinear"])
def test_a_hardened_transform_moves_nothing(scene, node, review, transform):
    drag(node, 1, 0, 2, 0)
    review.accept("L")
    linear = transform in LINEAR
    parent = add_linear_transform(scene, LINEAR[transform]) if linear else add_nonlinear_transform(scene)
    watch = HardeningWatch(node)
    node.SetAndObserveTransformNodeID(parent.GetID())
    assert not watch.follow()
    world, expected = [p.position for p in review.landmarks()[:3]], states(review)
    node.HardenTransform()
    assert node.GetParentTransformNode() is None and watch.follow() and not watch.follow()
    assert states(review) == expected
    np.testing.assert_allclose([p.position for p in review.landmarks()[:3]], world, atol=1e-6)
    moved = review.landmark("middle")
    assert moved.moved == pytest.approx(np.linalg.norm(moved.position - moved.proposed))
    drag(node, 0, 1, 0, 0)
    assert not watch.follow(), "a person moved one point"


@pytest.mark.parametrize("transform", [*LINEAR, "nonlinear"])
def test_a_transform_that_is_hardened_at_once_moves_nothing(scene, node, review, transform):
    drag(node, 1, 0, 2, 0)
    review.accept("L")
    expected = states(review)
    linear = transform in LINEAR
    parent = add_linear_transform(scene, LINEAR[transform]) if linear else add_nonlinear_transform(scene)
    watches = HardeningWatches()
    watches.look(scene)
    node.SetAndObserveTransformNodeID(parent.GetID())
    node.HardenTransform()
    assert states(review) == expected
    assert watches.of(node).follow() and not watches.of(node).follow()
    watches.close()
    node.SetAndObserveTransformNodeID(parent.GetID())
    node.HardenTransform()
    assert "accepted" not in states(review), "nobody watches it any more"


def test_lists_that_are_gone_are_watched_no_longer(scene, node, review):
    watches = HardeningWatches()
    watches.look(scene)
    first = watches.of(node)
    assert watches.of(node) is first
    scene.RemoveNode(node)
    watches.look(scene)
    assert watches.of(node) is not first


def test_the_proposal_stays_what_it_was(node, review):
    drag(node, 0, 5, 5, 5)
    review.mark_absent("middle")
    assert_same_set(proposed_landmarks(node), FOUND)


def test_a_point_list_from_a_file_is_its_own_proposal(scene):
    node = create_point_list(scene, FOUND, "from a file")
    assert proposed_landmarks(node) is None
    review = Review(node)
    assert states(review) == STATES
    assert_same_set(review.proposed(), FOUND)
    assert proposed_landmarks(node) is None, "nothing is written before a decision"
    drag(node, 0, 1, 0, 0)
    review.accept("R")
    assert states(review)[:3] == ["moved", "proposed", "accepted"]
    assert states(Review(node)) == states(review)
    assert_same_set(proposed_landmarks(node), FOUND)


def test_a_renamed_or_added_point_does_no_harm(node, review):
    node.SetNthControlPointLabel(0, "other")
    assert states(review)[0] == "placed" and review.landmark("L") is None
    before = everything(node)
    for step in (review.back_to_proposal, review.swap_sides, review.accept):
        step("other")
        step("nobody")
    review.mark_absent("nobody")
    review.set_locked("nobody", True)
    assert everything(node) == before


def test_a_reviewed_list_is_not_replaced_by_the_next_detection(volume, node, review):
    assert may_be_replaced(node, volume)
    review.accept("L")
    assert not may_be_replaced(node, volume)
    assert show_detection(FOUND, volume, "tiny@1.0.0", "points", node) is not node


# Undo


def delete(node, k):
    """What a person must do on purpose: the number of points of a detection is fixed."""
    node.SetFixedNumberOfControlPoints(False)
    node.RemoveNthControlPoint(k)


def steps(node, review):
    return {
        "accept": lambda: review.accept("L"),
        "accept all": lambda: accept_above(review, 0.5),
        "absent": lambda: review.mark_absent("middle"),
        "drag": lambda: drag(node, 1, 1, 2, 3),
        "place": lambda: node.SetNthControlPointPositionWorld(3, 1, 2, 3),
        "swap": lambda: review.swap_sides("L"),
        "lock": lambda: review.set_locked("R", True),
        "lock all": lambda: node.SetLocked(True),
        "unset": lambda: node.UnsetNthControlPointPosition(2),
        "rename": lambda: node.SetNthControlPointLabel(0, "other"),
        "delete": lambda: delete(node, 1),
    }


@pytest.mark.parametrize("transformed", [False, True], ids=["plain", "under a transform"])
def test_every_step_can_be_taken_back_and_done_again(scene, node, review, transformed):
    if transformed:
        node.SetAndObserveTransformNodeID(add_linear_transform(scene, LINEAR["rotated and moved"]).GetID())
    history = ReviewHistory(node)
    assert not history.can_undo and not history.can_redo
    seen = [(everything(node), node.GetLocked())]
    for name, step in steps(node, review).items():
        step()
        assert history.note(), name
        seen.append((everything(node), node.GetLocked()))
    for expected in reversed(seen[:-1]):
        assert history.can_undo
        history.undo()
        assert (everything(node), node.GetLocked()) == expected
    assert not history.can_undo
    for expected in seen[1:]:
        history.redo()
        assert (everything(node), node.GetLocked()) == expected
    assert not history.can_redo


def test_a_new_step_forgets_what_was_taken_back(node, review):
    history = ReviewHistory(node)
    review.accept("L")
    history.note()
    history.undo()
    review.accept("R")
    history.note()
    assert not history.can_redo and not history.note()


def test_what_was_not_noted_yet_is_taken_back_too(node, review):
    history = ReviewHistory(node)
    before = everything(node)
    review.accept("L")
    history.undo()
    assert everything(node) == before


def test_confidences_come_back_with_a_deleted_point(node):
    history = ReviewHistory(node)
    delete(node, 0)
    node.SetFixedNumberOfControlPoints(True)
    history.undo()
    assert_same_set(landmarks_from_point_list(node), FOUND)
    assert node.GetFixedNumberOfControlPoints()


@pytest.mark.parametrize(
    "change",
    [lambda node: node.SetNthControlPointLabel(0, "other"), lambda node: delete(node, 1)],
    ids=["rename", "delete"],
)
def test_values_of_points_that_no_model_has_proposed_come_back(scene, change):
    """As of a list that was loaded from a file: the first step of a review keeps its values as a proposal."""
    node = create_point_list(scene, FOUND, "from a file")
    review, history = Review(node), ReviewHistory(node)
    before = everything(node)
    change(node)
    review.keep()
    history.note()
    changed = everything(node)
    history.undo()
    assert_same_set(landmarks_from_point_list(node), FOUND)
    assert everything(node) == before and proposed_landmarks(node) is None
    history.redo()
    assert everything(node) == changed


def test_points_of_one_name_come_back(scene):
    node = create_point_list(scene, LandmarkSet(("a", "b"), [[1, 2, 3], [4, 5, 6]]), "own")
    Review(node).keep()
    history, before = ReviewHistory(node), everything(node)
    node.AddControlPoint(vtk.vtkVector3d(7, 8, 9), "a")
    history.note()
    doubled = everything(node)
    node.RemoveAllControlPoints()
    history.undo()
    assert everything(node) == doubled
    history.undo()
    assert everything(node) == before
    history.redo()
    assert everything(node) == doubled


def test_undo_of_the_scene_takes_a_decision_back(scene, node, review):
    scene.SetUndoOn()
    scene.SaveStateForUndo()
    review.accept("L")
    drag(node, 1, 1, 2, 3)
    scene.Undo()
    assert states(review) == STATES


# Files


@pytest.mark.parametrize("transformed", [False, True], ids=["plain", "under a transform"])
def test_a_saved_and_reloaded_scene_is_equal_in_every_state(make_scene, tmp_path, transformed):
    scene = make_scene()
    volume = add_volume(scene, np.zeros((3, 4, 5), dtype=np.int16), GEOMETRIES["oblique"], "CBCT")
    node = show_detection(FOUND, volume, "tiny@1.0.0", "points", pairs=[("L", "R")])
    if transformed:
        node.SetAndObserveTransformNodeID(add_linear_transform(scene, LINEAR["rotated and moved"]).GetID())
    review = Review(node)
    review.accept("é")
    review.mark_absent("L")
    drag(node, 1, 1 / 3, 2, 3)
    node.SetNthControlPointPositionWorld(3, 1, 2, 1e4 / 7)
    review.set_locked("R", True)
    assert states(review) == ["absent", "moved", "proposed", "placed", "absent"]
    before, proposal = everything(node), proposed_landmarks(node)
    for saved in (volume, node):
        saved.AddDefaultStorageNode()
    assert scene.WriteToMRB(str(tmp_path / "scene.mrb"), None)
    other = make_scene()
    assert other.ReadFromMRB(str(tmp_path / "scene.mrb"), True)
    loaded = other.GetFirstNodeByName("points")
    assert everything(loaded) == before
    assert_same_set(proposed_landmarks(loaded), proposal)
    assert loaded.GetFixedNumberOfControlPoints() and loaded.GetUndoEnabled()


def test_a_damaged_attribute_is_ignored(node):
    for text in ("", "{", "[]", '{"version": 99}', '{"version": 1, "landmarks": {"L": 1}}'):
        node.SetAttribute("H3DELandmarks.Review", text)
        assert proposed_landmarks(node) is None
    assert states(Review(node)) == STATES


def test_the_review_of_an_empty_list_is_empty(scene):
    review = Review(scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode"))
    assert review.landmarks() == [] and review.doubtful_after(None) is None and accept_above(review, 0) == 0
    assert slicer.vtkMRMLMarkupsFiducialNode().GetScene() is None


VALID = {
    "version": 1,
    "landmarks": {"L": {"position": [1, 2.0, 3], "presence": 1, "confidence": None, "radius90": None}},
    "accepted": ["L"],
    "pairs": [["L", "R"]],
}


def changed(place, value):
    """The text of an attribute in which something is another thing."""
    content = json.loads(json.dumps(VALID))
    target = content
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = value
    return json.dumps(content)


MALFORMED = [
    "",
    "[" * 100_000,
    '{"version": 1' + ", " * 9,
    "null",
    "[]",
    '{"version": ' + "9" * 9999 + "}",
    *(
        changed(place, value)
        for place in (
            ("version",),
            ("landmarks",),
            ("landmarks", "L"),
            ("landmarks", "L", "position"),
            ("landmarks", "L", "position", 0),
            ("landmarks", "L", "confidence"),
            ("accepted",),
            ("accepted", 0),
            ("pairs",),
            ("pairs", 0),
            ("pairs", 0, 0),
        )
        for value in ({"a": 1}, [[1]], "text", [1, 2, 3, 4, 5], 10**400, True, 1e999, -1)
        if not (place[-1] in ("accepted", 0, "L") and value == "text" and place != ("landmarks", "L", "position", 0))
        if not (place[-1] == "confidence" and value == -1)
        if not (place[-1] == "version" and value is True)
        if not (place == ("landmarks", "L", "position", 0) and value == -1)
    ),
]


@pytest.mark.parametrize("text", MALFORMED)
def test_a_malformed_attribute_of_a_scene_is_no_proposal(volume, text):
    node = create_point_list(volume.GetScene(), FOUND, "points")
    node.SetAttribute("H3DELandmarks.Review", text)
    assert proposed_landmarks(node) is None
    review = Review(node)
    assert {landmark.state for landmark in review.landmarks()} <= set(ReviewState)
    HardeningWatch(node).follow()


def test_a_valid_attribute_of_a_scene_is_read(volume):
    node = create_point_list(volume.GetScene(), FOUND, "points")
    node.SetAttribute("H3DELandmarks.Review", json.dumps(VALID))
    assert proposed_landmarks(node) is not None
