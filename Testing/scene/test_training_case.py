"""Scans and reviews as cases keep them: in the scan's own geometry, whatever transforms the scene has."""

import numpy as np
import pytest
import slicer
from scene_cases import GEOMETRIES, LINEAR, add_linear_transform, add_nonlinear_transform, add_volume

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.landmarks import Cause, LandmarkSet, ReviewState
from H3DELandmarksLib.scene import (
    Review,
    create_point_list,
    find_case,
    remember_case,
    reviewed_case,
    show_case,
    show_detection,
    volume_of,
    world_position_of,
)

NAMES = ("accepted", "moved", "gone", "placed", "to check", "absent?", "unknown", "many", "none", "outside", "unlike")
POSITIONS = [[1, 2, 3], [4, 5, 6], [7, 8, 9], [np.nan] * 3, [3, 1, 2], [np.nan] * 3, [np.nan] * 3]
POSITIONS += [[5, 5, 5], [np.nan] * 3, [np.nan] * 3, [np.nan] * 3]
FOUND = LandmarkSet(
    NAMES,
    POSITIONS,
    presence=[0.9, 0.8, 0.7, 0.1, 0.9, 0.2, np.nan, 1, 0.01, np.nan, np.nan],
    confidence=[0.9, 0.8, 0.7, 0.1, 0.6, 0.2, np.nan, 0.99, *[np.nan] * 3],
    radius=[1, 2, 3, np.nan, 1, np.nan, np.nan, 1, *[np.nan] * 3],
    definitions=("where it is", *[""] * 10),
    causes=(*[None] * 9, Cause.OUTSIDE_SCAN, Cause.UNLIKE),
)
STATES = {
    "accepted": ReviewState.ACCEPTED,
    "moved": ReviewState.MOVED,
    "gone": ReviewState.ABSENT,
    "placed": ReviewState.PLACED,
    "to check": ReviewState.PROPOSED,
    "absent?": ReviewState.PROPOSED_ABSENT,
    "unknown": ReviewState.UNKNOWN,
    "many": ReviewState.ACCEPTED_IN_BULK,
    "none": ReviewState.ABSENT_IN_BULK,
    "outside": ReviewState.NOT_EXAMINED,
    "unlike": ReviewState.NOT_RECOGNISED,
}


@pytest.fixture(params=[None, *LINEAR], ids=lambda name: name or "no transform")
def placed_volume(scene, request):
    """A scan, under a parent transform or none."""
    voxels = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)
    node = add_volume(scene, voxels, GEOMETRIES["oblique"])
    if request.param:
        node.SetAndObserveTransformNodeID(add_linear_transform(scene, LINEAR[request.param]).GetID())
    return node


def decide(points):
    """Make the decisions of STATES."""
    review = Review(points)
    review.accept("accepted")
    review.accept_in_bulk(*review.certain_above(0.95))
    review.mark_absent("gone")
    for name, shift in (("moved", (0.5, 0, 2)), ("placed", (20, 21, 22))):
        index = points.GetControlPointIndexByLabel(name)
        here = np.array(points.GetNthControlPointPosition(index)) if name == "moved" else np.zeros(3)
        points.SetNthControlPointPosition(index, *(here + shift))
    assert {p.name: p.state for p in review.landmarks()} == STATES


def test_the_scan_is_kept_in_its_own_geometry_with_its_points(placed_volume):
    points = show_detection(FOUND, placed_volume, "tiny@1.0.0", "points")
    decide(points)
    case = reviewed_case(placed_volume, points)
    assert case.model == "tiny@1.0.0" and dict(case.states) == STATES and case.corrected.names == NAMES
    lps = np.diag([-1, -1, 1, 1])
    np.testing.assert_allclose(case.volume.affine, lps @ GEOMETRIES["oblique"], atol=1e-9)
    assert case.volume.array.tolist() == np.arange(24).reshape(2, 3, 4).tolist()
    transform = placed_volume.GetParentTransformNode()
    world = np.eye(4) if transform is None else slicer.util.arrayFromTransformMatrix(transform, toWorld=True)
    for k, name in enumerate(NAMES):
        if STATES[name] in (ReviewState.ACCEPTED, ReviewState.PROPOSED):
            seen = lps @ world @ lps @ np.append(case.corrected.positions[k], 1)
            np.testing.assert_allclose(seen[:3], POSITIONS[k], atol=1e-9)
            np.testing.assert_allclose(case.proposed.positions[k], case.corrected.positions[k], atol=1e-9)
            np.testing.assert_allclose(
                world_position_of(placed_volume, case.corrected.positions[k]), (lps[:3, :3] @ POSITIONS[k]), atol=1e-9
            )
    np.testing.assert_array_equal(case.proposed.confidence, FOUND.confidence)
    np.testing.assert_array_equal(case.corrected.present, [1, 1, 0, 1, 1, 0, 0, 1, 0, 0, 0])
    assert case.proposed.causes == FOUND.causes


