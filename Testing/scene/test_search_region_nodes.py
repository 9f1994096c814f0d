"""Regions of interest: which voxels they cut out, which landmarks lie in them, and Slicer's nodes and files of them."""

import numpy as np
import pytest
import slicer
from hypothesis import given, settings
from hypothesis import strategies as st
from scene_cases import (
    GEOMETRIES,
    LINEAR,
    LPS_FROM_RAS,
    add_linear_transform,
    add_nonlinear_transform,
    affine,
    rotation,
)

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import Cause, LandmarkSet
from H3DELandmarksLib.core.region import Region
from H3DELandmarksLib.io.markups import read_region, write_region
from H3DELandmarksLib.scene import fit_to_points, region_from_node

VOXELS = np.arange(20 * 18 * 16).reshape(20, 18, 16)


def volume(geometry="oblique"):
    return Volume(VOXELS, LPS_FROM_RAS @ GEOMETRIES[geometry])


def box(center, size, axis=(1, 2, 3), degrees=0.0):
    return Region(affine(rotation(axis, degrees) * np.asarray(size, dtype=float), center))


def add_roi(scene, center=(5, -6, 7), size=(10, 20, 30), turned=True):
    node = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
    node.SetSize(*size)
    matrix = affine(rotation((3, 1, 2), 25 if turned else 0), center)
    node.GetObjectToNodeMatrix().DeepCopy(matrix.ravel().tolist())
    return node


@pytest.mark.parametrize("geometry", GEOMETRIES)
@settings(max_examples=25, deadline=None)
@given(st.tuples(*[st.floats(2, 13)] * 3), st.tuples(*[st.floats(1, 12)] * 3), st.floats(-180, 180))
def test_a_crop_has_every_voxel_of_the_box_at_its_place(geometry, index, size, degrees):
    whole = volume(geometry)
    region = box(whole.grid.lps_from_ijk(index), size, degrees=degrees)
    crop = region.crop(whole)
    everywhere = np.stack(np.meshgrid(*map(np.arange, VOXELS.shape), indexing="ij"), axis=-1)
    inside = region.contains(whole.grid.lps_from_ijk(everywhere))
    assert set(VOXELS[inside]) <= set(crop.array.ravel())
    here = np.stack(np.meshgrid(*map(np.arange, crop.array.shape), indexing="ij"), axis=-1)
    there = np.rint(whole.grid.ijk_from_lps(crop.grid.lps_from_ijk(here))).astype(int)
    np.testing.assert_array_equal(VOXELS[tuple(np.moveaxis(there, -1, 0))], crop.array)
    assert np.shares_memory(crop.array, whole.array)


def test_a_box_larger_than_the_scan_keeps_the_scan():
    whole = volume()
    crop = box(whole.grid.center, (500, 500, 500), degrees=33).crop(whole)
    np.testing.assert_array_equal(crop.array, VOXELS)
    np.testing.assert_allclose(crop.affine, whole.affine)


def test_a_box_of_whole_voxels_is_cut_out_exactly():
    whole = Volume(VOXELS, np.eye(4))
    crop = Region(affine(np.diag([4.0, 3, 2]), (5.5, 7, 8.5))).crop(whole)
    np.testing.assert_array_equal(crop.array, VOXELS[4:8, 6:9, 8:10])


def test_a_box_beside_the_scan_is_refused():
    with pytest.raises(InputError, match="outside the scan"):
        box((900, 0, 0), (10, 10, 10)).crop(volume())


def test_a_flat_box_is_refused():
    with pytest.raises(InputError, match="no volume"):
        box((0, 0, 0), (10, 0, 10))


def test_landmarks_outside_the_box_are_unknown():
    found = LandmarkSet(
        ("in", "out", "absent"), [[1, 1, 1], [9, 1, 1], [np.nan] * 3], [0.9, 0.9, 0.1], [0.8, 0.8, 0.1], [1, 2, 3]
    )
    limited = box((0, 0, 0), (4, 4, 4)).limit(found)
    np.testing.assert_array_equal(limited.unknown, [False, True, True])
    np.testing.assert_array_equal(limited.confidence, [0.8, np.nan, np.nan])
    np.testing.assert_array_equal(limited.positions[0], (1, 1, 1))
    np.testing.assert_array_equal(limited.radius, [1, np.nan, np.nan])


@pytest.mark.parametrize(("place", "cause"), [((1, 1, 1), None), ((9, 1, 1), Cause.OUTSIDE_REGION)])
def test_what_is_absent_from_the_box_stays_absent(place, cause):
    absent = LandmarkSet(("absent",), [[np.nan] * 3], [0.1])
    assert box((0, 0, 0), (4, 4, 4)).limit(absent, np.array([place])).causes == (cause,)


