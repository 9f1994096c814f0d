"""Whether a stage's network can run with the weights it is given, found before memory is taken for either."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from H3DELandmarksLib.formats.manifest import StageDesign
from H3DELandmarksLib.formats.network_settings import Network
from H3DELandmarksLib.networks import build_network

# Crops up to so many voxels cost little whatever the settings are; larger ones are tried without memory first.
HARMLESS_VOXELS = 2**20
LARGEST_WEIGHT = 1e6  # but for running statistics; what is larger leads beyond all numbers
# For one crop: values of the largest map (512 MB), and floating point operations (minutes on two cores).
MAX_VALUES, MAX_OPERATIONS = 2**27, 1e13


def check_stage(stage: StageDesign, weights: Mapping[str, np.ndarray], try_crop: bool = True) -> None:
    """Compare weights with the stage's network, and try a crop on shapes alone.

    Args:
        stage: its design.
        weights: arrays by parameter name, as a package holds them.
        try_crop: False leaves out the trial for crops of up to `HARMLESS_VOXELS`.

    Raises:
        ValueError: a part of a sentence about what does not fit.
    """
    _check_weights(stage.network, weights)
    if try_crop or np.prod(stage.shape) > HARMLESS_VOXELS:
        size = (stage.shape[1], stage.shape[0]) if stage.is_2d else stage.shape
        _check_crop(stage.network.architecture, _settings(stage.network), size)


def _settings(network: Network) -> str:
    return json.dumps(network.settings, sort_keys=True)


def _check_weights(network: Network, weights: Mapping[str, np.ndarray]) -> None:
    expected = _shapes(network.architecture, _settings(network))
    if missing := sorted(expected.keys() - weights.keys()):
        raise ValueError(f"the weights '{missing[0]}' are missing")
    for name, array in weights.items():
        if (array.shape or (1,)) != (expected.get(name, (0,)) or (1,)):  # numpy has kept single numbers as lists of one
            raise ValueError(f"the weights '{name[:100]}' are not of the network that the manifest describes")
        largest = np.inf if ".running_" in name else LARGEST_WEIGHT
        # NaN and infinity fail both comparisons, and neither end needs an array of answers.
        if array.size and not (-largest < float(array.min()) and float(array.max()) < largest):
            raise ValueError(f"the weights '{name}' hold values that cannot be")


def _network(architecture: str, settings: str) -> nn.Module:
    """A network without memory."""
    with torch.device("meta"):
        return build_network(architecture, json.loads(settings)).eval()


@lru_cache(maxsize=32)
def _shapes(architecture: str, settings: str) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in _network(architecture, settings).state_dict().items()}


class _LargestMap(TorchDispatchMode):
    """Notes how many values the largest tensor has that is made."""

    values = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        self.values = max([self.values, *(t.numel() for t in tree_leaves(made) if isinstance(t, torch.Tensor))])
        return made


@lru_cache(maxsize=32)
def _check_crop(architecture: str, settings: str, size: tuple[int, ...]) -> None:
    network = _network(architecture, settings)
    channels = Network(architecture, json.loads(settings)).config.in_channels
    image = torch.empty((1, channels, *size), device="meta")
    operations = FlopCounterMode(display=False)
    try:
        with torch.inference_mode(), _LargestMap() as largest, operations:
            network(image)
    except (RuntimeError, ValueError, IndexError) as error:
        raise ValueError(f"the network does not take crops of {' x '.join(map(str, size))}") from error
    if largest.values > MAX_VALUES or operations.get_total_flops() > MAX_OPERATIONS:
        raise ValueError(f"the network needs more memory or time than a computer has for {' x '.join(map(str, size))}")
