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

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from H3DELandmarksLib.formats.network_settings import SMALLEST_SIDE, HyattConfig
from H3DELandmarksLib.networks.hyatt_backbone import Backbone, affine, norm_2d
from H3DELandmarksLib.networks.layers import Conv2d, convolve_2d, is_exporting, winograd_pays


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

    def __init__(self, channels: int, image_channels: int, image_dim: int, landmarks: int, norm: str) -> None:
        """Create the heads.

        Args:
            channels: channels of the features.
            image_channels: channels of the image.
            image_dim: channels to which the FFCM brings the image.
            landmarks: heat maps at each resolution.
            norm: as in ``norm_2d``.
        """
        super().__init__()
        self.quarter_maps = MapHead(channels, channels, landmarks)
        self.upsample = Deconvolution(channels, norm)
        self.half_maps = MapHead(channels, channels, landmarks)
        self.image = nn.Sequential(nn.Conv2d(image_channels, image_dim, 1), norm_2d(norm, image_dim), nn.ReLU())
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


RESIDUAL_NAMES = {"hyatt": "arm", "han": "cab"}


class HyattNet(nn.Module):
    """Backbone of BiFormer blocks and residual attention, pyramid neck, and heads at strides 4, 2 and 1."""

    def __init__(self, config: HyattConfig) -> None:
        """Build the network that ``config`` describes."""
        super().__init__()
        self.config = config
        self.backbone = Backbone(
            config.in_channels,
            config.dims,
            config.heads,
            config.n_win,
            config.topk,
            config.mlp_ratios,
            config.drop_path,
            config.norm,
            config.mask_padding,
            RESIDUAL_NAMES[config.variant],
        )
        self.neck = PyramidNeck(config.dims[1:], config.neck_dim)
        self.head = CorrectionHead(config.neck_dim, config.in_channels, config.image_dim, config.landmarks, config.norm)

    def forward(self, image: Tensor) -> HyattOutput:
        """Find landmarks in (batch, in_channels, H, W), both sides at least 32 pixels."""
        if image.ndim != 4 or min(image.shape[2:]) < SMALLEST_SIDE:
            raise ValueError(
                f"expected (batch, channels, H, W), at least {SMALLEST_SIDE} pixels a side, got {tuple(image.shape)}"
            )
        features = self.backbone(image)
        return self.head(self.neck(features[1:]), image)
