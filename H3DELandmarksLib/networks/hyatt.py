"""HYATT-Net and HAN (arXiv 2412.06499, versions 2 and 1): landmark detection in two-dimensional radiographs.

Written from the papers, from facts about the published code, and from BiFormer's definitions (arXiv 2303.08810).

HAN is the first version of HYATT-Net: what it calls convolutional attention block (CAB), the second version calls
attention residual module (ARM). That the two have the same layers, and that nothing else differs, is inferred from
their one code base; here the variants differ in the name of that block in the state dict only.

Also inferred, because no source states it:
- each residual attention feeds the next stage and the neck;
- the last stage's attention is BiFormer's own: 8 heads, scaled by their width, no bias before them, LePE of the input;
- windows that don't fit a grid are padded with zero tokens that take part in the attention, as in BiFormer's dense
  prediction: the published input of 1024 x 1216 pixels needs it in stages 3 and 4 (``mask_padding`` mends it);
- the normalization of the patch embedding is never applied, as in the code that it was taken from;
- sizes that aren't multiples of 32, which the publication leaves open, round up at each stride.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from torch import Tensor, nn

from .biformer2d import Backbone
from .correction_head import CorrectionHead, HyattOutput
from .pyramid_neck import PyramidNeck

MINIMUM_SIZE = 32
RESIDUAL_NAMES = {"hyatt": "arm", "han": "cab"}


@dataclass(frozen=True)
class HyattConfig:
    """Settings of HyattNet; the defaults are the published network. Every value survives a trip through JSON.

    Attributes:
        landmarks: heat maps at each resolution.
        in_channels: channels of the image, 3 as published or 1.
        variant: "hyatt" or "han", see the module's text.
        dims: channels of the five stages, at strides 2 to 32.
        heads: attention heads of the five stages.
        n_win: windows along each side in stages 1 to 4; the fifth attends fully.
        topk: windows that a window attends to in stages 1 to 4.
        mlp_ratios: hidden over outer width of the perceptron of the five stages.
        drop_path: probability that the last stage's branches are left out in training; rises linearly from 0.
        neck_dim: channels of neck and heads.
        image_dim: channels of the image in the feature fusion correction module.
        norm: "batch" as published; "group" or "frozen" for training with a batch of one image, see ``norm_2d``.
            In training, "batch" needs more than one pixel at stride 32 where the batch is one image.
        mask_padding: keep the padding of windows that overlap the border out of the attention.
    """

    landmarks: int
    in_channels: int = 3
    variant: str = "hyatt"
    dims: tuple[int, ...] = (64, 128, 320, 512, 1024)
    heads: tuple[int, ...] = (2, 4, 10, 16, 8)
    n_win: tuple[int, ...] = (16, 16, 16, 8)
    topk: tuple[int, ...] = (1, 4, 8, 16)
    mlp_ratios: tuple[int, ...] = (8, 8, 8, 4, 4)
    drop_path: float = 0.1
    neck_dim: int = 256
    image_dim: int = 32
    norm: str = "batch"
    mask_padding: bool = False

    def __post_init__(self) -> None:
        """Turn lists (from JSON) into tuples and refuse settings that don't describe a network."""
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, list):
                object.__setattr__(self, field.name, tuple(value))
        for name, length in {"dims": 5, "heads": 5, "n_win": 4, "topk": 4, "mlp_ratios": 5}.items():
            if len(getattr(self, name)) != length:
                raise ValueError(f"{name} needs {length} entries, got {getattr(self, name)}")
        if self.variant not in RESIDUAL_NAMES:
            raise ValueError(f"variant must be 'hyatt' or 'han', not {self.variant!r}")
        if not 0 <= self.drop_path < 1:
            raise ValueError(f"drop_path must be at least 0 and below 1, not {self.drop_path}")


@dataclass(frozen=True)
class HanConfig(HyattConfig):
    """Settings of the first version, HAN."""

    variant: str = "han"


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
        if image.ndim != 4 or min(image.shape[2:]) < MINIMUM_SIZE:
            raise ValueError(
                f"expected (batch, channels, H, W), at least {MINIMUM_SIZE} pixels a side, got {tuple(image.shape)}"
            )
        features = self.backbone(image)
        return self.head(self.neck(features[1:]), image)
