"""The physics of a shot and the picture made of it."""

import numpy as np
import pytest

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksResearch.radiographs.attenuation import attenuation_of
from H3DELandmarksResearch.radiographs.exposure import Display, Exposure, develop, expose

SHAPE = (300, 300)
PIXEL = np.array([0.2, 0.3])


def shot(attenuation: float, seed: int = 0, **settings) -> np.ndarray:
    exposure = Exposure(photons=2000.0, **settings)
    return expose(np.full(SHAPE, attenuation), np.ones(SHAPE), PIXEL, exposure, np.random.default_rng(seed))


@pytest.mark.parametrize("attenuation", [0.0, 0.7, 3.0])
def test_counts_follow_beer_and_lambert_and_their_variance_is_that_of_poisson(attenuation):
    counts = shot(attenuation)
    expected = 2000 * np.exp(-attenuation)
    assert abs(counts.mean() / expected - 1) < 5 / np.sqrt(expected * counts.size)
    assert abs(counts.var() / expected - 1) < 5 * np.sqrt(2 / counts.size)


def test_scatter_adds_a_haze_and_electronics_their_own_noise():
    assert abs(shot(1.0, scatter=0.4).mean() / (1.4 * 2000 * np.exp(-1)) - 1) < 1e-3
    quiet, noisy = shot(6.0), shot(6.0, electronics=7.0)
    assert abs(noisy.var() - quiet.var() - 49) < 2
    edge = np.where(np.arange(SHAPE[0])[:, None] < 150, 0.0, 20.0) * np.ones(SHAPE)
    hazy = expose(edge, np.ones(SHAPE), PIXEL, Exposure(1e6, scatter=0.2, haze_mm=8), np.random.default_rng(0))
    assert hazy[155].mean() > 5 * hazy[250].mean() and hazy[155].mean() > 1e4


def test_unsharpness_blurs_edges_by_mm_and_spares_the_noise():
    edge = np.where(np.arange(SHAPE[0])[:, None] < 150, 0.0, 1.0) * np.ones(SHAPE)
    for pixel in (PIXEL, PIXEL[::-1]):
        sharp = expose(edge, np.ones(SHAPE), pixel, Exposure(1e6, unsharpness_mm=1.2), np.random.default_rng(0))
        profile = sharp.mean(axis=1)
        slope = -np.diff(profile) * (np.abs(np.arange(SHAPE[0] - 1) - 149) < 5 / pixel[0])
        width = np.sqrt((slope * (np.arange(SHAPE[0] - 1) - 149) ** 2).sum() / slope.sum()) * pixel[0]
        assert abs(width - 1.2) < 0.1
    assert abs(shot(0.0, unsharpness_mm=1.2).var() / 2000 - 1) < 0.03


def test_the_blur_of_the_detector_correlates_the_noise():
    counts = shot(0.0, detector_blur_mm=0.3)
    assert counts.var() < 0.2 * 2000 and abs(counts.mean() / 2000 - 1) < 1e-3
    assert np.corrcoef(counts[:-1].ravel(), counts[1:].ravel())[0, 1] > 0.5


def test_bones_are_bright_and_gray_values_grow_with_attenuation():
    attenuation = np.linspace(0.2, 4, 200)[:, None] * np.ones((1, 50))
    for bits, kind in ((8, np.uint8), (12, np.uint16)):
        picture = develop(1e4 * np.exp(-attenuation), np.ones((200, 50), bool), 1e4, Display(bits=bits, gamma=0.8))
        assert picture.dtype == kind and picture.max() < 2**bits
        assert (np.diff(picture[:, 0].astype(int)) >= 0).all()
        assert picture.max() - picture.min() > 0.9 * 2**bits
        assert ((picture == 0) | (picture == 2**bits - 1)).mean() < 0.01


def test_outside_the_field_a_shutter_is_black_and_an_unexposed_detector_white():
    inside = np.zeros((40, 40), bool)
    inside[10:30, 5:35] = True
    counts = np.where(inside, np.random.default_rng(0).uniform(100, 900, inside.shape), 0.0)
    assert (develop(counts, inside, 1000, Display(shutter=True))[~inside] == 0).all()
    assert (develop(counts, inside, 1000, Display(shutter=False))[~inside] == 255).all()


def test_hounsfield_units_become_attenuation():
    hu = Volume(np.array([-1024.0, -1000, 0, 150, 1150]).reshape(5, 1, 1), np.eye(4))
    found = attenuation_of(hu, {"method": "hounsfield", "water": 0.02, "mineral_gain": 1.5}).array.ravel()
    np.testing.assert_allclose(found, [0, 0, 0.02, 0.023, 0.02 * (1 + 1.15 + 0.5)], atol=1e-7)


def test_brightness_becomes_attenuation_in_proportion_without_the_noise_of_air():
    values = np.random.default_rng(0).integers(0, 200, (30, 30, 30)).astype(np.uint8)
    settings = {"method": "brightness", "full": 0.8, "percentile": 100, "air_below": 0.05}
    found = attenuation_of(Volume(values, np.eye(4)), settings).array
    np.testing.assert_allclose(found[values >= 10], values[values >= 10] / 199 * 0.8, rtol=1e-6)
    assert (found[values < 9] == 0).all()


def test_an_unknown_attenuation_method_is_named():
    with pytest.raises(InputError, match="'magic'.*hounsfield"):
        attenuation_of(Volume(np.zeros((1, 1, 1)), np.eye(4)), {"method": "magic"})
