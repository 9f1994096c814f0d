"""Heat-map targets and losses against their definitions written out voxel by voxel."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from H3DELandmarksLib.detection.decoding import decode_peak, decode_published_heatmap
from H3DELandmarksLib.networks.arrays import to_array
from H3DELandmarksResearch.training.published_losses import ball_bce, balls, gaussian_bce, published_heatmap_loss

NAN = math.nan
SHAPE = (9, 7, 8)
LOSSES = {
    "published": partial(published_heatmap_loss, radius=2.5),
    "gaussian": partial(gaussian_bce, sigma=1.2),
    "ball": partial(ball_bce, radius=2.5),
}
each_loss = pytest.mark.parametrize("name", LOSSES)


def distances(point, shape=SHAPE):
    """{voxel: distance to the point}, in a fixed order."""
    return {v: math.dist(v, point) for v in np.ndindex(*shape)}


def published(values, point, presence, radius=2.5):
    """Mean smooth L1 of one map's positives, plus that of as many of its highest negatives; values by voxel.

    Where there is no positive, one voxel counts as one all the same: the first, whose target is -1 like all others'.
    """
    distance = distances(point)
    inside = [v for v in distance if presence == 1 and distance[v] <= radius]
    smooth = lambda x: 0.5 * x * x if abs(x) < 1 else abs(x) - 0.5  # noqa: E731
    positives = [smooth(values[v] - 2 * math.exp(-(distance[v] ** 2) / (0.2 * radius**2))) for v in inside]
    positives = positives or [smooth(values[0, 0, 0] + 1)]
    highest = sorted((values[v] for v in distance if v not in inside), reverse=True)[: len(positives)]
    return np.mean(positives) + np.mean([smooth(value + 1) for value in highest])


def worst_bce(values, heat):
    """BCE with logits of the fifth of all voxels where it is largest."""
    terms = [math.log1p(math.exp(x)) - heat[v] * x for v, x in values.items()]
    return np.mean(sorted(terms, reverse=True)[: round(0.2 * len(terms))])


def gaussian(values, point, presence, sigma=1.2):
    near = {v: math.exp(-(d**2) / (2 * sigma**2)) * (d <= 3 * sigma) for v, d in distances(point).items()}
    return worst_bce(values, near if presence == 1 else dict.fromkeys(values, 0.0))


def ball(values, point, presence, radius=2.5):
    near = {v: max(0.0, 1 - d / radius) for v, d in distances(point).items()}
    return worst_bce(values, near if presence == 1 else dict.fromkeys(values, 0.0))


def batch(seed: int = 0):
    """Maps of two samples with three landmarks: inside, at a border, absent, unknown."""
    maps = torch.randn(2, 3, *SHAPE, generator=torch.Generator().manual_seed(seed)) * 2
    first, second = [[4.3, 3.1, 4.0], [-0.4, 6.4, 0.2], [0, 0, 0]], [[0, 0, 0], [8.4, 0.0, 7.4], [1.5, 2.5, 3.5]]
    return maps, torch.tensor([first, second]), torch.tensor([[1.0, 1.0, 0.0], [NAN, 1.0, 1.0]])


@each_loss
def test_it_is_the_loss_defined_voxel_by_voxel(name):
    maps, index, presence = batch()
    definition = {"published": published, "gaussian": gaussian, "ball": ball}[name]
    terms = [
        definition({v: float(maps[b, k][v]) for v in np.ndindex(*SHAPE)}, index[b, k].tolist(), presence[b, k])
        for b in range(2)
        for k in range(3)
        if not math.isnan(presence[b, k])
    ]
    assert LOSSES[name](maps, index, presence).item() == pytest.approx(np.mean(terms), rel=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.tuples(*[st.floats(-0.49, n - 0.51) for n in SHAPE]), st.floats(0.8, 6.0))
def test_a_ball_holds_the_voxels_within_its_radius(point, radius):
    found = balls(torch.tensor([[point]]), torch.ones(1, 1), torch.Size(SHAPE), radius)
    inside = found.inside[0, 0]
    voxels = dict(zip(found.linear[0, 0][inside].tolist(), found.squared[0, 0][inside].tolist()))
    expected = {np.ravel_multi_index(v, SHAPE): d for v, d in distances(point).items()}
    clearly = 1e-4
    assert {v for v, d in expected.items() if d < radius - clearly} <= voxels.keys()
    assert voxels.keys() <= {v for v, d in expected.items() if d < radius + clearly}
    assert all(math.sqrt(squared) == pytest.approx(expected[v], abs=1e-4) for v, squared in voxels.items())
    assert inside.sum() == len(voxels), "a voxel is there twice"


@each_loss
def test_only_known_landmarks_have_influence(name):
    maps, index, presence = batch()
    maps.requires_grad_()
    LOSSES[name](maps, index, presence).backward()
    assert ((maps.grad.abs().sum((2, 3, 4)) > 0) == ~torch.isnan(presence)).all()


@each_loss
def test_a_batch_is_made_of_its_samples(name):
    maps, index, presence = batch()
    known = (~torch.isnan(presence)).sum(dim=1)
    apart = [LOSSES[name](maps[b : b + 1], index[b : b + 1], presence[b : b + 1]) * known[b] for b in range(2)]
    assert LOSSES[name](maps, index, presence).item() == pytest.approx(sum(apart).item() / known.sum().item(), rel=1e-5)


@each_loss
def test_a_batch_without_known_landmarks_gives_zero_and_can_be_stepped(name):
    maps = torch.randn(1, 2, *SHAPE, requires_grad=True)
    loss = LOSSES[name](maps, torch.zeros(1, 2, 3), torch.full((1, 2), NAN))
    loss.backward()
    assert loss.item() == 0 and maps.grad.abs().sum() == 0


@each_loss
def test_twenty_landmarks_are_as_good_as_two(name):
    maps, index = torch.randn(1, 20, *SHAPE), torch.rand(1, 20, 3) * 6
    apart = [LOSSES[name](maps[:, k : k + 1], index[:, k : k + 1], torch.ones(1, 1)).item() for k in range(20)]
    assert LOSSES[name](maps, index, torch.ones(1, 20)).item() == pytest.approx(np.mean(apart), rel=1e-5)


def test_voxels_below_the_background_are_no_hard_negatives():
    maps = torch.randn(1, 1, *SHAPE, generator=torch.Generator().manual_seed(3)).requires_grad_()
    with torch.no_grad():
        maps[0, 0, 0, 0, 0] = -9.0
    published_heatmap_loss(maps, torch.tensor([[[6.0, 5.0, 5.0]]]), torch.ones(1, 1), radius=2.5).backward()
    assert maps.grad[0, 0, 0, 0, 0] == 0


@pytest.mark.parametrize("loss", [gaussian_bce, ball_bce])
def test_absent_landmarks_can_be_left_out_as_in_the_recipe(loss):
    maps, index, presence = batch()
    masked = torch.where(presence == 0, NAN, presence)
    assert loss(maps, index, presence, mask_absent=True) == loss(maps, index, masked)


def test_a_map_smaller_than_its_ball_has_no_more_negatives_than_voxels():
    loss = published_heatmap_loss(torch.zeros(1, 2, 5, 5, 5), torch.full((1, 2, 3), 2.0), torch.tensor([[1.0, 0.0]]))
    assert torch.isfinite(loss)


@each_loss
def test_minimizing_it_puts_the_decoded_peak_at_the_landmark_and_tells_absence(name):
    shape = (16, 14, 12)
    maps = torch.full((1, 2, *shape), -1.0 if name == "published" else 0.0, requires_grad=True)
    index, presence = torch.tensor([[[7.2, 5.9, 6.4], [0, 0, 0]]]), torch.tensor([[1.0, 0.0]])
    optimizer = torch.optim.Adam([maps], lr=0.5)
    losses = []
    for _ in range(80):
        loss = LOSSES[name](maps, index, presence)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    decode = partial(decode_published_heatmap, voxels=30) if name == "published" else decode_peak
    peaks = decode(maps[0].detach(), 1)
    assert losses[-1] < 0.5 * losses[0]
    assert np.abs(peaks.index[0] - to_array(index[0, 0])).max() < 0.5
    assert peaks.presence_logit[0] > 0 > peaks.presence_logit[1]
