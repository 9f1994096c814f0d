"""Frames of structures follow their landmarks."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from ladder import RUNGS, SCHEME, corners

from H3DELandmarksLib.core.rows import Structures

GROUPS = [np.arange(4 * rung, 4 * rung + 4) for rung in range(RUNGS)]
PARTNERS = SCHEME.mirror_order()


def frames(points):
    return Structures.of(points, GROUPS, PARTNERS)


@settings(max_examples=50, deadline=None)
@given(turn=st.floats(-3, 3), width=st.floats(5, 60), step=st.floats(5, 25))
def test_frames_turn_and_grow_with_the_structures(turn, width, step):
    found = frames(corners(turn, width, step))
    assert found.known.all()
    assert np.allclose(found.size, (width, step, 1))
    direction = np.array([np.cos(turn), np.sin(turn), 0])
    for number in range(RUNGS):
        axes = found.axes(number)
        assert np.allclose(axes[:, 0], direction) and np.allclose(axes.T @ axes, np.eye(3), atol=1e-12)
        assert np.isclose(np.linalg.det(axes), 1) and np.allclose(axes[:, 2], (0, 0, 1))
    assert np.allclose(found.center, corners(turn, width, step).reshape(RUNGS, 4, 3).mean(axis=1))


def test_a_structure_s_size_is_that_of_its_neighborhood():
    points = corners()
    points[8:12] = points[8:12].mean(axis=0) + 2 * (points[8:12] - points[8:12].mean(axis=0))
    widths = frames(points).size[:, 0]
    assert np.allclose(widths, [24, 30, 36, 30, 24, 24]), "one rung in six is twice as wide"


def test_structures_without_all_their_landmarks_have_no_frame():
    points = corners()
    points[9] = np.nan
    assert frames(points).known.tolist() == [True, True, False, True, True, True]
    assert np.allclose(np.delete(frames(points).size, 2, axis=0), (24, 18, 1)), "others are known by their neighbors"
    points[:] = 7.0
    assert not frames(points).known.any(), "what has no size has no frame"
