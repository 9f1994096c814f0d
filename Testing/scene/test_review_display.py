"""What a review shows in the views, and that it leaves no trace."""

import numpy as np
import pytest
import slicer
import vtk
from hypothesis import given
from hypothesis import strategies as st
from scene_cases import GEOMETRIES, LINEAR, add_linear_transform, add_volume

from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.scene import (
    Review,
    ReviewDisplay,
    create_point_list,
    forget_interrupted_review,
    review_field_of_view,
)
from H3DELandmarksLib.scene.review_display import ABSENT, DRAWING, DRAWN_ATTRIBUTE, MARKS, names_in_view
from H3DELandmarksLib.scene.windows import hide_surface, show_surface, show_window, surface_level, window_for

NAMES = ("A", "B", "C", "D", "E", "F")
POSITIONS = np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [3, 0, 0], [40, 0, 0], [50, 0, 0]])


def point_list(scene, name="points"):
    return create_point_list(scene, LandmarkSet(NAMES, POSITIONS, presence=np.ones(6)), name)


def views(scene):
    found = []
    for name in ("Red", "Green"):
        node = slicer.vtkMRMLSliceNode()
        node.SetLayoutName(name)
        node = scene.AddNode(node)
        node.SetFieldOfView(300, 200, 1)
        found.append(node)
    return found


def drawing(node):
    return [getattr(node.GetDisplayNode(), f"Get{name}")() for name in DRAWING]


def helpers(scene):
    kind = "vtkMRMLMarkupsFiducialNode"
    nodes = [scene.GetNthNodeByClass(k, kind) for k in range(scene.GetNumberOfNodesByClass(kind))]
    return [node for node in nodes if node.GetHideFromEditors()]


def marked(scene):
    """{label: glyph type} of all named marks, and how many marks there are."""
    names, count = {}, 0
    for node in helpers(scene):
        count += node.GetNumberOfControlPoints()
        for k in range(node.GetNumberOfControlPoints()):
            if node.GetNthControlPointLabel(k):
                names[node.GetNthControlPointLabel(k)] = node.GetDisplayNode().GetGlyphTypeAsString()
    return names, count


@given(
    st.lists(st.floats(0.1, 20) | st.just(float("nan")), max_size=20),
    st.tuples(*[st.floats(0.05, 5)] * 3),
    st.tuples(*[st.floats(1, 600)] * 3),
)
def test_the_field_of_view_fits_radii_voxels_and_scan(radii, spacing, extent):
    width = review_field_of_view(radii, spacing, extent)
    assert 0 < width <= max(extent)
    known = [radius for radius in radii if np.isfinite(radius)]
    if width < max(extent):
        assert width >= 40 * np.median(spacing) - 1e-9
        assert not known or width >= 24 * np.median(known) - 1e-9


def test_states_differ_in_shape_and_color():
    marks = {*MARKS.values(), ABSENT}
    assert len({mark.glyph for mark in marks}) == len({mark.color for mark in marks}) == len(marks)


def test_marks_follow_the_states_and_only_near_landmarks_are_named(scene):
    node = point_list(scene)
    review, display = Review(node), ReviewDisplay(node, width=30.0)
    review.accept("B")
    node.SetNthControlPointPositionWorld(2, vtk.vtkVector3d(2, 1, 0))
    review.mark_absent("F")
    display.show(review.landmarks(), "A")
    names, count = marked(scene)
    assert names == {"A": "CrossDot2D", "B": "Square2D", "C": "Diamond2D", "D": "Circle2D"} and count == 5
    assert node.GetDisplayNode().GetGlyphSize() == pytest.approx(0.5 * 30 / 25)
    display.show(review.landmarks(), None)
    assert marked(scene) == ({}, 5)
    assert names_in_view(review.landmarks(), "F") >= {"F"}


def test_marks_cannot_be_moved_saved_or_chosen(scene):
    node = point_list(scene)
    ReviewDisplay(node, 30.0).show(Review(node).landmarks(), "A")
    for marks in helpers(scene):
        assert marks.GetLocked() and not marks.GetSaveWithScene() and not marks.GetSelectable()
        assert not marks.GetDisplayNode().GetSaveWithScene()


def test_the_end_takes_everything_back(scene):
    node, other = point_list(scene), point_list(scene, "of another scan")
    node.GetDisplayNode().SetGlyphScale(7)
    slices, before, count = views(scene), drawing(node), scene.GetNumberOfNodes()
    display = ReviewDisplay(node, 30.0)
    display.show(Review(node).landmarks(), "A")
    display.look_closely()
    assert not other.GetDisplayVisibility()
    assert min(slices[0].GetFieldOfView()[:2]) == pytest.approx(30)
    slices[1].SetFieldOfView(50, 40, 1)  # by the user
    display.end()
    assert drawing(node) == before and scene.GetNumberOfNodes() == count and other.GetDisplayVisibility()
    assert slices[0].GetFieldOfView() == pytest.approx((300, 200, 1))
    assert slices[1].GetFieldOfView() == pytest.approx((50, 40, 1))


