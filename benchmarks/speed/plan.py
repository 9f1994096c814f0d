"""Which measurements a run makes."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import NamedTuple

import torch

from benchmarks.speed.contestants import OURS, PEERS, PUBLISHED

HEADS = ("anchor", "heatmap")
THREADS = tuple(sorted({1, min(2, os.cpu_count() or 1)}))
FLAT_SIDES = (256, 512)
SCAN_SHAPE = (512, 512, 300)


class Measurement(NamedTuple):
    """A section with its settings, run in a process of its own.

    Attributes:
        key: name of the result.
        section: name in `sections.SECTIONS`.
        settings: its keyword arguments; ``threads`` is the most of `THREADS` unless given.
    """

    key: str
    section: str
    settings: dict


def full_plan(scan_file: str) -> list[Measurement]:
    """Everything, on the published network's size: about twelve minutes on two quiet cores."""
    return [
        *_networks(tiny=False, budget=20.0, batches=(1, 2)),
        *_flat(FLAT_SIDES, tiny=False, budget=30.0),
        *_peers(list(PEERS), budget=75.0, shape=[128, 128, 64]),
        *_scan(scan_file, list(SCAN_SHAPE), rounds=3, sides=[128, 192, 256, 320, 384, 448, 512]),
        *_growth([64, 96, 128, 160, 192, 224], [64, 128, 192], tiny=False),
        *_cohort([1, 4, 16, 64], 3),
        *_limits(tiny=False, side=2048, megabytes=256),
    ]


def quick_plan(scan_file: str) -> list[Measurement]:
    """The same sections on tiny networks and small scans, in about two minutes: figures mean nothing."""
    return [
        *_networks(tiny=True, budget=1.0, batches=(1,)),
        *_flat((128,), tiny=True, budget=1.0),
        *_peers(["MONAI UNet"], budget=1.0, shape=[32, 32, 32]),
        *_scan(scan_file, [160, 160, 100], rounds=1, sides=[96, 128]),
        *_growth([32, 64], [64], tiny=True),
        *_cohort([1, 2, 4], 1),
        *_limits(tiny=True, side=256, megabytes=16),
    ]


def _networks(tiny: bool, budget: float, batches: tuple[int, ...]) -> list[Measurement]:
    made = [
        Measurement(
            f"forward {head} {threads}", "forward", {"head": head, "threads": threads, "tiny": tiny, "budget": budget}
        )
        for threads in THREADS
        for head in HEADS
    ]
    made += [
        Measurement(
            f"backends {head} {threads}", "backends", {"head": head, "threads": threads, "tiny": tiny, "budget": budget}
        )
        for threads in THREADS
        for head in HEADS
    ]
    made += [
        Measurement(f"memory {head} {name}", "forward memory", {"head": head, "contestant": name, "tiny": tiny})
        for head in HEADS
        for name in (PUBLISHED, OURS)
    ]
    for batch in batches:
        for head in HEADS:
            settings = {"head": head, "batch": batch, "tiny": tiny}
            made.append(Measurement(f"training {head} {batch}", "training", settings | {"budget": budget}))
            made += [
                Measurement(
                    f"training memory {head} {batch} {name}", "training memory", settings | {"contestant": name}
                )
                for name in (PUBLISHED, OURS)
            ]
    made += [Measurement(f"decoding {head}", "decoding", {"head": head, "tiny": tiny}) for head in HEADS]
    return [*made, *(Measurement(f"sizes {head}", "sizes", {"head": head, "tiny": tiny}) for head in HEADS)]


def _flat(sides: tuple[int, ...], tiny: bool, budget: float) -> list[Measurement]:
    return [
        Measurement(
            f"radiograph {side} {threads}",
            "flat forward",
            {"side": side, "threads": threads, "tiny": tiny, "budget": budget},
        )
        for threads in THREADS
        for side in sides
    ]


def _peers(names: list[str], budget: float, shape: list[int]) -> list[Measurement]:
    return [
        Measurement("peers", "peers", {"names": names, "budget": budget, "shape": shape}),
        *(Measurement(f"memory {name}", "peer memory", {"name": name, "shape": shape}) for name in names),
    ]


def _scan(file: str, shape: list[int], rounds: int, sides: list[int]) -> list[Measurement]:
    return [
        Measurement("scan", "scan", {"shape": shape, "file": file, "rounds": rounds}),
        Measurement("scan memory", "scan memory", {"file": file}),
        Measurement("detection growth", "detection growth", {"sides": sides}),
    ]


def _growth(sides: list[int], memory_sides: list[int], tiny: bool) -> list[Measurement]:
    return [
        Measurement("growth anchor", "growth", {"head": "anchor", "sides": sides, "tiny": tiny}),
        *(
            Measurement(f"growth memory {side}", "growth memory", {"head": "anchor", "side": side, "tiny": tiny})
            for side in memory_sides
        ),
    ]


def _cohort(counts: list[int], alone: int) -> list[Measurement]:
    made = [Measurement("cohort", "cohort", {"counts": counts, "alone": alone})]
    has_dask = find_spec("distributed") is not None
    return [*made, *([Measurement("cluster", "cluster", {"count": 3 * alone})] if has_dask else [])]


def _limits(tiny: bool, side: int, megabytes: int) -> list[Measurement]:
    settings = {"tiny": tiny, "side": side, "megabytes": megabytes}
    made = [Measurement(f"floor {threads}", "floor", settings | {"threads": threads}) for threads in THREADS]
    return [*made, *([Measurement("gpu", "gpu", {"tiny": tiny})] if torch.cuda.is_available() else [])]
