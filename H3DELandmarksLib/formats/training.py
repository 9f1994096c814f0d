"""How the stages of a model are trained: schedule, loss and augmentation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, get_args

from H3DELandmarksLib.formats.manifest import MAX_READ_VOXELS, Manifest, StageDesign
from H3DELandmarksLib.formats.reading import Count, Limits, NotNegative, Positive, PositiveCount, Share, build, to_plain

SUBSETS = ("train", "validation", "test")
Loss = Literal[
    "spatial-cross-entropy", "published-heatmap", "published-anchor", "gaussian-bce", "ball-bce", "published-hyatt"
]
# Settings that each loss takes.
LOSS_SETTINGS: dict[str, tuple[str, ...]] = {
    "spatial-cross-entropy": ("sigma",),
    "published-heatmap": ("radius",),
    "published-anchor": ("hard_negatives", "radii"),
    "gaussian-bce": ("sigma", "worst", "mask_absent"),
    "ball-bce": ("radius", "worst", "mask_absent"),
    "published-hyatt": (),
}
LOSSES: tuple[Loss, ...] = get_args(Loss)
DEFAULT_LOSS: Loss = "spatial-cross-entropy"
# The decoding method that reads what a network writes which was trained by a loss.
LOSS_DECODING: dict[str, str] = {
    "spatial-cross-entropy": "softmax",
    "published-heatmap": "published-heatmap",
    "published-anchor": "published-anchor",
    "gaussian-bce": "peak",
    "ball-bce": "peak",
    "published-hyatt": "published-hyatt",
}
DEEP_HEAD = "deep-supervision"
# Heads that a loss trains; one for heat maps serves deep supervision, too, once for each resolution.
LOSS_HEADS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(LOSS_SETTINGS, ("heatmap", DEEP_HEAD)),
    "published-anchor": ("anchor",),
    "published-hyatt": (DEEP_HEAD,),
}
# Beyond these, numbers of 32 bits, crops or kernels would overflow. 3 is the logarithm of 20.
Rate = Annotated[float, Limits(gt=0, le=1e20, allow_inf_nan=False)]
RateFactor = Annotated[float, Limits(ge=0, le=1e6, allow_inf_nan=False)]
Degrees = Annotated[float, Limits(ge=0, le=180, allow_inf_nan=False)]
Logarithm = Annotated[float, Limits(ge=0, le=3, allow_inf_nan=False)]
BlurVoxels = Annotated[float, Limits(ge=0, le=100, allow_inf_nan=False)]
# Of the range of values, 0 to 1; beyond, nothing is left of a picture.
OfRange = Annotated[float, Limits(ge=0, le=10, allow_inf_nan=False)]
Distance = Annotated[float, Limits(ge=0, le=1e4, allow_inf_nan=False)]
# Targets that are narrower lie between the voxels; averages of all weights would stay those of the first step.
TargetVoxels = Annotated[float, Limits(ge=0.2, le=1e3, allow_inf_nan=False)]
Decay = Annotated[float, Limits(ge=0, lt=1, allow_inf_nan=False)]
MAX_BATCH_VOXELS = 2**31
EVERY_LOSS_SETTING = sorted({name for names in LOSS_SETTINGS.values() for name in names})


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a stage is trained.

    Attributes:
        steps, batch: optimizer steps, and crops in each.
        epochs, warmup_epochs: in place of `steps` and `warmup`: how often as many crops are drawn as there are cases.
        cosine: "from-start": the rate falls to 0 over all steps and is multiplied by the warm-up's, as HYATT-Net's
            authors have it; else it falls after the warm-up, to 1 %.
        learning_rate, weight_decay, warmup: of AdamW; `warmup` in steps.
        ema: decay of the averaged weights.
        early_rate: factor of the learning rate of early layers; 0 freezes them.
        validate_every, checkpoint_seconds: between two validations (steps) and two checkpoints.
        seed: of everything that is drawn.
        loss: name of the loss; `sigma`, `radius`, `worst`, `mask_absent`, `hard_negatives` and `radii` its settings.
    """

    steps: Count = 0
    epochs: PositiveCount | None = None
    warmup_epochs: Count | None = None
    cosine: Literal["from-start"] | None = None
    batch: PositiveCount = 1
    learning_rate: Rate
    weight_decay: NotNegative = 0.01
    warmup: Count = 100
    ema: Decay = 0.998
    early_rate: RateFactor | None = None
    validate_every: PositiveCount = 200
    checkpoint_seconds: Positive = 60.0
    seed: Count = 1
    loss: Loss = DEFAULT_LOSS
    sigma: TargetVoxels | None = None
    radius: TargetVoxels | None = None
    worst: Share | None = None
    mask_absent: bool | None = None
    hard_negatives: PositiveCount | None = None
    radii: tuple[TargetVoxels, ...] | None = None

    def __post_init__(self) -> None:
        if bool(self.steps) == (self.epochs is not None):
            raise ValueError("steps: give either steps, 1 at least, or epochs")
        if self.warmup_epochs is not None and self.epochs is None:
            raise ValueError("warmup_epochs: it goes with epochs; give warmup in steps")
        if self.weight_decay * self.learning_rate >= 1:
            raise ValueError(
                f"weight_decay: with a learning_rate of {self.learning_rate:g} nothing would be left of a weight after "
                f"a step; choose less than {1 / self.learning_rate:g}"
            )
        taken = LOSS_SETTINGS.get(self.loss, ())
        for name in EVERY_LOSS_SETTING:
            if getattr(self, name) is not None and name not in taken:
                known = f"its settings are {', '.join(taken)}" if taken else "it has no settings"
                raise ValueError(f"{name}: the loss '{self.loss}' has no such setting: {known}")

    @property
    def loss_settings(self) -> dict[str, object]:
        """Settings of the loss that are given, by name."""
        names = LOSS_SETTINGS[self.loss]
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Random changes of training samples; an entry that is left out changes nothing.

    Attributes:
        rotation_degrees: largest turn about the case's pose.
        rotation_deviation_degrees: in a plane, standard deviation of a normal distribution clipped at the largest turn.
        rotation_share: in a plane, share of samples that are turned.
        scale, stretch: half widths of the logarithm of a common factor and of one for each axis.
        shift_mm: largest shift, for all axes or along the shape's X, Y, Z.
        mirror: share of mirrored samples.
        contrast, brightness, gamma: half widths; `gamma` of its logarithm.
        noise: largest standard deviation; 1 is the whole range of values.
        blur: largest sigma in voxels, of every third image.
        distortion_share: share of images whose contrast, brightness or gamma changes, drawn for each by itself.
        truncate, truncate_near_mm: share of samples that end within the crop, and how near landmarks they may.
        elsewhere: share of crops centered anywhere in the scan; `nothing`: share that hold no anatomy at all.
        cut: share of radiographs that are cut off above, below or at both ends, and then counted as high as whole ones;
            for models with `height_mm`.
    """

    rotation_degrees: Degrees = 0.0
    rotation_deviation_degrees: Positive | None = None
    rotation_share: Share = 1.0
    scale: Logarithm = 0.0
    stretch: Logarithm = 0.0
    shift_mm: Distance | tuple[Distance, Distance, Distance] = 0.0
    mirror: Share = 0.0
    contrast: OfRange = 0.0
    brightness: OfRange = 0.0
    gamma: Logarithm = 0.0
    noise: OfRange = 0.0
    blur: BlurVoxels = 0.0
    distortion_share: Share = 1.0
    truncate: Share = 0.0
    truncate_near_mm: Distance = 0.0
    elsewhere: Share | None = None
    nothing: Share | None = None
    cut: Share | None = None


@dataclass(frozen=True, kw_only=True)
class TrainingStage(StageDesign):
    """A stage with how it is trained."""

    training: Training
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        super().__post_init__()
        loss, method = self.training.loss, self.decoding.method
        head = getattr(self.network.config, "head", "heatmap")
        if method != LOSS_DECODING[loss]:
            raise ValueError(
                f"decoding.method: '{method}' does not read what the loss '{loss}' teaches; "
                f"take '{LOSS_DECODING[loss]}' or another training.loss"
            )
        if head not in LOSS_HEADS[loss]:
            raise ValueError(
                f"training.loss: '{loss}' needs the network head '{LOSS_HEADS[loss][0]}', and "
                f"'{self.network.architecture}' has '{head}' here"
            )
        self._check_size_of_training()
        self._check_augmentation()

    def _check_size_of_training(self) -> None:
        """Refuse batches and targets that would not fit into a computer's memory."""
        if self.training.batch * math.prod(self.shape) > MAX_BATCH_VOXELS:
            raise ValueError(f"training.batch: {self.training.batch} crops are more than a computer can take")
        reaches = {
            "sigma": 3 * (self.training.sigma or 0),
            "radius": self.training.radius or 0,
            "radii": max(self.training.radii or (0,)),
        }
        for name, reach in reaches.items():
            if self.channels * (2 * reach + 1) ** 3 > MAX_READ_VOXELS:
                raise ValueError(f"training.{name}: {reach:g} voxels to each side are more than a computer can take")

    def _check_augmentation(self) -> None:
        for name, unset in (("rotation_deviation_degrees", None), ("rotation_share", 1.0), ("cut", None)):
            if not self.is_2d and getattr(self.augmentation, name) != unset:
                raise ValueError(f"augmentation.{name}: it belongs to radiographs, and this stage reads volumes")

    @property
    def settings(self) -> StageSettings:
        """How the stage is trained, as a manifest keeps it."""
        return StageSettings(self.training, self.augmentation)


@dataclass(frozen=True)
class StageSettings:
    """How a stage was trained; manifests keep it under ``training.stages.NAME``."""

    training: Training
    augmentation: Augmentation = field(default_factory=Augmentation)


def recorded_settings(manifest: Manifest, stage: str, usual: Training) -> StageSettings | None:
    """How a stage of a model was trained, as its manifest says; None where it says nothing.

    Args:
        manifest: of the model.
        stage: name of the stage.
        usual: stands for what older manifests leave out.

    Raises:
        FormatError: the manifest has entries there that no training takes.
    """
    entry = manifest.training.get("stages", {}).get(stage)
    if not entry:
        return None
    training = {**to_plain(usual), **entry.get("training", {})}
    return build(StageSettings, {**entry, "training": training})


def recorded_cases(manifest: Manifest, subset: str) -> tuple[str, ...]:
    """Names of the cases of a subset that a model was made with, as far as its manifest says."""
    said: Any = manifest.training
    for name in ("data", "split", subset):
        said = said.get(name, ()) if isinstance(said, Mapping) else ()
    return tuple(name for name in said if isinstance(name, str)) if isinstance(said, (list, tuple)) else ()