def test_a_list_that_is_copied_during_a_review_is_drawn_as_the_user_had_set_it_up(scene):
    node, other = point_list(scene), point_list(scene, "other")
    before = drawing(node)
    display = ReviewDisplay(node, 10)
    copies = []
    for source in (node, other):
        copies.append(scene.CopyNode(source))
        drawn = scene.CopyNode(source.GetDisplayNode())
        copies[-1].SetAndObserveDisplayNodeID(drawn.GetID())
    display.end()
    for copy in copies:
        assert drawing(copy) == before and copy.GetDisplayVisibility()
        assert not copy.GetDisplayNode().GetAttributeNames()


def test_a_clone_that_is_made_during_a_review_does_not_lie_on_its_list(scene):
    node = point_list(scene)
    before = drawing(node)
    display = ReviewDisplay(node, 10)
    clone = scene.CopyNode(node)
    clone.SetAndObserveDisplayNodeID(scene.CopyNode(node.GetDisplayNode()).GetID())
    display.show(Review(node).landmarks(), None)
    assert not clone.GetDisplayVisibility() and node.GetDisplayVisibility() and drawing(clone) == before
    clone.SetDisplayVisibility(True)
    display.show(Review(node).landmarks(), None)
    assert clone.GetDisplayVisibility(), "the user wants to see it"
    display.end()
    assert drawing(node) == drawing(clone) == before and clone.GetDisplayVisibility()


def test_a_scene_that_was_saved_in_the_middle_of_a_review_is_as_the_user_had_set_it_up(scene, make_scene, tmp_path):
    node, other, hidden = (point_list(scene, name) for name in ("points", "of another scan", "hidden"))
    node.GetDisplayNode().SetGlyphScale(7)
    node.GetDisplayNode().SetPointLabelsVisibility(False)
    hidden.SetDisplayVisibility(False)
    before = drawing(node)
    ReviewDisplay(node, 30.0).show(Review(node).landmarks(), "A")
    loaded = make_scene()
    assert scene.WriteToMRB(str(tmp_path / "scene.mrb")) and loaded.ReadFromMRB(str(tmp_path / "scene.mrb"), True)
    forget_interrupted_review(loaded)
    found = [loaded.GetFirstNodeByName(name) for name in ("points", "of another scan", "hidden")]
    assert drawing(found[0]) == before
    assert [bool(node.GetDisplayVisibility()) for node in found] == [True, True, False]
    assert "H3DELandmarks." not in content(loaded), "nothing is left to be given back later"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"GlyphType": "x"}', '{"GlyphType": 1}'])
def test_a_drawing_that_cannot_be_read_is_left_as_it_is(scene, text):
    node = point_list(scene)
    before = drawing(node)
    node.GetDisplayNode().SetAttribute(DRAWN_ATTRIBUTE, text)
    forget_interrupted_review(scene)
    assert drawing(node) == before


def content(scene):
    scene.SetSaveToXMLString(1)
    scene.Commit()
    return scene.GetSceneXMLString()


def camera_of(scene):
    camera = scene.AddNewNodeByClass("vtkMRMLCameraNode")
    camera.SetPosition(0, 500, 0)
    return camera


def seen_by(camera):
    return [*camera.GetPosition(), *camera.GetFocalPoint(), *camera.GetViewUp()]


def test_cameras_see_all_landmarks_from_where_they_look_and_are_given_back(scene):
    node, camera = point_list(scene), camera_of(scene)
    before = seen_by(camera)
    display = ReviewDisplay(node, 30.0)
    landmarks = Review(node).landmarks()
    display.show(landmarks, "A")
    display.look_closely()
    places = np.array([p.position for p in landmarks if p.position is not None])
    middle = (places.min(axis=0) + places.max(axis=0)) / 2
    np.testing.assert_allclose(camera.GetFocalPoint(), middle)
    eye = np.array(camera.GetPosition())
    assert eye[0] == pytest.approx(middle[0]) and eye[1] > middle[1], "still from the front"
    directions = (places - eye) / np.linalg.norm(places - eye, axis=1, keepdims=True)
    cosines = directions @ ((middle - eye) / np.linalg.norm(middle - eye))
    angles = np.rad2deg(np.arccos(np.clip(cosines, -1, 1)))
    assert angles.max() < camera.GetViewAngle() / 2, "in sight"
    display.end()
    np.testing.assert_allclose(seen_by(camera), before)


def test_a_camera_that_the_user_has_turned_stays_so(scene):
    node, camera = point_list(scene), camera_of(scene)
    display = ReviewDisplay(node, 30.0)
    display.show(Review(node).landmarks(), "A")
    display.look_closely()
    camera.SetPosition(300, 0, 0)
    turned = seen_by(camera)
    display.end()
    np.testing.assert_allclose(seen_by(camera), turned)


