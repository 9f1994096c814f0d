"""The published loss of HYATT-Net against its definition written out with loops."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from H3DELandmarksLib.detection.decoding import decode_deep_supervision
from H3DELandmarksLib.networks.arrays import to_array
from H3DELandmarksResearch.training.published_losses import cells_of, deep_supervision_loss, gaussian_maps

SIZE = (14, 19)


def random_maps(batch: int = 2, landmarks: int = 3) -> list[torch.Tensor]:
    shapes = [tuple(-(-side // stride) for side in SIZE) for stride in (4, 2, 1)]
    return [torch.randn(batch, landmarks, *shape, dtype=torch.float64) for shape in shapes]


def target(point, stride, sigma, shape):
    """{pixel: height} of one landmark's map: round to a cell, then a Gaussian in a square of 3 sigma to each side."""
    center = [int(c / stride + 0.5) for c in point]
    if any(m - 3 * sigma >= n or m + 3 * sigma + 1 < 0 for m, n in zip(center, shape)):
        return None
    heights = {}
    for i in range(max(0, center[0] - 3 * sigma), min(shape[0], center[0] + 3 * sigma + 1)):
        for j in range(max(0, center[1] - 3 * sigma), min(shape[1], center[1] + 3 * sigma + 1)):
            heights[i, j] = math.exp(-((i - center[0]) ** 2 + (j - center[1]) ** 2) / (2 * sigma**2))
    return heights


def by_definition(maps, index, visibility):
    total = 0.0
    for level, stride, sigma, factor in zip(maps, (4, 2, 1), (2, 2, 4), (1000, 3000, 3000)):
        squares = 0.0
        for b, k in np.ndindex(*level.shape[:2]):
            heights = target(index[b, k].tolist(), stride, sigma, level.shape[2:]) if visibility[b, k] == 1 else None
            if heights is not None:
                pixels = np.ndindex(*level.shape[2:])
                squares += sum((float(level[b, k][pixel]) - heights.get(pixel, 0.0)) ** 2 for pixel in pixels)
        total += factor * squares / level.numel()
    return total


def test_it_is_the_mean_squared_error_at_three_resolutions():
    torch.manual_seed(0)
    maps = random_maps()
    index = torch.rand(2, 3, 2) * torch.tensor(SIZE)
    index[0, 0], index[1, 0] = torch.tensor([-0.4, 18.4]), torch.tensor([13.4, 1.5])
    visibility = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    loss = deep_supervision_loss(maps, index, visibility)
    assert loss.item() == pytest.approx(by_definition(maps, index, visibility), rel=1e-5)


def test_a_gaussian_wholly_outside_a_map_does_not_count_there():
    torch.manual_seed(1)
    maps = [level.requires_grad_() for level in random_maps(1, 4)]
    index = torch.tensor([[[-14.0, 5.0], [-26.6, 5.0], [-36.0, 5.0], [5.0, 44.0]]])
    loss = deep_supervision_loss(maps, index, torch.ones(1, 4))
    loss.backward()
    assert loss.item() == pytest.approx(by_definition([m.detach() for m in maps], index, torch.ones(1, 4)), rel=1e-5)
    counted = [[bool(row.any()) for row in level.grad[0]] for level in maps]
    assert counted == [[True, True, False, False], [True, False, False, False], [True, False, False, False]]


def test_perfect_maps_cost_nothing():
    index, weight = torch.tensor([[[3.25, 7.5]]]), torch.ones(1, 1)
    maps = []
    for level, stride, sigma in zip(random_maps(1, 1), (4, 2, 1), (2, 2, 4)):
        maps.append(gaussian_maps(cells_of(index, stride), level.shape[2:], sigma))
    assert deep_supervision_loss(maps, index, weight).item() == 0


@settings(max_examples=50, deadline=None)
@given(st.integers(10, 200), st.integers(10, 200))
def test_decoding_the_targets_gives_the_nearest_cells_of_each_resolution(row, column):
    """What the pair of loss and decoding can reach: the mean of the rounded positions, at most 1 1/6 pixels off."""
    index = torch.tensor([[[row + 0.25, column - 0.25]]])
    maps = [gaussian_maps(cells_of(index, s), (216 // s, 216 // s), w) for s, w in zip((4, 2, 1), (2, 2, 4))]
    found = decode_deep_supervision(maps).index[0, 0]
    expected = [np.mean([s * int(c / s + 0.5) for s in (4, 2, 1)]) for c in index[0, 0].tolist()]
    assert found.tolist() == pytest.approx(expected) and np.abs(found - to_array(index[0, 0])).max() <= 7 / 6


def test_absent_and_unknown_landmarks_have_no_influence():
    maps = [level.requires_grad_() for level in random_maps(1, 3)]
    index = torch.tensor([[[3.0, 4.0], [math.nan, math.nan], [math.nan, 1.0]]])
    deep_supervision_loss(maps, index, torch.tensor([[1.0, 0.0, math.nan]])).backward()
    for level in maps:
        assert level.grad.isfinite().all()
        assert level.grad[0, 0].any() and not level.grad[0, 1:].any()


def test_a_batch_without_visible_landmarks_gives_zero_and_can_be_stepped():
    maps = [level.requires_grad_() for level in random_maps()]
    loss = deep_supervision_loss(maps, torch.full((2, 3, 2), math.nan), torch.zeros(2, 3))
    loss.backward()
    assert loss.item() == 0 and not any(level.grad.any() for level in maps)


def test_half_precision_maps_are_compared_in_single_precision():
    maps = [level.to(torch.bfloat16) for level in random_maps()]
    loss = deep_supervision_loss(maps, torch.full((2, 3, 2), 5.0), torch.ones(2, 3))
    assert loss.dtype == torch.float32 and loss.isfinite()
