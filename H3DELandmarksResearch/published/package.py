"""A model package from a checkpoint of a published network."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from H3DELandmarksLib import __version__
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.landmarks import LandmarkScheme
from H3DELandmarksLib.detection.calibration import Calibration
from H3DELandmarksLib.formats.manifest import (
    UNKNOWN_SHA256,
    Decoding,
    Group,
    Intensity,
    License,
    Manifest,
    Stage,
    WeightsFile,
)
from H3DELandmarksLib.formats.network_settings import Network
from H3DELandmarksLib.formats.reading import to_plain
from H3DELandmarksLib.models.card import model_card
from H3DELandmarksLib.models.package import SHAPE_FILE, ModelPackage, write_package
from H3DELandmarksResearch.published.checkpoints import Checkpoint, read_checkpoint

if TYPE_CHECKING:
    from H3DELandmarksResearch.published.weights import PublishedWeights

# ImageNet's means and deviations, which the published pipeline of HYATT-Net applies to values from 0 to 255.
MEANS, DEVIATIONS = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IMAGE_LAYERS = ("backbone.layers.0.0.projection", "keypoint_head_global.w1_conv.0")
DecodingMethod = Literal["published-heatmap", "published-anchor", "published-hyatt"]
TOLERANCE_MM = 2.0
WEIGHTS, NOTHING_MEASURED = "network.safetensors", "The accuracy of this checkpoint was not measured here."
NOT_CALIBRATED = (
    "Not calibrated: the confidence of every point is 0.5, presence is the network's raw evidence, and the radius "
    "shown for each point is only half the longest side of the network's field, not a measured error."
)
FITTED = (
    "As by the authors, the whole image lies in the middle of the network's input with a margin: a network pixel is "
    "1.25 times max(image width / input width, image height / input height) image pixels, interpolated linearly. The "
    "pixel size above, and the radius, are those of a usual image. "
)
UNKNOWN_LICENSE = "Not stated by the authors: ask them before passing this model on."


@dataclass(frozen=True)
class PublishedSystem:
    """What is known of a published network beside its weights.

    Attributes:
        title: name and paper.
        shape: voxels of its input along I, J, K.
        decoding: method that reads its maps, by head.
        views: 2 where its authors also look at the mirrored image.
        shapes: input of landmark sets for which it differs, by the set's name.
        one_view: sets whose mirrored images its authors do not look at.
        fit: how much larger than the image its crop is, where each image's own size says what a pixel is.
        usual_mm: pixel that follows for a usual image of a set, by the set's name; others have `OTHERS_MM`.
        preparation: what its authors do to an image, for the model card.
    """

    title: str
    shape: tuple[int, int, int]
    decoding: dict[str, DecodingMethod]
    preparation: str
    views: Literal[1, 2] = 1
    shapes: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    one_view: tuple[str, ...] = ()
    fit: float | None = None
    usual_mm: dict[str, float] = field(default_factory=dict)


H3DENET = PublishedSystem(
    "H3DE-Net (arXiv 2502.14221)",
    (128, 128, 64),
    {"heatmap": "published-heatmap", "anchor": "published-anchor"},
    "Stored values are divided by 255. Volumes are not resampled by the authors: the voxels' size is the one given at "
    "the import, and the axes of the crop are those of the patient (left, posterior, superior), which the data set's "
    "files are taken to have. The authors' crop is centered on the true landmarks; here the whole scan is searched.",
)
HYATT = PublishedSystem(
    "HYATT-Net (arXiv 2412.06499)",
    (1024, 1216, 1),
    {"": "published-hyatt"},
    "Gray values of 0 to 255 in three equal channels; the authors' normalization is part of the first layers' weights "
    "here, which is exact but for the outermost pixels (less than 0.2 % of the range of gray values).",
    views=2,
    shapes={"pelvis": (512, 512, 1), "cephadoadu": (1024, 1024, 1)},
    one_view=("pelvis",),
    fit=1.25,
    usual_mm={"isbi2015": 0.2467, "pelvis": 1.0},
)
# Of images of a head or a hand with pixels of 0.1 mm; the set's images do not say.
OTHERS_MM = 0.25
SYSTEMS = {"h3denet": H3DENET, "hyatt": HYATT, "han": HYATT}


def import_published(
    checkpoint: str | Path,
    folder: str | Path,
    scheme: LandmarkScheme,
    spacing_mm: float | None = None,
    architecture: str | None = None,
    window: tuple[float, float] = (0.0, 255.0),
    size: Sequence[int] | None = None,
) -> ModelPackage:
    """Write a model package with the weights of a published checkpoint.

    Args:
        checkpoint: PyTorch or safetensors file; nothing in it is run.
        folder: where to write; must not exist.
        scheme: landmarks in the order of the network's channels.
        spacing_mm: voxels that a network for volumes was trained on; None for radiographs: as its authors do, the
            whole image is fitted into the network's input with a margin, whatever its size and pixels.
        architecture: "h3denet", "hyatt" or "han"; None: as the checkpoint's names say.
        window: stored values that correspond to the published 0 and 255.
        size: voxels of the network's input along each axis; None: as published for the landmarks' set.

    Raises:
        InputError: the checkpoint, or what is said of it, doesn't fit a published network.
        ModelPackageError: the folder exists or can't be written.
    """
    from H3DELandmarksResearch.published.weights import convert_published

    checkpoint, folder = Path(checkpoint), Path(folder)
    if (spacing_mm is not None and not spacing_mm > 0) or not window[0] < window[1]:
        raise InputError("The spacing must be positive and the window's low value less than its high one.")
    content = read_checkpoint(checkpoint)
    state = with_normalization(content.tensors) if IMAGE_LAYERS[0] + ".weight" in content.tensors else content.tensors
    network = convert_published(state, architecture, len(scheme))
    found = network.settings["landmarks"]
    if found != len(scheme):
        raise InputError(
            f"The checkpoint's network finds {found} landmarks, but {len(scheme)} are named: name all, in order."
        )
    stage = _stage(SYSTEMS[network.architecture], scheme, spacing_mm, network, size)
    manifest = _manifest(checkpoint, folder, scheme, stage, window, network, content)
    weights = {WEIGHTS: network.weights, SHAPE_FILE: _no_shape(len(scheme))}
    return write_package(folder, manifest, weights, model_card(manifest, notes=_notes(manifest, network)))


def with_normalization(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Published weights of HYATT-Net for images of 0 to 1 in place of (gray value - mean) / deviation."""
    state = dict(state)
    for layer in IMAGE_LAYERS:
        weight, bias = state.get(f"{layer}.weight"), state.get(f"{layer}.bias")
        if weight is None or bias is None or weight.ndim != 4 or weight.shape[1] != len(MEANS):
            raise InputError(f"The checkpoint lacks '{layer}' for three channels: choose one of the published network.")
        shift = np.array(MEANS, np.float32) / np.array(DEVIATIONS, np.float32)
        gain = 255 / np.array(DEVIATIONS, np.float32)
        state[f"{layer}.bias"] = bias - np.einsum("ocij,c->o", weight, shift)
        state[f"{layer}.weight"] = weight * gain[:, None, None]
    return state


