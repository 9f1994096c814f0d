"""H3DE-Net written out word for word from its published definition: slow, for sizes the publication allows, tests only.

Parameter names are those of H3DELandmarksLib.networks.H3DENet, so that one state dict fits both.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def gelu(x: Tensor) -> Tensor:
    """x * Phi(x)."""
    return x * 0.5 * (1 + torch.erf(x / 2**0.5))


class InstanceNorm(nn.Module):
    """ "InstanceNorm (no affine)", spelled out: PyTorch 2.13's has a wrong gradient for one channels-last sample."""

    def forward(self, x: Tensor) -> Tensor:
        centered = x - x.mean(dim=(2, 3, 4), keepdim=True)
        return centered / torch.sqrt((centered**2).mean(dim=(2, 3, 4), keepdim=True) + 1e-5)


class Gelu(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return gelu(x)


class VolumetricBiLevelRoutingAttention(nn.Module):
    """V-BRA, "windows (regions) n_win = (4, 4, 2) = 32 at every stage"."""

    def __init__(self, dim: int, heads: int, n_win: tuple[int, ...], topk: int) -> None:
        super().__init__()
        self.dim, self.heads, self.n_win, self.topk = dim, heads, n_win, topk
        self.qkv = nn.Linear(dim, 3 * dim)  # "one Linear d -> 3d with bias"
        self.lepe = nn.Conv3d(dim, dim, 5, padding=2, groups=dim)  # "LePE: depthwise Conv3d 5 on v"
        self.proj = nn.Linear(dim, dim)  # "the output Linear d -> d"

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).split(self.dim, dim=-1)
        local = self.lepe(v.permute(0, 4, 1, 2, 3)).permute(0, 2, 3, 4, 1)
        samples = [self.attend(*(self.windows(t[b]) for t in (q, k, v))) for b in range(len(x))]
        attended = torch.stack([self.volume(sample, x.shape[1:4]) for sample in samples])
        return self.proj(attended + local)  # LePE is "added before the output Linear"

    def windows(self, volume: Tensor) -> list[Tensor]:
        """Cut (X, Y, Z, d) into its windows, each (tokens, d)."""
        cut = [volume]
        for axis, count in enumerate(self.n_win):
            cut = [part for piece in cut for part in piece.chunk(count, dim=axis)]
        return [piece.reshape(-1, self.dim) for piece in cut]

    def volume(self, windows: list[Tensor], grid: torch.Size) -> Tensor:
        """Put windows back together, undoing ``windows``."""
        sides = [size // count for size, count in zip(grid, self.n_win)]
        pieces = [window.reshape(*sides, self.dim) for window in windows]
        for axis in (2, 1, 0):
            count = self.n_win[axis]
            pieces = [torch.cat(pieces[i : i + count], dim=axis) for i in range(0, len(pieces), count)]
        return pieces[0]

    def attend(self, q: list[Tensor], k: list[Tensor], v: list[Tensor]) -> list[Tensor]:
        scale = self.dim**-0.5  # "scale d^-0.5 with d the full width, not the head width"
        # "region query/key = mean over the region's tokens";
        # "routing logits = (q * d^-0.5) k^T on detached q, k; indices of the top-k only"
        region_q = torch.stack([window.detach().mean(0) for window in q])
        region_k = torch.stack([window.detach().mean(0) for window in k])
        logits = torch.matmul(region_q * scale, region_k.T)
        chosen = logits.topk(min(self.topk, len(k)), dim=-1).indices.tolist()
        out = []
        for window_q, routed in zip(q, chosen):
            # "token attention within the gathered regions"
            keys = torch.cat([k[r] for r in routed])
            values = torch.cat([v[r] for r in routed])
            by_head = [self.split_heads(t) for t in (window_q, keys, values)]
            weights = torch.softmax(torch.matmul(by_head[0], by_head[1].transpose(1, 2)) * scale, dim=-1)
            out.append(torch.matmul(weights, by_head[2]).transpose(0, 1).reshape(-1, self.dim))
        return out

    def split_heads(self, tokens: Tensor) -> Tensor:
        """(tokens, d) to (heads, tokens, d / heads)."""
        return tokens.reshape(len(tokens), self.heads, -1).transpose(0, 1)


class Block(nn.Module):
    def __init__(self, dim: int, heads: int, n_win: tuple[int, ...], topk: int) -> None:
        super().__init__()
        self.position = nn.Conv3d(dim, dim, 3, padding=1, groups=dim)
        self.attention_norm = nn.LayerNorm(dim, eps=1e-6)  # "LN eps 1e-6"
        self.attention = VolumetricBiLevelRoutingAttention(dim, heads, n_win, topk)
        self.mlp_norm = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), Gelu(), nn.Linear(4 * dim, dim))  # "MLP ratio 4, GELU"

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.position(x)  # x = x + DWConv3(x)
        x = x.permute(0, 2, 3, 4, 1)  # channels-last
        x = x + self.attention(self.attention_norm(x))  # x = x + VBRA(LN(x))
        x = x + self.mlp(self.mlp_norm(x))  # x = x + MLP(LN(x))
        return x.permute(0, 4, 1, 2, 3)


