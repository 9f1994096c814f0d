"""Settings of fine-tuning, from those that a model was trained with: few steps, low rates, strong augmentation."""

from __future__ import annotations

from collections.abc import Mapping

from H3DELandmarksLib.errors import InputError
from H3DELandmarksLib.training.objectives import DEFAULT, LOSSES

# For models whose manifest does not say how they were trained.
USUAL_TRAINING = {"batch": 1, "learning_rate": 1e-3, "weight_decay": 0.01, "seed": 1}
USUAL_TURN = {"scan": 15, "cube-rotations": 60, "found": 12}
# Half widths that augmentation has at least.
STRONG = {"contrast": 0.25, "brightness": 0.06, "gamma": 0.3, "noise": 0.03, "blur": 0.8, "scale": 0.1, "stretch": 0.05}
RATE, EARLY_RATE = 0.5, 0.1
FROZEN_BELOW = 8  # cases that cannot move the layers which read the image without bending them to these scans
CHECKPOINT_SECONDS = 30.0


def steps_for(cases: int, wanted: int | None = None) -> int:
    """Steps of a stage: a few hundred, more for more cases."""
    if wanted is not None and wanted < 1:
        raise InputError(f"A stage needs at least one step, not {wanted}.")
    return wanted or min(1000, 225 + 15 * cases)


def steps_of_stage(number: int, stages: int, steps: int) -> int:
    """The first of several stages only has to find the place, which the base can do already: half the steps."""
    return max(1, steps // 2) if stages > 1 and number == 0 else steps


def fine_tuning_settings(base: Mapping, stage: Mapping, cases: int, steps: int) -> dict:
    """Entry ``training`` of a stage.

    Args:
        base: the same entry of the base's manifest, or nothing.
        stage: of the base's manifest.
        cases: that teach.
        steps: of the stage.
    """
    settings = {**USUAL_TRAINING, "loss": _loss_for(stage), **base}
    early = 0.0 if cases < FROZEN_BELOW else EARLY_RATE
    return {**settings, "learning_rate": RATE * settings["learning_rate"], "early_rate": early, **schedule(steps)}


def schedule(steps: int) -> dict:
    """Settings that follow from the number of steps."""
    return {
        "steps": steps, "warmup": max(1, min(20, steps // 10)), "ema": max(0.5, 1 - 10 / steps),
        "validate_every": max(1, steps // 12), "checkpoint_seconds": CHECKPOINT_SECONDS,
    }  # fmt: skip


def strong_augmentation(base: Mapping, stage: Mapping) -> dict:
    """Entry ``augmentation`` of a stage: what the base had, and no less than is usual."""
    if not base:
        half = min(s for s in stage["shape"] if s > 1) * stage["spacing_mm"] / 2
        base = {"rotation_degrees": USUAL_TURN[stage["poses"]], "shift_mm": 0.1 * half, "truncate": 0.1}
    return {**base, **{name: max(width, base.get(name, 0.0)) for name, width in STRONG.items()}}


def _loss_for(stage: Mapping) -> str:
    """The loss that writes what the stage's decoding reads."""
    method = stage["decoding"]["method"]
    return next((name for name, objective in LOSSES.items() if objective.decoding == method), DEFAULT)
