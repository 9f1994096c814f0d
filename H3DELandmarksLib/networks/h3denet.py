"""H3DE-Net (arXiv 2502.14221): three-dimensional landmark detection with bi-level routing attention.

Written from the paper and from facts about the published code. Where the two leave a choice, the inferred one is named.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from H3DELandmarksLib.formats.network_settings import SMALLEST_SIDE, H3DENetConfig
from H3DELandmarksLib.networks.bilevel_attention import BiLevelRoutingAttention
from H3DELandmarksLib.networks.decoder import NEGATIVE_SLOPE, DecoderBlock, Features, Whole, decode, gather, pays
from H3DELandmarksLib.networks.layers import (
    LAYER_NORM_EPS,
    Conv3d,
    DepthwiseConv,
    InstanceNorm,
    Perceptron,
    PointwiseConv3d,
    initialize_linear,
    is_exporting,
)


class Block(nn.Module):
    """Depthwise convolution, routed attention and multilayer perceptron, each added to its input."""

    def __init__(self, dim: int, num_heads: int, n_win: Sequence[int], topk: int, mlp_ratio: int) -> None:
        """Create a block of ``dim`` channels; ``n_win`` and ``topk`` as in BiLevelRoutingAttention."""
        super().__init__()
        self.position = DepthwiseConv(dim, 3)
        self.attention_norm = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.attention = BiLevelRoutingAttention(dim, num_heads, n_win, topk)
        self.mlp_norm = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.mlp = Perceptron(dim, mlp_ratio * dim)

    def forward(self, x: Tensor) -> Tensor:
        """Transform (batch, X, Y, Z, dim), channels last, to the same shape."""
        x = x + self.position(x.movedim(-1, 1)).movedim(1, -1)
        x = self.attention(self.attention_norm(x), plus=x)
        return self.mlp(self.mlp_norm(x), plus=x)


class Stage(nn.Module):
    """Blocks at one resolution, then layer normalization over the channels."""

    def __init__(self, dim: int, depth: int, num_heads: int, n_win: Sequence[int], topk: int, mlp_ratio: int) -> None:
        """Create ``depth`` equal blocks."""
        super().__init__()
        self.blocks = nn.Sequential(*(Block(dim, num_heads, n_win, topk, mlp_ratio) for _ in range(depth)))
        # PyTorch's eps of 1e-5, as published, unlike that of the blocks.
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Transform (batch, dim, X, Y, Z) to the same shape."""
        tokens = x.movedim(1, -1).contiguous()
        return self.norm(self.blocks(tokens)).movedim(-1, 1)


