"""The published decoders and the one of the better-known recipe, against their definitions in loops."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from typed import training_stage

from H3DELandmarksLib.detection.decoding import DECODERS, decode_peak, decode_published_anchor, decode_published_heatmap
from H3DELandmarksLib.detection.stage import choose_decoder
from H3DELandmarksLib.formats.manifest import Decoding
from H3DELandmarksLib.networks.arrays import to_array

SHAPE = (18, 16, 14)
RADII = (0.5, 0.75, 1.0, 1.25)
inside = st.tuples(*[st.floats(4.0, n - 5.0) for n in SHAPE])


def squared_distance(center, shape=SHAPE) -> torch.Tensor:
    axes = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in shape), indexing="ij")
    return sum((axis - c) ** 2 for axis, c in zip(axes, center))


def published_map(center) -> torch.Tensor:
    """What a perfect network gives for a target of R = 10: 2 g within R, -1 beyond."""
    squared = squared_distance(center)
    return torch.where(squared <= 100, 2 * torch.exp(-squared / 20), -1.0)[None].float()


def blob_logits(center, sigma=1.0) -> torch.Tensor:
    heat = 0.98 * torch.exp(-squared_distance(center) / (2 * sigma**2)) + 1e-4
    return torch.logit(heat)[None].float()


def mean_by_loops(values: np.ndarray, voxels: int = 500) -> np.ndarray:
    """The published heat-map decoding of one landmark: a threshold that is lowered until enough voxels pass."""
    share, passing = 0.999, []
    while len(passing) < min(voxels, values.size):
        threshold = values.max() * (share if values.max() > 0 else 1.5)
        passing = [voxel for voxel in np.ndindex(*values.shape) if values[voxel] >= threshold]
        if values.max() <= 0:
            break
        share -= 0.1
    return np.mean(passing, axis=0)


def medoid_by_loops(maps, landmark, count=15):
    """The published anchor decoding of one landmark: (cell + tanh(offset) r) * 4 of the best, then their medoid."""
    anchors = sorted(np.ndindex(*maps.shape[:4]), key=lambda a: -maps[a][3 + landmark])[:count]
    anchors.sort()
    places = [[(a[i] + math.tanh(maps[a][i]) * RADII[a[3]]) * 4 for i in range(3)] for a in anchors]
    return min(places, key=lambda place: sum(math.dist(place, other) for other in places))


@settings(max_examples=20, deadline=None)
@given(inside, st.sampled_from([1, 2]))
def test_the_mean_of_the_highest_voxels_lies_at_the_landmark(center, stride):
    index = decode_published_heatmap(published_map(center), stride, voxels=200).index[0]
    assert np.abs(index - ((np.array(center) + 0.5) * stride - 0.5)).max() < 0.25 * stride


# Made of normally distributed values; of the 4032 voxels 500 must pass. Thresholds below 0 are needed where fewer than
# 500 lie above 0.
HEATMAPS = {
    "noise": lambda x: x,
    "levels": lambda x: (4 * x).round(),
    "perfect": lambda x: published_map((8.2, 7.1, 6.6))[0],
    "few above 0": lambda x: x - 2.5,
    "hardly above 0": lambda x: torch.where(x == x.max(), torch.tensor(0.03), x - x.max() - 0.5),
    "nothing above 0": lambda x: x - x.max() - 1.0,
    "0 at most": lambda x: x - x.max(),
    "flat": lambda x: torch.full_like(x, -1.0),
}


@pytest.mark.parametrize("kind", HEATMAPS)
def test_heat_maps_are_decoded_as_published(kind):
    maps = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))
    maps = torch.stack([HEATMAPS[kind](one) for one in maps])
    found = decode_published_heatmap(maps, 1).index
    assert np.allclose(found, [mean_by_loops(to_array(one)) for one in maps], atol=1e-9)


def test_a_map_with_next_to_nothing_above_0_is_decoded_in_no_time():
    """The published loop would lower its threshold ten thousand million times."""
    maps = torch.rand(1, *SHAPE) - 2
    maps[0, 3, 4, 5] = 1e-9
    lowest = maps.flatten().sort(descending=True).values[499]
    expected = (maps[0] >= lowest).nonzero().double().mean(dim=0)
    assert np.allclose(decode_published_heatmap(maps, 1).index[0], to_array(expected))


def test_a_map_smaller_than_the_number_of_voxels_is_averaged_whole():
    peaks = decode_published_heatmap(torch.randn(1, 5, 5, 5), 1)
    assert np.allclose(peaks.index, 2.0) and peaks.concentration[0] == 1


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**31))
def test_anchors_are_decoded_to_the_medoid_of_the_best_candidates(seed):
    maps = torch.randn(5, 4, 3, 4, 3 + 3, generator=torch.Generator().manual_seed(seed))
    found = decode_published_anchor(maps, 1).index
    literal = [medoid_by_loops(to_array(maps.double()), k) for k in range(3)]
    assert np.allclose(found, literal, atol=1e-4)


def test_of_two_anchors_equally_central_the_first_in_the_grid_is_taken():
    maps = torch.zeros(4, 4, 4, 4, 3 + 1)
    maps[1, 2, 3, 0, 3], maps[3, 0, 1, 2, 3] = 5.0, 9.0
    assert decode_published_anchor(maps, 1, candidates=2).index.tolist() == [[4.0, 8.0, 12.0]]


def test_more_landmarks_than_published_are_decoded_each_on_its_own():
    maps = torch.randn(5, 4, 3, 4, 3 + 30, generator=torch.Generator().manual_seed(0))
    apart = [decode_published_anchor(maps[..., [0, 1, 2, 3 + k]], 1) for k in range(30)]
    together = decode_published_anchor(maps, 1)
    for name in ("index", "presence_logit", "concentration"):
        assert np.allclose(getattr(together, name), np.concatenate([getattr(one, name) for one in apart]))


@pytest.mark.parametrize("method", DECODERS)
def test_samples_of_a_batch_are_decoded_each_on_its_own(method):
    shape = (2, 6, 5, 4, 4, 3 + 2) if method == "published-anchor" else (2, 2, 12, 11, 10)
    maps = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    again = [DECODERS[method](sample.clone().contiguous(), 1).index for sample in maps]
    assert np.allclose([DECODERS[method](sample, 1).index for sample in maps], again)
    assert not np.allclose(again[0], again[1])


@settings(max_examples=20, deadline=None)
@given(inside, st.sampled_from([1, 2]))
def test_a_sharp_peak_is_found_between_voxels(center, stride):
    index = decode_peak(blob_logits(center, sigma=0.8), stride).index[0]
    assert np.abs(index - ((np.array(center) + 0.5) * stride - 0.5)).max() < 0.3 * stride


@settings(max_examples=20, deadline=None)
@given(inside)
def test_a_wide_peak_is_found_to_the_voxel_and_better_with_a_wider_window(center):
    maps = blob_logits(center, sigma=2.5)
    error = [np.abs(decode_peak(maps, 1, radius=r).index[0] - center).max() for r in (1, 3)]
    assert error[0] < 0.51 and error[1] < 0.3


@pytest.mark.parametrize("method", ["published-heatmap", "peak"])
def test_a_landmark_in_the_corner_stays_inside(method):
    corner = (0.0, SHAPE[1] - 1.0, 0.0)
    maps = published_map(corner) if method == "published-heatmap" else blob_logits(corner)
    index = DECODERS[method](maps, 1).index
    assert (index >= 0).all() and (index <= np.array(SHAPE) - 1).all()


def test_evidence_tells_presence_with_every_method():
    center = (8.0, 8.0, 7.0)
    anchors = torch.full((2, 5, 4, 4, 4, 3 + 1), -6.0)
    anchors[..., :3] = 0
    anchors[1, 2, 2, 2, :, 3] = 5.0
    pairs = {
        "softmax": (torch.full((1, *SHAPE), -20.0), 12 - squared_distance(center)[None].float()),
        "published-heatmap": (torch.full((1, *SHAPE), -1.0), published_map(center)),
        "published-anchor": anchors,
        "peak": (torch.full((1, *SHAPE), -8.0), blob_logits(center)),
    }
    for method, (nothing, something) in pairs.items():
        absent, present = (DECODERS[method](maps, 1).presence_logit[0] for maps in (nothing, something))
        assert absent < -2 < 2 < present, method


def test_concentration_tells_one_place_from_many():
    center, generator = (8.0, 8.0, 7.0), torch.Generator().manual_seed(0)
    noise = torch.rand(1, *SHAPE, generator=generator)
    anchors = torch.zeros(6, 6, 6, 4, 3 + 1)
    anchors[..., 3] = torch.rand(6, 6, 6, 4, generator=generator)
    sharp = anchors.clone()
    for cell in np.ndindex(2, 2, 2):
        here = sharp[tuple(2 + c for c in cell)]
        here[:, 3] = 5.0
        here[:, :3] = torch.atanh((0.5 - torch.tensor(cell)) / torch.tensor(RADII)[:, None] * 0.99)
    pairs = {
        "published-heatmap": (noise, published_map(center)),
        "published-anchor": (anchors, sharp),
        "peak": (noise, blob_logits(center)),
    }
    for method, (many, one) in pairs.items():
        settings = {"voxels": 60} if method == "published-heatmap" else {}
        settings |= {"extent": 4} if method == "peak" else {}
        low, high = (DECODERS[method](maps, 1, **settings).concentration[0] for maps in (many, one))
        assert 0 <= low < 0.6 < 0.7 < high <= 1 + 1e-6, method


def test_a_map_of_very_low_logits_gives_finite_evidence():
    peaks = decode_peak(torch.full((1, *SHAPE), -200.0), 1)
    assert np.isfinite(peaks.index).all() and 0 <= peaks.concentration[0] <= 1


def test_a_stage_names_its_decoder_and_the_settings():
    maps = blob_logits((8.3, 7.6, 6.5), sigma=2.5)
    chosen = choose_decoder(Decoding("peak", radius=3))
    assert np.array_equal(chosen([maps], [2]).index, decode_peak(maps, 2, radius=3).index)


def test_a_stage_without_an_entry_is_decoded_by_softmax():
    maps = blob_logits((8.3, 7.6, 6.5))
    stage = training_stage(groups=[{"landmarks": ["A"]}])
    assert np.array_equal(choose_decoder(stage.decoding)([maps], [1]).index, DECODERS["softmax"](maps, 1).index)


@pytest.mark.parametrize(("decoding", "words"), [({"method": "peak", "voxels": 3}, "radius, extent")])
def test_what_does_not_exist_is_refused_with_the_choices(decoding, words):
    with pytest.raises(ValueError, match=words):
        Decoding(**decoding)
