"""Landmarks derived from contours: right on a jaw whose points are known, unknown where the contour cannot tell."""

import itertools
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_jaw import bars, covering_grid, draw, flesh, truth

from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.io.images import read_volume
from H3DELandmarksResearch.head_neck import HEAD_NECK_SCHEME, ORGANS, derive_landmarks

NAMES = HEAD_NECK_SCHEME.names
PLANNING = (3.9, 3.9, 2.5)


def derive(labels, scan=None):
    found = derive_landmarks(labels, flesh(labels) if scan is None else scan)
    return dict(zip(found.names, found.positions))


def jaw(spacing=PLANNING, **how):
    parts, turn = bars(**how)
    return draw(parts, *covering_grid(spacing)), turn


def known(points):
    return {name for name, point in points.items() if np.isfinite(point).all()}


JAW_POINTS = {name for name in NAMES if name.split("-")[0] in ("menton", "gonion", "condylion", "coronoid")}


@pytest.mark.parametrize("spacing", [PLANNING, (2.7, 2.7, 1.5), (5.0, 5.0, 3.0)], ids=["usual", "fine", "coarse"])
def test_all_points_of_a_whole_jaw_are_found_within_a_fraction_of_a_voxel(spacing):
    labels, turn = jaw(spacing)
    found = derive(labels)
    assert known(found) == JAW_POINTS
    for name, point in truth(turn).items():
        assert np.linalg.norm(found[name] - point) < 0.75 * max(spacing), name
    assert np.abs(found["menton"][0]) < 1 and np.abs(found["menton"][2] + 7) < 1.5


@pytest.mark.parametrize("tilt, yaw", [(-15, 0), (25, 0), (10, 6)])
def test_points_are_those_of_the_jaw_however_the_head_is_tilted(tilt, yaw):
    labels, turn = jaw(tilt_degrees=tilt, yaw_degrees=yaw)
    found = derive(labels)
    for name, point in truth(turn).items():
        assert np.linalg.norm(found[name] - point) < 4, name


def stored_otherwise(volume, axes, flips):
    """The same voxels in another axis order, some axes reversed."""
    array, affine = volume.array.transpose(axes), volume.affine[:, [*axes, 3]].copy()
    for axis in np.flatnonzero(flips):
        affine[:3, 3] += affine[:3, axis] * (array.shape[axis] - 1)
        affine[:3, axis] *= -1
        array = np.flip(array, axis)
    return Volume(array, affine)


@settings(max_examples=6, deadline=None)
@given(axes=st.sampled_from(list(itertools.permutations(range(3)))), flips=st.tuples(*[st.booleans()] * 3))
def test_the_stored_orientation_makes_no_difference(axes, flips):
    labels, _ = jaw((5.0, 5.0, 4.0))
    usual = derive(labels)
    other = derive(stored_otherwise(labels, axes, flips), stored_otherwise(flesh(labels), axes, flips))
    for name in NAMES:
        np.testing.assert_allclose(other[name], usual[name], atol=1e-6)


@pytest.mark.parametrize("height_mm", [22, 40], ids=["below the processes", "across the processes"])
def test_a_contour_that_ends_in_a_plane_has_no_processes_but_keeps_the_rest(height_mm):
    labels, turn = jaw()
    scan = flesh(labels)
    heights = labels.affine[2, 3] + 2.5 * np.arange(labels.array.shape[2])
    labels.array[:, :, heights > height_mm] = 0
    found = derive(labels, scan)
    assert known(found) == {"menton", "gonion-L", "gonion-R"}
    assert np.linalg.norm(found["gonion-L"] - truth(turn)["gonion-L"]) < 3


def test_a_scan_that_ends_at_the_contours_top_has_no_processes():
    labels, _ = jaw()
    part = Volume(labels.array[:, :, : np.flatnonzero(labels.array.any(axis=(0, 1)))[-1] - 4], labels.affine)
    assert known(derive(part)) == {"menton", "gonion-L", "gonion-R"}


def test_a_coronoid_process_that_goes_on_as_bone_beyond_the_contour_is_unknown():
    labels, turn = jaw()
    scan = flesh(labels)
    tip = labels.grid.ijk_from_lps(truth(turn)["coronoid-L"]).round().astype(int)
    scan.array[tip[0] - 1 : tip[0] + 2, tip[1] - 1 : tip[1] + 2, tip[2] : tip[2] + 8] = 900
    assert "coronoid-L" not in known(derive(labels, scan)) and "coronoid-R" in known(derive(labels, scan))


