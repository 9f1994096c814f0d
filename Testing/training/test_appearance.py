"""Random changes of intensities: within the range, repeatable, and each as it is named."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from typed import augmentation

from H3DELandmarksLib.networks.arrays import to_array, to_tensor
from H3DELandmarksLib.training.augmentation import IntensityAugmentation, gaussian_blur

SETTINGS = augmentation(contrast=0.5, brightness=0.3, gamma=0.5, noise=0.2, blur=1.0)
IMAGE = to_tensor(np.random.default_rng(0).random((9, 8, 7), dtype=np.float32))
NONE = IntensityAugmentation(contrast=1, brightness=0, exponent=1, blur=0, noise=0, seed=1)


@given(st.integers(0, 1000))
def test_values_stay_within_the_range_and_the_same_seed_gives_the_same_image(seed):
    once, again = (IntensityAugmentation.draw(SETTINGS, np.random.default_rng(seed)).apply(IMAGE) for _ in range(2))
    assert once.min() >= 0 and once.max() <= 1 and once.dtype == torch.float32
    assert torch.equal(once, again) and not torch.allclose(once, IMAGE)


def test_without_settings_nothing_changes():
    torch.testing.assert_close(IntensityAugmentation.draw(augmentation(), np.random.default_rng(1)).apply(IMAGE), IMAGE)


def test_each_change_is_what_its_name_says():
    image = IMAGE * 0.4 + 0.3
    changes = {"contrast": 1.2, "brightness": 0.1, "exponent": 2.0}
    expected = ((image - 0.5) * 1.2 + 0.5, image + 0.1, image**2)
    for (name, value), changed in zip(changes.items(), expected):
        torch.testing.assert_close(IntensityAugmentation(**{**vars(NONE), name: value}).apply(image), changed)


def test_noise_has_the_deviation_that_was_drawn_and_its_own_stream():
    gray = torch.full((40, 40, 40), 0.5)
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    noisy = IntensityAugmentation(**{**vars(NONE), "noise": 0.1}).apply(gray)
    assert float(noisy.std()) == pytest.approx(0.1, rel=0.02)
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize("shape", [(9, 8, 7), (12, 10, 1), (2, 2, 2)])
@pytest.mark.parametrize("sigma", [0.2, 0.7, 1.6])
def test_blur_is_that_of_scipy(shape, sigma):
    image = np.random.default_rng(0).random(shape, dtype=np.float32)
    expected = ndimage.gaussian_filter(image, sigma, mode="nearest")
    np.testing.assert_allclose(to_array(gaussian_blur(to_tensor(image), sigma)), expected, atol=1e-5)


def test_a_share_of_images_is_distorted():
    drawn = [
        IntensityAugmentation.draw(replace(SETTINGS, distortion_share=0.3), np.random.default_rng(s))
        for s in range(400)
    ]
    for name, neutral in (("contrast", 1.0), ("brightness", 0.0), ("exponent", 1.0)):
        assert 0.2 < np.mean([getattr(a, name) != neutral for a in drawn]) < 0.4
