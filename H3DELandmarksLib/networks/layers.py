"""Small layers that the networks share: plain PyTorch functions, arranged so that they're fast on a CPU."""

from __future__ import annotations

from functools import cache
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight, conv3d_weight

# PyTorch leaves a single sample to its slow native convolution where channels * X * Y isn't above this number.
NATIVE_CONVOLUTION_LIMIT = 20480
# Fewest channels and pixels for which Winograd's algorithm was faster.
WINOGRAD_CHANNELS = 32
WINOGRAD_PIXELS = 1024
# Fewest pixels for which a convolution by Fourier transforms was faster.
FOURIER_PIXELS = 4096
# Fewest weights, and most pixels that a convolution of them gives, for which one matrix product was faster.
HEAVY_WEIGHTS = 4 * 2**20
HEAVY_PIXELS = 64
# Hidden features that a perceptron computes at once in inference.
HIDDEN_BYTES = 8 * 2**20
# Squares that a normalization computes at once.
SQUARED_BYTES = 2 * 2**20
LAYER_NORM_EPS = 1e-6
LINEAR_INIT_STD = 0.02


class Conv3d(nn.Conv3d):
    """3x3x3 convolution with padding 1 that is as fast for one sample as for each of many."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, bias: bool = True) -> None:
        """Create the layer; an output side is ceil(input side / stride)."""
        super().__init__(in_channels, out_channels, 3, stride=stride, padding=1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in_channels, X, Y, Z) to (batch, out_channels, X, Y, Z), each side divided by the stride."""
        return convolve(x, self.weight, self.bias, self.stride[0])


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int = 1) -> Tensor:
    """3x3x3 convolution of (batch, channels, X, Y, Z) with padding 1; an output side is ceil(input side / stride)."""
    native = len(x) == 1 and x.shape[:4].numel() <= NATIVE_CONVOLUTION_LIMIT
    if native and x.shape[2] >= 8 and x.device.type == "cpu" and not is_exporting():
        return _convolve_as_halves(x, weight, bias, stride)
    return F.conv3d(x, weight, bias, stride, padding=1)


