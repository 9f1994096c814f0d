"""Line integrals against their analytic values, and shadows of small balls against exact projection."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Volume, crop_grid
from H3DELandmarksResearch.radiographs.cone_beam import aimed_beam
from H3DELandmarksResearch.radiographs.line_integrals import line_integrals

seeds = st.integers(0, 2**32 - 1)


def random_grid(rng: np.random.Generator, size: int = 24):
    """A grid in any pose, with voxels of unequal edges and sometimes left-handed."""
    axes = Rotation.random(random_state=rng).as_matrix() * rng.choice([-1.0, 1.0])
    return crop_grid(rng.uniform(-40, 40, 3), axes, rng.uniform(0.5, 1.0, 3), tuple(rng.integers(size, size + 9, 3)))


def random_beam(rng: np.random.Generator, target: np.ndarray, shape: tuple[int, int], field_mm: float):
    toward, up = Rotation.random(random_state=rng).as_matrix()[:2]
    near, factor = rng.uniform(60, 300), rng.uniform(1.1, 2.5)
    spacing = field_mm * factor / max(shape) * rng.uniform(0.7, 1.3, 2)
    return aimed_beam(target, toward, up, near, near * factor, spacing, shape)


def ball(grid, center: np.ndarray) -> Volume:
    """A blurred ball of about 1 mm."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij"), axis=-1)
    distance = np.linalg.norm(grid.lps_from_ijk(index) - center, axis=-1)
    return Volume(np.exp(-((distance / 0.9) ** 2)) * (distance < 3), grid.affine)


SHADOW = 9  # pixels that the shadow of the ball needs on each side of its center


@settings(max_examples=40, deadline=None)
@given(seeds)
def test_a_small_ball_falls_on_the_shadow_of_its_center(seed):
    rng = np.random.default_rng(seed)
    grid = random_grid(rng)
    center = grid.lps_from_ijk(rng.uniform(0.3, 0.7, 3) * grid.shape)
    beam = random_beam(rng, grid.center, (72, 60), 26.0)
    lines = line_integrals(ball(grid, center), beam)
    expected = beam.image_grid.ijk_from_lps(beam.project(center))[:2]
    assume((expected > SHADOW).all() and (expected < np.array(beam.shape) - 1 - SHADOW).all())
    pixels = np.stack(np.meshgrid(*(np.arange(n) for n in beam.shape), indexing="ij"), axis=-1)
    found = (pixels * lines[..., None]).sum(axis=(0, 1)) / lines.sum()
    assert np.abs(found - expected).max() < 0.1


def path_lengths(grid, beam) -> np.ndarray:
    """(X, Y) mm of the ray from the source to each pixel center that lie in the box of a grid (slab method)."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in beam.shape), indexing="ij"), axis=-1)
    offset = index * beam.spacing
    pixels = beam.corner + offset[..., :1] * beam.right + offset[..., 1:] * beam.down
    start, stop = grid.ijk_from_lps(beam.source), grid.ijk_from_lps(pixels)
    with np.errstate(divide="ignore"):
        walls = np.stack([(-0.5 - start) / (stop - start), (np.array(grid.shape) - 0.5 - start) / (stop - start)])
    enter, leave = walls.min(axis=0).max(axis=-1), np.minimum(walls.max(axis=0).min(axis=-1), 1)
    return np.maximum(leave - enter, 0) * np.linalg.norm(pixels - beam.source, axis=-1)


@settings(max_examples=15, deadline=None)
@given(seeds)
def test_through_a_uniform_box_attenuation_is_its_coefficient_times_the_path(seed):
    rng = np.random.default_rng(seed)
    grid, coefficient, step = random_grid(rng), rng.uniform(0.01, 2), 0.25
    beam = random_beam(rng, grid.center, (60, 50), 20.0)
    box = Volume(np.full(grid.shape, coefficient), grid.affine)
    expected = coefficient * path_lengths(grid, beam)
    assert expected.max() > 5 * coefficient
    step_mm = step * grid.spacing.min() * 1.2  # along the most oblique ray
    np.testing.assert_allclose(line_integrals(box, beam, step), expected, rtol=1e-4, atol=coefficient * step_mm)


def test_whole_voxel_steps_are_accurate_enough():
    """The default step loses less than one percent of the mean line integral of a rough volume."""
    rng = np.random.default_rng(5)
    grid = random_grid(rng, 40)
    volume = Volume((rng.random(grid.shape) > 0.7) * 0.5, grid.affine)
    beam = random_beam(rng, grid.center, (64, 64), 18.0)
    usual, fine = (line_integrals(volume, beam, step) for step in (1.0, 0.1))
    assert abs(usual.mean() / fine.mean() - 1) < 0.002
    assert np.abs(usual - fine).mean() < 0.02 * fine.mean()


def test_a_thin_wire_is_not_lost_between_wide_pixels():
    array = np.zeros((40, 40, 40))
    array[19, :, 20] = 1.0
    volume = Volume(array, np.diag([0.2, 0.2, 0.2, 1.0]))
    center, toward, up = volume.grid.center, np.array([0.0, 0, 1]), np.array([0.0, -1, 0])
    means = []
    for pixels, shift in ((160, 0.0), (20, 0.0), (20, 0.11), (20, 0.23)):
        beam = aimed_beam(center + shift, toward, up, 100, 150, np.full(2, 12 * 1.5 / pixels), (pixels, pixels))
        means.append(line_integrals(volume, beam, step=0.25).mean())
    np.testing.assert_allclose(means[1:], means[0], rtol=0.03)


def test_nothing_casts_no_shadow_and_what_is_beside_the_beam_neither():
    beam = random_beam(np.random.default_rng(1), np.zeros(3), (20, 30), 10.0)
    assert (line_integrals(Volume(np.zeros((5, 5, 5)), np.eye(4)), beam) == 0).all()
    far = np.eye(4)
    far[:3, 3] = 300 * beam.right + 20 * beam.toward
    assert (line_integrals(Volume(np.ones((5, 5, 5)), far), beam) == 0).all()


def test_a_source_among_the_voxels_is_refused():
    beam = random_beam(np.random.default_rng(1), np.zeros(3), (20, 30), 10.0)
    affine = np.eye(4)
    affine[:3, 3] = beam.source - 4
    with pytest.raises(InputError, match="move the source"):
        line_integrals(Volume(np.ones((9, 9, 9)), affine), beam)
