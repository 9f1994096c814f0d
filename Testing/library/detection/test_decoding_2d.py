"""Positions read out of heat maps at three resolutions, and averaging over an image and its mirror image."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from H3DELandmarksLib.detection.decoding_2d import (
    decode_deep_supervision,
    predict_with_mirror,
    quarter_shifted_peaks,
)
from H3DELandmarksLib.training.heatmap_losses_2d import gaussian_maps


def perfect_maps(index: torch.Tensor, size: tuple[int, int]) -> list[torch.Tensor]:
    """Targets for (B, K, 2) positions in an image of ``size``."""
    levels = zip((4, 2, 1), (2, 2, 4))
    return [gaussian_maps((index + 0.5) / s - 0.5, [-(-side // s) for side in size], sigma) for s, sigma in levels]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({(2, 3): 9, (1, 3): 2, (2, 4): 1}, (1.75, 3.25)),
        ({(2, 3): 9, (3, 3): 2, (2, 2): 1}, (2.25, 2.75)),
        ({(2, 3): 9, (1, 3): 2, (3, 3): 2}, (2.0, 3.0)),
        ({(0, 3): 9, (1, 3): 2, (0, 2): 1}, (0.0, 2.75)),
        ({(2, 5): 9, (3, 5): 2, (2, 4): 1}, (2.25, 5.0)),
        ({(3, 0): 9, (2, 5): 2}, (3.0, 0.0)),
    ],
    ids=str,
)
def test_peaks_move_a_quarter_pixel_towards_the_higher_neighbor(values, expected):
    maps = torch.zeros(1, 2, 4, 6)
    for place, value in values.items():
        maps[0, 1][place] = value
    index, height = quarter_shifted_peaks(maps)
    assert index[0, 1].tolist() == list(expected) and height[0].tolist() == [0, 9]


@settings(max_examples=25, deadline=None)
@given(st.floats(0, 40), st.floats(0, 52))
def test_a_landmark_is_found_to_half_a_pixel(row, column):
    # Each resolution is off by a quarter of its pixels at most; at the border, where it can't shift, by half.
    peaks = decode_deep_supervision(perfect_maps(torch.tensor([[[row, column]]]), (41, 53)))
    inside = 4 < row < 36 and 4 < column < 48
    assert np.abs(peaks.index[0, 0] - (row, column)).max() < (0.6 if inside else 1.7)
    assert 0.9 < peaks.height[0, 0] <= 1


def test_resolutions_count_equally():
    apart = [perfect_maps(torch.tensor([[[15.5, 19.5 + 12 * i]]]), (64, 64)) for i in range(3)]
    mixed = [apart[i][i] for i in range(3)]
    expected = np.mean([decode_deep_supervision(maps).index for maps in apart], axis=0)
    assert np.abs(decode_deep_supervision(mixed).index - expected).max() < 1.0


def test_samples_and_landmarks_are_decoded_on_their_own():
    index = torch.rand(2, 3, 2) * 40
    together = decode_deep_supervision(perfect_maps(index, (40, 40))).index
    for b in range(2):
        for k in range(3):
            one = decode_deep_supervision(perfect_maps(index[b : b + 1, k : k + 1], (40, 40))).index
            assert np.array_equal(one[0, 0], together[b, k])


def sided_network(image: torch.Tensor) -> list[torch.Tensor]:
    """Left pixel, right pixel, brightest pixel, and a landmark of the left side alone, at three resolutions."""
    levels = []
    for stride in (4, 2, 1):
        pooled = torch.nn.functional.max_pool2d(image[:, 0], stride, ceil_mode=True)
        right = torch.linspace(0, 1, pooled.shape[2])
        levels.append(torch.stack([pooled * (1 - right), pooled * right, pooled, pooled * (1 - right) ** 2], dim=1))
    return levels


@pytest.mark.parametrize("size", [(32, 48), (31, 45)])
def test_mirror_images_swap_sides_and_keep_places(size):
    image = torch.rand(2, 1, *size)
    direct, averaged = sided_network(image), predict_with_mirror(sided_network, image, [1, 0, 2, -1], axis=3)
    for level, both in zip(direct, averaged):
        # This network is symmetric but for the rounding of odd widths, so averaging changes next to nothing.
        assert both.shape == level.shape
        assert (both - level)[:, :3].abs().max() < (1e-6 if size[1] % 4 == 0 else 0.1)


def test_mirror_images_along_rows():
    image = torch.rand(1, 1, 30, 44)
    turned = predict_with_mirror(sided_network, image, [1, 0, 2, -1], axis=3)
    along_rows = predict_with_mirror(
        lambda x: [level.transpose(2, 3) for level in sided_network(x.transpose(2, 3))],
        image.transpose(2, 3),
        [1, 0, 2, -1],
        axis=2,
    )
    for level, reference in zip(along_rows, turned):
        assert torch.equal(level.transpose(2, 3), reference)


def test_landmarks_without_a_counterpart_keep_their_own_map():
    image = torch.rand(1, 1, 32, 32)
    averaged = predict_with_mirror(sided_network, image, [1, 0, 2, -1], axis=3)
    assert all(torch.equal(both[:, 3], level[:, 3]) for both, level in zip(averaged, sided_network(image)))