class Encoder(nn.Module):
    """Image to feature maps at strides 4, 8, 16 and 32."""

    def __init__(self, config: H3DENetConfig) -> None:
        """Create a convolutional stem and four stages, the grid halved between them."""
        super().__init__()
        dims, (first, second) = config.dims, config.stem_channels
        stem = nn.Sequential(
            Conv3d(config.in_channels, first, stride=2),
            InstanceNorm(first),
            nn.GELU(),
            Conv3d(first, second, stride=2),
            InstanceNorm(second),
        )
        self.downsamplings = nn.ModuleList([stem])
        self.downsamplings.extend(
            nn.Sequential(Conv3d(before, after, stride=2), InstanceNorm(after)) for before, after in zip(dims, dims[1:])
        )
        self.stages = nn.ModuleList(
            Stage(dim, depth, dim // config.head_dim, config.n_win, topk, config.mlp_ratio)
            for dim, depth, topk in zip(dims, config.depths, config.topk)
        )
        self.apply(initialize_linear)

    def forward(self, image: Tensor) -> list[Tensor]:
        """(batch, in_channels, X, Y, Z) to (batch, dim, ceil(X/s), ceil(Y/s), ceil(Z/s)) a stride s, finest first."""
        features = []
        x = image
        for downsample, stage in zip(self.downsamplings, self.stages):
            x = stage(downsample(x))
            features.append(x)
        return features


class AnchorHead(nn.Module):
    """Offsets and class logits of every anchor at every cell of the stride-4 grid."""

    def __init__(self, in_channels: int, landmarks: int, anchors: int) -> None:
        """Create the head for ``anchors`` anchors a cell."""
        super().__init__()
        self.anchors = anchors
        self.conv = PointwiseConv3d(in_channels, anchors * (3 + landmarks))

    def forward(self, features: Tensor) -> Tensor:
        """(batch, in_channels, X, Y, Z) to (batch, X, Y, Z, anchors, 3 offsets + one logit a landmark)."""
        return self.conv(features).movedim(1, -1).unflatten(-1, (self.anchors, -1))


class FeatureFusion(nn.Module):
    """The paper's feature fusion module (FFM): features at strides 1, 2 and 4 brought to stride 4 and concatenated.

    Absent from the published live code; reconstructed from its history.
    """

    def __init__(self, full_channels: int, half_channels: int, channels: int) -> None:
        """Create the module; each source contributes ``channels`` channels, as many as the stride-4 features have."""
        super().__init__()
        self.from_full = nn.Conv3d(full_channels, channels, 1, stride=4)
        self.from_half = nn.Conv3d(half_channels, channels, 1, stride=2)

    def forward(self, full: Tensor, half: Tensor, quarter: Tensor) -> Tensor:
        """Features at strides 1, 2 and 4 to (batch, 3 channels, *grid of stride 4)."""
        return torch.cat([self.from_full(full), self.from_half(half), quarter], dim=1)


class PresenceHead(nn.Module):
    """Whether each landmark is there at all, read from global means of coarse and fine features.

    Our own addition: the published network never says that a landmark is absent.
    """

    def __init__(self, coarse_channels: int, fine_channels: int, landmarks: int) -> None:
        """Create the read-out; its hidden layer is as wide as the coarse features."""
        super().__init__()
        self.hidden = nn.Linear(coarse_channels + fine_channels, coarse_channels)
        self.activation = nn.GELU()
        self.logits = nn.Linear(coarse_channels, landmarks)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """(batch, coarse_channels, *grid) and (batch, fine_channels, *other grid) to logits (batch, landmarks)."""
        pooled = torch.cat([coarse.flatten(2).mean(2), fine.flatten(2).mean(2)], dim=1)
        return self.logits(self.activation(self.hidden(pooled)))


class NetworkOutput(NamedTuple):
    """What a landmark network returns.

    ``maps`` is (batch, landmarks, X, Y, Z) for heat maps, (batch, X/4, Y/4, Z/4, anchors, 3 + landmarks) for anchors.
    ``presence`` is (batch, landmarks) logits, or None where the network has no presence read-out.
    """

    maps: Tensor
    presence: Tensor | None


class H3DENet(nn.Module):
    """Encoder, decoder with skip connections, and the heat-map or anchor head of H3DE-Net."""

    def __init__(self, config: H3DENetConfig) -> None:
        """Build the network that ``config`` describes."""
        super().__init__()
        self.config = config
        dims = config.dims
        self.encoder = Encoder(config)
        inputs = (dims[-1], *config.decoder_dims)
        self.decoder = nn.ModuleList(
            DecoderBlock(before, skip, after, config.super_resolution)
            for before, skip, after in zip(inputs, reversed(dims[:-1]), config.decoder_dims)
        )
        self._build_fine_levels()
        self._build_heads()
        # Weights in this layout spare every forward pass a copy of them.
        self.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def _build_fine_levels(self) -> None:
        """Add decoder blocks above stride 4, with a convolution of the image as skip; none where no head reads them."""
        config = self.config
        needed = 0
        if config.head == "heatmap" or config.feature_fusion:
            needed = 3 - config.output_stride
        outputs = config.fine_dims[:needed]
        inputs = (config.decoder_dims[-1], *outputs)
        self.image_skips = nn.ModuleList(self._image_skip(dim) for dim in outputs)
        self.fine_decoder = nn.ModuleList(
            DecoderBlock(before, after, after, config.super_resolution) for before, after in zip(inputs, outputs)
        )

    def _image_skip(self, channels: int) -> nn.Module:
        """Convolution of the image; a "plain" one is what this project's first models were trained with."""
        inputs = self.config.in_channels
        if self.config.plain_image_skips:
            return Conv3d(inputs, channels)
        return nn.Sequential(Conv3d(inputs, channels, bias=False), InstanceNorm(channels), nn.LeakyReLU(NEGATIVE_SLOPE))

    def _build_heads(self) -> None:
        config = self.config
        quarter = config.decoder_dims[-1]
        if config.head == "heatmap":
            features = config.fine_dims[2 - config.output_stride]
            self.head: nn.Module = PointwiseConv3d(features, config.landmarks)
        else:
            features = 3 * quarter if config.feature_fusion else quarter
            self.head = AnchorHead(features, config.landmarks, config.anchors)
        half, full = config.fine_dims
        self.fusion = FeatureFusion(full, half, quarter) if config.feature_fusion else None
        self.presence = PresenceHead(config.dims[-1], features, config.landmarks) if config.presence else None

    def forward(self, image: Tensor) -> NetworkOutput:
        """Find landmarks in (batch, in_channels, X, Y, Z), every side at least 32 voxels."""
        if image.ndim != 5 or min(image.shape[2:]) < SMALLEST_SIDE:
            raise ValueError(
                f"expected (batch, channels, X, Y, Z), at least {SMALLEST_SIDE} voxels a side, got {tuple(image.shape)}"
            )
        # Channels-last memory makes convolutions up to three times faster and spares the attention blocks their copies.
        image = image.to(memory_format=torch.channels_last_3d)
        *skips, coarse = self.encoder(image)
        quarter = coarse
        for block, skip in zip(self.decoder, reversed(skips)):
            quarter = block(quarter, skip)
        if self._needs_maps_alone() and not is_exporting():
            maps = [self._maps_in_slabs(*sample) for sample in zip(image.split(1), quarter.split(1))]
            return NetworkOutput(maps[0] if len(maps) == 1 else torch.cat(maps), None)
        full, *coarser = self._fine_levels(image, quarter)
        features = full if self.fusion is None else self.fusion(full, *coarser)
        presence = None if self.presence is None else self.presence(coarse, features)
        return NetworkOutput(self.head(features), presence)

    def _needs_maps_alone(self) -> bool:
        """Whether nothing but the heat maps is read from the finest features, now or by a gradient."""
        return self.config.head == "heatmap" and self.presence is None and not torch.is_grad_enabled()

    def _fine_levels(self, image: Tensor, quarter: Tensor) -> list[Tensor]:
        """Features of the decoder at stride 4 and finer, as far as the head needs them, finest first."""
        levels = [quarter]
        for block, conv, view in zip(self.fine_decoder, self.image_skips, self._views(image)):
            levels.insert(0, block(levels[0], conv(view)))
        return levels

    def _maps_in_slabs(self, image: Tensor, quarter: Tensor) -> Tensor:
        """Heat maps of one sample from its features at stride 4, without keeping finer features whole."""
        features: Features = Whole(quarter)
        for block, skip, view in zip(self.fine_decoder, self.image_skips, self._views(image)):
            assert isinstance(block, DecoderBlock)
            if pays(block, skip, view):
                features = decode(block, features, skip, view)
            else:
                features = Whole(block(gather(features), skip(view)))
        return gather(features, self.head)

    def _views(self, image: Tensor) -> list[Tensor]:
        """The image at half and at full resolution, as far as the decoder needs them."""
        if not self.image_skips:
            return []
        # Odd sizes round up as in the strided convolutions. As published, zeros beyond the border count.
        precise = image.to(torch.promote_types(image.dtype, torch.float32))
        if self.config.plain_image_skips:
            pooled = F.avg_pool3d(precise, kernel_size=2, stride=2, ceil_mode=True)
        else:
            pooled = F.avg_pool3d(precise, kernel_size=3, stride=2, padding=1)
        half = pooled.to(image.dtype, memory_format=torch.channels_last_3d)
        return [half, image][: len(self.image_skips)]
