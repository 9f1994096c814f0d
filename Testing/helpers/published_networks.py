"""The published networks as their source has them: its names, its order of layers, and what its ``forward`` computes.

Written from facts about BiFormer_Unet and PBiFormer_Unet (H3DE-Net) and TopDown_2Head_Neck (HAN): slow, tests only,
for sizes that need no padding. Layers that the source creates and never uses are here, too.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def conv(axes: int) -> type[nn.Module]:
    return {2: nn.Conv2d, 3: nn.Conv3d}[axes]


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int, scale: float) -> Tensor:
    """(tokens, d) queries, keys and values."""
    q, k, v = (t.reshape(len(t), heads, -1).transpose(0, 1) for t in (q, k, v))
    return (torch.softmax(q * scale @ k.transpose(1, 2), dim=-1) @ v).transpose(0, 1).flatten(1)


class QKVLinear(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(dim, 3 * dim)


class RoutedAttention(nn.Module):
    """BiLevelRoutingAttention: ``pooled`` is the side to which a window's keys and values are averaged."""

    def __init__(self, dim: int, heads: int, n_win: tuple[int, ...], topk: int, pooled: int | None) -> None:
        super().__init__()
        self.lepe = conv(len(n_win))(dim, dim, 5, padding=2, groups=dim)
        self.qkv = QKVLinear(dim)
        self.wo = nn.Linear(dim, dim)
        self.dim, self.heads, self.n_win, self.topk, self.pooled = dim, heads, n_win, topk, pooled

    def windows(self, x: Tensor) -> list[Tensor]:
        for axis, count in enumerate(self.n_win):
            x = x.unflatten(2 * axis, (count, -1))
        order = [*range(0, 2 * len(self.n_win), 2), *range(1, 2 * len(self.n_win), 2), x.ndim - 1]
        return list(x.permute(order).flatten(0, len(self.n_win) - 1))

    def merged(self, windows: list[Tensor], grid: torch.Size) -> Tensor:
        sides = [size // count for size, count in zip(grid, self.n_win)]
        x = torch.stack(windows).reshape(*self.n_win, *sides, self.dim)
        axes = len(self.n_win)
        return x.permute(*(a for i in range(axes) for a in (i, axes + i)), 2 * axes).reshape(*grid, self.dim)

    def pool(self, window: Tensor) -> Tensor:
        if self.pooled is None:
            return window
        return F.adaptive_avg_pool2d(window.permute(2, 0, 1), self.pooled).permute(1, 2, 0)

    def sample(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv.qkv(x).split(self.dim, dim=-1)
        qs, ks = self.windows(q), self.windows(k)
        region_q, region_k = (torch.stack([w.flatten(0, -2).mean(0) for w in t]) for t in (qs, ks))
        scale = self.dim**-0.5
        routes = (region_q * scale @ region_k.T).topk(self.topk, dim=-1).indices
        ks, vs = ([self.pool(w).flatten(0, -2) for w in t] for t in (ks, self.windows(v)))
        out = []
        for window, route in zip(qs, routes):
            keys, values = (torch.cat([t[r] for r in route]) for t in (ks, vs))
            out.append(attend(window.flatten(0, -2), keys, values, self.heads, scale).view(window.shape))
        lepe = self.lepe(v.movedim(-1, 0)[None])[0].movedim(0, -1)
        return self.wo(self.merged(out, x.shape[:-1]) + lepe)

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.sample(image) for image in x])


