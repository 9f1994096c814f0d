"""Positions and evidence read out of heat maps."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from H3DELandmarksLib.detection.decoding import decode_softmax

inside = st.floats(4.0, 11.0)


def gaussian_logits(center: tuple[float, float, float], shape=(16, 16, 16), sigma=1.0, height=12.0) -> torch.Tensor:
    axes = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in shape), indexing="ij")
    distance = sum((axis - c) ** 2 for axis, c in zip(axes, center))
    return (height - distance / (2 * sigma**2))[None].float()


@settings(max_examples=25, deadline=None)
@given(inside, inside, inside, st.sampled_from([1, 2]))
def test_a_peak_is_found_between_voxels(x, y, z, stride):
    peaks = decode_softmax(gaussian_logits((x, y, z)), stride)
    expected = (np.array([x, y, z]) + 0.5) * stride - 0.5
    assert np.abs(peaks.index[0] - expected).max() < 0.06 * stride


def test_a_peak_in_the_corner_stays_inside():
    peaks = decode_softmax(gaussian_logits((0.0, 15.0, 0.0)), 1)
    assert (peaks.index >= 0).all() and (peaks.index <= 15).all()
    assert peaks.concentration[0] <= 1 + 1e-6


def test_each_map_is_decoded_on_its_own():
    maps = torch.cat([gaussian_logits((4.0, 5.0, 6.0)), gaussian_logits((11.0, 9.0, 7.0))])
    together = decode_softmax(maps, 1)
    apart = [decode_softmax(one[None], 1) for one in maps]
    assert np.allclose(together.index, np.concatenate([p.index for p in apart]))


def test_low_logits_everywhere_mean_absent():
    shape = (16, 16, 16)
    absent = decode_softmax(torch.full((1, *shape), -20.0), 1)
    present = decode_softmax(gaussian_logits((8.0, 8.0, 8.0)), 1)
    assert absent.presence_logit[0] < -5 < 5 < present.presence_logit[0]


def test_concentration_tells_a_sharp_peak_from_a_flat_map():
    sharp = decode_softmax(gaussian_logits((8.0, 8.0, 8.0)), 1).concentration[0]
    flat = decode_softmax(torch.zeros(1, 16, 16, 16), 1).concentration[0]
    assert sharp > 0.9 and flat < 0.1
