"""How the published networks name their weights, and what those are called here.

`layout_h3denet` and `layout_hyatt` list every entry of a published state dict, in its order, with its shape and with
what becomes of it. `published-names.md` beside this file is the same as a table, with the sources.

The classes read are ``BiFormer_Unet`` (heat maps) and ``PBiFormer_Unet`` (anchors) of ECNUACRush/H3DE-Net, and the
detector ``TopDown_2Head_Neck`` of ECNUACRush/HAN, the authors' repository of the two-dimensional networks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

Shape = tuple[int, ...]
NORM_STATE = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


class Entry(NamedTuple):
    """One entry of a published state dict.

    Attributes:
        name: as published.
        shape: as published.
        ours: name in our state dict; None for an entry that the published network never uses.
    """

    name: str
    shape: Shape
    ours: str | None


def layout_h3denet(settings: Mapping) -> Iterator[Entry]:
    """Entries of BiFormer_Unet or PBiFormer_Unet; ``settings`` are the fields of H3DENetConfig."""
    dims, landmarks, anchor = settings["dims"], settings["landmarks"], settings["head"] == "anchor"
    yield from _downsamplings(settings)
    for i, (dim, depth) in enumerate(zip(dims, settings["depths"])):
        for j in range(depth):
            yield from _block(f"stages.{i}.{j}", f"encoder.stages.{i}.blocks.{j}", dim, settings["mlp_ratio"], 3)
    yield from _norm("norm", dims[3])
    for i, dim in enumerate(dims):
        yield from _pair(f"norm{i}", (dim,), f"encoder.stages.{i}.norm")
    yield from _pair("head", (landmarks, dims[3]))
    yield from _decoder(settings)
    yield from _pair("final_conv", (landmarks, settings["fine_dims"][1], 1, 1, 1), None if anchor else "head")
    if anchor:
        half, full = settings["fine_dims"]
        quarter, fusion = settings["decoder_dims"][2], settings["feature_fusion"]
        yield from _pair("early_down1", (quarter, full, 1, 1, 1), "fusion.from_full" if fusion else None)
        yield from _pair("early_down2", (quarter, half, 1, 1, 1), "fusion.from_half" if fusion else None)
        inputs, outputs = quarter * (3 if fusion else 1), settings["anchors"] * (3 + landmarks)
        yield from _pair("pre_layer", (outputs, inputs, 1, 1, 1), "head.conv")


def _downsamplings(settings: Mapping) -> Iterator[Entry]:
    first, second = settings["stem_channels"]
    ours, dims = "encoder.downsamplings", settings["dims"]
    yield from _pair("downsample_layers.0.0", (first, settings["in_channels"], 3, 3, 3), f"{ours}.0.0")
    yield from _pair("downsample_layers.0.3", (second, first, 3, 3, 3), f"{ours}.0.3")
    for i, (before, after) in enumerate(zip(dims, dims[1:]), start=1):
        yield from _pair(f"downsample_layers.{i}.0", (after, before, 3, 3, 3), f"{ours}.{i}.0")


def _decoder(settings: Mapping) -> Iterator[Entry]:
    """The five decoder blocks and the convolutions of the image, used or not."""
    dims, fine = settings["dims"], settings["fine_dims"]
    outputs = (*settings["decoder_dims"], *fine)
    skips = (dims[2], dims[1], dims[0], *fine)
    fine_is_used = settings["head"] == "heatmap" or settings["feature_fusion"]
    for i, (before, skip, after) in enumerate(zip((dims[3], *outputs), skips, outputs)):
        block = f"decoder.{i}" if i < 3 else f"fine_decoder.{i - 3}"
        ours = block if i < 3 or fine_is_used else None
        if settings["super_resolution"]:
            yield Entry(f"up{i}.srb.conv.weight", (8 * before, before, 3, 3, 3), _child(ours, "upsample.conv.weight"))
            yield from _norm(f"up{i}.srb.bn", 8 * before, _child(ours, "upsample.norm"))
        for number, inputs in ((1, before + skip), (2, after)):
            target = _child(ours, f"convolutions.{3 * number - 3}.weight")
            yield Entry(f"up{i}.conv{number}.0.weight", (after, inputs, 3, 3, 3), target)
    for i, width in enumerate(fine):
        target = f"image_skips.{i}.weight" if fine_is_used else None
        yield Entry(f"c{i + 1}.0.weight", (width, settings["in_channels"], 3, 3, 3), target)


def layout_hyatt(settings: Mapping) -> Iterator[Entry]:
    """Entries of TopDown_2Head_Neck; ``settings`` are the fields of HyattConfig."""
    dims, neck, landmarks = settings["dims"], settings["neck_dim"], settings["landmarks"]
    residual = {"hyatt": "arm", "han": "cab"}[settings["variant"]]
    for i, dim in enumerate(dims):
        yield from _residual_attention(f"backbone.conv_lay.{i}", f"backbone.stages.{i}.{residual}", dim)
    for i, (before, dim) in enumerate(zip((settings["in_channels"], *dims), dims)):
        layer, ours = f"backbone.layers.{i}", f"backbone.stages.{i}"
        yield from _pair(f"{layer}.0.projection", (dim, before, 4, 4), f"{ours}.embedding.conv")
        yield from _norm(f"{layer}.0.bn1", dim, f"{ours}.embedding.norm")
        yield from _block(f"{layer}.1.0", f"{ours}.block", dim, settings["mlp_ratios"][i], 2, full=i == 4)
    yield from _neck(dims, neck)
    yield from _heads(neck, settings["in_channels"], settings["image_dim"], landmarks)


def _residual_attention(name: str, ours: str, dim: int) -> Iterator[Entry]:
    hidden = max(1, dim // 16)
    channel, spatial = f"{ours}.channel_attention.mlp", f"{ours}.spatial_attention.conv"
    yield Entry(f"{name}.CBAM.ca.mlp.0.weight", (hidden, dim, 1, 1), f"{channel}.0.weight")
    yield Entry(f"{name}.CBAM.ca.mlp.2.weight", (dim, hidden, 1, 1), f"{channel}.2.weight")
    yield Entry(f"{name}.CBAM.sa.conv1.weight", (1, 2, 7, 7), f"{spatial}.weight")
    yield Entry(f"{name}.conv1.weight", (dim, dim, 3, 3), f"{ours}.conv.weight")
    yield from _norm(f"{name}.bn1", dim, f"{ours}.norm")
    yield Entry(f"{name}.conv2.weight", (dim, dim, 3, 3), f"{ours}.dilated_conv.weight")
    yield from _norm(f"{name}.bn2", dim, f"{ours}.dilated_norm")
    yield Entry(f"{name}.conv4.weight", (dim, dim, 3, 3), f"{ours}.shortcut.weight")


def _neck(dims: Sequence[int], neck: int) -> Iterator[Entry]:
    for i in (0, 3):
        yield from _pair(f"neck.double_conv.{i}", (neck, neck, 3, 3))
        yield from _norm(f"neck.double_conv.{i + 1}", neck)
    for i, dim in enumerate(dims[1:]):
        yield from _pair(f"neck.lateral_convs.{i}", (neck, dim, 3, 3), f"neck.laterals.{i}")
    for i in range(len(dims) - 1):
        yield from _pair(f"neck.c_convs.{i}", (neck, neck, 3, 3), None if i else "neck.output")


def _heads(neck: int, image: int, image_dim: int, landmarks: int) -> Iterator[Entry]:
    name, joined = "keypoint_head_global", neck + image_dim + landmarks
    yield from _pair(f"{name}.w1_conv.0", (image_dim, image, 1, 1), "head.image.0")
    yield from _norm(f"{name}.w1_conv.1", image_dim, "head.image.1")
    yield from _pair(f"{name}.w2_conv.0", (neck // 4, neck, 1, 1))
    yield from _norm(f"{name}.w2_conv.1", neck // 4)
    yield from _maps(f"{name}.layer", joined, joined, landmarks, "head.correction")
    yield from _maps("keypoint_head.layer", neck, neck, landmarks, "head.quarter_maps")
    yield Entry("distance_head.deconv_layers.0.weight", (neck, neck, 4, 4), "head.upsample.0.weight")
    yield from _norm("distance_head.deconv_layers.1", neck, "head.upsample.1")
    yield from _maps("distance_head.layer", neck, neck, landmarks, "head.half_maps")


def _maps(name: str, inputs: int, hidden: int, landmarks: int, ours: str) -> Iterator[Entry]:
    yield from _pair(f"{name}.0", (hidden, inputs, 3, 3), f"{ours}.0")
    yield from _pair(f"{name}.2", (landmarks, hidden, 1, 1), f"{ours}.2")


def _block(name: str, ours: str, dim: int, mlp_ratio: int, axes: int, full: bool = False) -> Iterator[Entry]:
    """A block of BiFormer; ``full`` for attention of all tokens to all, whose layers have other names and order."""
    yield from _pair(f"{name}.pos_embed", (dim, 1, *[3] * axes), f"{ours}.position")
    yield from _pair(f"{name}.norm1", (dim,), f"{ours}.attention_norm")
    lepe = list(_pair(f"{name}.attn.lepe", (dim, 1, *[5] * axes), f"{ours}.attention.lepe"))
    if full:
        yield Entry(f"{name}.attn.qkv.weight", (3 * dim, dim), f"{ours}.attention.qkv.weight")
        yield from _pair(f"{name}.attn.proj", (dim, dim), f"{ours}.attention.proj")
        yield from lepe
    else:
        yield from lepe
        yield from _pair(f"{name}.attn.qkv.qkv", (3 * dim, dim), f"{ours}.attention.qkv")
        yield from _pair(f"{name}.attn.wo", (dim, dim), f"{ours}.attention.proj")
    yield from _pair(f"{name}.norm2", (dim,), f"{ours}.mlp_norm")
    yield from _pair(f"{name}.mlp.0", (mlp_ratio * dim, dim), f"{ours}.mlp.0")
    yield from _pair(f"{name}.mlp.3", (dim, mlp_ratio * dim), f"{ours}.mlp.2")


def _pair(name: str, shape: Shape, ours: str | None = None) -> Iterator[Entry]:
    """Weight and bias, whose length is the weight's first side."""
    yield Entry(f"{name}.weight", shape, _child(ours, "weight"))
    yield Entry(f"{name}.bias", shape[:1], _child(ours, "bias"))


