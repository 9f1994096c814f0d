"""HyattNet and its settings: sizes, parameter counts, options, and what may not depend on what."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_versions import needs_torch

from H3DELandmarksLib.formats.manifest import Network
from H3DELandmarksLib.networks import HanConfig, HyattConfig, HyattNet, build_network
from H3DELandmarksResearch.training.published_losses import deep_supervision_loss

NARROW = {
    "landmarks": 3,
    "dims": (16, 16, 32, 32, 48),
    "heads": (1, 2, 4, 2, 3),
    "n_win": (4, 3, 2, 2),
    "topk": (1, 3, 2, 4),
    "mlp_ratios": (2, 2, 1, 1, 1),
    "neck_dim": 8,
    "image_dim": 4,
}
sides = st.tuples(st.integers(32, 100), st.integers(32, 100))


@cache
@torch.inference_mode(False)
def narrow(**options: object) -> HyattNet:
    torch.manual_seed(0)
    return build_network("hyatt", {**NARROW, **options}).eval()


@pytest.mark.parametrize(("config", "count"), [(HyattConfig, 77_238_096), (HanConfig, 77_238_096)])
def test_number_of_parameters(config: type[HyattConfig], count: int) -> None:
    with torch.device("meta"):
        network = HyattNet(config(landmarks=19))
    assert sum(parameter.numel() for parameter in network.parameters()) == count


@settings(max_examples=5, deadline=None)
@given(sides, st.sampled_from([1, 3]), st.booleans())
def test_maps_have_a_quarter_a_half_and_the_whole_size(size: tuple[int, int], channels: int, mask: bool) -> None:
    with torch.inference_mode():
        output = narrow(in_channels=channels, mask_padding=mask)(torch.randn(2, channels, *size))
    for level, stride in zip((output.quarter, output.half, output.full), (4, 2, 1)):
        assert level.shape == (2, 3, *(-(-side // stride) for side in size))
        assert level.isfinite().all() and level.is_contiguous()


@pytest.mark.parametrize("norm", ["batch", "group", "frozen"])
def test_a_batch_of_one_image_can_be_learnt_from(norm: str) -> None:
    torch.manual_seed(0)
    network = HyattNet(HyattConfig(**NARROW, norm=norm, drop_path=0.0)).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    image, index = torch.randn(1, 3, 96, 128), torch.tensor([[[20.0, 31.5], [60.2, 100.0], [4.0, 60.0]]])
    losses = []
    for _ in range(6):
        loss = deep_supervision_loss(network(image), index, torch.ones(1, 3))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.99 * losses[0]


@needs_torch("2.3", "cannot take the gradient of group norms on a single point")
def test_group_norm_trains_on_one_image_of_the_smallest_size() -> None:
    network = HyattNet(HyattConfig(**NARROW, norm="group")).train()
    maps = network(torch.randn(1, 3, 32, 32))
    sum(level.square().sum() for level in maps).backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


@pytest.mark.parametrize("norm", ["group", "frozen"])
def test_other_norms_learn_and_infer_the_same_function(norm: str) -> None:
    network = HyattNet(HyattConfig(**NARROW, norm=norm, drop_path=0.0))
    image = torch.randn(2, 3, 64, 48)
    with torch.no_grad():
        for trained, inferred in zip(network.train()(image), network.eval()(image)):
            assert (trained - inferred).abs().max() < 1e-6


def test_frozen_statistics_continue_a_batch_norm_network() -> None:
    trained = HyattNet(HyattConfig(**NARROW)).train()
    image = torch.randn(2, 3, 64, 48)
    with torch.no_grad():
        trained(image)
    frozen = HyattNet(HyattConfig(**NARROW, norm="frozen", drop_path=0.0)).train()
    frozen.load_state_dict(trained.state_dict())
    with torch.no_grad():
        for level, reference in zip(frozen(image), trained.eval()(image)):
            assert (level - reference).abs().max() < 1e-6
    for name, tensor in trained.state_dict().items():
        assert torch.equal(frozen.state_dict()[name], tensor), name


def test_drop_path_rises_from_none_to_the_last_stage_and_rests_in_inference() -> None:
    rates = [stage.block.drop_path.probability for stage in HyattNet(HyattConfig(**NARROW)).backbone.stages]
    assert rates == pytest.approx([0, 0.025, 0.05, 0.075, 0.1])
    branch = narrow(drop_path=0.5).backbone.stages[-1].block.drop_path
    x = torch.ones(400, 2, 3)
    assert torch.equal(branch(x), x)
    branch.train()
    dropped = branch(x)
    branch.eval()
    assert set(dropped.unique().tolist()) == {0, 2} and 140 < (dropped[:, 0, 0] == 0).sum() < 260
    assert torch.equal(dropped.amin((1, 2)), dropped.amax((1, 2)))


@pytest.mark.parametrize("options", [{"norm": "batch"}, {"norm": "group", "mask_padding": True}], ids=str)
def test_gradients_reach_every_parameter(options: dict) -> None:
    torch.manual_seed(0)
    network = HyattNet(HyattConfig(**NARROW, **options, drop_path=0.0))
    with torch.no_grad():
        # Channel attention of few channels may have all its hidden units off.
        for stage in network.backbone.stages:
            stage.arm.channel_attention.mlp[0].weight.abs_()
    maps = network(torch.randn(2, 3, 97, 130))
    sum((level * torch.randn_like(level)).sum() for level in maps).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name


@pytest.mark.parametrize("mask_padding", [False, True])
def test_a_sample_does_not_depend_on_its_batch(mask_padding: bool) -> None:
    network = narrow(mask_padding=mask_padding)
    images = torch.randn(2, 3, 75, 96)
    with torch.inference_mode():
        together = network(images)
        alone = [network(image[None]) for image in images]
    for level, *parts in zip(together, *alone):
        assert (level - torch.cat(parts)).abs().max() < 1e-6


def test_repeats_itself_exactly() -> None:
    image = torch.randn(1, 3, 75, 96)
    with torch.inference_mode():
        for first, second in zip(narrow()(image), narrow()(image)):
            assert torch.equal(first, second)


def test_memory_layout_does_not_matter() -> None:
    image = torch.randn(2, 3, 64, 75)
    with torch.inference_mode():
        for level, other in zip(narrow()(image), narrow()(image.to(memory_format=torch.channels_last))):
            assert (level - other).abs().max() < 1e-6


def test_half_precision_stays_half_precision() -> None:
    network = build_network("han", NARROW).to(torch.bfloat16).eval()
    assert {level.dtype for level in network(torch.randn(1, 3, 64, 33, dtype=torch.bfloat16))} == {torch.bfloat16}


@needs_torch("2.4", "exports nothing on Python 3.12")
def test_exported_network_is_the_same_function() -> None:
    image = torch.randn(1, 3, 67, 96)
    with torch.no_grad():
        exported = torch.export.export(narrow(), (image,)).module()
        for level, reference in zip(exported(image), narrow()(image)):
            assert (level - reference).abs().max() < 1e-6


def test_first_version_differs_in_the_name_of_its_block() -> None:
    han, hyatt = build_network("han", NARROW), narrow()
    assert {name.replace(".cab.", ".arm.") for name in han.state_dict()} == set(hyatt.state_dict())
    assert set(han.state_dict()) != set(hyatt.state_dict())


@pytest.mark.parametrize("config", [HyattConfig(**NARROW, norm="group"), HanConfig(**NARROW)], ids=lambda c: c.variant)
def test_settings_survive_json(config: HyattConfig) -> None:
    assert asdict(Network("hyatt", json.loads(json.dumps(asdict(config)))).config) == asdict(config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stages": 4}, "stages"),
        ({"variant": "cab"}, "settings.variant.*cab"),
        ({"norm": "layer"}, "settings.norm.*layer"),
        ({"dims": (16, 16, 32, 32)}, "settings.dims"),
        ({"n_win": (16, 16, 16, 8, 8)}, "settings.n_win"),
        ({"heads": (3, 2, 4, 2, 3)}, "heads .* divide dims"),
        ({"drop_path": 1.0}, "drop_path"),
    ],
    ids=str,
)
def test_unusable_settings_are_named(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_network("hyatt", {**NARROW, **change})


def test_too_small_images_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 32 pixels"):
        narrow()(torch.randn(1, 3, 31, 32))
