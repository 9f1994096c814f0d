"""The published loss of HYATT-Net against its definition written out with loops."""

import math

import pytest
import torch

from H3DELandmarksLib.training.heatmap_losses_2d import deep_supervision_loss, gaussian_maps

SIZE = (14, 19)


def random_maps(batch: int = 2, landmarks: int = 3) -> list[torch.Tensor]:
    shapes = [tuple(-(-side // stride) for side in SIZE) for stride in (4, 2, 1)]
    return [torch.randn(batch, landmarks, *shape, dtype=torch.float64) for shape in shapes]


def by_definition(maps, index, weight):
    total = 0.0
    for level, stride, sigma, factor in zip(maps, (4, 2, 1), (2, 2, 4), (1000, 3000, 3000)):
        batch, landmarks, height, width = level.shape
        squares = 0.0
        for b in range(batch):
            for k in range(landmarks):
                row, column = ((float(c) + 0.5) / stride - 0.5 for c in index[b, k])
                for i in range(height):
                    for j in range(width):
                        target = math.exp(-((i - row) ** 2 + (j - column) ** 2) / (2 * sigma**2))
                        squares += float(weight[b, k]) * (float(level[b, k, i, j]) - target) ** 2
        total += factor * squares / level.numel()
    return total


def test_it_is_the_weighted_mean_squared_error_at_three_resolutions():
    torch.manual_seed(0)
    maps = random_maps()
    index = torch.rand(2, 3, 2) * torch.tensor(SIZE)
    weight = torch.tensor([[1.0, 0.5, 0.0], [1.0, 1.0, 1.0]])
    loss = deep_supervision_loss(maps, index, weight)
    assert loss.item() == pytest.approx(by_definition(maps, index, weight), rel=1e-5)


def test_perfect_maps_cost_nothing():
    index, weight = torch.tensor([[[3.25, 7.5]]]), torch.ones(1, 1)
    maps = []
    for level, stride, sigma in zip(random_maps(1, 1), (4, 2, 1), (2, 2, 4)):
        maps.append(gaussian_maps((index + 0.5) / stride - 0.5, level.shape[2:], sigma))
    assert deep_supervision_loss(maps, index, weight).item() == 0


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
