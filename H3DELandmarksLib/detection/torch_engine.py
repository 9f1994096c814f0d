"""Running networks with PyTorch."""

from __future__ import annotations

import logging

import numpy as np
import torch
from torch import Tensor, nn

from H3DELandmarksLib.networks import output_maps

logger = logging.getLogger(__name__)
# float16 rounds eight times finer than bfloat16, whose wider range the networks do not need; CPUs are fast with the
# latter only.
HALF_TYPES = {"cuda": torch.float16, "mps": torch.float16, "cpu": torch.bfloat16}


class TorchEngine:
    """PyTorch on any device."""

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        """Move ``network`` to ``device``."""
        self.device = device
        self.network = network.to(device)
        self.half_type: torch.dtype | None = HALF_TYPES.get(device.type)

    @torch.inference_mode()
    def maps(self, batch: np.ndarray, half: bool = False) -> tuple[Tensor, ...]:
        """See Engine; with ``half`` in 16 bits, unless these have failed before."""
        image = torch.from_numpy(np.ascontiguousarray(batch))
        try:
            if half and self.half_type is not None:
                maps = self._half(image)
                if maps is not None:
                    return maps
            return output_maps(self.network(image.to(self.device)))
        except RuntimeError as error:  # its subclass for memory is not there in all versions, nor used for every device
            if self.device.type == "cpu" or "out of memory" not in str(error):
                raise
            logger.warning("The %s device ran out of memory: continuing on the CPU.", self.device.type)
            self.device, self.half_type = torch.device("cpu"), None
            self.network.to(self.device)
            return output_maps(self.network(image))

    def _half(self, image: Tensor) -> tuple[Tensor, ...] | None:
        """Maps in 16 bits; None where a number has left their range, which ends their use."""
        with torch.autocast(self.device.type, self.half_type):
            maps = output_maps(self.network(image.to(self.device)))
        if all(bool(torch.isfinite(level).all()) for level in maps):
            return maps
        logger.warning("A number exceeds the range of half precision: continuing in single precision.")
        self.half_type = None
        return None


class HalfPrecision:
    """The network of a TorchEngine in 16 bits, weights shared."""

    def __init__(self, engine: TorchEngine) -> None:
        """Use ``engine``, its device and its way out of lacking memory."""
        self.engine = engine

    def maps(self, batch: np.ndarray) -> tuple[Tensor, ...]:
        """See Engine."""
        return self.engine.maps(batch, half=True)