class AttentionLePE(nn.Module):
    """Attention of all tokens to all: 8 heads, no bias before them, LePE of the layer's input."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.proj = nn.Linear(dim, dim)
        self.lepe = nn.Conv2d(dim, dim, 5, padding=2, groups=dim)

    def forward(self, x: Tensor) -> Tensor:
        lepe = self.lepe(x.movedim(-1, 1)).movedim(1, -1)
        scale = (x.shape[-1] / 8) ** -0.5
        out = [attend(*self.qkv(image.flatten(0, 1)).chunk(3, dim=-1), 8, scale) for image in x]
        return self.proj(torch.stack(out).view(x.shape) + lepe)


class Block(nn.Module):
    def __init__(self, dim: int, attention: nn.Module, mlp_ratio: int, axes: int) -> None:
        super().__init__()
        self.pos_embed = conv(axes)(dim, dim, 3, padding=1, groups=dim)
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = attention
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        hidden = mlp_ratio * dim
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.Identity(), nn.GELU(), nn.Linear(hidden, dim))

    def forward(self, x: Tensor) -> Tensor:
        x = (x + self.pos_embed(x)).movedim(1, -1)
        x = x + self.attn(self.norm1(x))
        return (x + self.mlp(self.norm2(x))).movedim(-1, 1)


class Convolution(nn.Sequential):
    """Conv3dReLU."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__(nn.Conv3d(before, after, 3, padding=1, bias=False), nn.InstanceNorm3d(after), nn.LeakyReLU())


class SRB(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(channels, 8 * channels, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm3d(8 * channels)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn(self.conv(x))).unflatten(1, (-1, 2, 2, 2))
        x = x.permute(0, 1, 5, 2, 6, 3, 7, 4)
        return x.flatten(6, 7).flatten(4, 5).flatten(2, 3)


class DecoderBlock(nn.Module):
    def __init__(self, before: int, after: int, skip: int, srb: bool) -> None:
        super().__init__()
        if srb:
            self.srb = SRB(before)
        self.conv1 = Convolution(before + skip, after)
        self.conv2 = Convolution(after, after)
        self.up = nn.Upsample(scale_factor=2, mode="trilinear", align_corners=False)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = self.srb(x) if hasattr(self, "srb") else self.up(x)
        return self.conv2(self.conv1(torch.cat([x, skip], dim=1)))


class PublishedH3DENet(nn.Module):
    """BiFormer_Unet, or PBiFormer_Unet with ``anchors``; the feature fusion is that of its history."""

    def __init__(
        self,
        landmarks: int,
        anchors: int | None = None,
        dims: tuple[int, ...] = (64, 128, 256, 512),
        depths: tuple[int, ...] = (2, 2, 4, 2),
        fusion: bool = False,
        srb: bool = False,
    ) -> None:
        super().__init__()
        self.landmarks, self.anchors, self.fusion = landmarks, anchors, fusion
        n_win, topk = (4, 4, 2), (1, 4, 16, 16)
        half, quarter, full = dims[0] // 2, dims[0], 16
        stem = [nn.Conv3d(1, half, 3, 2, 1), nn.InstanceNorm3d(half), nn.GELU()]
        stem += [nn.Conv3d(half, dims[0], 3, 2, 1), nn.InstanceNorm3d(dims[0])]
        self.downsample_layers = nn.ModuleList([nn.Sequential(*stem)])
        for before, after in zip(dims, dims[1:]):
            self.downsample_layers.append(nn.Sequential(nn.Conv3d(before, after, 3, 2, 1), nn.InstanceNorm3d(after)))
        self.stages = nn.ModuleList()
        for dim, depth, k in zip(dims, depths, topk):
            attentions = [RoutedAttention(dim, dim // 8, n_win, k, None) for _ in range(depth)]
            self.stages.append(nn.Sequential(*(Block(dim, attention, 4, 3) for attention in attentions)))
        self.norm = nn.BatchNorm3d(dims[3])
        for i, dim in enumerate(dims):
            self.add_module(f"norm{i}", nn.LayerNorm(dim))
        self.head = nn.Linear(dims[3], landmarks)
        outputs, skips = (dims[2], dims[1], dims[0], half, full), (dims[2], dims[1], dims[0], half, full)
        for i, (before, after, skip) in enumerate(zip((dims[3], *outputs), outputs, skips)):
            self.add_module(f"up{i}", DecoderBlock(before, after, skip, srb))
        self.c1, self.c2 = Convolution(1, half), Convolution(1, full)
        self.final_conv = nn.Conv3d(full, landmarks, 1)
        self.avg_pool = nn.AvgPool3d(3, stride=2, padding=1)
        if anchors:
            self.early_down1 = nn.Conv3d(full, quarter, 1, stride=4)
            self.early_down2 = nn.Conv3d(half, quarter, 1, stride=2)
            self.pre_layer = nn.Conv3d(quarter * (3 if fusion else 1), anchors * (3 + landmarks), 1)

    def forward(self, image: Tensor) -> Tensor:
        x, levels = image, []
        for i in range(4):
            x = self.stages[i](self.downsample_layers[i](x))
            x = getattr(self, f"norm{i}")(x.movedim(1, -1)).movedim(-1, 1)
            levels.append(x)
        quarter = self.up2(self.up1(self.up0(levels[3], levels[2]), levels[1]), levels[0])
        half = self.up3(quarter, self.c1(self.avg_pool(image)))
        full = self.up4(half, self.c2(image))
        if not self.anchors:
            return self.final_conv(full)
        if self.fusion:
            quarter = torch.cat([self.early_down1(full), self.early_down2(half), quarter], dim=1)
        out = self.pre_layer(quarter)
        out = out.reshape(len(out), self.anchors, 3 + self.landmarks, *out.shape[2:])
        return out.permute(0, 3, 4, 5, 1, 2)


class ChannelAttention(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        hidden = dim // 16
        layers = [nn.Conv2d(dim, hidden, 1, bias=False), nn.ReLU(), nn.Conv2d(hidden, dim, 1, bias=False)]
        self.mlp = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.mlp(F.adaptive_avg_pool2d(x, 1)) + self.mlp(F.adaptive_max_pool2d(x, 1)))


class SpatialAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.conv1(torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], dim=1)))


