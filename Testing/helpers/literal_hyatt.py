"""HYATT-Net written out word for word from its published definition: slow, tests only.

Quotations are from the table of facts about HYATT-Net and HAN. Sizes that the publication leaves open are rounded up at
each stride, with zeros beyond the border. Parameter names are those of H3DELandmarksLib.networks.HyattNet, so that one
state dict fits both.
"""

from __future__ import annotations

from math import ceil, floor

import torch
from torch import Tensor, nn


def zeros_below_and_right(x: Tensor, height: int, width: int) -> Tensor:
    """(batch, channels, H, W) inside zeros of (batch, channels, height, width)."""
    out = x.new_zeros(*x.shape[:2], height, width)
    out[:, :, : x.shape[2], : x.shape[3]] = x
    return out


def average_to_4x4(window: Tensor) -> Tensor:
    """ "Key/value adaptively average-pooled to 4x4 a window": (h, w, d) to (16, d)."""
    height, width, _ = window.shape
    cells = []
    for i in range(4):
        rows = window[floor(i * height / 4) : ceil((i + 1) * height / 4)]
        for j in range(4):
            cells.append(rows[:, floor(j * width / 4) : ceil((j + 1) * width / 4)].mean(dim=(0, 1)))
    return torch.stack(cells)


def attend(queries: Tensor, keys: Tensor, values: Tensor, heads: int, scale: float) -> Tensor:
    """Multi-head attention of (tokens, d) to (other tokens, d)."""
    out = []
    for q, k, v in zip(*(t.chunk(heads, dim=1) for t in (queries, keys, values))):
        out.append(torch.softmax(q @ k.T * scale, dim=1) @ v)
    return torch.cat(out, dim=1)


