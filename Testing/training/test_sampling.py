"""Training crops: image and landmarks can never disagree."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from typed import crop_sampler, reading

from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkDefinition, LandmarkScheme, LandmarkSet
from H3DELandmarksLib.core.shape_model import learn_shape_model
from H3DELandmarksLib.networks.arrays import to_array
from H3DELandmarksLib.training import sampling
from H3DELandmarksLib.training.cases import Case, prepare_case
from H3DELandmarksLib.training.sampling import draw_batch, resample_by_torch

NAMES = ("L", "R", "M", "lone")
SCHEME = LandmarkScheme("toy", "1", tuple(LandmarkDefinition(n, n) for n in NAMES), (("L", "R"),), ("lone",))
POINTS = np.array([[12.0, 3, 2], [-12.0, 2, -3], [1.0, 14, 6], [9.0, -12, -5]])
BRIGHTNESS = np.array([1.0, 0.8, 0.6, 0.4])
STAGE = {"shape": [48, 48, 48], "spacing_mm": 1.0, "groups": [{"landmarks": list(NAMES), "mirrored": False}]}
MODEL = reading()
STRONG = {"mirror": 0.5, "scale": 0.1, "stretch": 0.05, "rotation_degrees": 180, "shift_mm": 2}


def blob_case(turn: float = 0.4) -> Case:
    """A scan with one blob per landmark, each of its own brightness, in an oblique left-handed image."""
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_rotvec([0.2, turn, -0.3]).as_matrix() @ np.diag([-0.8, 0.9, 0.7])
    shape = (70, 64, 76)
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    lps = grid @ affine[:3, :3].T + affine[:3, 3]
    distance = np.linalg.norm(lps[..., None, :] - POINTS, axis=-1)
    array = (BRIGHTNESS * np.exp(-((distance / 2.0) ** 2))).sum(-1).astype(np.float32)
    return Case("blobs", Volume(array, affine), LandmarkSet(NAMES, POINTS))


@pytest.fixture(scope="module")
def prepared():
    case = blob_case()
    shape = learn_shape_model(POINTS[None], SCHEME, own_frame=True)
    return prepare_case(case, MODEL, shape, canonical_pose=True), shape


def test_the_image_is_bright_where_the_landmarks_are_said_to_be(prepared):
    case, shape = prepared
    sampler = crop_sampler(STAGE, SCHEME, shape, STRONG)
    seen = 0
    for seed in range(20):
        sample = sampler.draw(case, np.random.default_rng(seed))
        mirrored = np.isnan(sample.presence[3])
        expected = BRIGHTNESS[[1, 0, 2, 3]] if mirrored else BRIGHTNESS
        for k in np.flatnonzero(sample.presence == 1):
            value = float(sample.image[tuple(np.round(sample.index[k]).astype(int))])
            assert value == pytest.approx(expected[k], abs=0.2 * expected[k] + 0.03)
            seen += 1
    assert seen > 40


def test_mirrored_samples_exchange_left_and_right_and_forget_points_without_a_counterpart(prepared):
    case, shape = prepared
    sampler = crop_sampler(STAGE, SCHEME, shape, {"mirror": 1.0})
    sample = sampler.draw(case, np.random.default_rng(0))
    assert np.isnan(sample.presence[3])
    assert float(sample.image[tuple(np.round(sample.index[0]).astype(int))]) == pytest.approx(BRIGHTNESS[1], abs=0.15)
    assert sample.index[0, 0] > sample.index[1, 0]


def test_the_same_seed_gives_the_same_batch_and_another_seed_another(prepared):
    case, shape = prepared
    sampler = crop_sampler(STAGE, SCHEME, shape, {**STRONG, "noise": 0.1, "truncate": 0.5})
    first, again, other = (draw_batch(sampler, [case], range(2), seed) for seed in ((1, 7), (1, 7), (1, 8)))
    assert np.array_equal(to_array(first[0]), to_array(again[0]))
    assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(first[1:], again[1:]))
    assert not np.array_equal(to_array(first[0]), to_array(other[0]))
    assert first[0].shape == (2, 1, 48, 48, 48) and first[1].shape == (2, 4, 3)


def test_landmarks_outside_the_crop_are_absent_and_unknown_ones_stay_unknown(prepared):
    case, shape = prepared
    presence = np.array([1.0, 1.0, np.nan, 0.0])
    marked = LandmarkSet(NAMES, POINTS, presence)
    partly = prepare_case(Case("partly", case.case.volume, marked), MODEL, shape, canonical_pose=False)
    small = {**STAGE, "shape": [32, 32, 32], "spacing_mm": 12 / 32}
    sample = crop_sampler(small, SCHEME, shape, {}).plain(partly)
    assert np.array_equal(sample.presence, [0.0, 0.0, np.nan, 0.0], equal_nan=True)


def test_a_mirrored_group_looks_like_its_counterpart(prepared):
    case, shape = prepared
    symmetric = np.array([[10.0, 2, 1], [-10.0, 2, 1], [1.0, 14, 6], [9.0, -12, -5]])
    volume = case.case.volume
    lps = np.stack(np.meshgrid(*map(np.arange, volume.array.shape), indexing="ij"), -1) @ volume.affine[:3, :3].T
    lps += volume.affine[:3, 3]
    array = sum(np.exp(-((np.linalg.norm(lps - p, axis=-1) / 3) ** 2)) for p in symmetric[:2]).astype(np.float32)
    scan = Case("pair", Volume(array, volume.affine), LandmarkSet(NAMES, symmetric))
    groups = [{"landmarks": ["R"], "mirrored": False}, {"landmarks": ["L"], "mirrored": True}]
    stage = {"shape": [32, 32, 32], "spacing_mm": 0.5, "groups": groups}
    patient = learn_shape_model(symmetric[None], SCHEME, own_frame=False)
    sampler = crop_sampler(stage, SCHEME, patient, {})
    right, left = (sampler.plain(prepare_case(scan, MODEL, patient, canonical_pose=False), g) for g in (0, 1))
    assert np.allclose(right.index, left.index, atol=1e-9)
    assert (right.image - left.image).abs().max() < 0.05


def test_samples_made_as_on_a_gpu_are_those_made_on_the_processor(prepared, monkeypatch):
    case, shape = prepared
    settings = {**STRONG, "truncate": 0.5, "elsewhere": 0.2, "nothing": 0.2, "blur": 1.0, "noise": 0.1, "contrast": 0.3}
    sampler = crop_sampler(STAGE, SCHEME, shape, settings)
    expected = draw_batch(sampler, [case], range(12), (3, 5))
    calls = []
    monkeypatch.setattr(sampling, "resample_on", lambda *a: calls.append(a) or resample_by_torch(*a))
    made = draw_batch(sampler, [case], range(12), (3, 5))
    assert 6 <= len(calls) < 12
    assert (made[0] - expected[0]).abs().max() < 1e-3
    assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(made[1:], expected[1:]))


def test_a_share_of_samples_lies_elsewhere_in_the_scan_and_a_share_holds_no_anatomy(prepared):
    case, shape = prepared
    small = {**STAGE, "shape": [32, 32, 32], "spacing_mm": 0.5}
    seeds = range(60)
    plain, moved, empty = (
        [crop_sampler(small, SCHEME, shape, settings).draw(case, np.random.default_rng(s)) for s in seeds]
        for settings in ({}, {"elsewhere": 1.0}, {"nothing": 1.0})
    )
    assert all(np.array_equal(sample.index, plain[0].index) for sample in plain)
    seen = np.array([sample.presence for sample in moved])
    assert (seen == 0).mean() > 0.8 and (seen == 1).any()
    for sample in moved:
        for k in np.flatnonzero(sample.presence == 1):
            assert sample.image[tuple(np.round(sample.index[k]).astype(int))] > 0.5 * BRIGHTNESS[k]
    assert all((sample.presence == 0).all() for sample in empty)
    assert all(s.image.min() >= 0 and s.image.max() <= 1 and s.image.dtype == torch.float32 for s in empty)
    assert len({round(float(sample.image.std()), 6) for sample in empty}) > 40