def _convolve_as_halves(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
    """Convolve a single sample, cut along X into two overlapping halves, as a batch of two."""
    outputs = -(-x.shape[2] // stride)
    half = -(-outputs // 2)
    window = (half - 1) * stride + 3
    second = half * stride
    padded = F.pad(x, (0, 0, 0, 0, 1, second + window - x.shape[2] - 1))
    halves = torch.cat([padded[:, :, :window], padded[:, :, second : second + window]])
    first, last = F.conv3d(halves, weight, bias, stride, padding=(0, 1, 1)).split(1)
    return torch.cat([first, last[:, :, : outputs - half]], dim=2)


class Conv2d(nn.Conv2d):
    """3x3 convolution with padding 1, by Winograd's algorithm (arXiv 1509.09308) where that is faster.

    On a CPU PyTorch's NNPACK, absent from Windows, needs a fifth of the multiplications for a rounding error of 1e-5 of
    the largest value: too much before a choice like that of routed attention, which may then fall otherwise.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        """Create the layer, with bias."""
        super().__init__(in_channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in_channels, H, W) to (batch, out_channels, H, W)."""
        return convolve_2d(x, self.weight, self.bias)


def convolve_2d(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """3x3 convolution of (batch, channels, H, W) with padding 1, by Winograd's algorithm where that is faster."""
    if not winograd_pays(x, weight):
        return F.conv2d(x, weight, bias, padding=1)
    return _WinogradFunction.apply(x, weight, bias)


class _WinogradFunction(torch.autograd.Function):
    """A convolution whose input gradient is one, too; the weights' gradient is PyTorch's."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _nnpack(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        backwards = weight.flip(2, 3).transpose(0, 1).contiguous()
        of_input = _nnpack(gradient, backwards, None) if ctx.needs_input_grad[0] else None
        return of_input, conv2d_weight(x, weight.shape, gradient, padding=1), gradient.sum((0, 2, 3))


def _nnpack(x: Tensor, weight: Tensor, bias: Tensor | None, padding: int = 1) -> Tensor:
    """NNPACK's convolution, sample by sample, as it is twice as slow for a batch."""
    outputs = [torch._nnpack_spatial_convolution(sample, weight, bias, padding=padding) for sample in x.split(1)]
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs)


def convolve_by_fourier(x: Tensor, weight: Tensor, bias: Tensor | None, dilation: int = 1) -> Tensor:
    """3x3 convolution of (batch, channels, H, W), padded by ``dilation`` (1 or 2), where `fourier_pays`; no gradient.

    NNPACK takes Fourier transforms for kernels wider than three pixels; they round as little as plain convolutions.
    """
    side = 3 + dilation
    wide = weight.new_zeros(*weight.shape[:2], side, side)
    wide[..., : 3 * dilation : dilation, : 3 * dilation : dilation] = weight
    if dilation == 1:  # the fourth tap of four, 0, needs a pixel more
        padded = x.new_zeros(*x.shape[:2], x.shape[2] + 1, x.shape[3] + 1)
        padded[..., :-1, :-1] = x
        x = padded
    return _nnpack(x.contiguous(), wide, bias, dilation)


def fourier_pays(x: Tensor, weight: Tensor) -> bool:
    """Whether `convolve_by_fourier` can convolve ``x``, and beats PyTorch's own convolution."""
    return x.shape[2:].numel() >= FOURIER_PIXELS and not torch.is_grad_enabled() and winograd_pays(x, weight)


def winograd_pays(x: Tensor, weight: Tensor) -> bool:
    """Whether NNPACK is there, can convolve ``x``, and beats PyTorch's own convolution."""
    large = min(weight.shape[:2]) >= WINOGRAD_CHANNELS and x.shape[2:].numel() >= WINOGRAD_PIXELS
    return large and _plain(x, weight) and torch._nnpack_available()


def _plain(x: Tensor, weight: Tensor) -> bool:
    """Whether ``x`` and ``weight`` are float32 on the CPU and stay so, and are not being exported."""
    single = x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32
    return single and not is_exporting() and not _casting()


class HeavyConv2d(nn.Conv2d):
    """Convolution that is one matrix product in inference where there are many weights for few pixels.

    PyTorch's convolution rearranges its weights at every call, which takes longer than a product with 64 pixels.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in_channels, H, W) to (batch, out_channels, H', W') as the settings of nn.Conv2d say."""
        padding = self.padding
        assert not isinstance(padding, str)
        sides = zip(x.shape[2:], padding, self.dilation, self.kernel_size, self.stride)
        grid = [(size + 2 * pad - step * (side - 1) - 1) // stride + 1 for size, pad, step, side, stride in sides]
        few = len(x) * prod(grid) <= HEAVY_PIXELS and self.weight.numel() >= HEAVY_WEIGHTS
        if not few or torch.is_grad_enabled() or not _plain(x, self.weight):
            return super().forward(x)
        patches = F.unfold(x, self.kernel_size, self.dilation, padding, self.stride)
        out = linear(patches.transpose(1, 2), self.weight.flatten(1), self.bias)
        return out.transpose(1, 2).unflatten(2, grid)


def _casting() -> bool:
    """Whether autocast chooses the precision on the CPU."""
    try:
        return torch.is_autocast_enabled("cpu")
    except TypeError:  # before PyTorch 2.4
        return torch.is_autocast_cpu_enabled()


class Linear(nn.Linear):
    """Linear layer whose product is that of ``linear``."""

    def forward(self, x: Tensor, gelu: bool = False, plus: Tensor | None = None) -> Tensor:
        """(..., in_features) to (..., out_features), as ``linear`` says."""
        return linear(x, self.weight, self.bias, gelu, plus)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, gelu: bool = False, plus: Tensor | None = None) -> Tensor:
    """Linear layer from (..., inputs) to (..., outputs), then GELU, in inference only, or ``plus`` added.

    In inference on a CPU oneDNN computes it, where PyTorch has it, in one pass with what follows.
    """
    if torch.is_grad_enabled() or not _plain(x, weight) or not _onednn_is_there():
        y = F.linear(x, weight, bias)
        return torch.ops.aten.gelu_(y) if gelu else y if plus is None else y + plus
    product = torch.ops.mkldnn._linear_pointwise
    if plus is not None:
        return product.binary(x, plus, weight, bias, "add")
    return product(x, weight, bias, "gelu" if gelu else "none", [], "none" if gelu else "")


@cache
def _onednn_is_there() -> bool:
    """Whether PyTorch has oneDNN's fused products, which it gives no name, and they are what they are thought to be."""
    x, weight = torch.eye(2), torch.tensor([[1.0, -2.0], [0.5, 3.0]])
    try:
        product = torch.ops.mkldnn._linear_pointwise
        activated = product(x, weight, weight[0], "gelu", [], "none")
        added = product.binary(x, weight, weight, None, "add")
    except (AttributeError, RuntimeError):
        return False
    return torch.allclose(activated, F.gelu(weight.T + weight[0])) and torch.allclose(added, weight.T + weight)


def initialize_linear(module: nn.Module) -> None:
    """Draw weights of a linear layer from the published truncated normal distribution."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=LINEAR_INIT_STD)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class Perceptron(nn.Sequential):
    """Two linear layers with GELU between them; in inference never with all hidden features at once."""

    def __init__(self, dim: int, hidden: int) -> None:
        """Create the layers for tokens of ``dim`` channels."""
        super().__init__(Linear(dim, hidden), nn.GELU(), Linear(hidden, dim))

    def forward(self, x: Tensor, plus: Tensor | None = None) -> Tensor:
        """Transform (..., dim) to the same shape, and add ``plus``, also of that shape."""
        first, _, second = self
        assert isinstance(first, Linear) and isinstance(second, Linear)
        if torch.is_grad_enabled() or is_exporting():
            y = super().forward(x)
            return y if plus is None else y + plus
        step = max(1, HIDDEN_BYTES // (4 * first.out_features))
        parts = x.reshape(-1, x.shape[-1]).split(step)
        added = [None] * len(parts) if plus is None else plus.reshape(-1, x.shape[-1]).split(step)
        made = [second(first(part, gelu=True), plus=other) for part, other in zip(parts, added)]
        return (made[0] if len(made) == 1 else torch.cat(made)).view(x.shape)


class DepthwiseConv(nn.Module):
    """Convolution of each channel by itself in two or three dimensions, padded so that it keeps the grid."""

    def __init__(self, channels: int, kernel: int, axes: int = 3) -> None:
        """Create the layer with an odd ``kernel`` width; weights start as PyTorch's convolutions do."""
        super().__init__()
        convolution = {2: nn.Conv2d, 3: nn.Conv3d}[axes]
        layer = convolution(channels, channels, kernel, groups=channels)
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (batch, channels, *grid) to the same shape."""
        if x.requires_grad and x.device.type == "cpu":
            return _DepthwiseFunction.apply(x, self.weight, self.bias)
        return _depthwise(x, self.weight, self.bias)

    def add_to(self, x: Tensor) -> Tensor:
        """Give ``x`` plus what `forward` gives for it: in inference by a middle tap that is greater by 1."""
        if torch.is_grad_enabled() or not _plain(x, self.weight):
            return x + self(x)
        weight = self.weight.clone(memory_format=torch.contiguous_format)
        weight.flatten(1)[:, weight[0].numel() // 2] += 1
        return _depthwise(x, weight, self.bias)


class _DepthwiseFunction(torch.autograd.Function):
    """Depthwise convolution whose input gradient is a forward convolution, ten times faster than oneDNN's backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _depthwise(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        # Under autocast the three come in different precisions.
        gradient, values = gradient.to(weight.dtype), x.to(weight.dtype)
        axes = tuple(range(2, x.ndim))
        weight_gradient = conv3d_weight if x.ndim == 5 else conv2d_weight
        return (
            _depthwise(gradient, weight.flip(axes), None).to(x.dtype),
            weight_gradient(values, weight.shape, gradient, padding=weight.shape[2] // 2, groups=len(weight)),
            gradient.sum((0, *axes)),
        )


def _depthwise(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    convolution = F.conv3d if x.ndim == 5 else F.conv2d
    padding = [side // 2 for side in weight.shape[2:]]  # PyTorch 2.2 traces no single number that comes from a shape
    return convolution(x, weight, bias, padding=padding, groups=len(weight))


class PointwiseConv3d(nn.Conv3d):
    """Convolution with a kernel of one voxel, as a matrix product."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        """Create the layer, with bias."""
        super().__init__(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in_channels, X, Y, Z) to (batch, out_channels, X, Y, Z), each output channel contiguous in memory."""
        voxels = with_dense_gradient(x).flatten(2)
        weight = self.weight.flatten(1).expand(len(x), -1, -1)
        assert self.bias is not None
        return torch.baddbmm(self.bias[:, None], weight, voxels).unflatten(2, x.shape[2:])


class InstanceNorm(nn.Module):
    """Instance normalization without learnt scale or shift; unlike ``nn.InstanceNorm3d`` also for a grid of one voxel.

    In channels-last memory PyTorch 2.13's own kernels don't serve on a CPU: ``instance_norm`` has a wrong gradient for
    a single sample, ``group_norm`` and ``batch_norm`` are off by 0.1 % on a million voxels.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        """Normalize ``channels`` channels, each over its own grid; ``eps`` is added to the variance."""
        super().__init__()
        self.channels = channels
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Bring each channel of each sample of (batch, channels, *grid) to mean 0, variance 1; a single voxel to 0."""
        if x.requires_grad:
            return _InstanceNormFunction.apply(x, self.eps)
        return _standardize(x, self.eps)[0]

    def extra_repr(self) -> str:
        """Name the settings in print(network)."""
        return f"{self.channels}, eps={self.eps}"


class _InstanceNormFunction(torch.autograd.Function):
    """Instance normalization that keeps only its output for the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float) -> Tensor:
        normalized, scale = _standardize(x, eps)
        ctx.save_for_backward(normalized, scale)
        return normalized

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        normalized, scale = ctx.saved_tensors
        correlation = _grid_mean(gradient * normalized)
        centered = gradient - _grid_mean(gradient)
        return centered.addcmul_(normalized, correlation, value=-1).mul_(scale), None


def _standardize(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """``x`` with mean 0 and variance 1 a channel, and the factors (batch, channels, 1, ...) that scaled it."""
    centered = x - _grid_mean(x)
    scale = (_grid_mean_square(centered) + eps).rsqrt()
    return centered.mul_(scale), scale


def _grid_mean_square(x: Tensor) -> Tensor:
    """Mean of squares over the grid, never with the squares of more than a part of it in memory."""
    if is_exporting():
        return _grid_mean(x.square())
    rows = max(1, SQUARED_BYTES // (4 * x[:, :, 0].numel()))
    axes = tuple(range(2, x.ndim))
    return sum(part.square().sum(axes, keepdim=True) for part in x.split(rows, dim=2)) / x[0, 0].numel()


def _grid_mean(x: Tensor) -> Tensor:
    return x.mean(tuple(range(2, x.ndim)), keepdim=True)


def resize_linear(x: Tensor, size: torch.Size | tuple[int, ...]) -> Tensor:
    """Trilinear resampling of (batch, channels, *grid) to the grid ``size``, corners not aligned."""
    return with_dense_gradient(F.interpolate(x, size=tuple(size), mode="trilinear", align_corners=False))


def with_dense_gradient(x: Tensor) -> Tensor:
    """Return ``x``, whose gradient will be made dense in channels-last memory before it goes further back.

    The gradient of a part of a concatenation is a strided view, on which some backward kernels are seven times slower.
    """
    if x.requires_grad:
        x.register_hook(lambda gradient: gradient.contiguous(memory_format=torch.channels_last_3d))
    return x


def is_exporting() -> bool:
    """Whether the network is being traced or compiled, which should see the plain convolution."""
    return torch.jit.is_tracing() or getattr(torch.compiler, "is_compiling", lambda: False)()