def _norm(name: str, channels: int, ours: str | None = None) -> Iterator[Entry]:
    """Batch normalization."""
    for part in NORM_STATE:
        yield Entry(f"{name}.{part}", () if part == "num_batches_tracked" else (channels,), _child(ours, part))


def _child(parent: str | None, name: str) -> str | None:
    return None if parent is None else f"{parent}.{name}"


LAYOUTS: dict[str, Callable[[Mapping], Iterator[Entry]]] = {
    "h3denet": layout_h3denet,
    "hyatt": layout_hyatt,
    "han": layout_hyatt,
}


def recognize(shapes: Mapping[str, Shape]) -> str | None:
    """Architecture of a published state dict by its names, None for an unknown one; HAN's names are HYATT-Net's."""
    if any(name.startswith("backbone.conv_lay.") for name in shapes):
        return "hyatt"
    if any(re.match(r"up\d\.conv\d\.0\.", name) for name in shapes):
        return "h3denet"
    return None


def settings_h3denet(shapes: Mapping[str, Shape]) -> dict:
    """Fields of H3DENetConfig that the shapes of a published state dict tell; the others are as published.

    Raises:
        KeyError: a name that decides a setting is missing.
    """
    dims = tuple(shapes[f"norm{i}.weight"][0] for i in range(4))
    anchor = "pre_layer.weight" in shapes
    landmarks = shapes["final_conv.weight"][0]
    stem = shapes["downsample_layers.0.0.weight"]
    settings = {
        "landmarks": landmarks,
        "in_channels": stem[1],
        "head": "anchor" if anchor else "heatmap",
        "stem_channels": (stem[0], dims[0]),
        "dims": dims,
        "depths": tuple(_count(shapes, rf"stages\.{i}\.(\d+)\.") for i in range(4)),
        "mlp_ratio": shapes["stages.0.0.mlp.0.weight"][0] // dims[0],
        "decoder_dims": tuple(shapes[f"up{i}.conv2.0.weight"][0] for i in range(3)),
        "fine_dims": tuple(shapes[f"up{i}.conv2.0.weight"][0] for i in (3, 4)),
        "super_resolution": "up0.srb.conv.weight" in shapes,
        "feature_fusion": False,
    }
    if anchor:
        outputs, inputs = shapes["pre_layer.weight"][:2]
        settings["anchors"] = outputs // (3 + landmarks)
        settings["feature_fusion"] = inputs == 3 * settings["decoder_dims"][2]
    return settings


def settings_hyatt(shapes: Mapping[str, Shape]) -> dict:
    """Fields of HyattConfig that the shapes of a published state dict tell; the others are as published.

    Raises:
        KeyError: a name that decides a setting is missing.
    """
    dims = tuple(shapes[f"backbone.layers.{i}.0.projection.weight"][0] for i in range(5))
    return {
        "landmarks": shapes["keypoint_head.layer.2.weight"][0],
        "in_channels": shapes["backbone.layers.0.0.projection.weight"][1],
        "dims": dims,
        "mlp_ratios": tuple(shapes[f"backbone.layers.{i}.1.0.mlp.0.weight"][0] // dims[i] for i in range(5)),
        "neck_dim": shapes["neck.lateral_convs.0.weight"][0],
        "image_dim": shapes["keypoint_head_global.w1_conv.0.weight"][0],
    }


def _count(shapes: Mapping[str, Shape], pattern: str) -> int:
    return 1 + max((int(match[1]) for match in map(re.compile(pattern).match, shapes) if match), default=-1)
