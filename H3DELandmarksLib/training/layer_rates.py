"""Learning rates by layer: fine-tuning moves early layers little or not at all."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

# What the networks call the layers that read the image.
EARLY = ("encoder.", "backbone.")


def parameter_groups(network: nn.Module, settings: Mapping) -> list[dict]:
    """Groups for an optimizer: biases and norms without weight decay, early layers at a rate of their own.

    Args:
        network: its early parameters are frozen where their rate is 0.
        settings: ``learning_rate``, ``weight_decay`` and, as a part of the learning rate, ``early_rate`` (default 1).
    """
    factor = settings.get("early_rate", 1.0)
    named = list(network.named_parameters())
    if factor == 1:
        return _by_decay([p for _, p in named], settings["weight_decay"])
    early = [p for name, p in named if name.startswith(EARLY)]
    groups = _by_decay([p for name, p in named if not name.startswith(EARLY)], settings["weight_decay"])
    if factor == 0:
        for parameter in early:
            parameter.requires_grad_(False)
        return groups
    rate = settings["learning_rate"] * factor
    return [*groups, *({**group, "lr": rate} for group in _by_decay(early, settings["weight_decay"]))]


def _by_decay(parameters: list[nn.Parameter], weight_decay: float) -> list[dict]:
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