def test_slices_go_back_to_their_place_where_they_show_the_same_scan(scene):
    node = point_list(scene)
    slices = views(scene)
    slices[0].JumpSliceByCentering(1, 2, 3)
    for gives_back in (True, False):
        display = ReviewDisplay(node, 30.0)
        display.look_closely()
        slices[0].JumpSliceByCentering(7, 8, 9)
        display.end(slices=gives_back)
        place = [slices[0].GetSliceToRAS().GetElement(i, 3) for i in range(3)]
        np.testing.assert_allclose(place, (1, 2, 3) if gives_back else (7, 8, 9), atol=1e-6)


def test_a_landmark_without_a_position_is_marked_where_it_is_expected(scene):
    node = point_list(scene)
    display = ReviewDisplay(node, 30.0)
    landmarks = Review(node).landmarks()
    name = next(p.name for p in landmarks if p.position is not None)
    marks = display._marks[ABSENT]
    display.show(landmarks, "unplaced", np.array([4.0, 5, 6]))
    assert marks.GetNthControlPointLabel(0) == "unplaced?"
    np.testing.assert_allclose(marks.GetNthControlPointPositionWorld(0), (4, 5, 6))
    display.show(landmarks, name, np.array([4.0, 5, 6]))
    assert marks.GetNumberOfControlPoints() == 0


def test_a_view_that_shows_little_is_not_widened(scene):
    node = point_list(scene)
    slices = views(scene)
    slices[0].SetFieldOfView(24, 20, 1)
    ReviewDisplay(node, 30.0).look_closely()
    assert slices[0].GetFieldOfView() == pytest.approx((24, 20, 1))


def ball(offset=0.0, scale=1.0):
    """Voxels indexed [i, j, k] of a bright ball in air, 1000 HU in -1000."""
    i, j, k = np.indices((24, 24, 24)) - 11.5
    return ((np.where(i**2 + j**2 + k**2 < 64, 1000.0, -1000.0) + offset) * scale).astype(np.float32)


@pytest.mark.parametrize(("offset", "scale"), [(0, 1), (1000, 0.1)])
def test_windows_tell_tissues_apart_in_any_unit(offset, scale):
    rng = np.random.default_rng(0)
    values = (
        rng.choice([-1000.0, 40, 700, 2500], 4000, p=[0.5, 0.3, 0.15, 0.05]) + rng.normal(0, 10, 4000) + offset
    ) * scale
    bone, teeth, soft = (window_for(tissue, values) for tissue in ("bone", "teeth", "soft tissue"))
    assert teeth.level > bone.level > soft.level and soft.width < bone.width
    assert -900 * scale < surface_level(values) - offset * scale < 1600 * scale


@pytest.mark.parametrize("other", [np.nan, np.inf])
def test_windows_and_bone_are_told_where_some_voxels_are_no_numbers(scene, other):
    values = ball()
    wanted = window_for("bone", values), surface_level(values)
    values[:2] = other
    assert (window_for("bone", values), surface_level(values)) == wanted
    none = window_for("soft tissue", np.full((3, 4, 5), other))
    assert np.isfinite((none.width, none.level)).all()


@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=list(GEOMETRIES))
@pytest.mark.parametrize("transform", [None, *LINEAR.values()], ids=["none", *LINEAR])
def test_the_surface_lies_where_the_bone_lies(scene, geometry, transform):
    volume = add_volume(scene, ball(), geometry)
    if transform is not None:
        volume.SetAndObserveTransformNodeID(add_linear_transform(scene, transform).GetID())
    show_surface(volume)
    show_surface(volume)
    assert scene.GetNumberOfNodesByClass("vtkMRMLModelNode") == 1
    bounds = np.zeros(6)
    scene.GetNthNodeByClass(0, "vtkMRMLModelNode").GetRASBounds(bounds)
    world = (np.eye(4) if transform is None else transform) @ geometry
    np.testing.assert_allclose(bounds.reshape(3, 2).mean(axis=1), (world @ (11.5, 11.5, 11.5, 1))[:3], atol=1e-3)
    hide_surface(scene)
    assert scene.GetNumberOfNodesByClass("vtkMRMLModelNode") == 0


def test_few_slices_have_no_surface(scene):
    show_surface(add_volume(scene, ball()[:, :, :1], GEOMETRIES["axial"]))
    assert scene.GetNumberOfNodesByClass("vtkMRMLModelNode") == 0


def test_a_window_is_shown(scene):
    volume = add_volume(scene, ball(), GEOMETRIES["axial"])
    show_window(volume, "bone")
    display = volume.GetDisplayNode()
    assert (display.GetWindow(), display.GetLevel()) == (2000, 500) and not display.GetAutoWindowLevel()
