"""Where shadows fall: source, detector, magnification, and the collimated field."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from H3DELandmarksResearch.radiographs.collimator import FULLY_OPEN, Collimator, open_collimator
from H3DELandmarksResearch.radiographs.cone_beam import aimed_beam

seeds = st.integers(0, 2**32 - 1)


def random_beam(rng: np.random.Generator, shape=(60, 44), detector_mm=60.0):
    """A beam in any direction with pixels of unequal width and height."""
    toward, up = Rotation.random(random_state=rng).as_matrix()[:2]
    near = rng.uniform(60, 400)
    spacing = detector_mm / max(shape) * rng.uniform(0.6, 1.4, 2)
    return aimed_beam(
        rng.uniform(-50, 50, 3), toward, up + 0.3 * toward, near, near * rng.uniform(1.05, 2.5), spacing, shape
    )


@given(seeds)
def test_a_shadow_lies_in_the_plane_of_the_picture_and_on_the_ray_through_its_point(seed):
    rng = np.random.default_rng(seed)
    beam = random_beam(rng)
    points = beam.source + beam.toward * 50 + rng.uniform(-20, 20, (7, 3))
    shadows = beam.project(points)
    np.testing.assert_array_equal(shadows[:, 2], 0)
    on_detector = beam.corner + shadows[:, :1] * beam.right + shadows[:, 1:2] * beam.down
    rays, seen = points - beam.source, on_detector - beam.source
    np.testing.assert_allclose(np.cross(rays, seen) / np.linalg.norm(seen, axis=1, keepdims=True), 0, atol=1e-9)
    assert ((rays * seen).sum(axis=1) > 0).all()


@given(seeds)
def test_the_target_falls_on_the_middle_and_appears_as_much_larger_as_the_distances_say(seed):
    rng = np.random.default_rng(seed)
    target, near, factor = rng.uniform(-9, 9, 3), rng.uniform(50, 500), rng.uniform(1.1, 3)
    toward, up = Rotation.random(random_state=rng).as_matrix()[:2]
    beam = aimed_beam(target, toward, up, near, near * factor, np.array([0.3, 0.5]), (51, 41))
    np.testing.assert_allclose(beam.project(target), beam.image_grid.center, atol=1e-9)
    np.testing.assert_allclose(beam.magnification(target), factor)
    across = rng.uniform(-5, 5) * beam.right + rng.uniform(-5, 5) * beam.down
    shadow = beam.project(target + across) - beam.project(target - across)
    np.testing.assert_allclose(np.linalg.norm(shadow), 2 * factor * np.linalg.norm(across))


def test_a_picture_is_seen_from_the_source_and_not_mirrored():
    """Source above a prone subject, head up: what is on the subject's right is right in the picture."""
    beam = aimed_beam(np.zeros(3), np.array([0, 0, -1]), np.array([0, -1, 0]), 100, 200, np.ones(2), (11, 11))
    middle = beam.image_grid.center
    np.testing.assert_allclose(beam.project([-1.0, 0, 0]) - middle, [2, 0, 0], atol=1e-12)
    np.testing.assert_allclose(beam.project([0, -1.0, 0]) - middle, [0, -2, 0], atol=1e-12)


def test_points_that_are_unknown_or_behind_the_source_have_no_shadow():
    beam = aimed_beam(np.zeros(3), np.array([0, 0, 1]), np.array([0, 1, 0]), 100, 200, np.ones(2), (11, 11))
    assert np.isnan(beam.project([[np.nan] * 3, [0, 0, -100], [1, 2, -150]])).all()


@given(seeds, st.tuples(st.integers(1, 4), st.integers(1, 4)))
def test_finer_pixels_cover_the_same_detector(seed, parts):
    beam = random_beam(np.random.default_rng(seed))
    fine = beam.refined(parts)
    point = beam.source + 55 * beam.toward + np.array([1.0, 2, 3])
    edges = [np.array([-0.5, -0.5, 0]), np.array([*beam.shape, 1]) - 0.5]
    for edge, fine_edge in zip(edges, [edges[0], np.array([*fine.shape, 1]) - 0.5]):
        from_edge = beam.project(point) - beam.image_grid.lps_from_ijk(edge)
        np.testing.assert_allclose(
            from_edge[:2], (fine.project(point) - fine.image_grid.lps_from_ijk(fine_edge))[:2], atol=1e-9
        )


def test_the_collimator_lets_through_what_it_contains():
    beam = random_beam(np.random.default_rng(3))
    grid = beam.image_grid
    collimator = Collimator(grid.center[:2], np.array([12.0, 7.0]), np.radians(20), 1.5)
    transmission = collimator.transmission(grid)
    index = np.argwhere(np.ones(beam.shape, dtype=bool))
    inside = collimator.contains(grid.lps_from_ijk(np.column_stack([index, np.zeros(len(index))])))
    np.testing.assert_array_equal(transmission.ravel() >= FULLY_OPEN, inside)
    area = transmission.sum() * beam.spacing.prod()
    assert abs(area / (24 * 14) - 1) < 0.02
    assert (open_collimator().transmission(grid) == 1).all() and not collimator.contains(np.full(3, np.nan))
