"""HYATT-Net computed the way its published code computes it: the fair denominator of the speed ratios.

Sides of the image must be multiples of 32, and grids multiples of their windows. Parameter names are those of
H3DELandmarksLib.networks.HyattNet. Maps of the pyramid that the published code computes and drops are computed, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.speed.published_form import Attention

KEYS_A_SIDE = 4
UNUSED = "unused_outputs"


class RoutedAttention(Attention):
    """Bi-level routing attention in two dimensions, keys and values averaged to 4x4 a window."""

    def __init__(self, dim: int, heads: int, n_win: int, topk: int) -> None:
        super().__init__(dim, heads, (n_win, n_win), topk)
        self.lepe = nn.Conv2d(dim, dim, 5, padding=2, groups=dim)

    def forward(self, x: Tensor) -> Tensor:
        """Attend: (batch, H, W, dim) to the same shape."""
        batch, *grid, _ = x.shape
        q, kv = self.qkv(self._cut(x)).split([self.dim, 2 * self.dim], dim=-1)
        local = self.lepe(self._join(kv[..., self.dim :], grid).permute(0, 3, 1, 2).contiguous())
        means = q.mean(2).detach(), kv[..., : self.dim].mean(2).detach()
        routed = ((means[0] * self.scale) @ means[1].transpose(1, 2)).topk(self.topk, dim=-1)[1]
        sides = [size // count for size, count in zip(grid, self.n_win)]
        windows = kv.flatten(0, 1).unflatten(1, sides).permute(0, 3, 1, 2)
        pooled = F.adaptive_avg_pool2d(windows, KEYS_A_SIDE).permute(0, 2, 3, 1)
        k, v = self._gather(pooled.reshape(batch, q.shape[1], -1, 2 * self.dim), routed).split(self.dim, dim=-1)
        weights = torch.softmax((self._by_head(q) * self.scale) @ self._by_head(k).transpose(2, 3), dim=-1)
        out = (weights @ self._by_head(v)).transpose(1, 2).reshape(q.shape)
        return self.proj(self._join(out, grid) + local.permute(0, 2, 3, 1))

    def _cut(self, x: Tensor) -> Tensor:
        """(batch, H, W, dim) to (batch, windows, tokens, dim), copied."""
        rows, columns = self.n_win
        return x.unflatten(2, (columns, -1)).unflatten(1, (rows, -1)).transpose(2, 3).flatten(3, 4).flatten(1, 2)

    def _join(self, x: Tensor, grid: Sequence[int]) -> Tensor:
        """Undo `_cut`."""
        rows, columns = self.n_win
        sides = [size // count for size, count in zip(grid, self.n_win)]
        return x.unflatten(2, sides).unflatten(1, (rows, columns)).transpose(2, 3).flatten(3, 4).flatten(1, 2)


class FullAttention(nn.Module):
    """Attention of all tokens to all, with LePE of its input."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (dim / heads) ** -0.5
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.lepe = nn.Conv2d(dim, dim, 5, padding=2, groups=dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Attend: (batch, H, W, dim) to the same shape."""
        local = self.lepe(x.permute(0, 3, 1, 2).contiguous()).permute(0, 2, 3, 1)
        tokens = self.qkv(x.flatten(1, 2)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k, v = tokens
        weights = torch.softmax((q * self.scale) @ k.transpose(2, 3), dim=-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(x.shape) + local)


class Block(nn.Module):
    """Depthwise convolution, attention and perceptron, each added to its input; channels first outside."""

    def __init__(self, dim: int, attention: nn.Module, mlp_ratio: int) -> None:
        super().__init__()
        self.position = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        self.attention_norm = nn.LayerNorm(dim, eps=1e-6)
        self.attention = attention
        self.mlp_norm = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(dim, mlp_ratio * dim), nn.GELU(), nn.Linear(mlp_ratio * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        """Transform (batch, dim, H, W) to the same shape."""
        x = (x + self.position(x)).permute(0, 2, 3, 1)
        x = x + self.attention(self.attention_norm(x))
        x = x + self.mlp(self.mlp_norm(x))
        return x.permute(0, 3, 1, 2)


class ChannelAttention(nn.Module):
    """Weights of channels from their mean and maximum."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        hidden = dim // 16
        self.mlp = nn.Sequential(nn.Linear(dim, hidden, bias=False), nn.ReLU(), nn.Linear(hidden, dim, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """Scale (batch, dim, H, W)."""
        pooled = F.adaptive_avg_pool2d(x, 1).flatten(1), F.adaptive_max_pool2d(x, 1).flatten(1)
        return x * torch.sigmoid(self.mlp(pooled[0]) + self.mlp(pooled[1]))[:, :, None, None]


class SpatialAttention(nn.Module):
    """Weights of pixels from the mean and maximum of their channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Scale (batch, dim, H, W)."""
        return x * torch.sigmoid(self.conv(torch.cat([x.mean(1, keepdim=True), x.max(1, keepdim=True)[0]], dim=1)))


class ResidualAttention(nn.Module):
    """Two convolutions and CBAM, added to a convolution of the input."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim, dim, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(dim)
        self.dilated_conv = nn.Conv2d(dim, dim, 3, padding=2, dilation=2, bias=False)
        self.dilated_norm = nn.BatchNorm2d(dim)
        self.channel_attention, self.spatial_attention = ChannelAttention(dim), SpatialAttention()
        self.shortcut = nn.Conv2d(dim, dim, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Transform (batch, dim, H, W) to the same shape."""
        identity = self.shortcut(x)
        out = self.dilated_norm(self.dilated_conv(F.relu_(self.norm(self.conv(x)))))
        return F.relu_(self.spatial_attention(self.channel_attention(out)) + identity)


def _maps(before: int, hidden: int, landmarks: int) -> nn.Sequential:
    first, last = nn.Conv2d(before, hidden, 3, padding=1), nn.Conv2d(hidden, landmarks, 1)
    return nn.Sequential(first, nn.ReLU(inplace=True), last)


class PublishedHyattForm(nn.Module):
    """The published network for the fields of HyattConfig, as a dict, with batch normalization and padded windows."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        dims, neck, landmarks = settings["dims"], settings["neck_dim"], settings["landmarks"]
        windows = zip(dims, settings["heads"], settings["n_win"], settings["topk"])
        attentions = [*(RoutedAttention(*sizes) for sizes in windows), FullAttention(dims[-1], settings["heads"][-1])]
        stages = nn.ModuleList()
        inputs = (settings["in_channels"], *dims)
        for before, dim, attention, ratio in zip(inputs, dims, attentions, settings["mlp_ratios"]):
            embedding = nn.ModuleDict({"conv": nn.Conv2d(before, dim, 4, stride=2, padding=1)})
            parts = {"embedding": embedding, "block": Block(dim, attention, ratio), "arm": ResidualAttention(dim)}
            stages.append(nn.ModuleDict(parts))
        self.backbone = nn.ModuleDict({"stages": stages})
        laterals = nn.ModuleList(nn.Conv2d(dim, neck, 3, padding=1) for dim in dims[1:])
        self.neck = nn.ModuleDict({"laterals": laterals, "output": nn.Conv2d(neck, neck, 3, padding=1)})
        self.add_module(UNUSED, nn.ModuleList(nn.Conv2d(neck, neck, 3, padding=1) for _ in dims[2:]))
        deconvolution = nn.ConvTranspose2d(neck, neck, 4, stride=2, padding=1, bias=False)
        image = nn.Conv2d(settings["in_channels"], settings["image_dim"], 1)
        joined = neck + settings["image_dim"] + landmarks
        self.head = nn.ModuleDict(
            {
                "quarter_maps": _maps(neck, neck, landmarks),
                "upsample": nn.Sequential(deconvolution, nn.BatchNorm2d(neck), nn.ReLU(inplace=True)),
                "half_maps": _maps(neck, neck, landmarks),
                "image": nn.Sequential(image, nn.BatchNorm2d(settings["image_dim"]), nn.ReLU()),
                "correction": _maps(joined, joined, landmarks),
            }
        )

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(batch, channels, H, W) to maps at strides 4, 2 and 1."""
        features = self._features(image)
        fine = self.head["upsample"](features)
        half = self.head["half_maps"](fine)
        small = self.head["image"](F.interpolate(image, scale_factor=0.5))
        corrected = self.head["correction"](torch.cat([fine, small, half], dim=1))
        full = F.interpolate(corrected, scale_factor=2, mode="bilinear", align_corners=True)
        return self.head["quarter_maps"](features), half, full

    def _features(self, image: Tensor) -> Tensor:
        levels, x = [], image
        for stage in self.backbone["stages"]:
            x = stage["arm"](stage["block"](stage["embedding"]["conv"](x)))
            levels.append(x)
        sums = [lateral(x) for lateral, x in zip(self.neck["laterals"], levels[1:])]
        for i in range(len(sums) - 1, 0, -1):
            sums[i - 1] = sums[i - 1] + F.interpolate(sums[i], size=sums[i - 1].shape[2:])
        for output, x in zip(getattr(self, UNUSED), sums[1:]):
            output(x)
        return self.neck["output"](sums[0])

    def take_weights(self, weights: Mapping[str, Tensor]) -> PublishedHyattForm:
        """Load the weights of a HyattNet; what is computed and dropped keeps its own.

        Raises:
            KeyError: a weight is missing or left over.
        """
        missing, left = self.load_state_dict(dict(weights), strict=False)
        wrong = [name for name in (*missing, *left) if not name.startswith(UNUSED)]
        if wrong:
            raise KeyError(f"the weights don't belong to this network: {', '.join(wrong)}")
        return self
