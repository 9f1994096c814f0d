"""The spatial cross-entropy against its definition written out with loops."""

import math

import pytest
import torch

from H3DELandmarksLib.training.losses import spatial_cross_entropy


def by_definition(maps, index, presence, sigma):
    total, known = 0.0, 0
    for b in range(maps.shape[0]):
        for k in range(maps.shape[1]):
            if math.isnan(presence[b, k]):
                continue
            known += 1
            places = torch.cartesian_prod(*map(torch.arange, maps.shape[2:]))
            voxels = {tuple(v.tolist()): maps[b, k][tuple(v)] for v in places}
            partition = 1 + sum(math.exp(value) for value in voxels.values())
            if presence[b, k] == 0:
                total += math.log(partition)
                continue
            center, radius = [float(c) for c in index[b, k]], max(1, round(2.5 * sigma))
            near = {v: x for v, x in voxels.items() if all(abs(a - round(c)) <= radius for a, c in zip(v, center))}
            weight = {v: math.exp(-sum((a - c) ** 2 for a, c in zip(v, center)) / (2 * sigma**2)) for v in near}
            share = sum(weight.values())
            total += sum(weight[v] / share * (math.log(partition) - float(near[v])) for v in near)
    return total / known


@pytest.mark.parametrize("sigma", [0.7, 1.0, 1.5])
def test_it_is_the_cross_entropy_of_voxel_or_absent(sigma):
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 3, 6, 7, 5, generator=generator)
    index = torch.tensor([[[2.2, 3.1, 1.0], [0.0, 0.4, 4.4], [0, 0, 0]], [[5.2, 6.4, 2.5], [0, 0, 0], [3.0, 3.0, 2.0]]])
    presence = torch.tensor([[1.0, 1.0, 0.0], [1.0, math.nan, 1.0]])
    assert spatial_cross_entropy(maps, index, presence, sigma).item() == pytest.approx(
        by_definition(maps, index, presence, sigma), rel=1e-5
    )


def test_unknown_landmarks_have_no_influence():
    maps = torch.randn(1, 2, 6, 6, 6, requires_grad=True)
    presence = torch.tensor([[1.0, math.nan]])
    spatial_cross_entropy(maps, torch.full((1, 2, 3), 2.0), presence).backward()
    assert maps.grad[0, 0].abs().sum() > 0 and maps.grad[0, 1].abs().sum() == 0


def test_a_batch_without_known_landmarks_gives_zero_and_can_be_stepped():
    maps = torch.randn(1, 2, 6, 6, 6, requires_grad=True)
    loss = spatial_cross_entropy(maps, torch.zeros(1, 2, 3), torch.full((1, 2), math.nan))
    loss.backward()
    assert loss.item() == 0 and maps.grad.abs().sum() == 0


def test_each_sample_counts_for_itself():
    maps, index = torch.randn(2, 1, 6, 6, 6), torch.full((2, 1, 3), 2.5)
    presence = torch.tensor([[1.0], [0.0]])
    apart = [spatial_cross_entropy(maps[b : b + 1], index[b : b + 1], presence[b : b + 1]) for b in (0, 1)]
    mean = sum(a.item() for a in apart) / 2
    assert spatial_cross_entropy(maps, index, presence).item() == pytest.approx(mean, rel=1e-5)


def test_the_minimum_lies_at_the_landmark():
    maps = torch.zeros(1, 1, 9, 9, 9, requires_grad=True)
    optimizer = torch.optim.Adam([maps], lr=0.5)
    index = torch.tensor([[[3.4, 5.0, 4.7]]])
    for _ in range(60):
        optimizer.zero_grad()
        spatial_cross_entropy(maps, index, torch.ones(1, 1)).backward()
        optimizer.step()
    probability = torch.softmax(maps.detach().flatten(), 0).view(9, 9, 9)
    grid = torch.stack(torch.meshgrid(*[torch.arange(9.0)] * 3, indexing="ij"), -1)
    assert ((probability[..., None] * grid).sum((0, 1, 2)) - index[0, 0]).abs().max() < 0.1