@pytest.mark.parametrize("transform", [None, *LINEAR])
def test_a_region_of_the_scene_lies_where_slicer_shows_it(scene, transform):
    node = add_roi(scene)
    if transform:
        node.SetAndObserveTransformNodeID(add_linear_transform(scene, LINEAR[transform]).GetID())
    region = region_from_node(node)
    for corner in np.ndindex(2, 2, 2):
        local = (np.array(corner) - 0.5) * (10, 20, 30)
        ras, world = node.GetObjectToNodeMatrix().MultiplyPoint((*local, 1))[:3], [0, 0, 0]
        node.TransformPointToWorld(ras, world)
        expected = np.array(world) * (-1, -1, 1)
        cube = np.array([*(np.array(corner) - 0.5), 1])
        np.testing.assert_allclose((region.affine @ cube)[:3], expected, atol=1e-9)
        center = region.affine[:3, 3]
        assert region.contains(center + 0.999 * (expected - center))
        assert not region.contains(center + 1.001 * (expected - center))


def add_points(scene, points, unplaced=()):
    node = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode")
    for k, point in enumerate(points):
        node.AddControlPoint(list(point), f"P{k}")
    for k in unplaced:
        node.UnsetNthControlPointPosition(k)
    return node


def test_a_region_that_a_transform_bends_is_refused(scene):
    node = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "box")
    node.SetSize(10, 20, 30)
    node.SetAndObserveTransformNodeID(add_nonlinear_transform(scene).GetID())
    with pytest.raises(InputError, match="'box' is under a nonlinear transform"):
        region_from_node(node)


@pytest.mark.parametrize("transform", [None, "rotated and moved"])
def test_a_region_is_laid_around_the_defined_points_of_a_list(scene, transform):
    ras = np.array([[10.0, 0, 0], [30, 5, -10], [15, 40, 20], [400, 400, 400]])
    points, region = add_points(scene, ras, unplaced=[3]), add_roi(scene)
    if transform:
        region.SetAndObserveTransformNodeID(add_linear_transform(scene, LINEAR[transform]).GetID())
    assert fit_to_points(region, points, 8.0)
    laid, lps = region_from_node(region), ras[:3] * (-1, -1, 1)
    assert laid.contains(lps).all() and not laid.contains(np.array([-400.0, -400, 400]))
    axes = laid.affine[:3, :3] / np.linalg.norm(laid.affine[:3, :3], axis=0)
    along, center = (lps - laid.affine[:3, 3]) @ axes, np.linalg.norm(laid.affine[:3, :3], axis=0) / 2
    np.testing.assert_allclose(center - along.max(axis=0), 8, atol=1e-6)
    np.testing.assert_allclose(center + along.min(axis=0), 8, atol=1e-6)
    assert transform or np.allclose(np.abs(axes), np.eye(3))
    assert region.GetDisplayNode().GetVisibility()


def test_two_points_leave_a_region_as_it_is(scene):
    region = add_roi(scene)
    before = region_from_node(region).affine
    assert not fit_to_points(region, add_points(scene, np.eye(3) * 9, unplaced=[0]), 8.0)
    np.testing.assert_array_equal(region_from_node(region).affine, before)


@pytest.mark.parametrize("system", ["LPS", "RAS"])
def test_slicers_file_and_ours_are_read_the_same(scene, tmp_path, system):
    node = add_roi(scene)
    storage = slicer.vtkMRMLMarkupsROIJsonStorageNode()
    scene.AddNode(storage)
    storage.SetCoordinateSystem(storage.GetCoordinateSystemFromString(system))
    storage.SetFileName(str(tmp_path / "roi.mrk.json"))
    assert storage.WriteData(node)
    expected = region_from_node(node)
    np.testing.assert_allclose(read_region(tmp_path / "roi.mrk.json").affine, expected.affine, atol=1e-9)
    write_region(tmp_path / "ours.mrk.json", expected)
    np.testing.assert_allclose(read_region(tmp_path / "ours.mrk.json").affine, expected.affine, atol=1e-9)


def test_other_files_are_refused(tmp_path):
    (tmp_path / "points.mrk.json").write_text('{"markups": [{"type": "Fiducial"}]}', encoding="utf-8")
    with pytest.raises(InputError, match="region of interest"):
        read_region(tmp_path / "points.mrk.json")
    with pytest.raises(InputError, match="not exist"):
        read_region(tmp_path / "nothing.mrk.json")
