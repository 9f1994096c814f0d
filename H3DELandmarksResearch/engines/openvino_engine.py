"""Running networks with OpenVINO on a CPU, where that package is installed."""

from __future__ import annotations

import logging
import sys
import warnings
from functools import cache
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.detection.engine import Engine, TorchEngine
from H3DELandmarksLib.networks import output_maps
from H3DELandmarksLib.networks.arrays import to_tensor

logger = logging.getLogger(__name__)
TELEMETRY = ("openvino_telemetry", "openvino_telemetry.backend")
# Largest difference between OpenVINO's maps and PyTorch's, over the largest magnitude of the latter or 1.
TOLERANCE = 1e-4


def openvino_installed() -> bool:
    """Whether the package ``openvino`` is there; it is not loaded."""
    return find_spec("openvino") is not None


@cache
def load_openvino() -> ModuleType | None:
    """The package ``openvino`` with its reader of PyTorch; None where not installed or, with a log line, broken."""
    if not openvino_installed():
        return None
    others = {name: sys.modules.get(name) for name in TELEMETRY}
    # Without these the package leaves its reports of use, which it would send over the network, undone.
    sys.modules.update(dict.fromkeys(TELEMETRY))  # type: ignore[arg-type]
    try:
        import openvino
        import openvino.frontend.pytorch.ts_decoder  # noqa: F401
    except Exception as error:
        logger.warning("OpenVINO cannot be loaded (%s): continuing with PyTorch.", error)
        return None
    finally:
        for name, module in others.items():
            sys.modules.pop(name, None)
            if module is not None:
                sys.modules[name] = module
    return openvino


def reads_this_torch() -> bool:
    """Whether OpenVINO converts what the installed PyTorch traces; it fails with 2.2."""
    return tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 3)


def require_openvino() -> None:
    """Raise InputError where the package is not there, or PyTorch is too old for it."""
    if load_openvino() is None:
        raise InputError(
            "The backend 'openvino' needs the package openvino: install it ('pip install openvino'), or choose the "
            "backend 'torch'."
        )
    if not reads_this_torch():
        raise InputError(
            f"OpenVINO does not read the networks of PyTorch {torch.__version__}: install PyTorch 2.3 or later, or "
            "choose the backend 'torch'."
        )


def engines(plain: TorchEngine, half: bool) -> tuple[Engine, Engine | None]:
    """The network in single precision and, where wanted and the CPU is fast with them, in 16 bits."""
    full = OpenVinoEngine(plain)
    if half and not fast_bf16():
        logger.warning("This CPU has no fast 16-bit arithmetic: continuing in single precision.")
        return full, None
    return full, OpenVinoEngine(plain, precision="bf16") if half else None


def fast_bf16() -> bool:
    """Whether this CPU computes in 16 bits, by AMX or AVX-512; OpenVINO is loaded."""
    return "BF16" in load_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class OpenVinoEngine:
    """A network that OpenVINO runs after PyTorch has answered once, to compare with.

    It is converted once for each shape of input. Where that fails, or its maps differ from PyTorch's, PyTorch goes on.
    """

    def __init__(self, plain: TorchEngine, precision: str = "f32") -> None:
        """Prepare.

        Args:
            plain: the network on the CPU.
            precision: "f32", whose maps are compared with PyTorch's, or "bf16".
        """
        self.plain = plain
        self.precision = precision
        self.usable = True
        self.compiled: dict[tuple[int, ...], _Compiled] = {}

    def maps(self, batch: np.ndarray) -> tuple[Tensor, ...]:
        """See Engine."""
        if batch.shape in self.compiled:
            try:
                return self.compiled[batch.shape](batch)
            except RuntimeError as error:
                self._give_up(error)
        maps = self.plain.maps(batch)
        if self.usable:
            self._convert(batch, maps)
        return maps

    def _convert(self, batch: np.ndarray, expected: tuple[Tensor, ...]) -> None:
        """Convert for the shape of ``batch``, whose maps PyTorch found."""
        if load_openvino() is None:
            self.usable = False
            return
        try:
            compiled = _Compiled(self.plain.network, batch, self.precision)
            if self.precision == "f32":
                _check_same(compiled(batch), expected)
        except Exception as error:
            self._give_up(error)
            return
        self.compiled[batch.shape] = compiled

    def _give_up(self, error: Exception) -> None:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        logger.warning("OpenVINO cannot run this network (%s): continuing with PyTorch.", reason[-1])
        self.usable = False
        self.compiled.clear()


class _Compiled:
    """A network compiled for one shape of input."""

    def __init__(self, network: nn.Module, batch: np.ndarray, precision: str) -> None:
        openvino = load_openvino()
        model = _convert(network, batch)
        settings = {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
        }
        self.model = openvino.Core().compile_model(model, "CPU", settings)
        self.request = self.model.create_infer_request()

    def __call__(self, batch: np.ndarray) -> tuple[Tensor, ...]:
        self.request.infer([np.ascontiguousarray(batch)])
        # Copied, because the next call writes to the same memory.
        return tuple(to_tensor(output.data.copy()) for output in self.request.output_tensors)


class _Maps(nn.Module):
    """A network without its outputs that aren't maps."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return output_maps(self.network(image))


def _convert(network: nn.Module, batch: np.ndarray) -> Any:
    """OpenVINO's graph of ``network`` for inputs shaped like ``batch``."""
    # Not by convert_model, which silences all warnings of the program and takes half a second longer.
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    image = to_tensor(np.ascontiguousarray(batch))
    with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about sizes that become constants, which is meant
        traced = torch.jit.trace(_Maps(network), image, check_trace=False)
        frontend = FrontEndManager().load_by_framework("pytorch")
        decoder = TorchScriptPythonDecoder(traced, example_input=(image,))
        model = frontend.convert(frontend.load(decoder))
    model.reshape(list(batch.shape))
    _average_by_planes(model)
    return model


def _average_by_planes(model: Any) -> None:
    """Make every average over a grid an average of averages over planes.

    OpenVINO 2026.4 adds up all voxels one after the other. In float32 that is off by 1e-4 after 30 000 voxels, which
    routed attention has turned into points that were wrong by a voxel.
    """
    from openvino import opset13

    for node in model.get_ordered_ops():
        if node.get_type_name() != "ReduceMean" or node.input(0).get_partial_shape().is_dynamic:
            continue
        shape = list(node.input(0).get_shape())
        chosen = node.input_value(1).get_node()
        if chosen.get_type_name() != "Constant":
            continue
        axes = sorted(int(axis) % len(shape) for axis in np.atleast_1d(chosen.get_data()))
        if len(shape) not in (4, 5) or axes[0] < 2 or len(axes) < 2:
            continue
        kernel = [length if axis in axes[1:] else 1 for axis, length in enumerate(shape)][2:]
        none = [0] * len(kernel)
        planes = opset13.avg_pool(node.input_value(0), kernel, none, none, kernel, exclude_pad=True)
        mean = opset13.reduce_mean(planes, node.input_value(1), node.get_attributes()["keep_dims"])
        node.output(0).replace(mean.output(0))


def _check_same(maps: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
    for ours, right in zip(maps, expected, strict=True):
        difference = float((ours - right).abs().max()) / max(1.0, float(right.abs().max()))
        if not difference < TOLERANCE:
            raise ArithmeticError(f"its result differs from PyTorch's by {difference:.1g}")
