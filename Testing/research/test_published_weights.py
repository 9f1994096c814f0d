"""Published checkpoints, as the published programs write them, do here what they did there."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from published_networks import PublishedH3DENet, PublishedHyattNet, randomize
from torch import Tensor, nn

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.networks import build_network, output_maps
from H3DELandmarksLib.networks.arrays import to_array, to_tensor
from H3DELandmarksResearch.published.checkpoints import read_checkpoint
from H3DELandmarksResearch.published.names import LAYOUTS
from H3DELandmarksResearch.published.package import DEVIATIONS, MEANS, with_normalization
from H3DELandmarksResearch.published.weights import PublishedWeights, convert_published

NARROW = {"dims": (8, 16, 32, 64), "depths": (1, 1, 2, 1)}
# Every stage has the published number of heads, which no shape tells.
FLAT = {"dims": (32, 32, 80, 64, 64), "mlp_ratios": (2, 1, 2, 1, 1), "neck": 16, "image_dim": 8}
HEADS = {
    "heat maps": {},
    "heat maps, super-resolution": {"srb": True},
    "anchors": {"anchors": 4},
    "anchors, feature fusion": {"anchors": 4, "fusion": True},
}


def save(network: nn.Module, path: Path) -> Path:
    """Write what main_yolol.py writes."""
    optimizer = torch.optim.Adam(network.parameters())
    content = {"epoch": 12, "save_dir": "../SavePath/yolol2", "state_dict": network.state_dict()}
    args = argparse.Namespace(model_name="PBiFormer_Unet", n_class=3, anchors=[0.5, 0.75, 1.0, 1.25], lr=1e-3)
    torch.save(content | {"optimizer": optimizer.state_dict(), "args": args}, path)
    return path


def imported(published: nn.Module, folder: Path, architecture: str | None = None) -> PublishedWeights:
    return convert_published(read_checkpoint(save(published, folder / "model.ckpt")).tensors, architecture)


def ours(weights: PublishedWeights) -> Callable[[Tensor], tuple[Tensor, ...]]:
    network = build_network(weights.architecture, weights.settings).eval()
    network.load_state_dict({name: to_tensor(array) for name, array in weights.weights.items()})
    return lambda image: output_maps(network(image))


@pytest.mark.parametrize("options", HEADS.values(), ids=HEADS.keys())
@torch.inference_mode()
def test_h3denet_computes_what_the_published_one_does(options: dict, tmp_path: Path) -> None:
    published = randomize(PublishedH3DENet(3, **NARROW, **options))
    image = torch.randn(1, 1, 128, 128, 64, generator=torch.Generator().manual_seed(1))
    (maps,) = ours(imported(published, tmp_path))(image)
    assert (maps - published(image)).abs().max() < 1e-4


@pytest.mark.parametrize("architecture", ["hyatt", "han"])
@torch.inference_mode()
def test_radiograph_networks_compute_what_the_published_one_does(architecture: str, tmp_path: Path) -> None:
    published = randomize(PublishedHyattNet(5, **FLAT))
    image = torch.randn(1, 3, 256, 512, generator=torch.Generator().manual_seed(1))
    network = ours(imported(published, tmp_path, architecture))
    for level, expected in zip(network(image), published(image)):
        assert (level - expected).abs().max() < 1e-4


@torch.inference_mode()
def test_the_published_normalization_of_images_becomes_part_of_the_weights(tmp_path: Path) -> None:
    published = randomize(PublishedHyattNet(5, **FLAT))
    tensors = read_checkpoint(save(published, tmp_path / "model.ckpt")).tensors
    network = ours(convert_published(with_normalization(tensors)))
    gray = torch.randint(0, 256, (1, 1, 256, 256), generator=torch.Generator().manual_seed(1)).float()
    channels = [(gray - mean) / deviation for mean, deviation in zip(MEANS, DEVIATIONS)]
    quarter, expected = network(gray.expand(1, 3, -1, -1) / 255)[0], published(torch.cat(channels, dim=1))[0]
    inside = (..., slice(24, 40), slice(24, 40))
    assert (quarter - expected)[inside].abs().max() < 0.01 * expected.abs().max()


@pytest.mark.parametrize("options", HEADS.values(), ids=HEADS.keys())
def test_the_layout_is_the_published_state_dict_in_its_order(options: dict, tmp_path: Path) -> None:
    published = PublishedH3DENet(3, **NARROW, **options)
    weights = imported(randomize(published), tmp_path)
    config = vars(build_network("h3denet", weights.settings).config)
    listed = [(entry.name, entry.shape) for entry in LAYOUTS["h3denet"](config)]
    assert listed == [(name, tuple(value.shape)) for name, value in published.state_dict().items()]


def test_the_layout_of_radiograph_networks_is_the_published_state_dict_in_its_order(tmp_path: Path) -> None:
    published = PublishedHyattNet(5, **FLAT)
    weights = imported(randomize(published), tmp_path)
    config = vars(build_network("hyatt", weights.settings).config)
    listed = [(entry.name, entry.shape) for entry in LAYOUTS["hyatt"](config)]
    assert listed == [(name, tuple(value.shape)) for name, value in published.state_dict().items()]


@torch.inference_mode()
def test_layers_that_the_published_network_leaves_out_are_named_and_do_not_matter(tmp_path: Path) -> None:
    published = randomize(PublishedH3DENet(3, anchors=4, **NARROW))
    first = imported(published, tmp_path)
    state = published.state_dict()
    for name in first.unused:
        state[name].fill_(3)
    second = imported(published, tmp_path)
    assert {name.split(".")[0] for name in first.unused} == {
        "norm",
        "head",
        "up3",
        "up4",
        "c1",
        "c2",
        "final_conv",
        "early_down1",
        "early_down2",
    }
    assert all(np.array_equal(array, second.weights[name]) for name, array in first.weights.items())


def test_names_that_nobody_knows_are_told_by_order_and_shape() -> None:
    published = randomize(PublishedH3DENet(14, anchors=4))
    state = {name: to_array(value) for name, value in published.state_dict().items()}
    renamed = {f"layer{k}.{name.rpartition('.')[2]}": array for k, (name, array) in enumerate(state.items())}
    found = convert_published(renamed, "h3denet", landmarks=14)
    expected = convert_published(state)
    assert found.settings["head"] == "anchor"
    assert found.weights.keys() == expected.weights.keys()
    assert all(np.array_equal(array, expected.weights[name]) for name, array in found.weights.items())
    with pytest.raises(InputError, match="say which architecture"):
        convert_published(renamed)
    renamed["layer4.weight"] = renamed["layer4.weight"][:, :3]
    with pytest.raises(InputError, match=r"Entry 5 .*'layer4.weight' .*'downsample_layers.1.0.weight'"):
        convert_published(renamed, "h3denet", landmarks=14)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("up1.conv1.0.weight"), "lacks 'up1.conv1.0.weight'"),
        (lambda state: state.update({"up9.bias": np.zeros(3, np.float32)}), "'up9.bias' .* no part"),
        (lambda state: state.update({"stages.0.0.norm1.bias": np.zeros(9, np.float32)}), "'stages.0.0.norm1.bias'"),
        (lambda state: state.pop("norm2.weight"), "lacks 'norm2.weight'"),
    ],
    ids=["missing", "too many", "other shape", "unmeasurable"],
)
def test_what_does_not_fit_is_named(change: Callable[[dict], object], message: str) -> None:
    state = {name: to_array(value) for name, value in PublishedH3DENet(3, **NARROW).state_dict().items()}
    change(state)
    with pytest.raises(InputError, match=message):
        convert_published(state)


def test_a_wrong_architecture_is_refused() -> None:
    state = {name: to_array(value) for name, value in PublishedH3DENet(3, **NARROW).state_dict().items()}
    with pytest.raises(InputError, match="holds the network 'h3denet', not 'han'"):
        convert_published(state, "han")
