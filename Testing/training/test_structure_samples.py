"""Samples of structures: each in a crop about its true place, as a closer look shows it, image and corners agreeing."""

import numpy as np
import pytest
from ladder import BRIGHTNESS, NAMES, RUNGS, SCHEME, corners, picture, stage
from typed import crop_sampler, reading

from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.core.shape_model import learn_shape_model
from H3DELandmarksLib.training.cases import Case, prepare_case

STRONG = {"mirror": 0.5, "scale": 0.2, "stretch": 0.1, "rotation_degrees": 10, "shift_mm": [3, 4, 0], "noise": 0.02}


def prepared(points, presence=None):
    volume, _ = picture(np.where(np.isfinite(points), points, corners()))
    shape = learn_shape_model(corners()[None], SCHEME, own_frame=False)
    case = Case("ladder", volume, LandmarkSet(NAMES, points, presence))
    return prepare_case(case, reading(), shape, canonical_pose=False), shape


def sampler_of(shape, **changes):
    return crop_sampler(stage(), SCHEME, shape, changes)


@pytest.mark.parametrize(("turn", "width", "step"), [(0.0, 24.0, 18.0), (0.4, 16.0, 20.0), (-0.5, 30.0, 14.0)])
def test_corners_lie_at_the_same_place_of_the_crop_however_the_structure_lies(turn, width, step):
    case, shape = prepared(corners(turn, width, step))
    usual = np.array([[-24, -10.8, 0], [24, -10.8, 0], [-24, 10.8, 0], [24, 10.8, 0]]) + (47.5, 47.5, 0)
    for number in range(RUNGS):
        sample = sampler_of(shape).plain(case, number)
        assert np.allclose(sample.index, usual) and (sample.presence == 1).all()
        for (i, j, _), bright in zip(np.rint(sample.index).astype(int), BRIGHTNESS):
            assert float(sample.image[i - 1 : i + 2, j - 1 : j + 2].max()) == pytest.approx(bright, abs=0.15)


def test_augmented_samples_show_corners_where_they_are_said_to_be():
    case, shape = prepared(corners(0.2))
    sampler, places = sampler_of(shape, **STRONG), []
    for seed in range(30):
        sample = sampler.draw(case, np.random.default_rng(seed))
        mirrored = sample.index[0, 0] > sample.index[1, 0]
        assert not mirrored, "mirrored crops exchange the names of both sides"
        shown = [float(sample.image[tuple(place)]) for place in np.rint(sample.index).astype(int)]
        expected = (BRIGHTNESS, BRIGHTNESS[[1, 0, 3, 2]])
        assert any(np.allclose(shown, one, atol=0.3) for one in expected)
        places.append(sample.index[:, :2].mean(axis=0))
    assert np.std(places, axis=0).min() > 2, "crops lie about the structure, not always in its middle"


def test_a_structure_whose_place_is_unknown_is_never_shown():
    presence, points = np.ones(len(NAMES)), corners()
    presence[8:12] = points[8:12] = np.nan
    case, shape = prepared(points, presence)
    sampler = sampler_of(shape)
    assert np.isnan(sampler.plain(case, 2).presence).all()
    drawn = [sampler.draw(case, np.random.default_rng(seed)) for seed in range(20)]
    assert all((sample.presence == 1).all() for sample in drawn)


def test_a_case_without_any_structure_shows_nothing():
    case, shape = prepared(np.full((len(NAMES), 3), np.nan), np.full(len(NAMES), np.nan))
    sample = sampler_of(shape).draw(case, np.random.default_rng(0))
    assert (sample.presence == 0).all()
