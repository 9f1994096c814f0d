"""Landmarks on the surface of bone: geometry on made bones in any pose and lattice, refusals, and the choice."""

import csv
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import tiny_model
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from H3DELandmarksLib.cohort.origin import found_in_words, landmark_results
from H3DELandmarksLib.core.geometry import Volume, crop_grid
from H3DELandmarksLib.core.landmarks import LandmarkDefinition, LandmarkScheme, LandmarkSet
from H3DELandmarksLib.core.shape_model import Pose
from H3DELandmarksLib.detection import Detector
from H3DELandmarksLib.detection.bone_surface import Extremum, half_way, on_bone, placed_on_bone, sagittal_axes
from H3DELandmarksLib.detection.predictions import RawPredictions
from H3DELandmarksLib.formats.manifest import BoneSurface, SurfacePoint
from H3DELandmarksLib.formats.provenance import proposed_points
from H3DELandmarksLib.io.tables import write_table

SOFT, BONE = 40.0, 1200.0
# Half axes of a bony process in mm; the last one is along the direction of its tip.
PROCESS = np.array([6.0, 5.0, 12.0])
angles = st.tuples(*[st.floats(-180, 180)] * 3)
shares = st.tuples(*[st.floats(-0.5, 0.5)] * 3)


def scan_of(bones, spacing=0.8, turn=(0, 0, 0), shift=(0, 0, 0), size=38.0, scale=1.0, offset=0.0):
    """A scan about the origin; `bones` gives (N,) mm within bone at (N, 3) LPS mm."""
    count = int(size / spacing)
    grid = crop_grid(
        np.multiply(shift, spacing), Rotation.from_euler("xyz", turn, degrees=True).as_matrix(), spacing, (count,) * 3
    )
    index = np.stack(np.meshgrid(*[np.arange(count)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    share = np.clip(bones(grid.lps_from_ijk(index)) / spacing + 0.5, 0, 1)
    values = (SOFT + (BONE - SOFT) * share).reshape(grid.shape)
    return Volume((scale * values + offset).astype(np.float32), grid.affine)


def process(axes, tip):
    """Depth in mm within an ellipsoid whose tip lies at (3,) LPS mm in the direction of the last column of `axes`."""

    def depth(points):
        local = (points - tip) @ axes + (0, 0, PROCESS[2])
        radius = np.linalg.norm(local / PROCESS, axis=1)
        slope = np.linalg.norm(local / PROCESS**2, axis=1) / np.maximum(radius, 1e-6)
        return (1 - radius) / np.maximum(slope, 1e-6)

    return depth


def near(tip, axes, off=(0, 0, 0), reach=9.0):
    return Extremum(np.asarray(tip) + axes @ np.asarray(off, float), axes, reach)


@settings(max_examples=8, deadline=None, phases=[Phase.generate])
@given(angles, angles, shares, st.sampled_from([0.5, 0.8, 1.0]), st.tuples(*[st.floats(-2.5, 2.5)] * 3))
def test_the_tip_of_a_process_is_found_within_a_fifth_of_a_voxel(pose, turn, shift, spacing, off):
    axes = Rotation.from_euler("xyz", pose, degrees=True).as_matrix()
    tip = np.array([1.0, -2.0, 3.0])
    found = on_bone(scan_of(process(axes, tip), spacing, turn, shift), near(tip, axes, off))
    assert np.linalg.norm(found - tip) < 0.2 * spacing


@settings(max_examples=4, deadline=None)
@given(st.floats(0.2, 3.0), st.floats(-800, 800))
def test_any_scale_of_values_gives_the_same_point(scale, offset):
    bones = process(np.eye(3), np.zeros(3))
    points = [
        on_bone(scan_of(bones, scale=s, offset=o), near([0, 0, 0], np.eye(3))) for s, o in ((1, 0), (scale, offset))
    ]
    assert np.linalg.norm(points[0] - points[1]) < 0.02


def test_noise_moves_the_tip_less_than_a_third_of_a_voxel():
    clean = scan_of(process(np.eye(3), np.zeros(3)))
    noisy = Volume(clean.array + np.random.default_rng(0).normal(0, 60, clean.array.shape), clean.affine)
    assert np.linalg.norm(on_bone(noisy, near([0, 0, 1.5], np.eye(3)))) < 0.8 / 3


def test_the_result_does_not_depend_on_where_the_networks_begin():
    scan = scan_of(process(np.eye(3), np.zeros(3)))
    ends = [on_bone(scan, near([0, 0, 0], np.eye(3), off)) for off in ((2, 0, -2), (-2, 1, 2), (0, -2, 0))]
    assert np.ptp(ends, axis=0).max() < 0.05


def test_a_landmark_of_the_midline_stays_there():
    wanted = replace(near([0, 0, 0], np.eye(3), (1.5, 1.0, 0)), is_midline=True)
    found = on_bone(scan_of(process(np.eye(3), np.zeros(3))), wanted)
    assert found[0] == pytest.approx(1.5) and abs(found[1]) < 0.3


def joined_to(other):
    """A process and the other bone, of which `other` gives the depth."""
    own = process(np.eye(3), np.zeros(3))
    return lambda points: np.maximum(own(points), other(points))


@pytest.mark.parametrize(
    "bones",
    [
        lambda points: np.full(len(points), -5.0),
        joined_to(lambda points: np.minimum(points[:, 2] + 1, 20 - points[:, 2])),
        joined_to(lambda points: 3 - np.linalg.norm(points[:, :2], axis=1)),
    ],
    ids=["no bone", "a roof that touches it", "bone that goes on"],
)
def test_nothing_is_placed_where_the_surface_does_not_tell(bones):
    assert on_bone(scan_of(bones), near([0, 0, 0], np.eye(3))) is None


def test_other_bone_that_does_not_touch_is_passed_over():
    apart = joined_to(lambda points: np.minimum(points[:, 2] - 3, 6 - points[:, 2]))
    assert np.linalg.norm(on_bone(scan_of(apart), near([0, 0, 0], np.eye(3)))) < 0.2


def test_nothing_is_placed_out_of_reach_or_at_the_end_of_the_scan():
    scan = scan_of(process(np.eye(3), np.zeros(3)))
    assert on_bone(scan, near([0, 0, 0], np.eye(3), (0, 0, -3), reach=2.0)) is None
    cut = Volume(scan.array[:, :, : int(scan.grid.ijk_from_lps(np.zeros(3))[2]) + 3], scan.affine)
    assert on_bone(cut, near([0, 0, 0], np.eye(3))) is None


def test_noise_is_no_bone():
    assert half_way(np.random.default_rng(0).normal(40, 30, (20, 20, 20))) is None


def test_directions_turn_from_back_to_up():
    points = np.array([0.0, -80, 0]), np.array([50.0, 0, 0]), np.array([-50.0, 0, 0])
    for degrees, direction in ((0, (0, 1, 0)), (90, (0, 0, 1)), (-90, (0, 0, -1)), (-60, (0, 0.5, -np.sqrt(0.75)))):
        axes = sagittal_axes(*points, degrees)
        np.testing.assert_allclose(axes[:, 2], direction, atol=1e-9)
        np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-9)
        np.testing.assert_allclose(axes[:, 0], (1, 0, 0), atol=1e-9)


NAMES = ("front", "left", "right", "tip-L", "tip-R")
SCHEME = LandmarkScheme(
    "made", "1", tuple(LandmarkDefinition(name, "") for name in NAMES), (("left", "right"), ("tip-L", "tip-R"))
)
TIP = np.array([2.0, 0.0, 1.0])
FOUND = LandmarkSet(
    NAMES,
    np.array([(0, -80.0, 0), (50.0, 0, 0), (-50.0, 0, 0), TIP + (1, 0, -2), (np.nan,) * 3]),
    radius=np.full(5, 6.0),
)


def surface(spread=(0.4, 0.1), limit=1.5):
    points = tuple(SurfacePoint(name, 90.0, spread) for name in ("tip-L", "tip-R"))
    return BoneSurface("front", "left", "right", limit, points)


def placed(found=FOUND, spacing=0.8, **how):
    volume = scan_of(process(np.eye(3), TIP), spacing)
    return placed_on_bone(found, np.zeros((5, 3)), volume, surface(**how), SCHEME)


def test_a_steadier_point_is_placed_and_the_networks_point_is_kept():
    result = placed()
    assert np.linalg.norm(result.positions[3] - TIP) < 0.2
    np.testing.assert_allclose(result.networks[3], FOUND.positions[3])
    assert result.moved_mm[3] == pytest.approx(np.sqrt(5), abs=0.2)
    assert np.isnan(result.moved_mm[[0, 1, 2, 4]]).all()
    np.testing.assert_array_equal(result.positions[:3], FOUND.positions[:3])
    np.testing.assert_array_equal(result.radius, FOUND.radius)


@pytest.mark.parametrize("how", [{"spread": (0.1, 0.4)}, {"limit": 0.7}], ids=["networks are steadier", "coarse scan"])
def test_other_points_stay_what_they_are(how):
    result = placed(**how)
    np.testing.assert_array_equal(result.positions, FOUND.positions)
    assert np.isnan(result.networks).all()


def test_points_without_a_frame_use_the_expected_one():
    unknown = replace(FOUND, positions=np.where(np.arange(5)[:, None] == 3, FOUND.positions, np.nan), presence=None)
    volume = scan_of(process(np.eye(3), TIP))
    expected = np.nan_to_num(FOUND.positions)
    result = placed_on_bone(unknown, expected, volume, surface(), SCHEME)
    assert np.linalg.norm(result.positions[3] - TIP) < 0.2


def test_landmarks_of_a_frame_that_was_not_found_whole_stay():
    whole = replace(FOUND, positions=np.where(np.arange(5)[:, None] == 2, TIP + (-1, 0, -2), FOUND.positions))
    told = replace(surface(), points=(SurfacePoint("right", 90.0, (0.4, 0.1)),))
    volume, expected = scan_of(process(np.eye(3), TIP)), np.nan_to_num(whole.positions)
    without_front = replace(whole, presence=np.array([0.2, 1, 1, 1, 0]))
    results = [placed_on_bone(found, expected, volume, told, SCHEME) for found in (whole, without_front)]
    assert np.isfinite(results[0].moved_mm[2]) and np.isnan(results[1].moved_mm).all()


def test_moved_points_forget_the_networks():
    result = placed()
    assert np.isnan(result.with_positions(result.positions + 1).networks).all()
    np.testing.assert_array_equal(result.ordered_as(NAMES[::-1]).networks[1], result.networks[3])


def seen_near(tip):
    """What networks say that miss the tip by 1.6 mm, the other points 40 mm about it."""
    positions = np.array([tip + (40.0, 0, 0), tip + (20.0, -30, 0), tip + (0.5, 0, -1.5)])
    return RawPredictions(positions, np.full(3, 5.0), np.ones(3), Pose(np.eye(3), np.zeros(3)))


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    content = deepcopy(tiny_model.MANIFEST) | {
        "bone_surface": {
            "front": "Middle",
            "left": "Left",
            "right": "Right",
            "max_spacing_mm": 1.5,
            "points": [{"landmark": "Right", "degrees": 90.0, "spread_mm": [0.4, 0.1]}],
        }
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny_model, "MANIFEST", content)
        return Detector(tiny_model.write_tiny_package(tmp_path_factory.mktemp("model") / "tiny"), device="cpu")


@pytest.mark.parametrize(("spacing", "is_placed"), [(0.8, True), (1.6, False)])
def test_results_say_where_the_networks_saw_a_placed_point(detector, monkeypatch, tmp_path, spacing, is_placed):
    tip = np.array([-2.0, 1.0, 3.0])
    found = seen_near(tip)
    monkeypatch.setattr(detector, "findings", lambda *_: found)
    landmarks = detector.detect(scan_of(process(np.eye(3), tip), spacing))
    result, origin = landmark_results(landmarks)[2], proposed_points(landmarks)[2]
    words = found_in_words(landmarks)
    write_table(tmp_path / "points.csv", landmarks)
    row = list(csv.DictReader((tmp_path / "points.csv").open(encoding="utf-8")))[2]
    assert landmarks.radius.tolist() == [1.0, 2.0, 3.0]
    if is_placed:
        assert np.linalg.norm(landmarks.positions[2] - tip) < 0.5
        assert result.networks_lps_mm == origin.networks_lps_mm == pytest.approx(found.positions[2])
        assert float(row["placed_mm"]) == pytest.approx(landmarks.moved_mm[2], abs=1e-3)
        assert "1 placed on the bone surface, up to 1." in words
    else:
        np.testing.assert_array_equal(landmarks.positions, found.positions)
        assert result.networks_lps_mm is None and origin.networks_lps_mm is None
        assert row["placed_mm"] == "" and "bone" not in words
