"""How long a network must take on this machine at least, from what it has to compute and to move.

The bound takes every convolution, linear layer and attention by itself: it can't be faster than its multiplications at
the measured speed of a large matrix product, nor than reading its input and weights and writing its output once at the
measured speed of a copy. Norms, activations, additions and upsampling are free, as if fused into their neighbors. An
implementation that keeps the tensors between layers in caches could in principle go below it.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.speed.contestants import OURS, PUBLISHED, build_ours, build_published, crop, maps_of
from benchmarks.speed.measure import MEGABYTE, compare, interleaved
from benchmarks.speed.published_form import Attention
from H3DELandmarksLib.detection.engine import HALF_TYPES

HALF = "half precision"


class Work(NamedTuple):
    """What one layer has to do: floating-point operations (two a multiplication) and numbers to move."""

    operations: float
    numbers: float


class Peaks(NamedTuple):
    """What the machine can do: operations a second of a matrix product, bytes a second of a copy."""

    operations: float
    bytes: float


def layer_works(network: nn.Module, image: Tensor) -> list[Work]:
    """What each layer of a network in the published form has to do for an image."""
    works: list[Work] = []

    def record(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(module, Attention):
            works.append(_attention(module, inputs[0]))
            return
        moved = inputs[0].numel() + output.numel() + module.weight.numel()
        works.append(Work(2 * output.numel() * module.weight[0].numel(), moved))

    layers = [m for m in network.modules() if isinstance(m, (nn.Conv3d, nn.Linear, Attention))]
    handles = [layer.register_forward_hook(record) for layer in layers]
    try:
        with torch.inference_mode():
            network(image)
    finally:
        for handle in handles:
            handle.remove()
    return works


def _attention(module: Attention, x: Tensor) -> Work:
    """Two products of each token with the keys and values of its routed windows; q, k, v and the result moved once."""
    tokens, windows = prod(x.shape[1:4]), prod(module.n_win)
    products = 2 * 2 * tokens * (module.topk * tokens // windows) * module.dim
    routing = 2 * windows * windows * module.dim
    return Work(len(x) * (products + routing), 4 * x.numel())


def least_seconds(works: list[Work], peaks: Peaks, item_bytes: int) -> dict[str, float]:
    """The bound, and its two parts: computing alone and moving alone."""
    computing = [work.operations / peaks.operations for work in works]
    moving = [work.numbers * item_bytes / peaks.bytes for work in works]
    return {"computing": sum(computing), "moving": sum(moving), "floor": sum(map(max, computing, moving))}


def floor(tiny: bool = False, side: int = 2048, megabytes: int = 256) -> dict:
    """The bound for both networks in single and half precision on the CPU, with the thread count in force."""
    return _floors("cpu", tiny, side, megabytes)


def gpu(
    tiny: bool = False, device: str = "cuda", side: int = 8192, megabytes: int = 1024, budget: float = 10.0
) -> dict:
    """Forward passes on a GPU in single precision and, by autocast as in detection, in half precision.

    Absolute times, ratios to the published form, peak memory of the device, and the bound; TF32 stays off.
    """
    result = {"floors": _floors(device, tiny, side, megabytes), "heads": {}}
    for head in ("anchor", "heatmap"):
        image = crop(tiny=tiny).to(device)
        ours, published = (maps_of(build(head, tiny).to(device)) for build in (build_ours, build_published))
        calls = {
            f"{PUBLISHED}, float32": _inference(published, image, device, half=False),
            f"{OURS}, float32": _inference(ours, image, device, half=False),
            f"{PUBLISHED}, {HALF}": _inference(published, image, device, half=True),
            f"{OURS}, {HALF}": _inference(ours, image, device, half=True),
        }
        seconds = interleaved(calls, budget, most=30, device=device)
        memory = {name: _device_memory(call, device) for name, call in calls.items()}
        result["heads"][head] = compare(seconds, f"{PUBLISHED}, float32") | {"megabytes": memory}
    return result


def _floors(device: str, tiny: bool, side: int, megabytes: int) -> dict:
    bandwidth = copy_speed(device, megabytes)
    kinds = {"float32": (torch.float32, 4), HALF: (_half_type(device), 2)}
    peaks = {name: Peaks(product_speed(device, kind, side), bandwidth) for name, (kind, _) in kinds.items()}
    result: dict = {"peaks": {name: peak._asdict() for name, peak in peaks.items()}}
    for head in ("anchor", "heatmap"):
        works = layer_works(build_published(head, tiny, unused=False), crop(tiny=tiny))
        result[head] = {
            "giga_operations": sum(work.operations for work in works) / 1e9,
            "million_numbers": sum(work.numbers for work in works) / 1e6,
            **{name: least_seconds(works, peaks[name], size) for name, (_, size) in kinds.items()},
        }
    return result


def product_speed(device: str, kind: torch.dtype, side: int) -> float:
    """Operations a second of a square matrix product."""
    a, b = (torch.randn(side, side, device=device).to(kind) for _ in range(2))
    return 2 * side**3 / _fastest(lambda: a @ b, device)


def copy_speed(device: str, megabytes: int) -> float:
    """Bytes a second, read and written, of a copy too large for the caches."""
    source = torch.ones(megabytes * 250_000, device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() * 4 / _fastest(lambda: target.copy_(source), device)


def _fastest(call: Callable[[], object], device: str, times: int = 6) -> float:
    return min(interleaved({"it": call}, budget=3.0, least=2, most=times, device=device)["it"])


def _inference(call: Callable[[Tensor], Tensor], image: Tensor, device: str, half: bool) -> Callable[[], Tensor]:
    @torch.inference_mode()
    def run() -> Tensor:
        with torch.autocast(torch.device(device).type, _half_type(device), enabled=half):
            return call(image)

    return run


def _device_memory(call: Callable[[], Tensor], device: str) -> float | None:
    if not device.startswith("cuda"):
        return None
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / MEGABYTE


def _half_type(device: str) -> torch.dtype:
    return HALF_TYPES.get(torch.device(device).type, torch.bfloat16)
