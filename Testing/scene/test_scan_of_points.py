"""Which scan points belong to, and whether they lie in it as they did, on real scenes."""

import numpy as np
import pytest
from scene_cases import GEOMETRIES, LINEAR, add_linear_transform, add_nonlinear_transform, add_volume

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.scene import (
    HardeningWatch,
    bind_decided_points,
    can_follow_scan,
    create_point_list,
    export_review,
    follow_scan,
    has_left_scan,
    has_lost_scan,
    remember_case,
    reviewed_case,
    show_case,
    show_detection,
    volume_of,
    why_apart,
)
from H3DELandmarksLib.scene.scan_of_points import bind_points

POINTS = LandmarkSet(("a", "b"), [[1, 2, 3], [4, 5, 6]])
PLACE = "H3DELandmarks.ScanPlace"


@pytest.fixture(params=GEOMETRIES)
def volume(scene, request):
    return add_volume(scene, np.arange(120, dtype=np.int16).reshape(4, 5, 6), GEOMETRIES[request.param])


@pytest.fixture
def points(volume):
    return show_detection(POINTS, volume, "tiny@1.0.0", "points")


def put_under(node, transform):
    node.SetAndObserveTransformNodeID(transform.GetID() if transform is not None else None)


def test_points_lie_in_their_scan_at_first(volume, points):
    assert (has_lost_scan(points), has_left_scan(points), can_follow_scan(points)) == (False, False, False)
    assert why_apart(points) == ""


@pytest.mark.parametrize("kind", ["detected", "a case", "own"])
def test_a_scan_that_was_removed_is_missed_also_in_a_saved_scene(scene, volume, tmp_path, kind):
    if kind == "detected":
        points = show_detection(POINTS, volume, "tiny@1.0.0", "points")
    elif kind == "a case":
        points = show_case(volume, "case-1", POINTS, POINTS, {})
    else:
        points = create_point_list(scene, POINTS, "points")
        assert not has_lost_scan(points), "points from a file belong to no scan"
        remember_case(volume, points, "case-1")
    points.SetName("points")
    assert volume_of(points) is volume
    scene.RemoveNode(volume)
    other = add_volume(scene, np.zeros((4, 5, 6), np.int16), np.eye(4))
    for _ in range(2):
        assert has_lost_scan(points) and volume_of(points) is None
        with pytest.raises(InputError, match="gone"):
            reviewed_case(other, points)
        with pytest.raises(InputError, match="gone"):
            export_review(points, other, tmp_path)
        bind_decided_points(points, other)
        assert scene.WriteToMRB(str(tmp_path / "scene.mrb"))
        scene.Clear(False)
        scene.ReadFromMRB(str(tmp_path / "scene.mrb"), True)
        points = scene.GetFirstNodeByName("points")
        other = add_volume(scene, np.zeros((4, 5, 6), np.int16), np.eye(4))


def test_points_of_another_scan_are_refused(scene, volume, points):
    other = add_volume(scene, np.zeros((4, 5, 6), np.int16), np.eye(4), "other")
    with pytest.raises(InputError, match="'scan'"):
        reviewed_case(other, points)


@pytest.mark.parametrize("name", LINEAR)
def test_a_transform_of_the_scan_alone_is_noticed_and_shared(scene, volume, points, name):
    transform = add_linear_transform(scene, LINEAR[name])
    before = reviewed_case(volume, points).corrected.positions
    put_under(volume, transform)
    assert has_left_scan(points) and can_follow_scan(points)
    with pytest.raises(InputError, match="moved"):
        reviewed_case(volume, points)
    follow_scan(points)
    assert points.GetParentTransformNode() is transform and not has_left_scan(points)
    np.testing.assert_allclose(reviewed_case(volume, points).corrected.positions, before, atol=1e-9)
    put_under(volume, None)
    assert has_left_scan(points)
    follow_scan(points)
    assert points.GetParentTransformNode() is None and not has_left_scan(points)


def test_a_transform_of_the_points_alone_is_noticed(scene, volume, points):
    put_under(points, add_linear_transform(scene, LINEAR["rotated and moved"]))
    assert has_left_scan(points)
    follow_scan(points)
    assert not has_left_scan(points) and points.GetParentTransformNode() is None


