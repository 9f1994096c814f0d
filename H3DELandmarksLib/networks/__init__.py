"""Landmark networks as plain PyTorch modules, built by name from settings that come from a model package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from torch import Tensor, nn

from H3DELandmarksLib.networks.h3denet import H3DENet, H3DENetConfig, NetworkOutput
from H3DELandmarksLib.networks.hyatt import HanConfig, HyattConfig, HyattNet, HyattOutput

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

ARCHITECTURES: dict[str, tuple[type[nn.Module], type]] = {
    "h3denet": (H3DENet, H3DENetConfig),
    "han": (HyattNet, HanConfig),
    "hyatt": (HyattNet, HyattConfig),
}


def build_network(architecture: str, settings: Mapping[str, Any]) -> nn.Module:
    """Build a network with fresh weights.

    Args:
        architecture: a key of ``ARCHITECTURES``.
        settings: the fields of that architecture's config, as read from JSON.

    Raises:
        ValueError: the architecture or a setting is unknown, a setting is missing, or settings don't fit together.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"unknown architecture {architecture!r}; known: {', '.join(sorted(ARCHITECTURES))}")
    network, config = ARCHITECTURES[architecture]
    unknown = sorted(set(settings) - {field.name for field in fields(config)})
    if unknown:
        raise ValueError(f"unknown setting of {architecture}: {', '.join(unknown)}")
    try:
        return network(config(**settings))
    except TypeError as error:
        raise ValueError(f"settings of {architecture} don't describe a network: {error}") from error


def output_maps(output: NetworkOutput | HyattOutput) -> tuple[Tensor, ...]:
    """The maps that an architecture returns: one tensor, or one a resolution for the deeply supervised networks."""
    return tuple(output) if isinstance(output, HyattOutput) else (output.maps,)
