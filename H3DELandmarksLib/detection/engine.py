"""What runs a network at detection time: where, with which engine, and in how many bits."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.execution import BACKENDS, DEVICES, PRECISIONS
from H3DELandmarksLib.core.resources import research_module
from H3DELandmarksLib.detection.decoding import Peaks
from H3DELandmarksLib.formats.network_settings import Network
from H3DELandmarksLib.networks import build_network, output_maps
from H3DELandmarksLib.networks.arrays import to_tensor

logger = logging.getLogger(__name__)
# Says which backend "auto" means, where a program that uses the library offers no choice.
BACKEND_VARIABLE = "H3DE_BACKEND"
# float16 rounds eight times finer than bfloat16, whose wider range the networks do not need.
HALF_TYPES = {"cuda": torch.float16, "mps": torch.float16}
# Voxels of the network's input grid that the worst landmark may move in half precision; crops in which landmarks must
# have stayed in place, and crops after which the attempt to see some is given up.
MAX_MOVE_VOXELS = 0.25
PROOFS = 3
MAX_ATTEMPTS = 12
Points = Callable[[Sequence[Tensor]], Peaks]


def choose_device(name: str = "auto") -> torch.device:
    """The device of that name; "auto" is CUDA where there is one, else the CPU.

    Apple's Metal (mps) has to be asked for: what it computes depends on the version of PyTorch, and older ones have no
    three-dimensional convolution there.

    Raises:
        InputError: the name is unknown or this computer has no such device.
    """
    if name not in DEVICES:
        raise InputError(f"The device '{name}' is unknown: choose one of {', '.join(DEVICES)}.")
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device("cuda" if available["cuda"] else "cpu")
    if not available[name]:
        raise InputError(f"This computer has no usable '{name}' device: choose 'auto' or 'cpu'.")
    return torch.device(name)


class Engine(Protocol):
    """A network that is ready to run."""

    def maps(self, batch: np.ndarray) -> tuple[Tensor, ...]:
        """All maps of the network, each on any device, for a float32 array (batch, channels, *grid)."""


@dataclass(frozen=True)
class EngineSettings:
    """How networks run.

    Attributes:
        device: where.
        backend: "torch", or "openvino" from the research package, on the CPU only.
        precision: "fp32"; "half": 16 bits where points stay in place; "auto": "half" on CUDA, else "fp32".
    """

    device: torch.device
    backend: str = "torch"
    precision: str = "auto"

    @classmethod
    def choose(cls, device: str = "auto", backend: str = "auto", precision: str = "auto") -> EngineSettings:
        """Settings by name; "auto" as backend is PyTorch, or what the environment variable H3DE_BACKEND says.

        Raises:
            InputError: a name is unknown, the device or backend is not there, or the two do not go together.
        """
        if backend == "auto":
            backend = os.environ.get(BACKEND_VARIABLE) or "torch"
        for what, name, known in (("backend", backend, BACKENDS), ("precision", precision, PRECISIONS)):
            if name not in known:
                raise InputError(f"The {what} '{name}' is unknown: choose one of {', '.join(known)}.")
        if backend == "openvino":
            if device not in ("auto", "cpu"):
                raise InputError(f"OpenVINO runs networks on the CPU: choose the device 'cpu' instead of '{device}'.")
            research_module("engines.openvino_engine", "The backend 'openvino'").require_openvino()
            device = "cpu"
        return cls(choose_device(device), "torch" if backend == "auto" else backend, precision)

    @property
    def half(self) -> bool:
        """Whether 16 bits are wanted."""
        return self.precision == "half" or (self.precision == "auto" and self.device.type == "cuda")

    @property
    def used_precision(self) -> str:
        """ "half" where 16 bits are wanted and there are such for the device and backend, else "fp32"."""
        return "half" if self.half and (self.backend == "openvino" or self.device.type in HALF_TYPES) else "fp32"


def make_engine(
    network: Network, weights: Mapping[str, np.ndarray], settings: EngineSettings, points: Points
) -> Engine:
    """Build a stage's network and make it ready to run.

    Args:
        network: architecture and settings.
        weights: arrays by parameter name, any floating type.
        settings: how to run it; a GPU on which it fails is replaced by the CPU.
        points: reads landmarks out of the maps of one crop.
    """
    built = build_network(network.architecture, network.settings)
    built.load_state_dict({name: to_tensor(value).float() for name, value in weights.items()})
    plain = TorchEngine(built.eval(), settings.device)
    if settings.backend == "openvino":
        full, half = research_module("engines.openvino_engine", "The backend 'openvino'").engines(plain, settings.half)
        return full if half is None else GatedEngine(full, half, points)
    if settings.half and plain.half_type is not None:
        return GatedEngine(plain, HalfPrecision(plain), points)
    if settings.half:
        logger.warning("Half precision is for GPUs and OpenVINO: continuing in single precision.")
    return plain


class TorchEngine:
    """PyTorch on any device.

    Attributes:
        has_fallen_back: whether the network runs on the CPU because another device has failed.
    """

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        """Move ``network`` to ``device``."""
        self.device = device
        self.has_fallen_back = False
        self.network = network.to(device)
        self.half_type: torch.dtype | None = HALF_TYPES.get(device.type)

    @torch.inference_mode()
    def maps(self, batch: np.ndarray, half: bool = False) -> tuple[Tensor, ...]:
        """See Engine; with ``half`` in 16 bits, unless these have failed before."""
        image = to_tensor(batch)
        try:
            if half and self.half_type is not None:
                maps = self._half(image)
                if maps is not None:
                    return maps
            return output_maps(self.network(image.to(self.device)))
        except RuntimeError as error:  # lacking memory, or an operation that the device does not know
            if self.device.type == "cpu":
                raise
            reason = "ran out of memory" if "out of memory" in str(error) else "failed"
            logger.warning("The %s device %s: continuing on the CPU.", self.device.type, reason)
            logger.info("What the %s device said: %s", self.device.type, error)
            self.device, self.half_type, self.has_fallen_back = torch.device("cpu"), None, True
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


class GatedEngine:
    """Half precision once it has proved harmless on the first crops, for which single precision answers."""

    def __init__(self, full: Engine, half: Engine, points: Points) -> None:
        """Compare by ``points``, which reads landmarks out of the maps of one crop."""
        self.full = full
        self.half: Engine | None = half
        self.points = points
        self.moves: list[float] = []
        self.attempts = 0

    @property
    def has_fallen_back(self) -> bool:
        """See TorchEngine."""
        return getattr(self.full, "has_fallen_back", False)

    def maps(self, batch: np.ndarray) -> tuple[Tensor, ...]:
        """See Engine."""
        if self.half is None:
            return self.full.maps(batch)
        if len(self.moves) >= PROOFS:
            return self.half.maps(batch)
        maps = self.full.maps(batch)
        self._compare(maps, self.half.maps(batch))
        return maps

    def _compare(self, full: tuple[Tensor, ...], half: tuple[Tensor, ...]) -> None:
        move = worst_move(self.points(full), self.points(half))
        self.attempts += 1
        if not np.isnan(move):
            self.moves.append(move)
        reason = refusal(self.moves)
        if reason and (self.moves or self.attempts >= MAX_ATTEMPTS):
            logger.warning("Continuing in single precision: %s.", reason)
            self.half = None


def worst_move(full: Peaks, half: Peaks) -> float:
    """Voxels between the two positions of the landmark that moved most; NaN where none is there.

    Landmarks that ``full`` takes for absent (log-odds below 0) do not count: their places mean nothing.
    """
    there = full.presence_logit > 0
    if not there.any():
        return float("nan")
    move = np.linalg.norm(half.index - full.index, axis=1)[there]
    return float(np.where(np.isfinite(move), move, np.inf).max())


def refusal(moves: Sequence[float]) -> str | None:
    """Why half precision must not stand in for single precision, or None where it may: the worst crop decides.

    Args:
        moves: worst move of each crop that was compared, in voxels.
    """
    if not moves:
        return "no crop showed a landmark by which half precision could be judged"
    if max(moves) >= MAX_MOVE_VOXELS:
        return f"half precision moves a landmark by {max(moves):.2f} voxels, {MAX_MOVE_VOXELS} or more"
    return None
