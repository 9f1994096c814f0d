"""The vectorized anchor loss against its definition in loops, and the published faults that it doesn't have."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from literal_anchor_loss import literal_batch_loss, positive_anchors

from H3DELandmarksLib.detection.decoding import ANCHOR_RADII, decode_published_anchor
from H3DELandmarksLib.networks.arrays import to_array
from H3DELandmarksResearch.training.published_losses import HARD_NEGATIVES, match_anchors, published_anchor_loss

NAN = math.nan
GRID = (6, 5, 4)


def sample(seed: int, classes: int, grid=GRID, batch: int = 1):
    """Random maps (B, *grid, 4, 3 + K) and positions (B, K, 3) in input voxels."""
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn(batch, *grid, 4, 3 + classes, generator=generator)
    size = 4 * torch.tensor(grid)
    index = torch.rand(batch, classes, 3, generator=generator) * size - 0.5
    return maps, index.clamp(max=size - 0.51)


@settings(max_examples=40, deadline=None)
@given(st.tuples(*[st.integers(-31, 64 * 4 * n - 33).map(lambda i: i / 64) for n in GRID]))
def test_positives_are_the_cells_within_reach_on_every_axis(point):
    match = match_anchors(torch.tensor([[point]]) / 4, torch.ones(1, 1, dtype=torch.bool), GRID, ANCHOR_RADII)
    positive = match.positive[0, 0]
    found = dict(zip(match.row[0, 0][positive].tolist(), match.offset[0, 0][positive].tolist()))
    anchors = positive_anchors(point, GRID, ANCHOR_RADII)
    expected = {np.ravel_multi_index(anchor, (*GRID, 4)): offset for anchor, offset in anchors}
    assert found.keys() == expected.keys() and positive.sum() == len(expected) > 0
    assert all(np.allclose(found[row], expected[row], atol=1e-5) for row in found)


@pytest.mark.parametrize(
    "presence",
    [[[1, 1, 1]], [[1, 0, 1]], [[1, NAN, 0]], [[0, 0, 0]], [[NAN, NAN, 1]], [[1, 0, 1], [NAN, 0, 1], [0, 0, NAN]]],
    ids=str,
)
def test_it_is_the_published_loss_of_a_batch(presence):
    presence = torch.tensor(presence, dtype=torch.float32)
    maps, index = sample(1, 3, batch=len(presence))
    ours, theirs = maps.clone().requires_grad_(), maps.clone().requires_grad_()
    loss = published_anchor_loss(ours, index, presence, hard_negatives=40)
    literal = literal_batch_loss(theirs, index, presence, hard_negatives=40)
    loss.backward()
    literal.backward()
    assert loss.item() == pytest.approx(literal.item(), rel=1e-5)
    assert torch.allclose(ours.grad, theirs.grad, rtol=1e-3, atol=1e-7)


def test_where_nothing_is_positive_it_equals_the_published_code_s_background_too():
    maps, index = sample(2, 2)
    absent = torch.zeros(1, 2)
    literal = literal_batch_loss(maps, index, absent, 20, faulty=("background", "hard negatives"))
    assert published_anchor_loss(maps, index, absent, 20).item() == pytest.approx(literal.item(), rel=1e-5)


def test_every_anchor_list_draws_256_hard_negatives_for_an_absent_landmark():
    assert HARD_NEGATIVES == 256
    maps = sample(3, 1, (8, 8, 7))[0].requires_grad_()
    published_anchor_loss(maps, torch.zeros(1, 1, 3), torch.zeros(1, 1)).backward()
    logits, gradient = maps.detach()[..., 3].flatten(), maps.grad[..., 3].flatten()
    # The small background term alone gives each of the 1792 anchors sigmoid / 1792 * 0.001.
    hard = gradient > 2 * torch.sigmoid(logits) * 0.001 / len(logits)
    assert hard.sum() == 4 * 256 and logits[hard].min() > logits[~hard].max()


def test_many_classes_share_the_weight_of_one():
    """1 / (K - 1) of the mean over the other classes: twice as many of them weigh half as much."""
    maps = torch.zeros(1, *GRID, 4, 3 + 5)
    index, others = torch.tensor([[[9.0, 8.0, 6.0]] * 5]), torch.tensor([[1.0, NAN, NAN, NAN, NAN]])
    alone = published_anchor_loss(maps, index, others).item()
    others[0, 1] = 0.0
    hard = 0.2 * math.log(2)
    assert published_anchor_loss(maps, index, others).item() - alone == pytest.approx(math.log(2) / 4 + hard, abs=1e-5)


def test_hard_negatives_hold_no_positive_of_another_sample():
    maps, index = sample(4, 1, batch=2)
    presence = torch.tensor([[1.0], [0.0]])
    match = match_anchors(index / 4, presence == 1, GRID, ANCHOR_RADII)
    rows = match.row[0, 0][match.positive[0, 0]]
    maps[0].flatten(0, 3)[rows, 3] = 9.0
    maps.requires_grad_()
    published_anchor_loss(maps, index, presence).backward()
    # Their gradient is only that of the wish to be 1: none of it pushes down.
    assert (maps.grad[0].flatten(0, 3)[rows, 3] < 0).all()


def test_the_small_background_term_leaves_offsets_and_positives_alone():
    maps, index = sample(5, 2)
    index[0, 1] = index[0, 0]
    maps.requires_grad_()
    published_anchor_loss(maps, index, torch.tensor([[1.0, NAN]])).backward()
    match = match_anchors(index / 4, torch.tensor([[True, False]]), GRID, ANCHOR_RADII)
    rows = match.row[0, 0][match.positive[0, 0]]
    gradient = maps.grad[0].flatten(0, 3)
    assert torch.allclose(gradient[rows, 3], -torch.sigmoid(-maps.detach()[0].flatten(0, 3)[rows, 3]) / len(rows))
    others = torch.ones(len(gradient), dtype=torch.bool)
    others[rows] = False
    assert (gradient[others, :3] == 0).all() and (gradient[others, 3] > 0).all()
    assert (gradient[:, 4] == 0).all(), "an unknown landmark takes part"


def test_many_landmarks_overflow_nothing():
    maps, index = sample(6, 20)
    loss = published_anchor_loss(maps, index, torch.ones(1, 20))
    match = match_anchors(index / 4, torch.ones(1, 20, dtype=torch.bool), GRID, ANCHOR_RADII)
    assert match.positive.sum() > 400
    assert loss.item() == pytest.approx(literal_batch_loss(maps, index, torch.ones(1, 20)).item(), rel=1e-5)


@pytest.mark.parametrize("point", [(-0.49, -0.49, -0.49), (23.49, 19.49, 15.49)], ids=str)
def test_a_landmark_at_the_border_has_positives(point):
    maps, index = sample(7, 1)[0], torch.tensor([[point]])
    loss = published_anchor_loss(maps, index, torch.ones(1, 1))
    assert loss.item() == pytest.approx(literal_batch_loss(maps, index, torch.ones(1, 1)).item(), rel=1e-5)


@pytest.mark.parametrize(("value", "expected"), [(0.0, None), (NAN, 0.0)])
def test_a_batch_without_landmarks_can_be_stepped(value, expected):
    maps, index = sample(8, 2, batch=2)
    maps.requires_grad_()
    loss = published_anchor_loss(maps, index, torch.full((2, 2), value))
    loss.backward()
    assert torch.isfinite(maps.grad).all() and (loss > 0 if expected is None else loss == expected)


def test_another_number_of_anchors_is_refused():
    with pytest.raises(ValueError, match="2 anchors"):
        published_anchor_loss(torch.zeros(1, *GRID, 2, 4), torch.zeros(1, 1, 3), torch.ones(1, 1))


def test_minimizing_it_moves_the_decoded_point_to_the_landmark_and_tells_absence():
    maps = torch.zeros(2, *GRID, 4, 3 + 2, requires_grad=True)
    index = torch.tensor([[[9.3, 7.9, 6.2], [0, 0, 0]], [[2.0, 11.1, 0.3], [19.7, 3.5, 14.0]]])
    presence = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    optimizer = torch.optim.Adam([maps], lr=0.2)
    losses = []
    for _ in range(60):
        loss = published_anchor_loss(maps, index, presence)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    peaks = [decode_published_anchor(sample.detach(), 1) for sample in maps]
    assert losses[-1] < 0.2 * losses[0]
    for b in range(2):
        assert ((peaks[b].presence_logit > 0) == to_array(presence[b] == 1)).all()
        error = np.abs(peaks[b].index - to_array(index[b])).max(axis=1)
        assert (error[to_array(presence[b] == 1)] < 0.3).all()
