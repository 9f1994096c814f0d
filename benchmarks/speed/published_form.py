"""H3DE-Net computed the way its published code computes it: the fair denominator of the speed ratios.

The transcription in Testing/helpers/literal_h3denet.py says what is computed and spells everything out; this
says at what cost: windows cut by permuting, keys and values gathered from an expanded view, attention as two products
with a softmax between, PyTorch's own layers, channels-first memory, and image features that the anchor network computes
and then drops. Parameter names are those of H3DELandmarksLib.networks.H3DENet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

UNUSED = "unused_skips"


class Attention(nn.Module):
    """Volumetric bi-level routing attention; every grid side must be a multiple of its number of windows."""

    def __init__(self, dim: int, heads: int, n_win: Sequence[int], topk: int) -> None:
        super().__init__()
        self.dim, self.heads, self.n_win, self.topk, self.scale = dim, heads, tuple(n_win), topk, dim**-0.5
        self.qkv = nn.Linear(dim, 3 * dim)
        self.lepe = nn.Conv3d(dim, dim, 5, padding=2, groups=dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Attend: (batch, X, Y, Z, dim) to the same shape."""
        grid = x.shape[1:4]
        q, kv = self.qkv(self._cut(x)).split([self.dim, 2 * self.dim], dim=-1)
        local = self.lepe(self._join(kv[..., self.dim :], grid).permute(0, 4, 1, 2, 3).contiguous())
        means = q.mean(2).detach(), kv[..., : self.dim].mean(2).detach()
        routed = ((means[0] * self.scale) @ means[1].transpose(1, 2)).topk(self.topk, dim=-1)[1]
        k, v = self._gather(kv, routed).split(self.dim, dim=-1)
        weights = torch.softmax((self._by_head(q) * self.scale) @ self._by_head(k).transpose(2, 3), dim=-1)
        out = (weights @ self._by_head(v)).transpose(1, 2).reshape(q.shape)
        return self.proj(self._join(out, grid) + local.permute(0, 2, 3, 4, 1))

    def _cut(self, x: Tensor) -> Tensor:
        """(batch, X, Y, Z, dim) to (batch, windows, tokens, dim), copied."""
        sides = [size // count for size, count in zip(x.shape[1:4], self.n_win)]
        pairs = [size for pair in zip(self.n_win, sides) for size in pair]
        return (
            x.reshape(len(x), *pairs, -1)
            .permute(0, 1, 3, 5, 2, 4, 6, 7)
            .reshape(len(x), prod(self.n_win), prod(sides), -1)
        )

    def _join(self, x: Tensor, grid: Sequence[int]) -> Tensor:
        """Undo `_cut`."""
        sides = [size // count for size, count in zip(grid, self.n_win)]
        return x.reshape(len(x), *self.n_win, *sides, -1).permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(len(x), *grid, -1)

    def _gather(self, kv: Tensor, routed: Tensor) -> Tensor:
        """Copies of the routed windows' keys and values: (batch, windows, topk * tokens, 2 dim)."""
        batch, windows, tokens, width = kv.shape
        every = kv[:, None].expand(-1, windows, -1, -1, -1)
        index = routed[..., None, None].expand(-1, -1, -1, tokens, width)
        return torch.gather(every, 2, index).flatten(2, 3)

    def _by_head(self, tokens: Tensor) -> Tensor:
        """(batch, windows, tokens, dim) to (batch * windows, heads, tokens, head dim)."""
        return tokens.flatten(0, 1).unflatten(-1, (self.heads, -1)).transpose(1, 2)


class Block(nn.Module):
    """Depthwise convolution, attention and perceptron, each added to its input; channels first outside."""

    def __init__(self, dim: int, heads: int, n_win: Sequence[int], topk: int) -> None:
        super().__init__()
        self.position = nn.Conv3d(dim, dim, 3, padding=1, groups=dim)
        self.attention_norm = nn.LayerNorm(dim, eps=1e-6)
        self.attention = Attention(dim, heads, n_win, topk)
        self.mlp_norm = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        """Transform (batch, dim, X, Y, Z) to the same shape."""
        x = (x + self.position(x)).permute(0, 2, 3, 4, 1)
        x = x + self.attention(self.attention_norm(x))
        x = x + self.mlp(self.mlp_norm(x))
        return x.permute(0, 4, 1, 2, 3)


class Stage(nn.Module):
    """Blocks at one resolution and a layer norm."""

    def __init__(self, dim: int, depth: int, heads: int, n_win: Sequence[int], topk: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(Block(dim, heads, n_win, topk) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        """Transform (batch, dim, X, Y, Z) to the same shape."""
        return self.norm(self.blocks(x).permute(0, 2, 3, 4, 1)).permute(0, 4, 1, 2, 3)


class Encoder(nn.Module):
    """Image to feature maps at strides 4, 8, 16 and 32."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        first, second = settings["stem_channels"]
        dims = settings["dims"]
        stem = [nn.Conv3d(1, first, 3, 2, 1), nn.InstanceNorm3d(first), nn.GELU()]
        stem += [nn.Conv3d(first, second, 3, 2, 1), nn.InstanceNorm3d(second)]
        self.downsamplings = nn.ModuleList([nn.Sequential(*stem)])
        self.downsamplings.extend(
            nn.Sequential(nn.Conv3d(before, after, 3, 2, 1), nn.InstanceNorm3d(after))
            for before, after in zip(dims, dims[1:])
        )
        self.stages = nn.ModuleList(
            Stage(dim, depth, dim // settings["head_dim"], settings["n_win"], topk)
            for dim, depth, topk in zip(dims, settings["depths"], settings["topk"])
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        """Features, finest first."""
        features = [image]
        for downsampling, stage in zip(self.downsamplings, self.stages):
            features.append(stage(downsampling(features[-1])))
        return features[1:]


class DecoderBlock(nn.Module):
    """Trilinear upsampling, concatenation, two convolutions."""

    def __init__(self, channels: int, skip_channels: int, out_channels: int) -> None:
        super().__init__()
        self.upsample = nn.Upsample(scale_factor=2, mode="trilinear", align_corners=False)
        self.convolutions = nn.Sequential(
            *_convolution(channels + skip_channels, out_channels), *_convolution(out_channels, out_channels)
        )

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Features at half the resolution and the skip, to features at the skip's resolution."""
        return self.convolutions(torch.cat([self.upsample(x), skip], dim=1))


def _convolution(before: int, after: int) -> list[nn.Module]:
    return [
        nn.Conv3d(before, after, 3, padding=1, bias=False),
        nn.InstanceNorm3d(after),
        nn.LeakyReLU(0.01, inplace=True),
    ]


class PublishedForm(nn.Module):
    """The published network for the fields of H3DENetConfig, as a dict, without the paper's optional modules."""

    def __init__(self, settings: Mapping[str, Any], unused: bool = True) -> None:
        """Build the network; ``unused`` False leaves out what the anchor network computes and drops."""
        super().__init__()
        dims, decoder, fine = settings["dims"], settings["decoder_dims"], settings["fine_dims"]
        self.landmarks, self.anchors = settings["landmarks"], settings["anchors"]
        self.heatmap = settings["head"] == "heatmap"
        self.encoder = Encoder(settings)
        inputs = (dims[-1], *decoder)
        self.decoder = nn.ModuleList(
            DecoderBlock(before, skip, after) for before, skip, after in zip(inputs, reversed(dims[:-1]), decoder)
        )
        self.pool = nn.AvgPool3d(3, stride=2, padding=1)
        skips = nn.ModuleList(nn.Sequential(*_convolution(1, dim)) for dim in fine)
        if self.heatmap:
            self.image_skips = skips
            self.fine_decoder = nn.ModuleList(
                DecoderBlock(before, after, after) for before, after in zip((decoder[-1], fine[0]), fine)
            )
            self.head = nn.Conv3d(fine[1], self.landmarks, 1)
        else:
            self.head = nn.ModuleDict({"conv": nn.Conv3d(decoder[-1], self.anchors * (3 + self.landmarks), 1)})
            if unused:
                self.add_module(UNUSED, skips)

    def forward(self, image: Tensor) -> Tensor:
        """(batch, 1, X, Y, Z) to maps in the layout of NetworkOutput."""
        skips = getattr(self, "image_skips", None) or getattr(self, UNUSED, None)
        fine = [skip(x) for skip, x in zip(skips, (self.pool(image), image))] if skips else []
        *features, x = self.encoder(image)
        for block, skip in zip(self.decoder, reversed(features)):
            x = block(x, skip)
        if not self.heatmap:
            maps = self.head["conv"](x)
            return maps.unflatten(1, (self.anchors, 3 + self.landmarks)).permute(0, 3, 4, 5, 1, 2)
        for block, skip in zip(self.fine_decoder, fine):
            x = block(x, skip)
        return self.head(x)

    def take_weights(self, weights: Mapping[str, Tensor]) -> PublishedForm:
        """Load the other network's weights; what is computed and dropped keeps its own.

        Raises:
            KeyError: a weight is missing or left over.
        """
        missing, left = self.load_state_dict(dict(weights), strict=False)
        wrong = [name for name in (*missing, *left) if not name.startswith(UNUSED)]
        if wrong:
            raise KeyError(f"the weights don't belong to this network: {', '.join(wrong)}")
        return self
