"""Rules on which trust in a result rests."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import torch

from H3DELandmarksLib.core.geometry import Grid
from H3DELandmarksLib.core.landmarks import LandmarkDefinition, LandmarkScheme
from H3DELandmarksLib.core.shape_model import Pose, ShapeModel
from H3DELandmarksLib.detection.calibration import Calibration
from H3DELandmarksLib.detection.decoding import Peaks, decode_peak, decode_published_anchor
from H3DELandmarksLib.detection.detector import Detector
from H3DELandmarksLib.detection.engine import MAX_MOVE_VOXELS, refusal, worst_move
from H3DELandmarksLib.detection.predictions import RawPredictions
from H3DELandmarksLib.detection.search import _agreement, refine, tiles
from H3DELandmarksLib.formats.manifest import PointCalibration

MEAN = np.array([[5.0, 0, 0], [-5.0, 0, 0]])
SHAPE = ShapeModel(MEAN, np.ones(2))
POSE = Pose(np.eye(3), np.zeros(3))


def predictions(positions, logit=5.0):
    return RawPredictions(np.asarray(positions, float), np.full(2, logit), np.full(2, 0.9), POSE)


def test_the_worst_crop_decides_on_half_precision():
    assert refusal([0.0, 0.3, 0.01]) is not None
    assert refusal([0.0, 0.2, 0.01]) is None


def test_a_place_that_is_no_number_speaks_against_half_precision_and_an_absent_landmark_does_not():
    full = Peaks(np.zeros((2, 3)), np.array([3.0, -3.0]), np.ones(2))
    lost = Peaks(np.array([[np.nan, 0, 0], [0, 0, 0]]), np.array([3.0, -3.0]), np.ones(2))
    elsewhere = Peaks(np.array([[0.1, 0, 0], [9.0, 0, 0]]), np.array([3.0, -3.0]), np.ones(2))
    assert refusal([worst_move(full, lost)]) is not None
    assert worst_move(full, elsewhere) == 0.1 and refusal([worst_move(full, elsewhere)]) is None
    assert refusal([MAX_MOVE_VOXELS]) is not None and refusal([]) is not None


def test_of_the_landmarks_of_a_crop_the_one_that_moves_most_decides():
    full = Peaks(np.zeros((2, 3)), np.full(2, 3.0), np.ones(2))
    half = Peaks(np.array([[0.0, 0.3, 0.4], [0.1, 0, 0]]), np.full(2, 3.0), np.ones(2))
    assert worst_move(full, half) == 0.5


def test_where_there_was_only_air_a_landmark_is_not_taken_for_present_however_common_it_is():
    common = Calibration(1.0, 8.0, np.zeros(4), 2.0, np.ones(2))
    presence = common.presence(np.array([-np.inf, -7.0]))
    assert presence[0] == 0.0 and presence[1] > 0.5


def test_what_is_likelier_absent_has_neither_confidence_nor_radius():
    scheme = LandmarkScheme("two", "1", tuple(LandmarkDefinition(name, name) for name in "LR"))
    calibration = Calibration(1.0, 0.0, np.array([10.0, 0, 0, 0]), 2.0, np.ones(2))
    detector = SimpleNamespace(shape=SHAPE, calibration=calibration, scheme=scheme)
    found = RawPredictions(MEAN, np.array([0.0, -0.01]), np.full(2, 0.9), POSE)
    landmarks = Detector.landmark_set(detector, found)
    assert landmarks.confidence[0] == 0.5 and landmarks.radius[0] == 1.0
    assert np.isnan([landmarks.confidence[1], landmarks.radius[1]]).all()


def test_no_position_is_trusted_more_than_that_the_landmark_exists():
    scheme = LandmarkScheme("two", "1", tuple(LandmarkDefinition(name, name) for name in "LR"))
    calibration = Calibration(1.0, 0.0, np.array([10.0, 0, 0, 0]), 2.0, np.ones(2))
    detector = SimpleNamespace(shape=SHAPE, calibration=calibration, scheme=scheme)
    found = Detector.landmark_set(detector, predictions(MEAN, logit=0.2))
    assert np.allclose(found.presence, 1 / (1 + np.exp(-0.2))) and np.allclose(found.confidence, found.presence)


def test_each_point_has_its_own_radius_where_a_package_says_so_and_positions_stay():
    scheme = LandmarkScheme("two", "1", tuple(LandmarkDefinition(name, name) for name in "LR"))
    plain = Calibration(1.0, 0.0, np.array([10.0, 0, 0, 0]), 2.0, np.array([1.0, 3.0]))
    own = replace(plain, points=PointCalibration((0.0, 0.0, 0.0, 1.0, 0.0, 0.0)))  # grows with the distance from SHAPE
    found = predictions(MEAN + [[0, 0, 0], [0, 1.0, 0]])
    before, after = (
        Detector.landmark_set(SimpleNamespace(shape=SHAPE, calibration=c, scheme=scheme), found) for c in (plain, own)
    )
    assert np.array_equal(before.positions, after.positions) and np.array_equal(before.confidence, after.confidence)
    assert before.radius.tolist() == [1.0, 3.0]
    assert np.allclose(after.radius, [1.0, 3.0 * 2])


def test_a_group_of_which_the_search_is_half_sure_is_looked_at_again():
    looks = []

    def find(image, grid, channels, pose, places=True):
        looks.append(grid)
        return predictions(MEAN)

    stage = SimpleNamespace(
        groups=[SimpleNamespace(mirrored=False)], spacing_in=lambda extent: 1.0, shape=(8, 8, 8), sampling=None
    )
    stage.turned_degrees = 0.0
    network = SimpleNamespace(
        stage=stage, groups=[np.arange(2)], mirrored_views=(False,), mirror_order=np.arange(2), find=find
    )
    grid = SimpleNamespace(extent=np.full(3, 8.0))
    scan = SimpleNamespace(crop=lambda *_: np.zeros((8, 8, 8), np.float32), volume=SimpleNamespace(grid=grid))
    for logit, number in ((-1.0, 1), (0.0, 1), (-3.0, 0)):
        looks.clear()
        refine(network, scan, SHAPE, predictions(MEAN, logit), canonical_pose=False)
        assert len(looks) == number


def test_a_landmark_on_the_border_of_a_tile_lies_well_inside_another():
    grid = Grid(np.eye(4), (120, 32, 32))
    cover = list(tiles(grid, (32, 32, 32)))
    for x in np.arange(4.0, 116.0):
        inside = [min(ijk, 31 - ijk) for ijk in (tile.ijk_from_lps([[x, 16, 16]])[0, 0] for tile in cover)]
        assert max(inside) >= 3


def test_agreement_counts_points_near_the_mean_shape_and_no_others():
    near, far = (_agreement(predictions(MEAN + [0, 0, d]), SHAPE) for d in (0.0, 20.0))
    assert near > 1.5 and far < 1e-3 * near


def test_half_as_hot_means_half_of_the_peak_s_heat():
    heat = torch.full((1, 20, 12, 12), 1e-4)
    heat[0, 3, 6, 6], heat[0, 17, 6, 6] = 0.9, 0.4  # below one half of 0.9, above one third
    assert decode_peak(torch.logit(heat), 1, extent=4).concentration[0] == 1
    heat[0, 17, 6, 6] = 0.5
    assert decode_peak(torch.logit(heat), 1, extent=4).concentration[0] == 0.5


def test_candidates_two_cells_from_the_medoid_do_not_count_as_near():
    maps = torch.full((8, 4, 4, 4, 3 + 1), -20.0)
    maps[..., :3] = 0
    for x in (1, 3):
        maps[x, 1, 1, 0, 3] = 5.0
    assert abs(decode_published_anchor(maps, 1, candidates=2).concentration[0] - 0.5) < 1e-6
