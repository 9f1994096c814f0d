"""Residual-encoder U-Net of nnU-Net (arXiv 2404.09556), which nnLandmark (arXiv 2504.06742) trains.

It is here to be compared with. The layers are those of its authors' library, dynamic-network-architectures
(Apache-2.0), which only this network needs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.formats.network_settings import SETTINGS
from H3DELandmarksLib.models.card import NETWORKS
from H3DELandmarksLib.networks import ARCHITECTURES
from H3DELandmarksLib.networks.h3denet import NetworkOutput

MISSING = (
    "The network 'residual-encoder-unet' needs the package dynamic-network-architectures: "
    'run pip install "dynamic-network-architectures>=0.3.1,<0.4".'
)


@dataclass(frozen=True)
class ResidualUNetConfig:
    """Settings of ResidualUNet; the defaults are nnU-Net's residual encoder M. All survive a trip through JSON.

    Attributes:
        landmarks: heat maps.
        in_channels: channels of the image.
        features: channels of each resolution, from that of the image to the coarsest; each halves the grid.
        blocks: residual blocks of each resolution.
        decoder_convolutions: of each resolution of the decoder.
        output_stride: 1 as published, or 2 without the decoder's finest resolution.
    """

    landmarks: int
    in_channels: int = 1
    features: tuple[int, ...] = (32, 64, 128, 256, 320, 320)
    blocks: tuple[int, ...] = (1, 3, 4, 6, 6, 6)
    decoder_convolutions: int = 1
    output_stride: int = 1

    is_2d = False
    head = "heatmap"

    def __post_init__(self) -> None:
        if len(self.features) != len(self.blocks) or len(self.features) < 3:
            raise ValueError(f"features and blocks need equal lengths of at least 3: {self.features}, {self.blocks}")
        if self.output_stride not in (1, 2):
            raise ValueError(f"output_stride must be 1 or 2, not {self.output_stride}")


class ResidualUNet(nn.Module):
    """Encoder of residual blocks, plain decoder with skip connections, and one 1x1x1 convolution to heat maps.

    As nnLandmark trains it, without deep supervision.
    """

    def __init__(self, config: ResidualUNetConfig) -> None:
        """Build the network that ``config`` describes, with the library's initialization.

        Raises:
            InputError: the library is not installed.
        """
        super().__init__()
        try:
            from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet
        except ModuleNotFoundError as error:
            raise InputError(MISSING) from error
        self.config = config
        whole = ResidualEncoderUNet(
            input_channels=config.in_channels,
            n_stages=len(config.features),
            features_per_stage=config.features,
            conv_op=nn.Conv3d,
            kernel_sizes=3,
            strides=(1, *[2] * (len(config.features) - 1)),
            n_blocks_per_stage=config.blocks,
            num_classes=config.landmarks,
            n_conv_per_stage_decoder=config.decoder_convolutions,
            conv_bias=True,
            norm_op=nn.InstanceNorm3d,
            norm_op_kwargs={"eps": 1e-5, "affine": True},
            nonlin=nn.LeakyReLU,
            nonlin_kwargs={"inplace": True},
        )
        whole.apply(whole.initialize)
        self.encoder = whole.encoder
        used = len(config.features) - config.output_stride
        self.upsampling = whole.decoder.transpconvs[:used]
        self.decoder = whole.decoder.stages[:used]
        self.head = whole.decoder.seg_layers[used - 1]

    def forward(self, image: Tensor) -> NetworkOutput:
        """Find landmarks in (batch, in_channels, X, Y, Z); sides round up at a stride of 2."""
        multiple = 2 ** (len(self.config.features) - 1)
        missing = [-size % multiple for size in image.shape[2:]]
        *skips, x = self.encoder(F.pad(image, [end for count in reversed(missing) for end in (0, count)]))
        for upsample, convolve, skip in zip(self.upsampling, self.decoder, reversed(skips)):
            x = convolve(torch.cat([upsample(x), skip], dim=1))
        sides = [-(-size // self.config.output_stride) for size in image.shape[2:]]
        return NetworkOutput(self.head(x)[..., : sides[0], : sides[1], : sides[2]], None)


SETTINGS["residual-encoder-unet"] = ResidualUNetConfig
ARCHITECTURES["residual-encoder-unet"] = ResidualUNet
NETWORKS["residual-encoder-unet"] = "residual encoder U-Net of nnU-Net (arXiv 2404.09556)"
