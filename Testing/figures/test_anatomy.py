"""The mean anatomy behind landmarks: scans in other poses and sizes lie on each other, and surfaces are lit."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.core.shape_model import ShapeModel
from H3DELandmarksLib.training.cases import Case
from H3DELandmarksResearch.figures.anatomy import mean_anatomy, shaded_surface
from H3DELandmarksResearch.figures.landmarks import draw_schematic

NAMES = ("a", "b", "c", "d", "e")
MEAN = np.array([[10.0, 0, 0], [-10, 0, 0], [0, 14, 0], [0, 0, 8], [0, -14, -4]])
BALL = np.array([0.0, 6, 2])  # in the frame of the shape


def case(name: str, degrees: float, size: float) -> Case:
    """A bright ball between landmarks, in a pose and size of its own."""
    turn = Rotation.from_euler("xyz", [degrees, -degrees / 2, 3 * degrees], degrees=True).as_matrix()
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    affine[:3, 3] = -30
    lps = np.moveaxis(np.indices((60, 60, 60)), 0, -1) - 30.0
    distance = np.linalg.norm(lps - size * turn @ BALL, axis=-1)
    array = np.where(distance < 6 * size, 200, 10).astype(np.uint8)
    return Case(name, Volume(array, affine), LandmarkSet(NAMES, size * MEAN @ turn.T))


SHAPE = ShapeModel(MEAN, np.ones(5))


def test_scans_of_any_pose_and_size_lie_on_each_other():
    mean = mean_anatomy([case("one", 0, 1.0), case("two", 25, 1.15), case("three", -40, 0.9)], SHAPE, True, samples=50)
    bright = np.argwhere(mean.array > 0.5)
    np.testing.assert_allclose(mean.grid.lps_from_ijk(bright).mean(axis=0), BALL, atol=0.3)
    assert len(bright) * np.prod(mean.spacing) == pytest.approx(4 / 3 * np.pi * 6**3, rel=0.15)
    assert mean.array.min() >= 0 and mean.array.max() <= 1


def test_without_four_landmarks_there_is_no_anatomy():
    few = case("one", 0, 1.0)
    few = Case("few", few.volume, LandmarkSet(NAMES, few.landmarks.positions, np.array([1.0, 1, 1, 0, 0])))
    with pytest.raises(ValueError, match="four"):
        mean_anatomy([few], SHAPE, True, samples=50)


@pytest.mark.parametrize("toward", [(0, 0, 1), (0, 0, -1), (0, -1, 0), (1, 0, 0)])
def test_a_surface_is_brightest_where_it_faces_the_eye(toward):
    i, j, k = np.indices((41, 43, 45)) - np.array([20, 21, 22])[:, None, None, None]
    ball = Volume(np.clip(16 - np.sqrt(i**2 + j**2 + k**2), 0, 1).astype(np.float32), np.eye(4))
    image = shaded_surface(ball, 0.5, np.array(toward))
    shown = np.isfinite(image)
    assert shown.sum() == pytest.approx(np.pi * 15.5**2, rel=0.05)
    middle = tuple(np.array(image.shape) // 2)
    assert image[middle] == pytest.approx(1, abs=0.05)
    assert image[middle[0] + 13, middle[1]] < 0.7 * image[middle]


def test_the_nearer_of_two_surfaces_is_seen():
    array = np.zeros((20, 20, 20), np.float32)
    array[:, :, 4:6] = 1
    array[5:15, 5:15, 12:14] = 1
    from_above = shaded_surface(Volume(array, np.eye(4)), 0.5, np.array([0, 0, 1]))
    from_below = shaded_surface(Volume(array, np.eye(4)), 0.5, np.array([0, 0, -1]))
    assert from_above[10, 10] > from_above[1, 1] and from_below[10, 10] == pytest.approx(from_below[1, 1])


def test_the_picture_of_definitions_shows_the_anatomy():
    anatomy = mean_anatomy([case("one", 0, 1.0)], SHAPE, True, samples=50)
    pairs = [("a", "b")]
    shown, plain = draw_schematic(NAMES, MEAN, pairs, True, anatomy=anatomy), draw_schematic(NAMES, MEAN, pairs, True)
    assert shown.startswith(b"\x89PNG") and shown != plain
