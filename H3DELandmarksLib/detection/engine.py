"""What runs a network at detection time."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from H3DELandmarksLib.networks import build_network, output_maps

logger = logging.getLogger(__name__)


class Engine(Protocol):
    """A network that is ready to run."""

    def maps(self, batch: np.ndarray) -> tuple[Tensor, ...]:
        """All maps of the network, each on any device, for a float32 array (batch, channels, *grid)."""


def make_engine(network: Mapping[str, Any], weights: Mapping[str, np.ndarray], device: torch.device) -> Engine:
    """Build a stage's network and make it ready to run.

    Args:
        network: ``architecture`` and ``settings``.
        weights: arrays by parameter name, any floating type.
        device: where to run; a CUDA or MPS device that runs out of memory is replaced by the CPU.
    """
    built = build_network(**network)
    built.load_state_dict({name: torch.from_numpy(value).float() for name, value in weights.items()})
    return TorchEngine(built.eval(), device)


class TorchEngine:
    """PyTorch on any device; in half precision where that is CUDA."""

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        """Move ``network`` to ``device``."""
        self.device = device
        self.network = network.to(device)

    @torch.inference_mode()
    def maps(self, batch: np.ndarray) -> tuple[Tensor, ...]:
        """See Engine."""
        image = torch.from_numpy(np.ascontiguousarray(batch))
        try:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
                return output_maps(self.network(image.to(self.device)))
        except RuntimeError as error:  # its subclass for memory is not there in all versions, nor used for every device
            if self.device.type == "cpu" or "out of memory" not in str(error):
                raise
            logger.warning("The %s device ran out of memory: continuing on the CPU.", self.device.type)
            self.device = torch.device("cpu")
            self.network.to(self.device)
            return output_maps(self.network(image))
