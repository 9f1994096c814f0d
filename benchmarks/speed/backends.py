"""The engines that detection can choose from, on the published network: their speed, and what they change."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from benchmarks.speed.contestants import PUBLISHED, build_ours, build_published, crop, maps_of
from benchmarks.speed.measure import compare, interleaved
from H3DELandmarksLib.detection.engine import HalfPrecision, TorchEngine
from H3DELandmarksResearch.engines.openvino_engine import OpenVinoEngine, load_openvino

EXACT, REDUCED = "float32", "bfloat16"


def backends(head: str, tiny: bool = False, budget: float = 20.0) -> dict:
    """Time of each engine beside the published form, and its maps' error against PyTorch in float32.

    An engine that fell back to PyTorch is left out, with a note. First call: PyTorch's answer and the conversion.
    """
    batch = crop(tiny=tiny).numpy()
    plain = TorchEngine(build_ours(head, tiny), torch.device("cpu"))
    expected = plain.maps(batch)[0]
    engines, notes = _engines(plain)
    first = {}
    for name, engine in list(engines.items()):
        start = time.perf_counter()
        engine.maps(batch)
        first[name] = time.perf_counter() - start
        if isinstance(engine, OpenVinoEngine) and batch.shape not in engine.compiled:
            del engines[name]
            notes.append(f"{name} refused the {head} network and left it to PyTorch.")
    published, image = maps_of(build_published(head, tiny)), torch.from_numpy(batch)
    calls = {PUBLISHED: torch.inference_mode()(lambda: published(image))}
    calls |= {name: lambda engine=engine: engine.maps(batch) for name, engine in engines.items()}
    timed = compare(interleaved(calls, budget), PUBLISHED)
    rows = {
        name: {
            "seconds": timed["seconds"][name]["median"],
            "times_faster": timed["times_faster"][name]["median"],
            "range": timed["times_faster"][name],
            "first_call": first[name],
            "reduced": name.endswith(REDUCED),
            **_errors(engine.maps(batch)[0], expected),
        }
        for name, engine in engines.items()
    }
    return {"engines": rows, "published_seconds": timed["seconds"][PUBLISHED]["median"], "note": " ".join(notes)}


def _engines(plain: TorchEngine) -> tuple[dict[str, Any], list[str]]:
    """Engines by name, whose end says the precision, and what is missing here."""
    engines: dict[str, Any] = {f"PyTorch, {EXACT}": plain, f"PyTorch autocast, {REDUCED}": HalfPrecision(plain)}
    openvino = load_openvino()
    if openvino is None:
        return engines, ["OpenVINO is not installed."]
    engines[f"OpenVINO, {EXACT}"] = OpenVinoEngine(plain, "f32")
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        return engines, ["This processor has no fast 16-bit arithmetic."]
    engines[f"OpenVINO, {REDUCED}"] = OpenVinoEngine(plain, "bf16")
    return engines, []


def _errors(maps: torch.Tensor, expected: torch.Tensor) -> dict[str, float]:
    difference = (maps.float() - expected).numpy()
    return {
        "relative_error": float(np.linalg.norm(difference) / np.linalg.norm(expected.numpy())),
        "largest_error": float(np.abs(difference).max()),
    }
