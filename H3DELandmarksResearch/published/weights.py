"""Weights of a published network brought into a network of ours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.networks import build_network
from H3DELandmarksResearch.published.names import (
    LAYOUTS,
    NORM_STATE,
    Entry,
    Shape,
    recognize,
    settings_h3denet,
    settings_hyatt,
)

NORM_EPS = 1e-5
Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class PublishedWeights:
    """A published network as `build_network` and `load_state_dict` take it.

    Attributes:
        architecture: key of ``ARCHITECTURES``.
        settings: fields of the architecture's config.
        weights: arrays by our names.
        unused: published names that have no counterpart, because the published network never uses them.
    """

    architecture: str
    settings: dict
    weights: dict[str, np.ndarray]
    unused: tuple[str, ...]


def convert_published(state: Arrays, architecture: str | None = None, landmarks: int | None = None) -> PublishedWeights:
    """Bring the weights of a published network into ours.

    Entries are found by their published names or, where those are unknown, by order and shape: all of them must then
    be there, in the published order, with the published shapes.

    Args:
        state: published state dict.
        architecture: key of ``LAYOUTS``; None: told by the names, "hyatt" for HYATT-Net and HAN.
        landmarks: how many the network finds, needed only where names are unknown.

    Raises:
        InputError: the first entry that does not fit.
    """
    shapes = {name: array.shape for name, array in state.items()}
    recognized = recognize(shapes)
    if architecture is None and recognized is None:
        raise InputError(
            f"The checkpoint's names, such as '{next(iter(state), '')}', are those of no published network: "
            "say which architecture it is."
        )
    architecture = architecture or recognized
    if recognized is None:
        settings, state = _by_order(state, architecture, landmarks)
    else:
        if (recognized == "h3denet") != (architecture == "h3denet"):
            raise InputError(f"The checkpoint holds the network '{recognized}', not '{architecture}': leave that out.")
        settings = _settings(shapes, architecture)
    return _convert(state, architecture, settings)


def _settings(shapes: Mapping[str, Shape], architecture: str) -> dict:
    try:
        return settings_h3denet(shapes) if architecture == "h3denet" else settings_hyatt(shapes)
    except KeyError as error:
        raise InputError(f"The checkpoint lacks {error}: choose one of the whole published network.") from error


def _layout(architecture: str, settings: Mapping) -> list[Entry]:
    with torch.device("meta"):
        config = build_network(architecture, settings).config
    return list(LAYOUTS[architecture](vars(config)))


def _by_order(state: Arrays, architecture: str, landmarks: int | None) -> tuple[dict, dict[str, np.ndarray]]:
    """Published settings, and ``state`` under published names, of a checkpoint with names of its own."""
    if landmarks is None:
        raise InputError("The checkpoint's names are not the published ones: say how many landmarks it finds.")
    variants = [{}] if architecture != "h3denet" else [{"head": "heatmap"}, {"head": "anchor"}]
    problems = []
    for variant in variants:
        settings = {"landmarks": landmarks, **variant}
        layout = _layout(architecture, settings)
        problem = _first_difference(state, layout)
        if problem is None:
            return settings, {entry.name: array for entry, array in zip(layout, state.values())}
        problems.append(problem)
    position, text = max(problems)
    raise InputError(f"Entry {position + 1} of the checkpoint is no part of the published network: {text}.")


def _first_difference(state: Arrays, layout: Sequence[Entry]) -> tuple[int, str] | None:
    for position, (entry, (name, array)) in enumerate(zip(layout, state.items())):
        if array.shape != entry.shape or name.rpartition(".")[2] != entry.name.rpartition(".")[2]:
            return position, f"'{name}' {array.shape} in place of '{entry.name}' {entry.shape}"
    if len(state) != len(layout):
        return min(len(state), len(layout)), f"there are {len(state)} entries in place of {len(layout)}"
    return None


def _convert(state: Arrays, architecture: str, settings: dict) -> PublishedWeights:
    layout = _layout(architecture, settings)
    with torch.device("meta"):
        state_here = build_network(architecture, settings).state_dict()
    target = {name: tuple(value.shape) for name, value in state_here.items()}
    published = {entry.name: entry for entry in layout}
    unknown = next((name for name in state if name not in published), None)
    if unknown is not None:
        raise InputError(f"'{unknown}' of the checkpoint is no part of the published network: choose another.")
    weights: dict[str, np.ndarray] = {}
    left_out: dict[str, np.ndarray] = {}
    for entry in layout:
        if entry.ours is None:
            continue
        array, name = _array(state, entry), _resolve(entry, target)
        if name is None:
            left_out[entry.ours] = array
        elif array.squeeze().shape != tuple(side for side in target[name] if side != 1):
            raise InputError(f"'{entry.name}' of the checkpoint is {array.shape}, where {target[name]} is expected.")
        else:
            weights[name] = array.reshape(target[name])
    dropped = _settle_norms(weights, left_out, state)
    if left_out:
        raise InputError(f"The network here has no place for '{next(iter(left_out))}' of the published one.")
    _fill_absent_biases(weights, target)
    unused = tuple(e.name for e in layout if e.name in state and (e.ours is None or e.ours in dropped))
    return PublishedWeights(architecture, settings, weights, unused)


def _array(state: Arrays, entry: Entry) -> np.ndarray:
    if entry.name not in state:
        if entry.name.endswith("num_batches_tracked"):  # PyTorch counts since 0.4.1
            return np.zeros((), np.int64)
        raise InputError(f"The checkpoint lacks '{entry.name}': choose one of the whole published network.")
    array = state[entry.name]
    if array.shape != entry.shape:
        raise InputError(f"'{entry.name}' of the checkpoint is {array.shape}, where {entry.shape} is expected.")
    return array


def _resolve(entry: Entry, target: Iterable[str]) -> str | None:
    """Our name, also where the layer is the first of several, as in ``image_skips.0.0.weight``."""
    parent, _, leaf = entry.ours.rpartition(".")
    return next((name for name in (entry.ours, f"{parent}.0.{leaf}") if name in target), None)


def _settle_norms(weights: dict[str, np.ndarray], left_out: dict[str, np.ndarray], state: Arrays) -> set[str]:
    """Biases before a normalization move into it; one that never ran becomes the identity.

    Returns our names of the entries whose values are of no use.

    The published patch embedding has a normalization that its ``forward`` leaves out. Nothing in a state dict says so
    but the count of batches that it saw.
    """
    dropped = set()
    for name in [name for name in weights if name.endswith("embedding.norm.num_batches_tracked")]:
        norm = name.removesuffix(".num_batches_tracked")
        if not weights[name]:
            ones = np.ones_like(weights[f"{norm}.weight"])
            weights[f"{norm}.weight"] = np.sqrt(ones + np.float32(NORM_EPS))
            weights[f"{norm}.bias"], weights[f"{norm}.running_mean"] = 0 * ones, 0 * ones
            weights[f"{norm}.running_var"] = ones
            dropped |= {f"{norm}.{leaf}" for leaf in NORM_STATE}
    for name in list(left_out):
        norm = name.replace("embedding.conv.bias", "embedding.norm").replace("head.image.0.bias", "head.image.1")
        if f"{norm}.running_mean" in weights:
            weights[f"{norm}.running_mean"] = weights[f"{norm}.running_mean"] - left_out.pop(name)
        elif ".embedding.norm." in name and not state_counts(state, name):
            left_out.pop(name)
            dropped.add(name)
    return dropped


def state_counts(state: Arrays, name: str) -> int:
    """Batches that the published patch embedding's normalization of our ``name`` saw."""
    stage = name.split(".")[2]
    return int(state.get(f"backbone.layers.{stage}.0.bn1.num_batches_tracked", 0))


def _fill_absent_biases(weights: dict[str, np.ndarray], target: Mapping[str, Shape]) -> None:
    """A bias that the published layer doesn't have is zero here."""
    for name, shape in target.items():
        if name in weights:
            continue
        if not name.endswith(".bias") or f"{name.removesuffix('bias')}weight" not in weights:
            raise InputError(f"The published network has no '{name}': it can't be imported into this architecture.")
        weights[name] = np.zeros(shape, np.float32)
