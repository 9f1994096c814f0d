"""HYATT-Net and HAN (arXiv 2412.06499, versions 2 and 1): landmark detection in two-dimensional radiographs.

Written from the papers' abstracts, from facts read in the published code (ECNUACRush/HYATT-Net), and from BiFormer's
definitions (arXiv 2303.08810).

HAN is the first version of HYATT-Net: what it calls convolutional attention block (CAB), the second version calls
attention residual module (ARM). The published code of both is one and the same repository, with one set of layers; here
the variants differ in the name of that block in the state dict only.

Read in the published code:
- each residual attention feeds the next stage and the neck;
- the last stage's attention is BiFormer's own: 8 heads, scaled by their width, no bias before them, LePE of the input;
- windows that don't fit a grid are padded with zero tokens that take part in the attention, as in BiFormer's dense
  prediction: the published input of 1024 x 1216 pixels needs it in stages 3 and 4 (``mask_padding`` mends it);
- the normalization of the patch embedding is never applied, as in the code that it was taken from;
- sizes that aren't multiples of 32, at which that code fails or rounds down, round up at each stride.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from math import gcd
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from H3DELandmarksLib.formats.network_settings import SMALLEST_SIDE, HyattConfig
from H3DELandmarksLib.networks.bilevel_attention import BiLevelRoutingAttention
from H3DELandmarksLib.networks.layers import (
    LAYER_NORM_EPS,
    Conv2d,
    DepthwiseConv,
    HeavyConv2d,
    Perceptron,
    convolve_2d,
    convolve_by_fourier,
    fourier_pays,
    initialize_linear,
    is_exporting,
    winograd_pays,
)

GROUPS = 32


class BatchNorm(nn.BatchNorm2d):
    """Batch normalization as published."""

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, H, W) to the same shape."""
        # PyTorch 2.13's statistics of channels-last memory are off by 0.1 % on 300 000 pixels on a CPU.
        return super().forward(x.contiguous() if self.training else x)


class FrozenBatchNorm(nn.BatchNorm2d):
    """Batch normalization that always uses its stored statistics and never changes them; weight and bias are learnt."""

    def train(self, mode: bool = True) -> FrozenBatchNorm:
        """Stay in the mode of inference."""
        return super().train(False)


def norm_2d(kind: str, channels: int) -> nn.Module:
    """Normalization layer for (batch, channels, H, W).

    Args:
        kind: "batch" as published, for batches of several images; "group" (arXiv 1803.08494, at most 32 groups), which
            treats each image by itself, to train with batches of one; "frozen" to go on training a "batch" network,
            whose state dict it reads, with batches of one.
        channels: channels of input and output.
    """
    if kind == "batch":
        return BatchNorm(channels)
    if kind == "frozen":
        return FrozenBatchNorm(channels)
    if kind == "group":
        return nn.GroupNorm(gcd(GROUPS, channels), channels)
    raise ValueError(f"norm must be 'batch', 'group' or 'frozen', not {kind!r}")


def affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Factor and summand, a channel, of a batch normalization in inference."""
    assert norm.running_var is not None and norm.running_mean is not None
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return scale, norm.bias - norm.running_mean * scale


CHANNEL_RATIO = 16
SPATIAL_KERNEL = 7


class ChannelAttention(nn.Module):
    """Weigh channels by a shared perceptron of their mean and of their maximum over the grid (CBAM, equation 2)."""

    def __init__(self, channels: int) -> None:
        """Create the module; layers have no bias, as in the paper's equation (its reference code adds one)."""
        super().__init__()
        hidden = max(1, channels // CHANNEL_RATIO)
        self.mlp = nn.Sequential(
            nn.Linear(channels, hidden, bias=False), nn.ReLU(), nn.Linear(hidden, channels, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Scale (batch, channels, H, W)."""
        weight = torch.sigmoid(self.mlp(x.mean((2, 3))) + self.mlp(x.amax((2, 3))))
        return x * weight[:, :, None, None]


class SpatialAttention(nn.Module):
    """Weigh pixels by a 7x7 convolution of the mean and maximum over their channels (CBAM, equation 3)."""

    def __init__(self) -> None:
        """Create the module; no bias, as in the paper's equation."""
        super().__init__()
        self.conv = nn.Conv2d(2, 1, SPATIAL_KERNEL, padding=SPATIAL_KERNEL // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Scale (batch, channels, H, W)."""
        pooled = torch.stack([x.mean(1), x.amax(1)], dim=1)
        return x * torch.sigmoid(self.conv(pooled))


class ResidualAttention(nn.Module):
    """Two convolutions, the second dilated, and CBAM, added to a convolution of the input."""

    def __init__(self, channels: int, norm: str) -> None:
        """Create the module; ``norm`` as in ``norm_2d``.

        Convolutions have no bias where a normalization, which has one, follows, nor has the shortcut.
        """
        super().__init__()
        self.conv = HeavyConv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = norm_2d(norm, channels)
        self.dilated_conv = HeavyConv2d(channels, channels, 3, padding=2, dilation=2, bias=False)
        self.dilated_norm = norm_2d(norm, channels)
        self.channel_attention = ChannelAttention(channels)
        self.spatial_attention = SpatialAttention()
        self.shortcut = HeavyConv2d(channels, channels, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Transform (batch, channels, H, W) to the same shape."""
        if fourier_pays(x, self.conv.weight):
            hidden = F.relu_(_normalized_by_fourier(x, self.conv, self.norm))
            out = _normalized_by_fourier(hidden, self.dilated_conv, self.dilated_norm)
            attended = self.spatial_attention(self.channel_attention(out.contiguous(memory_format=torch.channels_last)))
            return F.relu_(attended.add_(convolve_by_fourier(x, self.shortcut.weight, None)))
        if x.shape[2:].numel() < self.conv.weight[0].numel():
            # Channels-last memory makes PyTorch copy the weights, of which there are more than features.
            x = x.contiguous()
        hidden = F.relu_(self.norm(self.conv(x)))
        attended = self.spatial_attention(self.channel_attention(self.dilated_norm(self.dilated_conv(hidden))))
        return F.relu_(attended.add_(self.shortcut(x)))


def _normalized_by_fourier(x: Tensor, conv: nn.Conv2d, norm: nn.Module) -> Tensor:
    """Convolve by `convolve_by_fourier` and normalize, in one step if it's a batch normalization in inference."""
    dilation = conv.dilation[0]
    if isinstance(norm, nn.BatchNorm2d) and not norm.training:
        scale, bias = affine(norm)
        return convolve_by_fourier(x, conv.weight * scale[:, None, None, None], bias, dilation)
    return norm(convolve_by_fourier(x, conv.weight, None, dilation))


KEYS_A_WINDOW_SIDE = 4
RESIDUAL_NAMES = {"hyatt": "arm", "han": "cab"}  # of the residual attention, in the state dict


class PatchEmbedding(nn.Module):
    """Halve the grid by a 4x4 convolution; the normalization that the published code creates is never applied."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        """Create the layer."""
        super().__init__()
        self.conv = HeavyConv2d(in_channels, out_channels, 4, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in_channels, H, W) to (batch, out_channels, ceil(H/2), ceil(W/2))."""
        # The publication knows even sizes only; a row or column of zeros keeps the border of odd ones.
        height, width = x.shape[2:]
        return self.conv(F.pad(x, (0, width % 2, 0, height % 2)))


class DropPath(nn.Module):
    """Stochastic depth (arXiv 1603.09382): in training, leave out a branch of the network for some samples."""

    def __init__(self, probability: float) -> None:
        """Drop each sample with ``probability`` and scale up the others."""
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        """Keep or zero each sample of (batch, ...)."""
        if not self.training or self.probability == 0:
            return x
        keep = 1 - self.probability
        kept = torch.rand((len(x), *[1] * (x.ndim - 1)), device=x.device) < keep
        return x * (kept / keep).to(x.dtype)

    def extra_repr(self) -> str:
        """Name the setting in print(network)."""
        return f"{self.probability}"


class BiFormerBlock(nn.Module):
    """Depthwise convolution, attention and multilayer perceptron, each added to its input."""

    def __init__(self, dim: int, attention: BiLevelRoutingAttention, mlp_ratio: int, drop_path: float) -> None:
        """Create a block of ``dim`` channels around ``attention``."""
        super().__init__()
        self.position = DepthwiseConv(dim, 3, axes=2)
        self.attention_norm = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.attention = attention
        self.mlp_norm = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.mlp = Perceptron(dim, mlp_ratio * dim)
        self.drop_path = DropPath(drop_path)
        self.apply(initialize_linear)

    def forward(self, x: Tensor) -> Tensor:
        """Transform (batch, dim, H, W) to the same shape."""
        tokens = self.position.add_to(x).movedim(1, -1).contiguous()
        if self.training:
            tokens = tokens + self.drop_path(self.attention(self.attention_norm(tokens)))
            tokens = tokens + self.drop_path(self.mlp(self.mlp_norm(tokens)))
        else:
            tokens = self.attention(self.attention_norm(tokens), plus=tokens)
            tokens = self.mlp(self.mlp_norm(tokens), plus=tokens)
        return tokens.movedim(-1, 1)


def routed_attention(dim: int, heads: int, n_win: int, topk: int, mask_padding: bool) -> BiLevelRoutingAttention:
    """Attention to the ``topk`` most similar of ``n_win`` x ``n_win`` windows, keys and values averaged to 4x4 each."""
    windows = (n_win, n_win)
    return BiLevelRoutingAttention(dim, heads, windows, topk, key_side=KEYS_A_WINDOW_SIDE, pad_windows=not mask_padding)


def full_attention(dim: int, heads: int) -> BiLevelRoutingAttention:
    """Attention of all tokens to all, with LePE of its input; scaled by the width of a head, as BiFormer's is."""
    scale = (dim / heads) ** -0.5
    return BiLevelRoutingAttention(dim, heads, n_win=(1, 1), topk=1, scale=scale, lepe_on_input=True)


class Backbone(nn.Module):
    """Image to feature maps at strides 2, 4, 8, 16 and 32."""

    def __init__(self, config: HyattConfig) -> None:
        """Create one stage an entry of ``config.dims``, of which the last attends fully."""
        super().__init__()
        dims = config.dims
        windows = zip(dims, config.heads, config.n_win, config.topk)
        attentions = [routed_attention(*sizes, config.mask_padding) for sizes in windows]
        attentions.append(full_attention(dims[-1], config.heads[-1]))
        rates = torch.linspace(0, config.drop_path, len(dims), device="cpu").tolist()
        self.stages = nn.ModuleList()
        inputs = (config.in_channels, *dims)
        for before, dim, attention, mlp_ratio, rate in zip(inputs, dims, attentions, config.mlp_ratios, rates):
            layers = [
                ("embedding", PatchEmbedding(before, dim)),
                ("block", BiFormerBlock(dim, attention, mlp_ratio, rate)),
                (RESIDUAL_NAMES[config.variant], ResidualAttention(dim, config.norm)),
            ]
            self.stages.append(nn.Sequential(OrderedDict(layers)))

    def forward(self, image: Tensor) -> list[Tensor]:
        """(batch, in_channels, H, W) to (batch, dim, ceil(H/s), ceil(W/s)) a stride s, finest first."""
        features = []
        x = image
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


class PyramidNeck(nn.Module):
    """Features of several levels to one map at the finest of them; the other outputs of a pyramid would have no use."""

    def __init__(self, dims: Sequence[int], channels: int) -> None:
        """Create the neck for levels of ``dims`` channels, finest first; each level's grid is twice the next one's."""
        super().__init__()
        self.laterals = nn.ModuleList(Conv2d(dim, channels) for dim in dims)
        self.output = Conv2d(channels, channels)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """(batch, dim, H, W) a level, finest first, to (batch, channels, H, W) at the finest level."""
        fine_to_coarse = [lateral(x) for lateral, x in zip(self.laterals, features)]
        total = fine_to_coarse.pop()
        while fine_to_coarse:
            total = add_upsampled(fine_to_coarse.pop(), total)
        return self.output(total)


def add_upsampled(fine: Tensor, coarse: Tensor) -> Tensor:
    """Add (batch, channels, H, W), each pixel repeated twice along both axes, to a grid of 2H, 2W or one less each."""
    height, width = fine.shape[2:]
    if torch.is_grad_enabled() or is_exporting() or height % 2 or width % 2:
        return fine + F.interpolate(coarse, scale_factor=2.0, mode="nearest")[..., :height, :width]
    pairs = fine.contiguous().unflatten(3, (-1, 2)).unflatten(2, (-1, 2))
    return pairs.add_(coarse[:, :, :, None, :, None]).flatten(4, 5).flatten(2, 3)


# Maps start near zero, as targets are almost everywhere; published for all convolutions of the heads, here the last.
MAP_INIT_STD = 0.001


class HyattOutput(NamedTuple):
    """Heat maps of one image at three resolutions, for an input of (batch, channels, H, W).

    Pixel ``i`` of a map with stride ``s`` has its center at pixel ``(i + 0.5) s - 0.5`` of the image.

    Attributes:
        quarter: (batch, landmarks, ceil(H/4), ceil(W/4)).
        half: (batch, landmarks, ceil(H/2), ceil(W/2)).
        full: (batch, landmarks, H, W).
    """

    quarter: Tensor
    half: Tensor
    full: Tensor


class MapHead(nn.Sequential):
    """3x3 convolution, ReLU and 1x1 convolution."""

    def __init__(self, in_channels: int, hidden: int, landmarks: int) -> None:
        """Create the layers; all maps start near zero."""
        last = nn.Conv2d(hidden, landmarks, 1)
        assert last.bias is not None
        nn.init.normal_(last.weight, std=MAP_INIT_STD)
        nn.init.zeros_(last.bias)
        super().__init__(Conv2d(in_channels, hidden), nn.ReLU(inplace=True), last)

    def forward(self, x: Tensor) -> Tensor:
        """Features (batch, in_channels, H, W) to heat maps (batch, landmarks, H, W)."""
        if is_exporting():
            return super().forward(x)
        first, relu, last = self
        assert isinstance(first, Conv2d) and isinstance(last, nn.Conv2d) and last.bias is not None
        # PyTorch leaves 1x1 convolutions on one thread to a kernel that copies; these products don't.
        weight = last.weight.flatten(1)
        if winograd_pays(x, first.weight):
            maps = torch.baddbmm(last.bias[:, None], weight.expand(len(x), -1, -1), relu(first(x)).flatten(2))
            return maps.unflatten(2, x.shape[2:])
        hidden = relu(first(x.contiguous(memory_format=torch.channels_last)))
        return F.linear(hidden.permute(0, 2, 3, 1), weight, last.bias).permute(0, 3, 1, 2)


class Deconvolution(nn.Sequential):
    """Transposed 4x4 convolution of stride 2, normalization and ReLU."""

    def __init__(self, channels: int, norm: str) -> None:
        """Create the layers; ``norm`` as in ``norm_2d``."""
        conv = nn.ConvTranspose2d(channels, channels, 4, stride=2, padding=1, bias=False)
        super().__init__(conv, norm_2d(norm, channels), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, H, W) to (batch, channels, 2 H, 2 W)."""
        if not self.takes_place(x):
            return super().forward(x)
        out = x.new_empty(len(x), x.shape[1], *(2 * side for side in x.shape[2:]))
        self.into(out, x)
        return out

    def takes_place(self, x: Tensor) -> bool:
        """Whether `into` can serve; in training the weights' gradient would cost more than is won."""
        conv = self[0]
        assert isinstance(conv, nn.ConvTranspose2d)
        return not torch.is_grad_enabled() and winograd_pays(x, conv.weight)

    def into(self, out: Tensor, x: Tensor) -> None:
        """Write what `forward` gives for ``x`` to ``out``, which may be a view of more channels."""
        conv, norm, _ = self
        assert isinstance(conv, nn.ConvTranspose2d)
        weight, bias = conv.weight, None
        if isinstance(norm, nn.BatchNorm2d) and not norm.training:
            scale, bias = affine(norm)
            weight = weight * scale[:, None, None]
        phases = convolve_2d(x, _as_convolution(weight), None if bias is None else bias.repeat(4))
        phases = phases.unflatten(1, (2, 2, -1))
        places = out.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).permute(0, 3, 5, 1, 2, 4)
        if bias is None:
            places.copy_(phases)
            out.copy_(F.relu_(norm(out)))
        else:
            torch.clamp_min(phases, 0, out=places)


def _as_convolution(weight: Tensor) -> Tensor:
    """Weights (in, out, 4, 4) of a transposed convolution as a 3x3 convolution's (4 out, in, 3, 3).

    Of its outputs a quarter each gives the pixels of even or odd rows and of even or odd columns, which take two of
    the four taps.
    """
    phases = weight.new_zeros(2, 2, weight.shape[1], weight.shape[0], 3, 3)
    taps = weight.flip(2, 3).transpose(0, 1)
    for row in range(2):
        for column in range(2):
            phases[row, column, :, :, row : row + 2, column : column + 2] = taps[:, :, row::2, column::2]
    return phases.flatten(0, 2)


class _Doubled(torch.autograd.Function):
    """Bilinear upsampling by two, corners aligned; its gradient is two matrix products, faster than PyTorch's own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """(batch, channels, H, W) to (batch, channels, 2 H, 2 W)."""
        return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=True)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """The same with both matrices transposed."""
        rows, columns = (_doubling(size // 2).to(gradient) for size in gradient.shape[2:])
        return rows @ gradient @ columns.T


def _doubling(size: int) -> Tensor:
    """(size, 2 size): what each cell adds to each cell of the doubled axis."""
    cells = torch.eye(size, dtype=torch.float64)[None]
    return F.interpolate(cells, scale_factor=2.0, mode="linear", align_corners=True)[0]


def double(x: Tensor) -> Tensor:
    """Upsample (batch, channels, H, W) bilinearly by two, corners aligned."""
    if x.requires_grad and not is_exporting():
        return _Doubled.apply(x)
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=True)


class CorrectionHead(nn.Module):
    """Heat maps from stride-4 features, and their corrections at strides 2 and 1."""

    def __init__(self, config: HyattConfig) -> None:
        """Create the heads, as ``config`` describes them."""
        super().__init__()
        channels, image_dim, landmarks, norm = config.neck_dim, config.image_dim, config.landmarks, config.norm
        self.quarter_maps = MapHead(channels, channels, landmarks)
        self.upsample = Deconvolution(channels, norm)
        self.half_maps = MapHead(channels, channels, landmarks)
        self.image = nn.Sequential(nn.Conv2d(config.in_channels, image_dim, 1), norm_2d(norm, image_dim), nn.ReLU())
        self.parts = [channels, image_dim, landmarks]
        joined = sum(self.parts)
        self.correction = MapHead(joined, joined, landmarks)

    def forward(self, features: Tensor, image: Tensor) -> HyattOutput:
        """(batch, channels, ceil(H/4), ceil(W/4)) and (batch, image_channels, H, W) to heat maps."""
        # Nearest pixels, as published.
        small = image[..., ::2, ::2]
        height, width = small.shape[2:]
        if self.upsample.takes_place(features):
            # Large maps are written once, to where the correction finds them, and not concatenated.
            joined = features.new_empty(len(features), sum(self.parts), *(2 * side for side in features.shape[2:]))
            self.upsample.into(joined[:, : self.parts[0]], features)
            joined = joined[..., :height, :width]
            fine, of_image, of_maps = joined.split(self.parts, dim=1)
            half = self.half_maps(fine)
            of_image.copy_(self.image(small))
            of_maps.copy_(half)
        else:
            fine = self.upsample(features)[..., :height, :width]
            half = self.half_maps(fine)
            joined = torch.cat([fine, self.image(small), half], dim=1)
        corrected = self.correction(joined)
        full = double(corrected.contiguous())
        height, width = image.shape[2:]
        levels = (self.quarter_maps(features), half, full[..., :height, :width])
        return HyattOutput(*(level.contiguous() for level in levels))


class HyattNet(nn.Module):
    """Backbone of BiFormer blocks and residual attention, pyramid neck, and heads at strides 4, 2 and 1."""

    def __init__(self, config: HyattConfig) -> None:
        """Build the network that ``config`` describes."""
        super().__init__()
        self.config = config
        self.backbone = Backbone(config)
        self.neck = PyramidNeck(config.dims[1:], config.neck_dim)
        self.head = CorrectionHead(config)

    def forward(self, image: Tensor) -> HyattOutput:
        """Find landmarks in (batch, in_channels, H, W), both sides at least 32 pixels."""
        if image.ndim != 4 or min(image.shape[2:]) < SMALLEST_SIDE:
            raise ValueError(
                f"expected (batch, channels, H, W), at least {SMALLEST_SIDE} pixels a side, got {tuple(image.shape)}"
            )
        features = self.backbone(image)
        return self.head(self.neck(features[1:]), image)
