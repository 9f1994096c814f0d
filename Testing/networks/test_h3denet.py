"""H3DENet and its settings: sizes, parameter counts, options, and what may not depend on what."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode
from torch_versions import needs_torch

from H3DELandmarksLib.formats.manifest import Network
from H3DELandmarksLib.networks import H3DENet, H3DENetConfig, build_network

NARROW = {
    "landmarks": 3,
    "stem_channels": (8, 8),
    "dims": (8, 16, 16, 32),
    "depths": (1, 1, 1, 1),
    "decoder_dims": (16, 8, 8),
    "fine_dims": (8, 4),
}
sides = st.tuples(*[st.integers(32, 70)] * 3)


@cache
@torch.inference_mode(False)
def narrow(**options: object) -> H3DENet:
    torch.manual_seed(0)
    return build_network("h3denet", {**NARROW, **options}).eval()


def parameters(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("head", "count", "unused"),
    [
        ("heatmap", 24_468_286, 0),
        # The published anchor network also holds the full-resolution layers, which it doesn't use.
        ("anchor", 24_332_932, 138_240 + 1_296),
    ],
)
def test_published_number_of_parameters(head: str, count: int, unused: int) -> None:
    with torch.device("meta"):
        assert parameters(H3DENet(H3DENetConfig(landmarks=14, head=head))) == count
    assert count + unused == pytest.approx(24.48e6, rel=1e-3)


@needs_torch("2.3", "has no torch.nn.attention to count with")
@pytest.mark.parametrize(("head", "giga"), [("heatmap", 65.1), ("anchor", 20.9)])
def test_published_number_of_multiplications(head: str, giga: float) -> None:
    # 21.5 for the published anchor network, of which 0.57 are image convolutions that nothing reads.
    with torch.device("meta"):
        network = H3DENet(H3DENetConfig(landmarks=14, head=head)).eval()
        image = torch.empty(1, 1, 128, 128, 64)
    with FlopCounterMode(display=False) as counter, torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        network(image)
    assert counter.get_total_flops() / 2e9 == pytest.approx(giga, abs=0.1)


@settings(max_examples=6, deadline=None)
@given(sides, st.booleans())
def test_heat_maps_have_the_size_of_the_image(size: tuple[int, ...], super_resolution: bool) -> None:
    with torch.inference_mode():
        maps, presence = narrow(super_resolution=super_resolution)(torch.randn(1, 1, *size))
    assert maps.shape == (1, 3, *size) and presence is None


@settings(max_examples=6, deadline=None)
@given(sides)
def test_cheap_heat_maps_have_half_the_size_rounded_up(size: tuple[int, ...]) -> None:
    with torch.inference_mode():
        maps = narrow(output_stride=2)(torch.randn(1, 1, *size)).maps
    assert maps.shape == (1, 3, *(-(-side // 2) for side in size))


@settings(max_examples=6, deadline=None)
@given(sides, st.booleans())
def test_anchors_have_a_quarter_of_the_size_rounded_up(size: tuple[int, ...], feature_fusion: bool) -> None:
    with torch.inference_mode():
        maps = narrow(head="anchor", feature_fusion=feature_fusion)(torch.randn(1, 1, *size)).maps
    assert maps.shape == (1, *(-(-side // 4) for side in size), 4, 6)


@pytest.mark.parametrize("options", [{}, {"output_stride": 2}, {"head": "anchor"}], ids=str)
def test_presence_is_one_logit_a_landmark(options: dict) -> None:
    presence = narrow(presence=True, **options)(torch.randn(2, 1, 32, 40, 33)).presence
    assert presence.shape == (2, 3)


@pytest.mark.parametrize(
    "options",
    [
        {"presence": True},
        {"output_stride": 2},
        {"head": "anchor"},
        {"head": "anchor", "feature_fusion": True, "super_resolution": True},
    ],
    ids=str,
)
def test_gradients_reach_every_parameter(options: dict) -> None:
    torch.manual_seed(0)
    network = H3DENet(H3DENetConfig(**NARROW, **options))
    maps, presence = network(torch.randn(1, 1, 64, 48, 34))
    total = maps.square().sum() + (0 if presence is None else presence.square().sum())
    total.backward()
    for name, parameter in network.named_parameters():
        # Instance normalization takes away a constant: the true gradient of a bias before it is zero.
        cancelled = name.startswith("encoder.downsamplings") and name.endswith("bias")
        assert parameter.grad is not None and (cancelled or parameter.grad.any()), name


@pytest.mark.parametrize("options", [{"presence": True}, {"head": "anchor", "feature_fusion": True}], ids=str)
def test_a_sample_does_not_depend_on_its_batch(options: dict) -> None:
    images = torch.randn(2, 1, 48, 39, 33)
    with torch.inference_mode():
        together = narrow(**options)(images)
        alone = [narrow(**options)(image[None]) for image in images]
    for index, part in enumerate(together):
        if part is not None:
            assert (part - torch.cat([output[index] for output in alone])).abs().max() < 1e-5


def test_repeats_itself_exactly() -> None:
    image = torch.randn(1, 1, 48, 39, 33)
    with torch.inference_mode():
        assert torch.equal(narrow()(image).maps, narrow()(image).maps)


def test_training_and_inference_are_the_same_function() -> None:
    image = torch.randn(1, 1, 48, 39, 33)
    with torch.inference_mode():
        inferred = narrow()(image).maps
    assert (narrow()(image).maps - inferred).abs().max() < 1e-5


def test_half_precision_stays_half_precision() -> None:
    network = build_network("h3denet", {**NARROW, "presence": True}).to(torch.bfloat16)
    output = network(torch.randn(1, 1, 32, 32, 32, dtype=torch.bfloat16))
    assert output.maps.dtype == output.presence.dtype == torch.bfloat16


def test_heat_maps_are_contiguous_whatever_the_layout_inside() -> None:
    assert narrow()(torch.randn(1, 1, 32, 32, 32)).maps.is_contiguous()


def test_anchor_network_has_no_full_resolution_layers() -> None:
    network = narrow(head="anchor")
    assert len(network.fine_decoder) == len(network.image_skips) == 0


@needs_torch("2.4", "exports nothing on Python 3.12")
def test_exported_network_is_the_same_function() -> None:
    image = torch.randn(1, 1, 40, 33, 32)
    with torch.no_grad():
        exported = torch.export.export(narrow(output_stride=2), (image,)).module()
        assert (exported(image).maps - narrow(output_stride=2)(image).maps).abs().max() < 1e-5


def test_settings_survive_json() -> None:
    config = H3DENetConfig(**NARROW, presence=True)
    assert Network("h3denet", json.loads(json.dumps(asdict(config)))).config == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stages": 4}, "stages"),
        ({"head": "points"}, "settings.head.*points"),
        ({"output_stride": 4}, "output_stride"),
        ({"head": "anchor", "output_stride": 2}, "output_stride"),
        ({"feature_fusion": True}, "feature_fusion"),
        ({"dims": (8, 16, 16)}, "settings.dims"),
        ({"dims": (16, 16, 16, 32)}, "stem"),
        ({"head_dim": 3}, "head_dim 3"),
    ],
)
def test_unusable_settings_are_named(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_network("h3denet", {**NARROW, **change})


def test_missing_settings_and_unknown_architectures_are_named() -> None:
    with pytest.raises(ValueError, match="landmarks"):
        build_network("h3denet", {})
    with pytest.raises(ValueError, match="unet.*h3denet"):
        build_network("unet", NARROW)


def test_too_small_images_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 32 voxels"):
        narrow()(torch.randn(1, 1, 32, 32, 31))