class CBAM(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.ca, self.sa = ChannelAttention(dim), SpatialAttention()

    def forward(self, x: Tensor) -> Tensor:
        x = x * self.ca(x)
        return x * self.sa(x)


class BasicBlock(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.CBAM = CBAM(dim)
        self.conv1 = nn.Conv2d(dim, dim, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(dim)
        self.conv2 = nn.Conv2d(dim, dim, 3, padding=2, dilation=2, bias=False)
        self.bn2 = nn.BatchNorm2d(dim)
        self.conv4 = nn.Conv2d(dim, dim, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(self.CBAM(out) + self.conv4(x))


class PatchEmbed(nn.Module):
    """Its normalization is created and left out."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(before, after, 4, 2, 1)
        self.bn1 = nn.BatchNorm2d(after)

    def forward(self, x: Tensor) -> Tensor:
        return self.projection(x)


class Backbone(nn.Module):
    def __init__(self, dims: tuple, heads: tuple, n_win: tuple, topk: tuple, mlp_ratios: tuple) -> None:
        super().__init__()
        self.conv_lay = nn.ModuleList(BasicBlock(dim) for dim in dims)
        self.layers = nn.ModuleList()
        for i, (before, dim) in enumerate(zip((3, *dims), dims)):
            last = i == 4
            attention = AttentionLePE(dim) if last else RoutedAttention(dim, heads[i], (n_win[i],) * 2, topk[i], 4)
            block = nn.ModuleList([Block(dim, attention, mlp_ratios[i], 2)])
            self.layers.append(nn.ModuleList([PatchEmbed(before, dim), block, nn.Identity()]))

    def forward(self, x: Tensor) -> list[Tensor]:
        out = []
        for residual, (embedding, blocks, _) in zip(self.conv_lay, self.layers):
            x = residual(blocks[0](embedding(x)))
            out.append(x)
        return out


class Neck(nn.Module):
    def __init__(self, dims: tuple, dim: int) -> None:
        super().__init__()
        pairs = [(nn.Conv2d(dim, dim, 3, padding=1), nn.BatchNorm2d(dim), nn.ReLU()) for _ in range(2)]
        self.double_conv = nn.Sequential(*(layer for pair in pairs for layer in pair))
        self.lateral_convs = nn.ModuleList(nn.Conv2d(before, dim, 3, padding=1) for before in dims[1:])
        self.c_convs = nn.ModuleList(nn.Conv2d(dim, dim, 3, padding=1) for _ in dims[1:])

    def forward(self, features: list[Tensor]) -> Tensor:
        laterals = [lateral(x) for lateral, x in zip(self.lateral_convs, features[1:])]
        for i in (3, 2, 1):
            laterals[i - 1] = laterals[i - 1] + F.interpolate(laterals[i], size=laterals[i - 1].shape[2:])
        return self.c_convs[0](laterals[0])


class Head(nn.Module):
    def __init__(self, before: int, hidden: int, landmarks: int) -> None:
        super().__init__()
        layers = [nn.Conv2d(before, hidden, 3, padding=1), nn.ReLU(), nn.Conv2d(hidden, landmarks, 1)]
        self.layer = nn.Sequential(*layers)


class GlobalHead(Head):
    def __init__(self, dim: int, image_dim: int, landmarks: int) -> None:
        nn.Module.__init__(self)
        self.w1_conv = nn.Sequential(nn.Conv2d(3, image_dim, 1), nn.BatchNorm2d(image_dim), nn.ReLU())
        self.w2_conv = nn.Sequential(nn.Conv2d(dim, dim // 4, 1), nn.BatchNorm2d(dim // 4), nn.ReLU())
        joined = dim + image_dim + landmarks
        self.layer = Head(joined, joined, landmarks).layer


class DistanceHead(nn.Module):
    def __init__(self, dim: int, landmarks: int) -> None:
        super().__init__()
        deconvolution = nn.ConvTranspose2d(dim, dim, 4, 2, 1, bias=False)
        self.deconv_layers = nn.Sequential(deconvolution, nn.BatchNorm2d(dim), nn.ReLU())
        self.layer = Head(dim, dim, landmarks).layer


class PublishedHyattNet(nn.Module):
    """TopDown_2Head_Neck: maps at strides 4, 2 and 1."""

    def __init__(
        self,
        landmarks: int,
        dims: tuple[int, ...] = (64, 128, 320, 512, 1024),
        heads: tuple[int, ...] = (2, 4, 10, 16),
        n_win: tuple[int, ...] = (16, 16, 16, 8),
        topk: tuple[int, ...] = (1, 4, 8, 16),
        mlp_ratios: tuple[int, ...] = (8, 8, 8, 4, 4),
        neck: int = 256,
        image_dim: int = 32,
    ) -> None:
        super().__init__()
        self.backbone = Backbone(dims, heads, n_win, topk, mlp_ratios)
        self.neck = Neck(dims, neck)
        self.keypoint_head_global = GlobalHead(neck, image_dim, landmarks)
        self.keypoint_head = Head(neck, neck, landmarks)
        self.distance_head = DistanceHead(neck, landmarks)

    def forward(self, image: Tensor) -> list[Tensor]:
        features = self.neck(self.backbone(image))
        fine = self.distance_head.deconv_layers(features)
        half = self.distance_head.layer(fine)
        small = self.keypoint_head_global.w1_conv(F.interpolate(image, scale_factor=0.5))
        full = self.keypoint_head_global.layer(torch.cat([fine, small, half], dim=1))
        full = F.interpolate(full, scale_factor=2, mode="bilinear", align_corners=True)
        return [self.keypoint_head.layer(features), half, full]


def randomize(network: nn.Module, seed: int = 0) -> nn.Module:
    """Random values for all weights and statistics, so that none can be exchanged unnoticed; in inference mode."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in network.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2, generator=generator)
        elif tensor.ndim == 1 and name.endswith("weight"):
            tensor.normal_(1, 0.2, generator=generator)
        elif tensor.is_floating_point():
            fan = max(1, tensor[0].numel()) if tensor.ndim > 1 else 25
            tensor.normal_(0, fan**-0.5, generator=generator)
        elif ".0.bn1." not in name:
            tensor.fill_(7)
    return network.eval()