class Attention(nn.Module):
    """BiFormer's attention of one stage; ``n_win`` None is "full attention with LePE at the last stage"."""

    def __init__(self, dim: int, heads: int, n_win: int | None, topk: int | None) -> None:
        super().__init__()
        self.dim, self.heads, self.n_win, self.topk = dim, heads, n_win, topk
        self.qkv = nn.Linear(dim, 3 * dim, bias=n_win is not None)
        self.lepe = nn.Conv2d(dim, dim, 5, padding=2, groups=dim)  # "LePE kernel 5"
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        _, height, width, _ = x.shape
        if self.n_win is not None:
            # Zero tokens fill up the last windows, as in BiFormer's dense prediction.
            h, w = (ceil(size / self.n_win) * self.n_win for size in (height, width))
            x = zeros_below_and_right(x.permute(0, 3, 1, 2), h, w).permute(0, 2, 3, 1)
        q, k, v = self.qkv(x).split(self.dim, dim=-1)
        attention = self.full if self.n_win is None else self.routed
        attended = torch.stack([attention(q[b], k[b], v[b]) for b in range(len(x))])
        # Full attention adds LePE of its input.
        local = self.lepe((x if self.n_win is None else v).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return self.proj(attended + local)[:, :height, :width]

    def full(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        tokens = [t.reshape(-1, self.dim) for t in (q, k, v)]
        return attend(*tokens, self.heads, (self.dim / self.heads) ** -0.5).reshape(q.shape)

    def routed(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        windows_q, windows_k, windows_v = (self.windows(t) for t in (q, k, v))
        scale = self.dim**-0.5
        region_q = torch.stack([window.detach().mean(dim=(0, 1)) for window in windows_q])
        region_k = torch.stack([window.detach().mean(dim=(0, 1)) for window in windows_k])
        routes = (region_q * scale @ region_k.T).topk(self.topk, dim=1).indices.tolist()
        keys, values = [average_to_4x4(t) for t in windows_k], [average_to_4x4(t) for t in windows_v]
        out = []
        for window, chosen in zip(windows_q, routes):
            routed_keys = torch.cat([keys[i] for i in chosen])
            routed_values = torch.cat([values[i] for i in chosen])
            tokens = window.reshape(-1, self.dim)
            out.append(attend(tokens, routed_keys, routed_values, self.heads, scale).reshape(window.shape))
        rows = [torch.cat(out[i : i + self.n_win], dim=1) for i in range(0, len(out), self.n_win)]
        return torch.cat(rows, dim=0)

    def windows(self, x: Tensor) -> list[Tensor]:
        """Cut (H, W, d) into its windows, row by row."""
        return [window for row in x.chunk(self.n_win, dim=0) for window in row.chunk(self.n_win, dim=1)]


class Block(nn.Module):
    """ "One BiFormer block a stage"; arXiv 2303.08810, figure 4."""

    def __init__(self, dim: int, heads: int, n_win: int | None, topk: int | None, mlp_ratio: int) -> None:
        super().__init__()
        self.position = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)  # "depthwise positional conv 3"
        self.attention_norm = nn.LayerNorm(dim, eps=1e-6)
        self.attention = Attention(dim, heads, n_win, topk)
        self.mlp_norm = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(dim, mlp_ratio * dim), nn.GELU(), nn.Linear(mlp_ratio * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.position(x)
        x = x.permute(0, 2, 3, 1)
        x = x + self.attention(self.attention_norm(x))
        x = x + self.mlp(self.mlp_norm(x))
        return x.permute(0, 3, 1, 2)


class PatchEmbedding(nn.Module):
    """ "Conv patch embedding k4 s2 p1"; the BatchNorm that the code creates is never applied."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, 4, 2, 0)

    def forward(self, x: Tensor) -> Tensor:
        height, width = (2 * ceil(size / 2) for size in x.shape[2:])
        padded = x.new_zeros(*x.shape[:2], height + 2, width + 2)
        padded[:, :, 1 : 1 + x.shape[2], 1 : 1 + x.shape[3]] = x
        return self.conv(padded)


class ChannelAttention(nn.Module):
    """CBAM, equation 2: sigmoid(MLP(AvgPool(F)) + MLP(MaxPool(F))), "channel ratio 16"."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(dim, dim // 16, bias=False), nn.ReLU(), nn.Linear(dim // 16, dim, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        flat = x.reshape(*x.shape[:2], -1)
        weight = torch.sigmoid(self.mlp(flat.mean(dim=2)) + self.mlp(flat.max(dim=2).values))
        return weight[:, :, None, None] * x


class SpatialAttention(nn.Module):
    """CBAM, equation 3: sigmoid(f7x7([AvgPool(F); MaxPool(F)])), "then 7x7 spatial"."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        pooled = torch.cat([x.mean(dim=1, keepdim=True), x.max(dim=1, keepdim=True).values], dim=1)
        return torch.sigmoid(self.conv(pooled)) * x


class ResidualAttention(nn.Module):
    """ "ReLU( CBAM( BN(Conv3 dilation 2 ( ReLU(BN(Conv3(x))) )) ) + Conv3(x) )"."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim, dim, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(dim)
        self.dilated_conv = nn.Conv2d(dim, dim, 3, padding=2, dilation=2, bias=False)
        self.dilated_norm = nn.BatchNorm2d(dim)
        self.channel_attention = ChannelAttention(dim)
        self.spatial_attention = SpatialAttention()
        self.shortcut = nn.Conv2d(dim, dim, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.dilated_norm(self.dilated_conv(torch.relu(self.norm(self.conv(x)))))
        return torch.relu(self.spatial_attention(self.channel_attention(y)) + self.shortcut(x))


class Backbone(nn.Module):
    """ "5 stages at strides 2..32"; "ARM / CAB after each BiFormer block"."""

    def __init__(self, settings: dict) -> None:
        super().__init__()
        dims = settings["dims"]
        n_win, topk = (*settings["n_win"], None), (*settings["topk"], None)
        self.stages = nn.ModuleList()
        for i, before in enumerate((settings["in_channels"], *dims[:-1])):
            stage = nn.Sequential()
            stage.add_module("embedding", PatchEmbedding(before, dims[i]))
            stage.add_module(
                "block", Block(dims[i], settings["heads"][i], n_win[i], topk[i], settings["mlp_ratios"][i])
            )
            stage.add_module({"hyatt": "arm", "han": "cab"}[settings["variant"]], ResidualAttention(dims[i]))
            self.stages.append(stage)


class Neck(nn.Module):
    """ "Levels 2..5, 3x3 lateral -> 256, nearest top-down sum, 3x3 output; only the stride-4 map is used"."""

    def __init__(self, settings: dict) -> None:
        super().__init__()
        dim = settings["neck_dim"]
        self.laterals = nn.ModuleList([nn.Conv2d(d, dim, 3, padding=1) for d in settings["dims"][1:]])
        self.output = nn.Conv2d(dim, dim, 3, padding=1)

    def forward(self, c2: Tensor, c3: Tensor, c4: Tensor, c5: Tensor) -> Tensor:
        p5 = self.laterals[3](c5)
        p4 = self.laterals[2](c4) + self.twice_as_large(p5, c4)
        p3 = self.laterals[1](c3) + self.twice_as_large(p4, c3)
        return self.output(self.laterals[0](c2) + self.twice_as_large(p3, c2))

    def twice_as_large(self, x: Tensor, like: Tensor) -> Tensor:
        rows = [i // 2 for i in range(like.shape[2])]
        columns = [j // 2 for j in range(like.shape[3])]
        return x[:, :, rows][:, :, :, columns]


class Head(nn.Module):
    def __init__(self, settings: dict) -> None:
        super().__init__()
        dim, image_dim, landmarks = settings["neck_dim"], settings["image_dim"], settings["landmarks"]
        # "(a) stride 4: Conv3 256, ReLU, Conv1 -> K"
        self.quarter_maps = self.maps(dim, dim, landmarks)
        # "(b) stride 2: transposed conv k4 s2 256 + BN + ReLU, then the same head"
        deconvolution = nn.ConvTranspose2d(dim, dim, 4, 2, 1, bias=False)
        self.upsample = nn.Sequential(deconvolution, nn.BatchNorm2d(dim), nn.ReLU())
        self.half_maps = self.maps(dim, dim, landmarks)
        # "(c) FFCM: concatenate (b)'s 256 features, the image at x0.5 through Conv1 3->32 BN ReLU, and (b)'s K maps
        # -> Conv3, ReLU, Conv1 -> K, bilinear x2 -> full resolution"
        image = nn.Conv2d(settings["in_channels"], image_dim, 1)
        self.image = nn.Sequential(image, nn.BatchNorm2d(image_dim), nn.ReLU())
        joined = dim + image_dim + landmarks
        self.correction = self.maps(joined, joined, landmarks)

    def maps(self, before: int, dim: int, landmarks: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(before, dim, 3, padding=1), nn.ReLU(), nn.Conv2d(dim, landmarks, 1))

    def forward(self, features: Tensor, image: Tensor) -> list[Tensor]:
        full_height, full_width = image.shape[2:]
        height, width = ceil(full_height / 2), ceil(full_width / 2)
        fine = self.upsample(features)[:, :, :height, :width]
        half = self.half_maps(fine)
        small = image[:, :, [2 * i for i in range(height)]][:, :, :, [2 * j for j in range(width)]]
        corrected = self.correction(torch.cat([fine, self.image(small), half], dim=1))
        upsampling = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        return [self.quarter_maps(features), half, upsampling(corrected)[:, :, :full_height, :full_width]]


class LiteralHyattNet(nn.Module):
    """The published network for the fields of HyattConfig, as a dict."""

    def __init__(self, settings: dict) -> None:
        super().__init__()
        self.backbone = Backbone(settings)
        self.neck = Neck(settings)
        self.head = Head(settings)

    def forward(self, image: Tensor) -> list[Tensor]:
        levels, x = [], image
        for stage in self.backbone.stages:
            x = stage(x)
            levels.append(x)
        return self.head(self.neck(*levels[1:]), image)