def test_a_kept_case_that_is_shown_again_says_the_same(scene, placed_volume):
    points = show_detection(FOUND, placed_volume, "tiny@1.0.0", "points")
    decide(points)
    case = reviewed_case(placed_volume, points)
    placed_volume.SetAndObserveTransformNodeID(add_linear_transform(scene, LINEAR["rotated and moved"]).GetID())
    again = show_case(placed_volume, "case-0", case.corrected, case.proposed, case.states, case.model, [])
    shown = reviewed_case(placed_volume, again)
    assert shown.model == case.model and dict(shown.states) == STATES
    assert shown.corrected.definitions[0] == "where it is"
    np.testing.assert_allclose(shown.corrected.positions, case.corrected.positions, atol=1e-9)
    np.testing.assert_allclose(shown.proposed.positions, case.proposed.positions, atol=1e-9)
    np.testing.assert_allclose(shown.proposed.radius, case.proposed.radius)
    assert shown.proposed.causes == FOUND.causes
    assert volume_of(again) is placed_volume and find_case(scene, "case-0") == (placed_volume, again)


def test_no_points_of_a_case_are_put_into_a_volume_that_is_bent(scene):
    volume = add_volume(scene, np.zeros((2, 2, 2), np.uint8), np.eye(4))
    case = reviewed_case(volume, show_detection(FOUND, volume, "tiny@1.0.0", "points"))
    volume.SetAndObserveTransformNodeID(add_nonlinear_transform(scene).GetID())
    with pytest.raises(InputError, match="nonlinear"):
        world_position_of(volume, (1, 2, 3))
    with pytest.raises(InputError, match="nonlinear"):
        show_case(volume, "case-0", case.corrected, case.proposed, case.states)
    assert scene.GetNumberOfNodesByClass("vtkMRMLMarkupsFiducialNode") == 1


def test_points_that_no_model_has_proposed(scene):
    volume = add_volume(scene, np.zeros((2, 2, 2), np.uint8), np.eye(4))
    points = create_point_list(scene, LandmarkSet(("a", "b"), [[1, 2, 3], [np.nan] * 3]), "from a file")
    assert volume_of(points) is None
    case = reviewed_case(volume, points)
    assert case.model == "" and case.states["a"] is ReviewState.PROPOSED
    again = show_case(volume, "case-1", case.corrected, case.proposed, case.states)
    assert again.GetAttribute("H3DELandmarks.Model") is None
    assert dict(reviewed_case(volume, again).states) == dict(case.states)


def test_points_of_a_case_are_those_of_its_folder(scene, tmp_path):
    """The same scan in two folders is one case, with other points in each."""
    volume = add_volume(scene, np.zeros((2, 2, 2), np.uint8), np.eye(4))
    landmarks = LandmarkSet(("a",), [[0, 0, 0]])
    earlier = create_point_list(scene, landmarks, "of an earlier version")
    earlier.SetAttribute("H3DELandmarks.Case", "case-0")
    one, two, three = (tmp_path / name for name in ("one", "two", "three"))
    of_two = create_point_list(scene, landmarks, "of two")
    remember_case(volume, of_two, "case-0", two)
    of_one = show_case(volume, "case-0", landmarks, landmarks, {}, folder=one)
    assert find_case(scene, "case-0", two) == (volume, of_two)
    assert find_case(scene, "case-0", one) == (volume, of_one)
    assert find_case(scene, "case-0", three) == (volume, earlier), "whose folder nobody knows"
    remember_case(volume, of_one, "case-0", three)
    assert find_case(scene, "case-0", one) == find_case(scene, "case-0", three) == (volume, of_one)
    assert str(tmp_path) not in " ".join(of_one.GetAttribute(name) for name in of_one.GetAttributeNames())


def test_the_newest_nodes_of_a_case_are_found(scene):
    first, second = (add_volume(scene, np.zeros((2, 2, 2), np.uint8), np.eye(4)) for _ in range(2))
    assert find_case(scene, "case-2") == (None, None)
    for volume in (first, second):
        points = create_point_list(scene, LandmarkSet(("a",), [[0, 0, 0]]), "points")
        remember_case(volume, points, "case-2")
    assert find_case(scene, "case-2") == (second, points) and find_case(scene, "case-3") == (None, None)


def test_a_volume_that_cannot_be_used_is_refused(scene):
    volume = add_volume(scene, np.zeros((2, 2, 2), np.uint8), np.eye(4))
    points = create_point_list(scene, LandmarkSet(("a",), [[0, 0, 0]]), "points")
    volume.SetAndObserveTransformNodeID(add_nonlinear_transform(scene).GetID())
    with pytest.raises(InputError, match="nonlinear transform"):
        reviewed_case(volume, points)


def test_points_of_another_frame_are_refused(scene):
    volume = add_volume(scene, np.zeros((2, 2, 2), np.uint8), np.eye(4))
    points = show_detection(LandmarkSet(("a",), [[0, 0, 0]]), volume, "tiny@1.0.0", "points", frame="3")
    with pytest.raises(InputError, match="another frame .* go back to '3'"):
        reviewed_case(volume, points)