@pytest.mark.parametrize("how", [{"sides": ("R",)}, {"sides": ("L",)}])
def test_a_jaw_drawn_on_one_side_gives_no_points(how):
    labels, _ = jaw(**how)
    assert not known(derive(labels))


def partly_filled(parts, affine, shape, bone=1400, muscle=60):
    """A CT of the bars in muscle: every voxel has the mean of 27 places in it, as a scanner has it."""
    offsets = np.array(list(itertools.product((-1 / 3, 0, 1 / 3), repeat=3))) @ affine[:3, :3].T
    shares = [draw(parts, affine + np.pad(offset[:, None], ((0, 1), (3, 0))), shape, 1).array for offset in offsets]
    return Volume((muscle + (bone - muscle) * np.mean(shares, axis=0)).astype(np.int16), affine)


def test_menton_lies_on_the_bone_of_the_scan_where_the_chin_is_drawn_carelessly():
    parts, _ = bars()
    affine, shape = covering_grid(PLANNING)
    labels, scan = draw(parts, affine, shape), partly_filled(parts, affine, shape)
    careless = labels.array.copy()
    careless[:, :, :-2] |= careless[:, :, 2:]  # two slices too low
    careless[:-1] |= careless[1:]  # and a voxel too far to the patient's right
    found = derive(Volume(careless, affine), scan)
    assert abs(found["menton"][0]) < 1 and abs(found["menton"][2] + 7) < 2
    on_drawing = derive(Volume(careless, affine), Volume(np.full(shape, 60, np.int16), affine))
    assert on_drawing["menton"][0] < -1.5 and on_drawing["menton"][2] < -10


def test_three_slices_give_no_points():
    labels, _ = jaw()
    drawn = np.flatnonzero(labels.array.any(axis=(0, 1)))
    labels.array[:, :, drawn[3:]] = 0
    assert not known(derive(labels))


def ball(center, radius, value, spacing=(4.0, 4.0, 2.5)):
    return draw([(np.array(center), np.array(center) + 1e-6, radius)], *covering_grid(spacing), value)


def test_a_complete_gland_gives_its_centroid_and_a_part_of_it_nothing():
    center = np.array([55.3, 60.7, 20.2])
    labels = ball(center, 20.0, ORGANS["parotid-L"])
    found = derive(labels)
    assert known(found) == {"parotid-L"}
    assert np.linalg.norm(found["parotid-L"] - center) < 1
    drawn = np.flatnonzero(labels.array.any(axis=(0, 1)))
    labels.array[:, :, drawn[8:]] = 0
    assert not known(derive(labels))


def test_an_organ_amid_a_blank_part_of_the_scan_is_unknown():
    labels = ball((0, 60, 0), 18.0, ORGANS["larynx"])
    assert known(derive(labels, flesh(labels))) == {"larynx"}
    blank = Volume(np.full(labels.array.shape, -1024, np.int16), labels.affine)
    assert not known(derive(labels, blank))


def test_undrawn_organs_are_unknown_and_not_absent():
    labels = ball((0, 60, 0), 18.0, ORGANS["larynx"])
    found = derive_landmarks(labels, flesh(labels))
    assert found.unknown.sum() == len(NAMES) - 1


DATA = Path(os.environ.get("H3DE_DATA", Path(__file__).resolve().parents[3] / "shared" / "data")) / "head-neck-ct"


@pytest.mark.data
@pytest.mark.skipif(not DATA.is_dir(), reason="needs the development scans of ../shared/data")
@pytest.mark.parametrize(
    "case, expected",
    [
        ("pt_13", JAW_POINTS),  # a whole contour
        ("pt_12", {"menton", "gonion-L", "gonion-R"}),  # drawn up to the middle of the rami
        ("pt_47", set()),  # one half was removed by surgery
        ("pt_10", set()),  # no mandible is drawn
    ],
)
def test_real_contours_give_the_points_that_a_viewer_confirmed(case, expected):
    labels = read_volume(DATA / f"{case}_organs.nii.gz")
    found = derive(labels, read_volume(DATA / f"{case}_ct.nii.gz"))
    assert known(found) & JAW_POINTS == expected
    drawn = labels.grid.lps_from_ijk(np.argwhere(labels.array == ORGANS["mandible"]))
    for name in expected:
        assert np.linalg.norm(drawn - found[name], axis=1).min() < 5, name
        assert not name.endswith("-L") or found[name][0] > found[name[:-1] + "R"][0] + 60
