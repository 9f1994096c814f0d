"""Time and memory, measured so that a busy machine distorts both sides of a comparison alike."""

from __future__ import annotations

import ctypes
import gc
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
import torch.nn.functional as F

Call = Callable[[], object]
MEGABYTE = 1e6


def interleaved(
    calls: Mapping[str, Call], budget: float = 25.0, least: int = 3, most: int = 9, device: str = "cpu"
) -> dict[str, list[float]]:
    """Seconds of each call in every round A B C, A B C, ..., after one round that isn't counted.

    Args:
        calls: what to time, by name.
        budget: seconds after which no further round begins, once there are enough.
        least: rounds at least.
        most: rounds at most.
        device: where the calls run; a GPU is waited for.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        _timed(call, device)
    start = time.perf_counter()
    for done in range(most):
        if done >= least and time.perf_counter() - start > budget:
            break
        for name, call in calls.items():
            seconds[name].append(_timed(call, device))
    return seconds


def _timed(call: Call, device: str) -> float:
    gc.collect()
    _wait(device)
    start = time.perf_counter()
    result = call()
    _wait(device)
    seconds = time.perf_counter() - start
    del result
    return seconds


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def summary(seconds: list[float]) -> dict[str, float]:
    """Median, smallest and largest of a list of times."""
    return {"median": statistics.median(seconds), "least": min(seconds), "most": max(seconds), "rounds": len(seconds)}


def ratio(reference: list[float], ours: list[float]) -> dict[str, float]:
    """How many times faster `ours` is: each round gives one quotient, since both were measured one after the other."""
    return summary([theirs / own for theirs, own in zip(reference, ours)])


def compare(seconds: Mapping[str, list[float]], reference: str) -> dict:
    """Summaries of all times, and of how many times faster than `reference` each is, by name."""
    others = {name: values for name, values in seconds.items() if name != reference}
    return {
        "seconds": {name: summary(values) for name, values in seconds.items()},
        "times_faster": {name: ratio(seconds[reference], values) for name, values in others.items()},
        "reference": reference,
    }


def resident_bytes() -> int:
    """Memory that the process has now, after giving back what its allocator keeps for later."""
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
        return _status("VmRSS")
    return _highest_by_resource()


def reset_peak() -> bool:
    """Forget the highest memory use so far; False where the system does not allow that."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def peak_bytes() -> int:
    """The highest memory use of the process since `reset_peak`, or since its start."""
    return _status("VmHWM") if sys.platform == "linux" else _highest_by_resource()


def memory_beyond(call: Call) -> float:
    """Megabytes (10^6 bytes) by which a call's peak exceeds what the process had before it."""
    before = resident_bytes()
    reset_peak()
    result = call()
    peak = peak_bytes()
    del result
    return max(0, peak - before) / MEGABYTE


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field + ":"))


def _highest_by_resource() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def load_libraries() -> None:
    """Make PyTorch load what it loads at first use, so that it doesn't count as memory of a network."""
    with torch.inference_mode(False), torch.enable_grad():
        x = torch.randn(1, 4, 8, 8, 8, requires_grad=True)
        y = F.conv3d(x, torch.randn(4, 4, 3, 3, 3), padding=1).flatten(2)
        F.scaled_dot_product_attention(y, y, y).softmax(dim=2).matmul(torch.randn(512, 8)).sum().backward()
