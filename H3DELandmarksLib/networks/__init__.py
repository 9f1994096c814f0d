"""Landmark networks as plain PyTorch modules, built by name from settings that come from a model package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from H3DELandmarksLib.formats.network_settings import H3DENetConfig, HanConfig, HyattConfig, Network
from H3DELandmarksLib.networks.h3denet import H3DENet, NetworkOutput
from H3DELandmarksLib.networks.hyatt import HyattNet, HyattOutput

__all__ = [
    "H3DENet",
    "H3DENetConfig",
    "HanConfig",
    "HyattConfig",
    "HyattNet",
    "HyattOutput",
    "NetworkOutput",
    "build_network",
    "output_maps",
]

# Settings of each stand in `formats.network_settings.SETTINGS`; the research package adds networks to compare with.
ARCHITECTURES: dict[str, type[nn.Module]] = {"h3denet": H3DENet, "han": HyattNet, "hyatt": HyattNet}


def build_network(architecture: str, settings: Mapping[str, Any]) -> nn.Module:
    """Build a network with fresh weights.

    Args:
        architecture: a key of ``ARCHITECTURES``.
        settings: the fields of that architecture's config, as read from JSON.

    Raises:
        ValueError: the architecture or a setting is unknown, a setting is missing, or settings don't fit together.
    """
    config = Network(architecture, dict(settings)).config
    return ARCHITECTURES[architecture](config)


def output_maps(output: NetworkOutput | HyattOutput) -> tuple[Tensor, ...]:
    """The maps that an architecture returns: one tensor, or one a resolution for the deeply supervised networks."""
    return tuple(output) if isinstance(output, HyattOutput) else (output.maps,)
