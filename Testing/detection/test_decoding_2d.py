"""Positions read out of heat maps at three resolutions, and averaging over an image and its mirror image."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from H3DELandmarksLib.detection.decoding import (
    MIRROR_SHIFT,
    decode_deep_supervision,
    decode_published_hyatt,
    predict_with_mirror,
    quarter_shifted_peaks,
)
from H3DELandmarksLib.networks.arrays import to_array
from H3DELandmarksResearch.training.published_losses import cells_of, gaussian_maps


def perfect_maps(index: torch.Tensor, size: tuple[int, int]) -> list[torch.Tensor]:
    """Targets for (B, K, 2) positions in an image of ``size``."""
    levels = zip((4, 2, 1), (2, 2, 4))
    return [gaussian_maps(cells_of(index, s), [-(-side // s) for side in size], sigma) for s, sigma in levels]


def published_peak(values: np.ndarray) -> tuple[float, float]:
    """Row and column of one map's peak, written out."""
    place = [int(i) for i in np.unravel_index(values.argmax(), values.shape)]
    if values[tuple(place)] <= 0:
        return -1.0, -1.0
    row, column = place
    if 1 < row < values.shape[0] - 1 and 1 < column < values.shape[1] - 1:
        place[0] += 0.25 * np.sign(values[row + 1, column] - values[row - 1, column])
        place[1] += 0.25 * np.sign(values[row, column + 1] - values[row, column - 1])
    return tuple(place)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({(2, 3): 9, (1, 3): 2, (2, 4): 1}, (1.75, 3.25)),
        ({(2, 3): 9, (3, 3): 2, (2, 2): 1}, (2.25, 2.75)),
        ({(2, 3): 9, (1, 3): 2, (3, 3): 2}, (2.0, 3.0)),
        ({(3, 4): 9, (4, 4): 2, (3, 5): 1}, (3.25, 4.25)),
        ({(1, 3): 9, (0, 3): 2, (1, 4): 1}, (1.0, 3.0)),
        ({(2, 1): 9, (1, 1): 2, (2, 2): 1}, (2.0, 1.0)),
        ({(4, 3): 9, (3, 3): 2, (4, 4): 1}, (4.0, 3.0)),
        ({(2, 5): 9, (3, 5): 2, (2, 4): 1}, (2.0, 5.0)),
        ({(3, 0): 9, (2, 5): 2}, (3.0, 0.0)),
        ({(0, 0): 9}, (0.0, 0.0)),
    ],
    ids=str,
)
def test_peaks_off_the_border_move_a_quarter_pixel_towards_the_higher_neighbor(values, expected):
    maps = torch.zeros(1, 2, 5, 6)
    for place, value in values.items():
        maps[0, 1][place] = value
    index, height = quarter_shifted_peaks(maps)
    assert index[0].tolist() == [[-1, -1], list(expected)] and height[0].tolist() == [0, 9]
    assert published_peak(to_array(maps[0, 1])) == expected


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([(3, 4), (5, 9), (12, 3)]), st.sampled_from([0.0, 1.5, 3.0]))
def test_positions_are_the_published_ones(seed, size, below):
    generator = torch.Generator().manual_seed(seed)
    maps = [torch.randn(2, 3, *(f * s for s in size), generator=generator).mul(2).round() - below for f in (1, 2, 4)]
    peaks = decode_deep_supervision(maps)
    for b, k in np.ndindex(2, 3):
        found = [np.multiply(published_peak(to_array(level[b, k])), stride) for level, stride in zip(maps, (4, 2, 1))]
        assert peaks.index[b, k].tolist() == pytest.approx(np.mean(found, axis=0).tolist())
        highest = [float(level[b, k].max()) for level in maps]
        assert peaks.height[b, k] == pytest.approx(np.mean(highest) if min(highest) > 0 else 0)


@settings(max_examples=25, deadline=None)
@given(st.floats(0, 40), st.floats(0, 52))
def test_a_landmark_is_found_to_about_a_pixel(row, column):
    # Targets are rounded to cells: half a cell of 4, 2 and 1 pixels, on average 7 / 6; at the far border there is no
    # cell to round to.
    peaks = decode_deep_supervision(perfect_maps(torch.tensor([[[row, column]]]), (41, 53)))
    assert np.abs(peaks.index[0, 0] - (row, column)).max() <= 7 / 6 + 1e-4
    assert peaks.height[0, 0] == 1


def test_one_miss_is_no_evidence_at_all():
    maps = perfect_maps(torch.tensor([[[16.0, 20.0]]]), (64, 64))
    maps[1] = -maps[1]
    peaks = decode_deep_supervision(maps)
    assert peaks.height[0, 0] == 0 and peaks.index[0, 0].tolist() == pytest.approx([30 / 3, 38 / 3])
    there = decode_published_hyatt([level[0, ..., None] for level in maps], ())
    assert there.presence_logit[0] == -4 and there.concentration[0] == 0 and np.isfinite(there.index).all()


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


def test_maps_of_the_mirror_image_are_moved_by_a_cell_as_published():
    image = torch.rand(1, 1, 32, 48)
    averaged = predict_with_mirror(sided_network, image, [1, 0, 2, -1], axis=3, shift=MIRROR_SHIFT)
    mirrored = sided_network(image.flip(3))
    for level, back, both in zip(sided_network(image), mirrored, averaged):
        for k, other in enumerate([1, 0, 2]):
            for column in range(level.shape[3]):
                source = level.shape[3] - 1 - max(0, column - 1)
                expected = (level[0, k, :, column] + back[0, other, :, source]) / 2
                assert torch.allclose(both[0, k, :, column], expected)


@pytest.mark.parametrize("shift", [0, MIRROR_SHIFT])
def test_mirror_images_along_rows(shift):
    image = torch.rand(1, 1, 30, 44)
    turned = predict_with_mirror(sided_network, image, [1, 0, 2, -1], axis=3, shift=shift)
    along_rows = predict_with_mirror(
        lambda x: [level.transpose(2, 3) for level in sided_network(x.transpose(2, 3))],
        image.transpose(2, 3),
        [1, 0, 2, -1],
        axis=2,
        shift=shift,
    )
    for level, reference in zip(along_rows, turned):
        assert torch.equal(level.transpose(2, 3), reference)


def test_landmarks_without_a_counterpart_keep_their_own_map():
    image = torch.rand(1, 1, 32, 32)
    averaged = predict_with_mirror(sided_network, image, [1, 0, 2, -1], axis=3)
    assert all(torch.equal(both[:, 3], level[:, 3]) for both, level in zip(averaged, sided_network(image)))