def _manifest(
    checkpoint: Path,
    folder: Path,
    scheme: LandmarkScheme,
    stage: Stage,
    window: tuple[float, float],
    network: PublishedWeights,
    content: Checkpoint,
) -> Manifest:
    system = SYSTEMS[network.architecture]
    title = system.title.replace("HYATT-Net", "HAN") if network.architecture == "han" else system.title
    radius = max(stage.shape) * stage.spacing_mm / 2
    calibration = Calibration.neutral(len(scheme), TOLERANCE_MM).to_manifest()
    return Manifest(
        id=re.sub(r"[^a-z0-9]+", "-", folder.name.lower()).strip("-")[:64].strip("-") or "imported",
        version="1.0.0",
        title=f"{title}, imported",
        description=f"Weights of a checkpoint of {title}, imported from {checkpoint.name}.",
        modality="radiograph" if stage.is_2d else "CT",
        anatomy="not stated",
        intended_use="Comparison with the published network. Not for clinical use.",
        limitations=(NOT_CALIBRATED, NOTHING_MEASURED),
        license=License(weights=UNKNOWN_LICENSE, data=UNKNOWN_LICENSE),
        scheme=scheme,
        intensity=Intensity("window", float(window[0]), float(window[1])),
        outside=float(window[0]),
        stages=(stage,),
        shape_model=WeightsFile(SHAPE_FILE, UNKNOWN_SHA256),
        calibration=replace(calibration, radius90_mm=(radius,) * len(scheme)),
        training={
            "checkpoint": checkpoint.name,
            "checkpoint_sha256": hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
            "arguments": {k: v for k, v in content.arguments.items() if not isinstance(v, str) or v.isidentifier()},
            "imported": date.today().isoformat(),
            "software": f"H3DELandmarksLib {__version__}",
        },
        accuracy={},
    )


