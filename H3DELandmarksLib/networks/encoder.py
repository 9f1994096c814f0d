"""Encoder of H3DE-Net (arXiv 2502.14221): convolutional stem and four stages of bi-level routing attention blocks."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from H3DELandmarksLib.networks.bilevel_attention import BiLevelRoutingAttention
from H3DELandmarksLib.networks.layers import Conv3d, DepthwiseConv, InstanceNorm, Perceptron

LAYER_NORM_EPS = 1e-6
LINEAR_INIT_STD = 0.02


def stem(in_channels: int, stem_channels: Sequence[int]) -> nn.Sequential:
    """Two strided convolutions: (batch, in_channels, X, Y, Z) to (batch, stem_channels[1], X/4, Y/4, Z/4)."""
    first, second = stem_channels
    return nn.Sequential(
        Conv3d(in_channels, first, stride=2),
        InstanceNorm(first),
        nn.GELU(),
        Conv3d(first, second, stride=2),
        InstanceNorm(second),
    )


def downsampling(in_channels: int, out_channels: int) -> nn.Sequential:
    """Halve the grid between two stages; no activation."""
    return nn.Sequential(Conv3d(in_channels, out_channels, stride=2), InstanceNorm(out_channels))


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

    def __init__(
        self,
        in_channels: int,
        stem_channels: Sequence[int],
        dims: Sequence[int],
        depths: Sequence[int],
        head_dim: int,
        n_win: Sequence[int],
        topk: Sequence[int],
        mlp_ratio: int,
    ) -> None:
        """Create the stem and one stage an entry of ``dims``; settings as in H3DENetConfig."""
        super().__init__()
        self.downsamplings = nn.ModuleList([stem(in_channels, stem_channels)])
        self.downsamplings.extend(downsampling(before, after) for before, after in zip(dims, dims[1:]))
        self.stages = nn.ModuleList(
            Stage(dim, depth, dim // head_dim, n_win, k, mlp_ratio) for dim, depth, k in zip(dims, depths, topk)
        )
        self.apply(_initialize_linear)

    def forward(self, image: Tensor) -> list[Tensor]:
        """(batch, in_channels, X, Y, Z) to (batch, dim, ceil(X/s), ceil(Y/s), ceil(Z/s)) a stride s, finest first."""
        features = []
        x = image
        for downsample, stage in zip(self.downsamplings, self.stages):
            x = stage(downsample(x))
            features.append(x)
        return features


def _initialize_linear(module: nn.Module) -> None:
    """Draw weights from the published truncated normal distribution."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=LINEAR_INIT_STD)
        nn.init.zeros_(module.bias)
