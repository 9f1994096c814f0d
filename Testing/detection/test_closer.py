"""A closer look at structures that are placed: in crops about each, its landmarks go where the network sees them."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ladder import BRIGHTNESS, GROUPS, NAMES, RUNGS, SCHEME, corners, picture, stage
from scipy.spatial.transform import Rotation

from H3DELandmarksLib.core.anatomy import Anatomy, Factors
from H3DELandmarksLib.core.rows import Structures
from H3DELandmarksLib.core.shape_model import Pose, ShapeModel
from H3DELandmarksLib.detection.closer import FARTHEST, look_closer, structure_grid
from H3DELandmarksLib.detection.predictions import RawPredictions
from H3DELandmarksLib.detection.scan import IntensityMapping, Scan
from H3DELandmarksLib.detection.together import placed_together
from H3DELandmarksLib.formats.manifest import Group, Intensity, StageDesign, check_stages
from H3DELandmarksLib.formats.reading import build

HERE = Pose(np.eye(3), np.zeros(3))
SHAPE = ShapeModel(corners(), np.ones(len(NAMES)))


class SpotReader:
    """Stands for a network: finds the brightness of each corner near where it usually lies in a crop."""

    def __init__(self, **changes):
        design = {name: value for name, value in stage(**changes).items() if name != "training"}
        self.stage = build(StageDesign, design)
        self.groups = [np.array([NAMES.index(name) for name in names]) for names in GROUPS]
        self.mirror_order = SCHEME.mirror_order()
        self.grids = []
        self.astray = {}

    def find(self, image, grid, channels, pose, places):
        assert not places and image.shape == grid.shape == self.stage.shape
        self.grids.append(grid)
        found = RawPredictions.nothing(len(NAMES), pose)
        index = np.argwhere(image[..., 0] > 0.3 * BRIGHTNESS[-1])
        lps = grid.lps_from_ijk(np.column_stack([index, np.zeros(len(index))]))
        weight = image[tuple(index.T)][:, 0] ** 2
        center = (np.array(self.stage.shape[:2]) - 1) / 2
        for corner, landmark in enumerate(channels):
            expected = center + np.array([-0.25 if corner % 2 == 0 else 0.25, -0.1125 if corner < 2 else 0.1125]) * 96
            likely = np.abs(index - expected).max(axis=1) < 5
            if likely.any():
                peak = index[np.argmax(np.where(likely, weight, 0))]
                near = np.linalg.norm(index - peak, axis=1) < 4
                found.positions[landmark] = weight[near] @ lps[near] / weight[near].sum()
                found.positions[landmark] += self.astray.get(int(landmark), 0)
                found.presence_logit[landmark], found.concentration[landmark] = 5.0, 0.9
        return found


def scan_of(points):
    volume, _ = picture(points)
    return Scan(volume, IntensityMapping.for_volume(Intensity("window", 0.0, 1.0), volume), 0.0)


def placed_at(points, logit=5.0):
    return RawPredictions(points, np.full(len(points), logit), np.full(len(points), 0.5), HERE)


@settings(max_examples=8, deadline=None)
@given(
    turn=st.floats(-0.6, 0.6),
    width=st.floats(16, 32),
    step=st.floats(16, 20),
    seed=st.integers(0, 10**6),
    turned=st.sampled_from([0.0, 3.0]),
)
def test_points_go_where_the_network_sees_them_however_structures_are_turned_and_stretched(
    turn, width, step, seed, turned
):
    truth = corners(turn, width, step)
    rough = truth + np.random.default_rng(seed).normal(0, 0.4, truth.shape) * (1, 1, 0)
    network = SpotReader(turned_degrees=turned)
    seen = look_closer(network, scan_of(truth), SHAPE, placed_at(rough))
    assert np.linalg.norm(seen - truth, axis=1).max() < 0.4 < np.linalg.norm(rough - truth, axis=1).max()
    assert len(network.grids) == RUNGS * (3 if turned else 1)


def test_all_structures_are_seen_as_large_as_the_mean_shape_s_are_on_average():
    network = SpotReader()
    look_closer(network, scan_of(corners(0.3, 12.0, 9.0)), SHAPE, placed_at(corners(0.3, 12.0, 9.0)))
    for rung, grid in enumerate(network.grids):
        assert np.allclose(grid.spacing[:2], 0.25), "half as large as usual, so pixels are half as wide"
        shown = grid.ijk_from_lps(corners(0.3, 12.0, 9.0)[4 * rung : 4 * rung + 4])
        usual = np.array([[-24, -10.8], [24, -10.8], [-24, 10.8], [24, 10.8]]) + 47.5
        assert np.allclose(shown[:, :2], usual)


def test_structures_that_are_usually_larger_than_others_are_seen_as_large_as_these():
    sizes = np.array([10.0, 14, 20, 26, 34])
    sides = np.array([[-0.5, -0.2, 0], [0.5, -0.2, 0], [-0.5, 0.2, 0], [0.5, 0.2, 0]])
    rows = np.cumsum(sizes)[:, None, None] * (0, 1, 0) + sizes[:, None, None] * sides
    groups, partners = np.arange(20).reshape(5, 4), np.arange(20) ^ 1
    here = Structures.of(rows.reshape(-1, 3), list(groups), partners)
    design = SimpleNamespace(spacing_mm=0.5, shape=(96, 96, 1))
    shown = [here.size[k] / structure_grid(design, here, here, k).spacing for k in range(5)]
    np.testing.assert_allclose(shown, np.tile(shown[0], (5, 1)))


def test_what_is_not_there_is_not_looked_at_and_nothing_leaves_its_place():
    truth = corners()
    network, said = SpotReader(), placed_at(truth)
    said.presence_logit[:4] = -9.0
    network.astray = {12: (0, FARTHEST * 18.0 + 1, 0), 13: (0, FARTHEST * 18.0 - 1, 0)}
    seen = look_closer(network, scan_of(truth), SHAPE, said)
    assert len(network.grids) == RUNGS - 1 and np.isnan(seen[:4]).all()
    assert np.isnan(seen[12]).all(), "a point more than half way to the next structure stays where it is placed"
    assert np.isfinite(seen[13:]).all()
    unknown = truth.copy()
    unknown[8:12] = np.nan
    seen = look_closer(SpotReader(), scan_of(truth), SHAPE, placed_at(unknown))
    assert np.isnan(seen[8:12]).all() and np.isfinite(np.delete(seen, range(8, 12), axis=0)).all()


def anatomy():
    usual, none = np.ones(len(NAMES)), np.zeros((0, len(NAMES), 3))
    return Anatomy(corners() - corners().mean(axis=0), Factors(none, usual), Factors(none, usual), 2.0)


def test_what_the_closer_look_sees_stands_and_the_rest_is_placed_together():
    found, closer = placed_at(corners()), np.full((len(NAMES), 3), np.nan)
    closer[5] = corners()[5] + (1.5, -0.5, 0)
    placed = placed_together(found, np.ones(len(NAMES)), anatomy())
    shown = placed_together(replace(found, closer=closer), np.ones(len(NAMES)), anatomy())
    assert np.array_equal(shown.positions[5], closer[5])
    others = np.arange(len(NAMES)) != 5
    assert np.array_equal(shown.positions[others], placed.positions[others])
    nowhere = replace(found, closer=closer, presence_logit=np.where(others, 5.0, -np.inf))
    assert np.isnan(placed_together(nowhere, np.ones(len(NAMES)), anatomy()).positions[5]).all()


def test_the_closer_look_moves_with_everything_else():
    motion = Pose(Rotation.from_rotvec([0.1, 0.2, 0.3]).as_matrix(), np.array([4.0, 5, 6]))
    found = replace(placed_at(corners()), closer=corners() + 1)
    assert np.allclose(found.moved(motion).closer, motion.to_lps(corners() + 1))
    assert placed_at(corners()).moved(motion).closer is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"groups": stage()["groups"][:1]}, "two groups"), ({"fit": 1.25}, "fit"), ({"poses": "structure"}, "poses")],
)
def test_stages_that_cannot_look_closer_are_refused(changes, words):
    with pytest.raises(Exception, match=words):
        build(StageDesign, stage(**changes))


def test_only_the_last_of_several_stages_looks_closer_and_needs_both_sides():
    search = build(StageDesign, stage(name="search", poses="scan"))
    closer = build(StageDesign, stage())
    check_stages([search, closer], SCHEME)
    for stages in ([closer], [closer, search], [search, closer, replace(search, name="third")]):
        with pytest.raises(ValueError, match=r"stages\[\d\].poses"):
            check_stages(stages, SCHEME)
    exchanged = [names[:2] + others[2:] for names, others in zip(GROUPS, GROUPS[1:] + GROUPS[:1])]
    apart = [(names[0], others[1], *names[2:]) for names, others in zip(GROUPS, GROUPS[1:] + GROUPS[:1])]
    check_stages([search, replace(closer, groups=tuple(Group(names) for names in exchanged))], SCHEME)
    with pytest.raises(ValueError, match=r"stages\[1\].groups\[0\].landmarks.*partner"):
        check_stages([search, replace(closer, groups=tuple(Group(names) for names in apart))], SCHEME)