@pytest.mark.parametrize("name", LINEAR)
def test_a_transform_of_both_is_fine_also_when_it_is_hardened(scene, volume, points, name):
    transform, watch = add_linear_transform(scene, LINEAR[name]), HardeningWatch(points)
    for node in (volume, points):
        put_under(node, transform)
    watch.follow()
    assert not has_left_scan(points)
    points.HardenTransform()
    watch.follow()
    assert not has_left_scan(points), "another transform than that of the volume, but at the same place"
    volume.HardenTransform()
    assert not has_left_scan(points)
    put_under(volume, transform)
    assert has_left_scan(points)


def test_transforms_of_their_own_below_a_common_one_are_fine(scene, volume, points):
    names = ("rotated and moved", "scaled and sheared", "rotated and moved")
    own, other, common = (add_linear_transform(scene, LINEAR[name]) for name in names)
    put_under(points, own)
    put_under(volume, other)
    bind_points(points, volume)
    for transform in (own, other):
        put_under(transform, common)
    assert not has_left_scan(points)
    put_under(other, None)
    assert has_left_scan(points)


@pytest.mark.parametrize(("voxels", "has_left"), [(0.05, False), (0.3, True)])
def test_a_part_of_a_voxel_counts_and_rounding_does_not(scene, volume, points, voxels, has_left):
    shift = np.eye(4)
    shift[2, 3] = voxels * min(volume.GetSpacing())
    put_under(volume, add_linear_transform(scene, shift))
    assert has_left_scan(points) is has_left


def test_a_hardened_transform_of_the_scan_alone_is_noticed(scene, volume, points):
    put_under(volume, add_linear_transform(scene, LINEAR["rotated and moved"]))
    volume.HardenTransform()
    assert has_left_scan(points) and not can_follow_scan(points)
    follow_scan(points)
    assert points.GetParentTransformNode() is None and has_left_scan(points)


def test_points_found_under_a_transform_need_it(scene, volume):
    put_under(volume, add_linear_transform(scene, LINEAR["scaled and sheared"]))
    points = show_detection(POINTS, volume, "tiny@1.0.0", "points")
    assert not has_left_scan(points)
    put_under(volume, None)
    assert has_left_scan(points)


def test_a_warp_of_one_of_them_is_noticed(scene, volume, points):
    warp = add_nonlinear_transform(scene)
    put_under(volume, warp)
    assert has_left_scan(points)
    put_under(points, warp)
    assert not has_left_scan(points)


def test_a_scan_that_was_cut_lies_where_it_did(scene, volume, points):
    volume.SetAndObserveImageData(add_volume(scene, np.zeros((3, 5, 6), np.int16), np.eye(4)).GetImageData())
    volume.SetOrigin(*np.add(volume.GetOrigin(), 1.0))
    assert not has_left_scan(points)


def test_saved_and_loaded_scenes_say_the_same(scene, volume, points, tmp_path):
    assert scene.WriteToMRB(str(tmp_path / "scene.mrb"))
    scene.Clear(False)
    scene.ReadFromMRB(str(tmp_path / "scene.mrb"), True)
    points = scene.GetFirstNodeByName("points")
    volume = volume_of(points)
    assert volume.GetImageData() is not None and why_apart(points) == ""
    put_under(volume, add_linear_transform(scene, LINEAR["rotated and moved"]))
    assert has_left_scan(points)


def test_points_of_earlier_versions_are_as_before(scene, volume, points):
    points.RemoveAttribute(PLACE)
    put_under(volume, add_linear_transform(scene, LINEAR["rotated and moved"]))
    assert why_apart(points) == "" and reviewed_case(volume, points).model == "tiny@1.0.0"


@pytest.mark.parametrize("text", ["", "x", '{"version":1}', '{"version":1,"size":[4,5,6],"matrix":[1]}'])
def test_a_place_that_cannot_be_read_is_none(volume, points, text):
    points.SetAttribute(PLACE, text)
    assert why_apart(points) == ""
    HardeningWatch(points).follow()
