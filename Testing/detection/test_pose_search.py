"""How the pose of the anatomy is found: the best ones are looked at again, and looks go on until it settles."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation, Slerp

from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.shape_model import Pose, ShapeModel
from H3DELandmarksLib.detection import search as refiner
from H3DELandmarksLib.detection.predictions import RawPredictions
from H3DELandmarksLib.detection.scan import IntensityMapping, Scan
from H3DELandmarksLib.detection.search import localize, refine, refine_until_settled
from H3DELandmarksLib.formats.manifest import Intensity

MEAN = np.array([[8.0, 0, 0], [-8, 0, 0], [0, 10, 0], [0, -10, 2], [0, 0, 6.0]])
SHAPE = ShapeModel(MEAN, np.full(5, 0.5))
CENTER = np.array([20.0, 21, 22])
ARRAY = np.random.default_rng(0).uniform(0, 1, (40, 42, 44)).astype(np.float32)


@pytest.fixture
def scan():
    volume = Volume(ARRAY, np.eye(4))
    return Scan(volume, IntensityMapping.for_volume(Intensity("window", 0, 1), volume), 0.0)


class Network:
    """Stands for a stage that finds all points of a rotated mean shape, as far as the crop lies right.

    ``see`` gets the rotation of the crop and gives the rotation that it takes the anatomy for and the log-odds.
    """

    groups, mirrored_views, mirror_order, count = [np.arange(5)], (False,), np.arange(5), 5
    stage = SimpleNamespace(
        sees_canonical_pose=True,
        is_2d=False,
        spacing_mm=0.5,
        shape=(48, 48, 48),
        shows_all=False,
        sampling=None,
        turned_degrees=0.0,
        spacing_in=lambda extent: 0.5,
        groups=[SimpleNamespace(mirrored=False)],
    )

    def __init__(self, see):
        self.see, self.looks = see, []

    def find(self, image, grid, channels, pose, places=True):
        axes = grid.affine[:3, :3] / grid.spacing
        self.looks.append(axes)
        rotation, logit = self.see(axes)
        return RawPredictions(MEAN @ rotation.T + CENTER, np.full(5, logit), np.full(5, 0.9), pose)


def angle(one, other):
    return float(np.degrees(Rotation.from_matrix(one.T @ other).magnitude()))


def halfway_to(truth):
    """A network that corrects half of what its crop is turned away from the truth."""

    def see(axes):
        return Slerp([0, 1], Rotation.from_matrix([axes, truth]))(0.5).as_matrix(), 5.0

    return see


def starting(degrees, truth):
    turned = Rotation.from_rotvec(np.radians([0, 0.6 * degrees, 0.8 * degrees])).as_matrix() @ truth
    return RawPredictions(MEAN @ turned.T + CENTER, np.full(5, 5.0), np.full(5, 0.9), Pose(turned, CENTER))


TRUTH = Rotation.from_rotvec([0.4, -0.2, 0.3]).as_matrix()


def test_looks_go_on_until_the_pose_settles(scan):
    network = Network(halfway_to(TRUTH))
    once = refine(network, scan, SHAPE, starting(32, TRUTH), canonical_pose=True)
    assert angle(once.pose.rotation, TRUTH) == pytest.approx(16, abs=0.1)
    network.looks.clear()
    settled = refine_until_settled(network, scan, SHAPE, starting(32, TRUTH))
    assert angle(settled.pose.rotation, TRUTH) < 5 and 1 < len(network.looks) < refiner.MAX_ROUNDS
    turns = [angle(axes, TRUTH) for axes in network.looks]
    assert turns == pytest.approx([32 / 2**k for k in range(len(turns))], abs=0.1)


def test_a_stage_that_turns_its_crops_averages_what_it_sees_upright_and_to_either_side(scan):
    """A network whose error turns with its crop: three looks leave less of it than one."""
    error = np.array([0.6, 0, 0])

    def find(image, grid, channels, pose, places=True):
        axes = grid.affine[:3, :3] / grid.spacing
        looks.append(axes)
        return RawPredictions(truth.positions + axes @ error, np.full(5, 5.0), np.full(5, 0.9), pose)

    looks, truth = [], starting(0, np.eye(3))
    network = Network(lambda axes: (axes, 5.0))
    network.find, network.stage = find, SimpleNamespace(**{**vars(Network.stage), "turned_degrees": 25.0})
    found = refine(network, scan, SHAPE, truth, canonical_pose=False)
    assert [angle(axes, np.eye(3)) for axes in looks] == pytest.approx([0, 25, 25])
    assert all(axes[2] == pytest.approx([0, 0, 1]) for axes in looks) and not np.allclose(looks[1], looks[2])
    left = 0.6 * (1 + 2 * np.cos(np.radians(25))) / 3
    np.testing.assert_allclose(found.positions - truth.positions, np.tile([left, 0, 0], (5, 1)), atol=1e-9)


def test_a_pose_that_is_right_is_looked_at_once(scan):
    network = Network(halfway_to(TRUTH))
    refine_until_settled(network, scan, SHAPE, starting(2, TRUTH))
    assert len(network.looks) == 1


def test_a_pose_that_never_settles_ends_all_the_same(scan):
    quarter = Rotation.from_rotvec([0, 0, np.pi / 2]).as_matrix()
    network = Network(lambda axes: (quarter @ axes, 5.0))
    refine_until_settled(network, scan, SHAPE, starting(0, TRUTH))
    assert len(network.looks) == refiner.MAX_ROUNDS


@pytest.mark.parametrize("turn", [[0, 0, 0], [0.5, -0.4, 0.3], [2.0, 1.0, -0.5]])
def test_starting_poses_lie_along_the_axes_of_the_scan_however_it_is_turned(scan, turn):
    turned = np.eye(4)
    turned[:3, :3] = Rotation.from_rotvec(turn).as_matrix()
    network = Network(lambda axes: (TRUTH, 2.0))
    network.stage = SimpleNamespace(**{**vars(Network.stage), "shape": (96, 96, 96)})
    localize(network, Scan(Volume(ARRAY, turned), scan.intensity, scan.outside), SHAPE, lambda done: None)
    starts = np.array(network.looks[:24])
    assert np.allclose(np.abs(turned[:3, :3].T @ starts).max(axis=1), 1)  # one look at a pose: a single tile
    assert np.allclose(np.linalg.det(starts), 1) and len(np.unique(starts.round(6), axis=0)) == 24


def test_the_second_look_decides_between_the_best_starting_poses(scan):
    wrong = Rotation.from_rotvec([0, 0, np.pi]).as_matrix() @ TRUTH
    seen = []

    def see(axes):
        first = np.allclose(np.abs(axes).max(axis=0), 1)  # a crop along the axes of the scan
        seen.append(first)
        if angle(axes, wrong) < angle(axes, TRUTH):
            return wrong, 3.0 if first else -3.0  # a little better at first sight, and nothing to it in the second
        return TRUTH, 2.0

    found = localize(Network(see), scan, SHAPE, lambda done: None)
    assert angle(found.pose.rotation, TRUTH) < 0.1
    assert seen.count(False) == 2  # many starting poses lead to the same one, which is looked at again once
