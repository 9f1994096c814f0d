"""Backbone of HYATT-Net (arXiv 2412.06499): BiFormer blocks (arXiv 2303.08810) followed by residual attention."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from math import gcd

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from H3DELandmarksLib.networks.bilevel_attention import BiLevelRoutingAttention
from H3DELandmarksLib.networks.encoder import LAYER_NORM_EPS, LINEAR_INIT_STD
from H3DELandmarksLib.networks.layers import DepthwiseConv, HeavyConv2d, Perceptron, convolve_by_fourier, fourier_pays

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
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=LINEAR_INIT_STD)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

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

    def __init__(
        self,
        in_channels: int,
        dims: Sequence[int],
        heads: Sequence[int],
        n_win: Sequence[int],
        topk: Sequence[int],
        mlp_ratios: Sequence[int],
        drop_path: float,
        norm: str,
        mask_padding: bool,
        residual_name: str,
    ) -> None:
        """Create one stage an entry of ``dims``, of which the last attends fully; settings as in HyattConfig.

        ``residual_name`` is the name that the residual attention has in the state dict.
        """
        super().__init__()
        attentions = [routed_attention(*sizes, mask_padding) for sizes in zip(dims, heads, n_win, topk)]
        attentions.append(full_attention(dims[-1], heads[-1]))
        rates = torch.linspace(0, drop_path, len(dims), device="cpu").tolist()
        self.stages = nn.ModuleList()
        for before, dim, attention, mlp_ratio, rate in zip((in_channels, *dims), dims, attentions, mlp_ratios, rates):
            layers = [
                ("embedding", PatchEmbedding(before, dim)),
                ("block", BiFormerBlock(dim, attention, mlp_ratio, rate)),
                (residual_name, ResidualAttention(dim, norm)),
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
