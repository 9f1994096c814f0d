"""What networks saw is kept with a point list, moves with it, and serves revisions without running them again."""

import numpy as np
import pytest
from head_model import KEY, MEAN, NAMES, PAIRS, found_head, write_head_package
from scene_cases import GEOMETRIES, LINEAR, add_linear_transform, add_volume

from H3DELandmarksLib.core.candidates import Candidates
from H3DELandmarksLib.scene import Follower, HardeningWatch, Review, landmarks_from_point_list, show_detection
from H3DELandmarksLib.scene.evidence import ATTRIBUTE, kept_evidence

TOP, FRONT = NAMES.index("top"), NAMES.index("front")


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    return write_head_package(tmp_path_factory.mktemp("packages") / "head")


@pytest.fixture
def volume(scene):
    return add_volume(scene, np.zeros((3, 4, 5), dtype=np.int16), GEOMETRIES["oblique"], "CT")


def seen_at(*places):
    """The top at these places, all others nowhere in particular."""
    rows = [[] for _ in NAMES]
    rows[TOP] = [(*place, share, 1.0) for place, share in places]
    return Candidates.of(rows)


def shown(volume, found, candidates):
    return show_detection(found, volume, KEY, "points", pairs=PAIRS, candidates=candidates)


def places_of(node):
    return kept_evidence(node, NAMES).positions[TOP, :2]


WRONG, RIGHT = MEAN[TOP] + (3, -11, 50), MEAN[TOP] + (3, -20, 50)


@pytest.fixture
def node(volume):
    """The top was found 9 mm off; the network saw the right place, too."""
    found = found_head()
    positions = found.positions.copy()
    positions[TOP] = WRONG
    return shown(volume, found.with_positions(positions), seen_at((WRONG, 0.5), (RIGHT, 0.3)))


def test_is_kept_in_a_few_kilobytes(node):
    np.testing.assert_allclose(places_of(node), [WRONG, RIGHT], atol=2e-3)
    assert len(node.GetAttribute(ATTRIBUTE)) < 200
    assert kept_evidence(node, ("somebody else's",)).share.sum() == 0


def test_moves_with_its_points_and_stays_when_a_transform_is_hardened(scene, node):
    matrix = LINEAR["rotated and moved"]
    node.SetAndObserveTransformNodeID(add_linear_transform(scene, matrix).GetID())
    flip = np.array([-1, -1, 1])
    moved = (np.array([WRONG, RIGHT]) * flip @ matrix[:3, :3].T + matrix[:3, 3]) * flip
    np.testing.assert_allclose(places_of(node), moved, atol=2e-3)
    watch = HardeningWatch(node)
    node.HardenTransform()
    assert watch.follow()
    np.testing.assert_allclose(places_of(node), moved, atol=4e-3)


def test_a_revision_takes_the_place_that_the_network_saw_too(volume, node, package):
    without = shown(volume, landmarks_from_point_list(node), None)
    away = []
    for each in (node, without):
        each.SetNthControlPointPositionWorld(FRONT, *np.add(each.GetNthControlPointPositionWorld(FRONT), (0, -1, 0)))
        Follower(package).follow(Review(each), "front")
        away.append(np.linalg.norm(landmarks_from_point_list(each).positions[TOP] - RIGHT))
    assert away[0] < 1 and away[0] < away[1]


def test_a_scene_file_keeps_it_with_what_a_correction_has_revised(scene, node, package, tmp_path):
    node.SetNthControlPointPositionWorld(FRONT, *np.add(node.GetNthControlPointPositionWorld(FRONT), (0, -1, 0)))
    Follower(package).follow(Review(node), "front")
    before, seen = Review(node).landmarks(), places_of(node)
    path = str(tmp_path / "scene.mrml")
    scene.SetURL(path)
    scene.Commit()
    positions = [tuple(node.GetNthControlPointPosition(k)) for k in range(len(NAMES))]
    scene.Clear(False)
    scene.SetURL(path)
    scene.Connect()
    again = scene.GetFirstNodeByName("points")
    assert again is not None
    if again.GetNumberOfControlPoints() == 0:  # points lie in a file of their own, which is not under test
        for name, position in zip(NAMES, positions):
            again.AddControlPoint(position, name)
    np.testing.assert_allclose(places_of(again), seen, atol=1e-6)
    assert [p.revised_by for p in Review(again).landmarks()] == [p.revised_by for p in before]
    assert Review(again).landmark("top").revised_by == "front"


def test_damaged_evidence_is_none(node):
    node.SetAttribute(ATTRIBUTE, '{"version": 1, "places": {"top": [[1, 2]]}}')
    assert kept_evidence(node, NAMES) is None
