"""Scans that end within a crop: image and landmarks disappear together."""

import numpy as np
import torch

from H3DELandmarksLib.networks.arrays import to_array
from H3DELandmarksLib.training.augmentation import FovTruncation

SHAPE = (32, 32, 32)


def test_image_and_landmarks_disappear_on_the_same_side():
    rng = np.random.default_rng(3)
    index = rng.integers(0, 32, (300, 3))
    end = FovTruncation.draw(SHAPE, index.astype(float), rng)
    image, beyond = to_array(end.blanked(torch.ones(SHAPE))), end.beyond(index.astype(float))
    assert 0 < beyond.sum() < 300
    assert np.array_equal(image[tuple(index.T)] == 0, beyond)


def test_a_radiograph_ends_at_a_line():
    for seed in range(20):
        end = FovTruncation.draw((40, 30, 1), np.full((1, 3), np.nan), np.random.default_rng(seed), near=3.0)
        assert end.normal[2] == 0 and np.isclose(np.linalg.norm(end.normal), 1)


def test_planes_near_landmarks_leave_some_just_inside_and_some_just_outside():
    index = np.array([[10.0, 16, 16], [20.0, 15, 14], [np.nan] * 3])
    just_inside = just_outside = everything = 0
    for seed in range(300):
        end = FovTruncation.draw(SHAPE, index, np.random.default_rng(seed), near=2.0)
        image, beyond = to_array(end.blanked(torch.ones(SHAPE))), end.beyond(index)
        assert not beyond[2]
        assert np.array_equal(image[tuple(index[:2].astype(int).T)] == 0, beyond[:2])
        removed, kept = np.argwhere(image == 0), np.argwhere(image == 1)
        for place, gone in zip(index[:2], beyond):
            just_inside += not gone and _nearest(removed, place) < 3
            just_outside += gone and _nearest(kept, place) < 3
        everything += beyond[:2].all()
    assert just_inside > 60 and just_outside > 60 and everything > 30


def _nearest(places: np.ndarray, point: np.ndarray) -> float:
    return np.linalg.norm(places - point, axis=1).min() if len(places) else np.inf