def _stage(
    system: PublishedSystem,
    scheme: LandmarkScheme,
    spacing_mm: float | None,
    network: PublishedWeights,
    size: Sequence[int] | None,
) -> Stage:
    """The network as its authors run it on the data set whose landmarks are named.

    Raises:
        InputError: a size that the network does not take, or none of the voxels where it is needed.
    """
    fit = system.fit if spacing_mm is None else None
    if spacing_mm is None and fit is None:
        raise InputError(f"{system.title} needs the size of its voxels: give --spacing in mm.")
    shape = system.shapes.get(scheme.id, system.shape) if size is None else _shape(system, size)
    try:
        return Stage(
            name="network",
            network=Network(network.architecture, to_plain(network.settings)),
            weights=WeightsFile(WEIGHTS, UNKNOWN_SHA256),
            spacing_mm=spacing_mm or system.usual_mm.get(scheme.id, OTHERS_MM),
            shape=shape,
            poses="scan",
            groups=(Group(scheme.names),),
            views=1 if scheme.id in system.one_view else system.views,
            decoding=Decoding(system.decoding[network.settings.get("head", "")]),
            fit=fit,
            sampling=None if fit is None else "linear",
        )
    except ValueError as error:
        raise InputError(f"The network cannot be run so ({error}): give another --size.") from error


def _shape(system: PublishedSystem, size: Sequence[int]) -> tuple[int, int, int]:
    axes = 2 if system.shape[2] == 1 else 3
    if len(size) != axes or min(size) < 1:
        raise InputError(f"The size of the input of {system.title} is {axes} positive numbers: give them to --size.")
    return (*size, 1) if axes == 2 else tuple(size)


def _no_shape(landmarks: int) -> dict[str, np.ndarray]:
    """A mean shape that says nothing: all landmarks in one place, at any distance from it."""
    return {"mean": np.zeros((landmarks, 3)), "tolerance": np.ones(landmarks)}


def _notes(manifest: Manifest, network: PublishedWeights) -> tuple[str, ...]:
    """What the card says of the import beside the manifest."""
    unused = ", ".join(f"`{name}`" for name in network.unused) or "none"
    looks = "The mirrored image is looked at, too. " if manifest.stages[0].views == 2 else ""
    if manifest.stages[0].fit is not None:
        looks += FITTED
    return (
        f"Stored values {manifest.intensity.low:g} to {manifest.intensity.high:g} become 0 to 1. Positions are read by "
        f"`{manifest.stages[0].decoding.method}`. {looks}{SYSTEMS[network.architecture].preparation}",
        f"Layers of the checkpoint that the published network never uses, left out here: {unused}.",
        f"SHA-256 of the checkpoint: {manifest.training['checkpoint_sha256']}",
    )
