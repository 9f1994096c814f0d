"""Every package tells enough for undecided points to follow decided ones."""

from dataclasses import replace

import numpy as np
import pytest

from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.core.revision import Decisions, Evidence, revise
from H3DELandmarksLib.core.shape_model import Pose
from H3DELandmarksLib.models import find_model
from H3DELandmarksLib.models.package import anatomy_of


@pytest.mark.parametrize("name", ["mouse-skull", "head-neck-ct", "mandibular-molar-phantom", "cephalogram"])
def test_bundled_models_bring_a_gross_error_back(name):
    pytest.importorskip("safetensors")
    anatomy = replace(anatomy_of(find_model(name)), caution=4.0)
    count = len(anatomy.mean)
    found = anatomy.mean + np.eye(1, count).T * anatomy.shape.noise[0] * (30, 0, 0)
    names = tuple(f"p{k}" for k in range(count))
    points = LandmarkSet(names, found, np.ones(count), np.full(count, 0.5), np.full(count, 1.0))
    decided = Decisions.none(count)
    decided.positions[1:4] = anatomy.mean[1:4]
    revised = revise(Evidence(points, Pose(np.eye(3), np.zeros(3))), anatomy, decided)
    away = np.linalg.norm(revised.positions - anatomy.mean, axis=1)
    assert away[0] < 8 * anatomy.shape.noise[0]
    assert away[1:].max() < anatomy.shape.noise.max()
    if find_model(name).is_2d:
        np.testing.assert_allclose(revised.positions[:, 2], 0, atol=1e-9)


@pytest.mark.parametrize("name", ["mouse-skull", "head-neck-ct", "mandibular-molar-phantom", "cephalogram"])
def test_landmarks_vary_as_in_training_cases_not_as_in_the_few_of_the_calibration(name):
    pytest.importorskip("safetensors")
    package = find_model(name)
    anatomy, shape = anatomy_of(package), package.load_shape()
    np.testing.assert_allclose(anatomy.shape.noise * np.sqrt(anatomy.axes), shape.tolerance, rtol=1e-6)
