"""Settings of every network architecture: what a manifest or configuration may say, checked without PyTorch.

The classes are those that the networks are built from; `SETTINGS` finds them by the architecture's name. The research
package adds the networks that ours are compared with.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from H3DELandmarksLib.core.text import nearest
from H3DELandmarksLib.formats.reading import FormatError, Limits, build

SMALLEST_SIDE = 32  # of a crop: the coarsest maps have a 32nd of its voxels along each axis
# Far above any network that is in use; what a stranger's file asks for beyond them would take all memory or hours.
Landmarks = Annotated[int, Limits(ge=1, le=10_000)]
Channels = Annotated[int, Limits(ge=1, le=4096)]
Few = Annotated[int, Limits(ge=1, le=64)]


@dataclass(frozen=True)
class H3DENetConfig:
    """Settings of H3DENet (arXiv 2502.14221); the defaults are the published network.

    Attributes:
        landmarks: maps, or classes of the anchor head.
        in_channels: channels of the scan.
        head: heat maps, or the published anchors.
        stem_channels: of the two convolutions before the first stage.
        dims, depths: channels and blocks of the four stages, at strides 4 to 32.
        head_dim: channels of one attention head.
        n_win: windows along X, Y and Z.
        topk: windows that a window attends to, by stage.
        mlp_ratio: hidden over outer width of the perceptrons.
        decoder_dims, fine_dims: channels of the decoder at strides 16 to 4, and 2 to 1.
        anchors: of each cell of the anchor head.
        feature_fusion, super_resolution: parts of the published anchor network.
        output_stride: voxels of the crop per voxel of the heat map.
        presence: whether a read-out of our own says which landmarks are in the crop.
        plain_image_skips: the image skips of the first bundled models.
    """

    landmarks: Landmarks
    in_channels: Few = 1
    head: Literal["heatmap", "anchor"] = "heatmap"
    stem_channels: tuple[Channels, Channels] = (32, 64)
    dims: tuple[Channels, Channels, Channels, Channels] = (64, 128, 256, 512)
    depths: tuple[Few, Few, Few, Few] = (2, 2, 4, 2)
    head_dim: Channels = 8
    n_win: tuple[Few, Few, Few] = (4, 4, 2)
    topk: tuple[Channels, Channels, Channels, Channels] = (1, 4, 16, 16)
    mlp_ratio: Few = 4
    decoder_dims: tuple[Channels, Channels, Channels] = (256, 128, 64)
    fine_dims: tuple[Channels, Channels] = (32, 16)
    anchors: Few = 4
    feature_fusion: bool = False
    super_resolution: bool = False
    output_stride: Literal[1, 2] = 1
    presence: bool = False
    plain_image_skips: bool = False

    is_2d = False
    smallest_side = SMALLEST_SIDE

    @property
    def finest_channels(self) -> int:
        """Most channels that a map of the crop's own resolution has."""
        return max(self.in_channels, self.fine_dims[1], -(-self.landmarks // self.output_stride**3))

    def __post_init__(self) -> None:
        if self.stem_channels[-1] != self.dims[0]:
            raise ValueError(f"the stem must end with dims[0] = {self.dims[0]} channels, not {self.stem_channels[-1]}")
        if any(dim % self.head_dim for dim in self.dims):
            raise ValueError(f"head_dim {self.head_dim} must divide every entry of dims {self.dims}")
        if self.head == "heatmap" and self.feature_fusion:
            raise ValueError("feature_fusion feeds the anchor head; it can't be used with the heat-map head")
        if self.head == "anchor" and self.output_stride != 1:
            raise ValueError("output_stride belongs to the heat-map head; the anchor head always has stride 4")


@dataclass(frozen=True)
class HyattConfig:
    """Settings of HyattNet (arXiv 2412.06499); the defaults are the published network.

    Attributes:
        landmarks: heat maps at each resolution.
        in_channels: channels of the image, 3 as published or 1.
        variant: "hyatt" or "han": names of the same function.
        dims: channels of the five stages, at strides 2 to 32.
        heads: attention heads of the five stages.
        n_win: windows along each side in stages 1 to 4; the fifth attends fully.
        topk: windows that a window attends to in stages 1 to 4.
        mlp_ratios: hidden over outer width of the perceptron of the five stages.
        drop_path: probability that the last stage's branches are left out in training; rises linearly from 0.
        neck_dim: channels of neck and heads.
        image_dim: channels of the image in the feature fusion correction module.
        norm: "batch" as published; "group" or "frozen" for training with a batch of one image. In training, "batch"
            needs more than one pixel at stride 32 where the batch is one image.
        mask_padding: keep the padding of windows that overlap the border out of the attention.
    """

    landmarks: Landmarks
    in_channels: Few = 3
    variant: Literal["hyatt", "han"] = "hyatt"
    dims: tuple[Channels, Channels, Channels, Channels, Channels] = (64, 128, 320, 512, 1024)
    heads: tuple[Channels, Channels, Channels, Channels, Channels] = (2, 4, 10, 16, 8)
    n_win: tuple[Few, Few, Few, Few] = (16, 16, 16, 8)
    topk: tuple[Channels, Channels, Channels, Channels] = (1, 4, 8, 16)
    mlp_ratios: tuple[Few, Few, Few, Few, Few] = (8, 8, 8, 4, 4)
    drop_path: float = 0.1
    neck_dim: Channels = 256
    image_dim: Channels = 32
    norm: Literal["batch", "group", "frozen"] = "batch"
    mask_padding: bool = False

    is_2d = True
    output_stride = 1
    head = "deep-supervision"
    smallest_side = SMALLEST_SIDE

    @property
    def finest_channels(self) -> int:
        """Most channels that a map of the crop's own resolution has."""
        return max(self.in_channels, self.image_dim, self.landmarks)

    def __post_init__(self) -> None:
        if any(dim % heads for dim, heads in zip(self.dims, self.heads)):
            raise ValueError(f"heads {self.heads} must divide dims {self.dims}")
        if not 0 <= self.drop_path < 1:
            raise ValueError(f"drop_path must be at least 0 and below 1, not {self.drop_path}")


@dataclass(frozen=True)
class HanConfig(HyattConfig):
    """Settings of the first version, HAN."""

    variant: Literal["hyatt", "han"] = "han"


SETTINGS: dict[str, type] = {"h3denet": H3DENetConfig, "han": HanConfig, "hyatt": HyattConfig}


@dataclass(frozen=True)
class Network:
    """Which network a stage runs.

    Attributes:
        architecture: a key of `SETTINGS`.
        settings: what differs from the published network, by name, with the number of landmarks.
        config: the same as the architecture's own class; not written.
    """

    architecture: str
    settings: dict[str, Any]
    config: Any = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        if self.architecture not in SETTINGS:
            raise ValueError(f"there is no network '{self.architecture}': {nearest(self.architecture, SETTINGS)}")
        try:
            config: Any = build(SETTINGS[self.architecture], self.settings)
        except FormatError as error:
            raise FormatError(error.reason, f"settings.{error.entry}".rstrip(".")) from error
        object.__setattr__(self, "config", config)
