"""Where networks run."""

from __future__ import annotations

import logging

import torch

from H3DELandmarksLib.errors import InputError

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
