"""What runs a network at detection time, and which of the possible ways is taken."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.detection.half_precision import GatedEngine, Points
from H3DELandmarksLib.detection.openvino_engine import OpenVinoEngine, fast_bf16, load_openvino, openvino_installed
from H3DELandmarksLib.detection.torch_engine import HalfPrecision, TorchEngine
from H3DELandmarksLib.networks import build_network

logger = logging.getLogger(__name__)
DEVICES = ("auto", "cpu", "cuda", "mps")


def choose_device(name: str = "auto") -> torch.device:
    """The device of that name, or the best one for "auto".

    Raises:
        InputError: the name is unknown or this computer has no such device.
    """
    if name not in DEVICES:
        raise InputError(f"The device '{name}' is unknown: choose one of {', '.join(DEVICES)}.")
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, there in available.items() if there))
    if not available[name]:
        raise InputError(f"This computer has no usable '{name}' device: choose 'auto' or 'cpu'.")
    return torch.device(name)


logger = logging.getLogger(__name__)
BACKENDS = ("auto", "torch", "openvino")
PRECISIONS = ("auto", "fp32", "half")
# Says which backend "auto" means, where a program that uses the library offers no choice.
BACKEND_VARIABLE = "H3DE_BACKEND"
# Seconds that PyTorch works on a stage before a conversion, which takes 2 to 4 s and then saves 5 to 30 %, may pay.
PATIENCE = 20.0


class Engine(Protocol):
    """A network that is ready to run."""

    def maps(self, batch: np.ndarray) -> tuple[Tensor, ...]:
        """All maps of the network, each on any device, for a float32 array (batch, channels, *grid)."""


@dataclass(frozen=True)
class EngineSettings:
    """How networks run.

    Attributes:
        device: where.
        backend: "torch"; "openvino", on the CPU only; "auto": PyTorch, and OpenVINO where it is installed and faster.
        precision: "fp32"; "half": 16 bits where the device is fast with them and points stay in place; "auto": "half"
            on CUDA, else "fp32".
    """

    device: torch.device
    backend: str = "auto"
    precision: str = "auto"

    @classmethod
    def choose(cls, device: str = "auto", backend: str = "auto", precision: str = "auto") -> EngineSettings:
        """Settings by name; "auto" as backend gives way to the environment variable H3DE_BACKEND.

        Raises:
            InputError: a name is unknown, the device or backend is not there, or the two do not go together.
        """
        if backend == "auto":
            backend = os.environ.get(BACKEND_VARIABLE) or "auto"
        for what, name, known in (("backend", backend, BACKENDS), ("precision", precision, PRECISIONS)):
            if name not in known:
                raise InputError(f"The {what} '{name}' is unknown: choose one of {', '.join(known)}.")
        if backend == "openvino":
            if device not in ("auto", "cpu"):
                raise InputError(f"OpenVINO runs networks on the CPU: choose the device 'cpu' instead of '{device}'.")
            if load_openvino() is None:
                raise InputError(
                    "The backend 'openvino' needs the package openvino: install it ('pip install openvino'), or choose "
                    "the backend 'auto'."
                )
            device = "cpu"
        return cls(choose_device(device), backend, precision)

    @property
    def half(self) -> bool:
        """Whether 16 bits are wanted."""
        return self.precision == "half" or (self.precision == "auto" and self.device.type == "cuda")


def make_engine(
    network: Mapping[str, Any], weights: Mapping[str, np.ndarray], settings: EngineSettings, points: Points
) -> Engine:
    """Build a stage's network and make it ready to run.

    Args:
        network: ``architecture`` and ``settings``.
        weights: arrays by parameter name, any floating type.
        settings: how to run it; a CUDA or MPS device that runs out of memory is replaced by the CPU.
        points: reads landmarks out of the maps of one crop.
    """
    built = build_network(**network)
    built.load_state_dict({name: torch.from_numpy(value).float() for name, value in weights.items()})
    plain = TorchEngine(built.eval(), settings.device)
    if settings.device.type != "cpu":
        return GatedEngine(plain, HalfPrecision(plain), points) if settings.half else plain
    full: Engine = plain
    if settings.backend != "torch" and openvino_installed():
        full = OpenVinoEngine(plain, patience=PATIENCE if settings.backend == "auto" else 0.0)
    if not settings.half:
        return full
    if settings.backend == "torch" or load_openvino() is None:
        logger.warning("Half precision on a CPU needs OpenVINO: continuing in single precision.")
        return full
    if not fast_bf16():
        logger.warning("This CPU has no fast 16-bit arithmetic: continuing in single precision.")
        return full
    return GatedEngine(full, OpenVinoEngine(plain, precision="bf16"), points)