class Stage(nn.Module):
    def __init__(self, dim: int, depth: int, heads: int, n_win: tuple[int, ...], topk: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*[Block(dim, heads, n_win, topk) for _ in range(depth)])
        self.norm = nn.LayerNorm(dim, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        # "LayerNorm over channels; this tensor is the skip and also feeds the next stage"
        return self.norm(self.blocks(x).permute(0, 2, 3, 4, 1)).permute(0, 4, 1, 2, 3)


class Encoder(nn.Module):
    def __init__(self, settings: dict) -> None:
        super().__init__()
        first, second = settings["stem_channels"]
        dims = settings["dims"]
        # "Conv3d 3 s2 p1 1->32, InstanceNorm (no affine), GELU, Conv3d 3 s2 p1 32->64, InstanceNorm"
        stem = nn.Sequential(
            nn.Conv3d(1, first, 3, 2, 1), InstanceNorm(), Gelu(), nn.Conv3d(first, second, 3, 2, 1), InstanceNorm()
        )
        # "Conv3d 3 s2 p1, then InstanceNorm; no activation"
        self.downsamplings = nn.ModuleList([stem])
        for before, after in zip(dims[:-1], dims[1:]):
            self.downsamplings.append(nn.Sequential(nn.Conv3d(before, after, 3, 2, 1), InstanceNorm()))
        # "head_dim 8"
        self.stages = nn.ModuleList(
            [
                Stage(dims[i], settings["depths"][i], dims[i] // 8, settings["n_win"], settings["topk"][i])
                for i in range(4)
            ]
        )


class SuperResolution(nn.Module):
    """ "Conv3d 3 C->8C, BatchNorm, ReLU, 3D pixel shuffle x2 in place of trilinear upsampling"."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(channels, 8 * channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm3d(8 * channels)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.conv(x)))
        batch, channels, X, Y, Z = x.shape
        out = x.new_zeros(batch, channels // 8, 2 * X, 2 * Y, 2 * Z)
        for i in range(2):
            for j in range(2):
                for k in range(2):
                    out[:, :, i::2, j::2, k::2] = x[:, 4 * i + 2 * j + k :: 8]
        return out


class DecoderBlock(nn.Module):
    """ "Trilinear x2 (align_corners False), skip, twice (Conv3d 3 no bias, InstanceNorm, LeakyReLU 0.01)"."""

    def __init__(self, channels: int, skip_channels: int, out_channels: int, super_resolution: bool) -> None:
        super().__init__()
        if super_resolution:
            self.upsample = SuperResolution(channels)
        else:
            self.upsample = nn.Upsample(scale_factor=2, mode="trilinear", align_corners=False)
        layers = []
        for before in (channels + skip_channels, out_channels):
            layers += [nn.Conv3d(before, out_channels, 3, padding=1, bias=False)]
            layers += [InstanceNorm(), nn.LeakyReLU(0.01)]
        self.convolutions = nn.Sequential(*layers)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.convolutions(torch.cat([self.upsample(x), skip], dim=1))


class FeatureFusion(nn.Module):
    """ "A strided 1x1x1 conv (s4) of the full-resolution features, one (s2) of the half-resolution features ..."."""

    def __init__(self, full_channels: int, half_channels: int, channels: int) -> None:
        super().__init__()
        self.from_full = nn.Conv3d(full_channels, channels, 1, stride=4)
        self.from_half = nn.Conv3d(half_channels, channels, 1, stride=2)

    def forward(self, full: Tensor, half: Tensor, quarter: Tensor) -> Tensor:
        return torch.cat([self.from_full(full), self.from_half(half), quarter], dim=1)


class AnchorHead(nn.Module):
    """ "At stride 4, 1x1x1 conv 64 -> A*(3+K), A = 4 anchors"."""

    def __init__(self, channels: int, landmarks: int) -> None:
        super().__init__()
        self.landmarks = landmarks
        self.conv = nn.Conv3d(channels, 4 * (3 + landmarks), 1)

    def forward(self, x: Tensor) -> Tensor:
        # "read as B x 32 x 32 x 16 x 4 x (3+K)"
        x = self.conv(x).permute(0, 2, 3, 4, 1)
        return x.reshape(*x.shape[:4], 4, 3 + self.landmarks)


class LiteralH3DENet(nn.Module):
    """The published network for the fields of H3DENetConfig, as a dict."""

    def __init__(self, settings: dict) -> None:
        super().__init__()
        dims, decoder_dims, fine = settings["dims"], settings["decoder_dims"], settings["fine_dims"]
        self.heatmap = settings["head"] == "heatmap"
        shuffle = settings["super_resolution"]
        self.encoder = Encoder(settings)
        # "512(+256)->256, 256(+128)->128, 128(+64)->64"
        self.decoder = nn.ModuleList(
            [
                DecoderBlock(dims[3], dims[2], decoder_dims[0], shuffle),
                DecoderBlock(decoder_dims[0], dims[1], decoder_dims[1], shuffle),
                DecoderBlock(decoder_dims[1], dims[0], decoder_dims[2], shuffle),
            ]
        )
        if self.heatmap or settings["feature_fusion"]:
            # "64(+32)->32 and 32(+16)->16 with convolutional skips taken from the image"
            self.image_skips = nn.ModuleList(
                nn.Sequential(nn.Conv3d(1, width, 3, padding=1, bias=False), InstanceNorm(), nn.LeakyReLU(0.01))
                for width in fine
            )
            self.fine_decoder = nn.ModuleList(
                [
                    DecoderBlock(decoder_dims[2], fine[0], fine[0], shuffle),
                    DecoderBlock(fine[0], fine[1], fine[1], shuffle),
                ]
            )
        self.fusion = FeatureFusion(fine[1], fine[0], decoder_dims[2]) if settings["feature_fusion"] else None
        if self.heatmap:
            self.head = nn.Conv3d(fine[1], settings["landmarks"], 1)  # "1x1x1 conv 16 -> K linear heat maps"
        else:
            channels = 3 * decoder_dims[2] if self.fusion else decoder_dims[2]
            self.head = AnchorHead(channels, settings["landmarks"])

    def forward(self, image: Tensor) -> Tensor:
        x, skips = image, []
        for downsampling, stage in zip(self.encoder.downsamplings, self.encoder.stages):
            x = stage(downsampling(x))
            skips.append(x)
        x = self.decoder[0](x, skips[2])
        x = self.decoder[1](x, skips[1])
        quarter = self.decoder[2](x, skips[0])
        if not self.heatmap and self.fusion is None:
            return self.head(quarter)
        # "average pooled x2 -> 32; full resolution -> 16"
        half = self.fine_decoder[0](quarter, self.image_skips[0](nn.functional.avg_pool3d(image, 3, 2, 1)))
        full = self.fine_decoder[1](half, self.image_skips[1](image))
        return self.head(full) if self.heatmap else self.head(self.fusion(full, half, quarter))
