"""Points placed together: structures that repeat are told apart by all of them, and the network's evidence stays."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_model import MANIFEST, NETWORK

from H3DELandmarksLib.core.anatomy import ARRAYS, Anatomy, Factors
from H3DELandmarksLib.core.candidates import Candidates
from H3DELandmarksLib.core.errors import ModelPackageError
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.rows import RowCount
from H3DELandmarksLib.core.shape_model import Pose
from H3DELandmarksLib.detection import Detector
from H3DELandmarksLib.detection.predictions import RawPredictions
from H3DELandmarksLib.detection.together import placed_together
from H3DELandmarksLib.formats.manifest import CountingCalibration
from H3DELandmarksLib.models import package as package_module
from H3DELandmarksLib.models import write_package
from H3DELandmarksLib.networks import build_network

COUNT, STEP = 8, 20.0
NOTHING = Volume(np.zeros((40, 40, 40), np.float32), np.diag([1.0, 1.0, 1.0, 1.0]))
HERE = Pose(np.eye(3), np.zeros(3))


def chain(noise=1.0):
    """Equal structures in a row, as vertebrae are."""
    mean = np.stack([np.zeros(COUNT), np.arange(COUNT) * STEP, np.zeros(COUNT)], axis=1)
    none = np.zeros((0, COUNT, 3))
    usual = np.full(COUNT, noise)
    return Anatomy(mean - mean.mean(axis=0), Factors(none, usual), Factors(none, usual), 2.0)


def seen(positions, candidates=None):
    count = len(positions)
    return RawPredictions(positions, np.full(count, 3.0), np.full(count, 0.8), HERE, candidates)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), wrong=st.integers(1, COUNT - 2), turn=st.sampled_from([-1, 1]))
def test_a_point_on_the_neighboring_structure_goes_to_its_own(seed, wrong, turn):
    rng, anatomy = np.random.default_rng(seed), chain()
    truth = anatomy.mean + rng.normal(0, 0.5, (COUNT, 3)) * (1, 1, 0)
    found = truth.copy()
    found[wrong] = truth[wrong + turn]
    places = np.stack([found, truth, *[np.full_like(truth, np.nan)] * 2], axis=1)
    share = np.tile([0.5, 0.3, 0, 0], (COUNT, 1))
    covariance = np.tile(np.eye(3), (COUNT, 4, 1, 1))
    placed = placed_together(seen(found, Candidates(places, share, covariance)), np.ones(COUNT), anatomy)
    assert np.linalg.norm(placed.positions - truth, axis=1).max() < 0.2 * STEP
    assert (placed.presence_logit == 3).all() and placed.candidates is not None, "the evidence is the network's"


def test_two_points_say_nothing_of_the_others():
    found = seen(chain().mean)
    presence = np.array([1.0, 1.0, *[0.1] * (COUNT - 2)])
    assert placed_together(found, presence, chain()) is found


def test_where_no_network_has_looked_there_is_no_point():
    found = replace(seen(chain().mean), presence_logit=np.array([-np.inf, *[3.0] * (COUNT - 1)]))
    placed = placed_together(found, np.array([0.0, *[1.0] * (COUNT - 1)]), chain())
    assert np.isnan(placed.positions[0]).all() and np.isfinite(placed.positions[1:]).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6), st.integers(0, 3), st.integers(0, 10**6))
def test_an_anatomy_survives_its_file(count, modes, seed):
    rng = np.random.default_rng(seed)
    factors = [Factors(rng.normal(size=(modes, count, 3)), rng.uniform(0.1, 3, count)) for _ in range(2)]
    anatomy = Anatomy(rng.normal(size=(count, 3)), *factors, 2.0)
    back = Anatomy.from_arrays({**anatomy.to_arrays(), "tolerance": np.ones(count)}, count, 2.0)
    for name, one, other in zip(ARRAYS, anatomy.to_arrays().values(), back.to_arrays().values()):
        assert np.array_equal(one, other) and one.dtype == np.float32, name
    assert Anatomy.from_arrays({"mean": np.ones((count, 3))}, count, 2.0) is None


def package_of(folder, **arrays):
    torch.manual_seed(0)
    mean = np.array([[5.0, 0, 0], [0, 3, 0], [-5, 0, 2]])
    anatomy = Anatomy(mean, Factors(np.zeros((0, 3, 3)), np.ones(3)), Factors(np.zeros((0, 3, 3)), np.ones(3)), 2.0)
    shape = {"mean": mean, "tolerance": np.ones(3), **anatomy.to_arrays(), **arrays}
    contents = {"localizer.safetensors": build_network(**NETWORK).state_dict(), "shape.safetensors": shape}
    return write_package(folder, deepcopy(MANIFEST), contents, "# Tiny model\n")


def test_a_model_with_an_anatomy_places_its_points_together_and_recognises_by_the_network_s(tmp_path):
    package = package_of(tmp_path / "tiny")
    package.verify()
    detector = Detector(package, "cpu")
    found = seen(np.array([[5.0, 0, 0], [0, 3, 0], [-5, 9, 2]]))
    shown = detector.landmark_set(detector.placed(found)).positions
    assert np.array_equal(detector.conclude(found, NOTHING).doubtful.positions, shown)
    expected = placed_together(found, np.ones(3), package.load_anatomy()).positions
    assert np.allclose(shown, expected) and not np.allclose(shown, found.positions)
    assert package_module.anatomy_of(package).caution == package_module.CAUTION


@pytest.mark.parametrize(("margin", "is_stated"), [(16.0, True), (1.0, False)])
def test_no_radius_is_stated_where_structures_may_be_counted_one_off(tmp_path, monkeypatch, margin, is_stated):
    detector = Detector(package_of(tmp_path / "tiny"), "cpu")
    counting = CountingCalibration((1.0, -1.0), 0.4, hit_rate=0.8, false_alarm_rate=0.1, confidence=None)
    detector.calibration = replace(detector.calibration, radius90=np.ones(3), counting=counting)
    found = seen(np.array([[5.0, 0, 0], [0, 3, 0], [-5, 0, 2]]))
    monkeypatch.setattr(detector, "placed", lambda one: replace(one, count=RowCount(margin, 1, 1)))
    said = detector.conclude(found, NOTHING)
    assert said.landmarks.present.all() and said.miscounted.doubtful is not is_stated
    assert np.isfinite(said.landmarks.radius).all() == is_stated
    assert np.isfinite(said.doubtful.radius).all(), "what the networks say stays for the curious"


@pytest.mark.parametrize(
    "arrays",
    [
        {"anatomy_noise": np.zeros(3)},
        {"anatomy_mean": np.full((3, 3), np.nan)},
        {"error_modes": np.zeros((2, 4, 3))},
        {"error_noise": np.ones(2)},
    ],
)
def test_an_anatomy_that_cannot_be_is_refused(tmp_path, arrays):
    package = package_of(tmp_path / "tiny", **arrays)
    with pytest.raises(ModelPackageError, match="anatomy"):
        package.verify()
