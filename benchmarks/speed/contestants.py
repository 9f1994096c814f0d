"""The networks that are compared, all with 14 landmarks and the same input."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict

import torch
from torch import Tensor, nn

from benchmarks.speed.machine import ROOT
from benchmarks.speed.published_form import PublishedForm
from benchmarks.speed.published_hyatt import PublishedHyattForm
from H3DELandmarksLib.networks import H3DENet, H3DENetConfig, HyattConfig, HyattNet

CROP, TINY_CROP = (128, 128, 64), (64, 64, 32)
OURS, PUBLISHED, LITERAL = "ours", "published form", "literal transcription"
# What `--quick` and the tests run, where only the benchmark itself is on trial.
TINY = {
    "stem_channels": (8, 8),
    "dims": (8, 16, 32, 64),
    "depths": (1, 1, 2, 1),
    "decoder_dims": (24, 16, 8),
    "fine_dims": (4, 2),
    "n_win": (2, 2, 1),
    "topk": (1, 2, 3, 4),
}


def settings_of(head: str, tiny: bool = False, landmarks: int = 14) -> dict:
    """The fields of H3DENetConfig of the published network, or of one with few channels."""
    return asdict(H3DENetConfig(landmarks=landmarks, head=head, **(TINY if tiny else {})))


def crop(batch: int = 1, tiny: bool = False, shape: tuple[int, ...] | None = None) -> Tensor:
    """(batch, 1, X, Y, Z) noise from 0 to 1, of the published input's shape unless another is given."""
    return torch.rand(batch, 1, *(shape or crop_shape(tiny)), generator=torch.Generator().manual_seed(0))


def crop_shape(tiny: bool) -> tuple[int, ...]:
    """The published input's shape, or the least that the tiny network in the published form takes."""
    return TINY_CROP if tiny else CROP


def build_ours(head: str, tiny: bool = False) -> H3DENet:
    """Our network with seeded weights."""
    torch.manual_seed(0)
    return H3DENet(H3DENetConfig(**settings_of(head, tiny))).eval()


def build_published(head: str, tiny: bool = False, **options: bool) -> PublishedForm:
    """The published network in the published form, with the same weights as ours."""
    return PublishedForm(settings_of(head, tiny), **options).take_weights(build_ours(head, tiny).state_dict()).eval()


def add_literal_forms() -> None:
    """Let the literal forms of the tests be imported."""
    folder = str(ROOT / "Testing" / "helpers")
    if folder not in sys.path:
        sys.path.append(folder)


def build_literal(head: str, tiny: bool = False) -> nn.Module:
    """The literal transcription that the tests use, with the same weights as ours."""
    add_literal_forms()
    from literal_h3denet import LiteralH3DENet

    literal = LiteralH3DENet(settings_of(head, tiny))
    literal.load_state_dict(build_ours(head, tiny).state_dict())
    return literal.eval()


TINY_FLAT = {
    "dims": (16, 16, 32, 32, 48),
    "heads": (1, 2, 4, 2, 3),
    "mlp_ratios": (2, 3, 2, 1, 2),
    "n_win": (4, 4, 2, 2),
    "topk": (1, 3, 2, 4),
    "neck_dim": 8,
    "image_dim": 4,
}


def build_flat(tiny: bool = False) -> tuple[HyattNet, PublishedHyattForm]:
    """Our HYATT-Net, 19 landmarks, and the published form of it, with the same seeded weights."""
    torch.manual_seed(0)
    ours = HyattNet(HyattConfig(landmarks=19, **(TINY_FLAT if tiny else {}))).eval()
    for name, tensor in ours.state_dict().items():
        if "maps" in name or "correction" in name:  # at the start of training all maps are nearly 0
            tensor.normal_(std=max(1, tensor[0].numel()) ** -0.5)
    return ours, PublishedHyattForm(asdict(ours.config)).take_weights(ours.state_dict()).eval()


BUILDERS = {OURS: build_ours, PUBLISHED: build_published, LITERAL: build_literal}


def maps_of(network: nn.Module) -> Callable[[Tensor], Tensor]:
    """A call that gives the maps alone, for our networks and for any other."""

    def call(image: Tensor) -> Tensor:
        output = network(image)
        return output if isinstance(output, Tensor) else output[0]

    return call


def build_peer(name: str) -> nn.Module:
    """A network of another project with 14 output channels at full resolution.

    Raises:
        ModuleNotFoundError: the packages of the extra ``bench`` are not installed.
    """
    torch.manual_seed(0)
    return PEERS[name]().eval()


def _monai_unet() -> nn.Module:
    from monai.networks.nets import UNet

    return UNet(3, 1, 14, channels=(16, 32, 64, 128, 256), strides=(2, 2, 2, 2), num_res_units=2)


def _segresnet(width: int) -> nn.Module:
    from monai.networks.nets import SegResNet

    return SegResNet(3, init_filters=width, in_channels=1, out_channels=14)


def _swin_unetr(width: int) -> nn.Module:
    from monai.networks.nets import SwinUNETR

    return SwinUNETR(in_channels=1, out_channels=14, feature_size=width)


def _residual_encoder_unet() -> nn.Module:
    """The plan that nnU-Net makes for a patch of 128 x 128 x 64 with its residual encoder M."""
    from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet

    return ResidualEncoderUNet(
        input_channels=1,
        n_stages=6,
        features_per_stage=(32, 64, 128, 256, 320, 320),
        conv_op=nn.Conv3d,
        kernel_sizes=3,
        strides=(1, 2, 2, 2, 2, (2, 2, 1)),
        n_blocks_per_stage=(1, 3, 4, 6, 6, 6),
        num_classes=14,
        n_conv_per_stage_decoder=1,
        conv_bias=True,
        norm_op=nn.InstanceNorm3d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
    )


PEERS: dict[str, Callable[[], nn.Module]] = {
    "MONAI UNet": _monai_unet,
    "MONAI SegResNet(16)": lambda: _segresnet(16),
    "MONAI SegResNet(32)": lambda: _segresnet(32),
    "nnU-Net residual encoder M": _residual_encoder_unet,
    "MONAI SwinUNETR(24)": lambda: _swin_unetr(24),
    "MONAI SwinUNETR(48)": lambda: _swin_unetr(48),
}
