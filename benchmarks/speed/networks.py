"""Forward passes: ours beside the published form, the literal transcription and the networks of other projects."""

from __future__ import annotations

import time
from functools import partial

import numpy as np
import torch
from torch import nn

from benchmarks.speed.contestants import (
    BUILDERS,
    CROP,
    LITERAL,
    OURS,
    PEERS,
    PUBLISHED,
    build_flat,
    build_ours,
    build_peer,
    crop,
    maps_of,
)
from benchmarks.speed.machine import describe_machine
from benchmarks.speed.measure import compare, interleaved, load_libraries, memory_beyond, summary


@torch.inference_mode()
def forward(head: str, tiny: bool = False, budget: float = 25.0) -> dict:
    """Time of a forward pass of one crop, by who computes it, and how far ours is from the transcription."""
    image = crop(tiny=tiny)
    networks = {name: build(head, tiny) for name, build in BUILDERS.items()}
    calls = {name: partial(maps_of(network), image) for name, network in networks.items()}
    difference = (calls[OURS]() - calls[LITERAL]()).abs().max()
    result = compare(interleaved(calls, budget), PUBLISHED)
    theirs, own = (result["seconds"][name]["median"] for name in (LITERAL, OURS))
    return result | {"faster_than_literal": theirs / own, "difference_to_literal": float(difference)}


@torch.inference_mode()
def flat_forward(side: int, tiny: bool = False, budget: float = 25.0) -> dict:
    """Time of HYATT-Net's forward pass of a square picture, and how far our maps are from the published form's.

    The difference is the largest of the three maps', as a share of the map's range. Beside the time that passed, the
    time that processors worked is compared, which other programs on a busy machine disturb less.
    """
    image = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    ours, published = build_flat(tiny)
    maps = zip(ours(image), published(image))
    differences = [float((a - b).abs().max() / (b.max() - b.min())) for a, b in maps]
    worked: dict[str, list[float]] = {PUBLISHED: [], OURS: []}

    def call(name: str, network: nn.Module) -> object:
        start = time.process_time()
        output = network(image)
        worked[name].append(time.process_time() - start)
        return output

    calls = {PUBLISHED: partial(call, PUBLISHED, published), OURS: partial(call, OURS, ours)}
    result = compare(interleaved(calls, budget), PUBLISHED)
    counted = {name: seconds[1:] for name, seconds in worked.items()}  # without the round that warms up
    return result | {
        "processor": compare(counted, PUBLISHED),
        "side": side,
        "difference_to_range": max(differences),
        "machine": describe_machine(),
    }


@torch.inference_mode()
def forward_memory(head: str, contestant: str, tiny: bool = False) -> dict:
    """Megabytes that a first forward pass of one crop takes beyond the weights."""
    network, image = maps_of(BUILDERS[contestant](head, tiny)), crop(tiny=tiny)
    load_libraries()
    maps_of(build_ours(head, tiny=True))(crop(tiny=True))  # kernels of every layer, which no figure should count
    return {"megabytes": memory_beyond(lambda: network(image))}


@torch.inference_mode()
def growth(head: str, sides: list[int], tiny: bool = False) -> dict:
    """Seconds of a forward pass of cubes of several sides, and the exponent of a power law in the voxels."""
    network = maps_of(build_ours(head, tiny))
    seconds = []
    for side in sides:
        image = crop(shape=(side,) * 3)
        times = interleaved({OURS: lambda image=image: network(image)}, budget=6.0, least=1, most=3)[OURS]
        seconds.append(summary(times)["median"])
    return {"voxels": [side**3 for side in sides], "seconds": seconds, "exponent": exponent(sides, seconds)}


@torch.inference_mode()
def growth_memory(head: str, side: int, contestant: str = OURS, tiny: bool = False) -> dict:
    """Megabytes that a forward pass of a cube takes beyond the weights."""
    network, image = maps_of(BUILDERS[contestant](head, tiny)), crop(shape=(side,) * 3)
    load_libraries()
    return {"megabytes": memory_beyond(lambda: network(image))}


def exponent(sides: list[int], costs: list[float]) -> float:
    """The power of the number of voxels with which a cost grows, fitted to its logarithm."""
    return float(np.polyfit(3 * np.log(sides), np.log(costs), 1)[0])


@torch.inference_mode()
def sizes(head: str, tiny: bool = False, count: int = 6) -> dict:
    """Input sizes from 32 voxels a side, drawn at random and the least, that our network serves with finite maps."""
    network = maps_of(build_ours(head, tiny))
    rng = np.random.default_rng(0)
    shapes = [(32, 32, 32), *(tuple(int(n) for n in rng.integers(32, 100, 3)) for _ in range(count))]
    served = [shape for shape in shapes if torch.isfinite(network(crop(shape=shape))).all()]
    return {"tried": shapes, "served": len(served)}


@torch.inference_mode()
def peers(names: list[str] | None = None, budget: float = 100.0, shape: tuple[int, ...] = CROP) -> dict:
    """Time of a forward pass of one crop and parameters, ours and other projects' networks."""
    networks = {f"{OURS}, {head}": build_ours(head) for head in ("anchor", "heatmap")}
    networks |= {name: build_peer(name) for name in names or PEERS}
    image = crop(shape=tuple(shape))
    calls = {name: partial(maps_of(network), image) for name, network in networks.items()}
    seconds = interleaved(calls, budget, least=2, most=5)
    millions = {name: sum(p.numel() for p in network.parameters()) / 1e6 for name, network in networks.items()}
    return compare(seconds, f"{OURS}, anchor") | {"million_parameters": millions}


@torch.inference_mode()
def peer_memory(name: str, shape: tuple[int, ...] = CROP) -> dict:
    """Megabytes that a first forward pass of another project's network takes beyond the weights."""
    network, image = build_peer(name), crop(shape=tuple(shape))
    load_libraries()
    return {"megabytes": memory_beyond(lambda: network(image))}
