"""Which specimen to correct next: error on unseen mouse skulls against how many were corrected, for four orders.

Every run starts from the same few corrected specimens of a seed, trains a small network on them, ranks the rest of the
pool by what that network finds, adds the first ones with their published points and trains on. Orders: ``random``;
``uncertainty`` alone; ``distance`` of the found shape from the known ones alone; ``combined`` as ``cases rank`` does.
Specimens are seen in the pose of their published points, so that only the last stage of detection is compared.

The seven validation strains say which order is best; the five test strains are looked at once, for that order.

    python -m benchmarks.which_case_next run --work runs/which-case-next [--minutes 60]
    python -m benchmarks.which_case_next report --work runs/which-case-next
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.which_case.learner import STAGE, Bench, errors, load, look, network_of, train
from benchmarks.which_case.report import draw, read_runs, summary, text
from H3DELandmarksLib.cohort.benefit import choose_order, point_uncertainty, shape_distances
from H3DELandmarksLib.cohort.known_shapes import in_frame
from H3DELandmarksLib.detection.stage import StageNetwork
from H3DELandmarksLib.files import replaced_when_complete
from H3DELandmarksLib.shape_model import ShapeModel
from H3DELandmarksLib.training.loop import averaged_weights

STRATEGIES = ("random", "uncertainty", "distance", "combined")
SIZES = (4, 8, 12, 16)
FIRST_STEPS, MORE_STEPS = 500, 200
TOLERANCE_MM = 0.3


def choose(
    bench: Bench, network: StageNetwork, known: Sequence[str], strategy: str, count: int, rng: np.random.Generator
) -> list[str]:
    """The specimens to correct next."""
    left = [name for name in bench.pool if name not in known]
    if strategy == "random":
        return [left[n] for n in rng.permutation(len(left))[:count]]
    found = [look(network, bench.cases["train"][name], bench.shape) for name in left]
    unsure = [
        point_uncertainty(np.ones(network.count), f.concentration, f.disagreement, TOLERANCE_MM).mean() for f in found
    ]
    if strategy == "uncertainty":
        return [left[n] for n in np.argsort(unsure)[::-1][:count]]
    true = [bench.cases["train"][name].case.landmarks.positions for name in known]
    model = mean_of([in_frame(bench.shape, points) for points in true])
    known_shapes = np.stack([in_frame(model, points) for points in true])
    shapes = np.stack([in_frame(model, f.positions) for f in found])
    to_known = shape_distances(shapes, known_shapes, model.tolerance).min(axis=1)
    between = shape_distances(shapes, shapes, model.tolerance)
    order = choose_order(strategy, unsure, np.zeros(len(left)), to_known, between)
    return [left[choice.scan] for choice in order[:count]]


def mean_of(shapes: Sequence[np.ndarray]) -> ShapeModel:
    """Mean and tolerance of the corrected specimens, which are all that a user would have."""
    mean = np.nanmean(shapes, axis=0)
    tolerance = np.sqrt(np.nanmean(np.sum((np.stack(shapes) - mean) ** 2, axis=2), axis=0))
    return ShapeModel(mean, np.maximum(tolerance, 0.05))


def run_seed(bench: Bench, work: Path, seed: int, strategy: str, until: float) -> bool:
    """All rounds of one seed and strategy, going on where an earlier call stopped; False where time ran out."""
    path = work / f"{strategy}-{seed}.json"
    rounds = json.loads(path.read_text()) if path.exists() else []
    for number, size in enumerate(SIZES):
        if number < len(rounds):
            continue
        if time.monotonic() > until:
            return False  # the next call goes on here
        rng = np.random.default_rng([seed, number])
        if number == 0:
            known, start = [bench.pool[n] for n in rng.permutation(len(bench.pool))[:size]], None
            folder = work / f"first-{seed}"
        else:
            known, start = rounds[-1]["known"], averaged_weights(Path(rounds[-1]["checkpoint"]))
            network = network_of(bench, start)
            known = known + choose(bench, network, known, strategy, size - len(known), rng)
            folder = work / f"{strategy}-{seed}-{size}"
        started = time.process_time()
        weights = train(bench, known, seed, MORE_STEPS if number else FIRST_STEPS, folder, start)
        network = network_of(bench, weights)
        rounds.append({
            "size": size, "known": known, "checkpoint": str(folder / "checkpoint.pt"),
            "cpu_s": time.process_time() - started,
            **{subset: errors(bench, network, subset) for subset in ("validation", "test")},
        })  # fmt: skip
        with replaced_when_complete(path) as temporary:
            temporary.write_text(json.dumps(rounds, indent=1))
        print(f"{time.strftime('%H:%M:%S')} seed {seed} {strategy} {size}: validation "
              f"{np.mean(list(rounds[-1]['validation'].values())):.3f} mm, {rounds[-1]['cpu_s']:.0f} s", flush=True)
    return True


def run(work: Path, seeds: Sequence[int], minutes: float) -> None:
    """Run what is not done yet, seed by seed, so that any end leaves complete comparisons."""
    work.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + 60 * minutes
    torch.set_num_threads(1)
    bench = load(work)
    for seed in seeds:
        for strategy in STRATEGIES:
            if not run_seed(bench, work, seed, strategy, until):
                print("time is up", flush=True)
                return


def report(work: Path) -> None:
    """Write the curves, the picture and the text beside this file."""
    found = summary(read_runs(work, STRATEGIES, SIZES))
    place = Path(__file__).with_suffix(".json")
    settings = (
        f"Pool: the 28 training strains of the mouse-skull configuration, {SIZES[0]} corrected at first, chosen by the "
        f"seed and the same for all orders; then {SIZES[1] - SIZES[0]} more a round. A light H3DE-Net sees each "
        f"specimen in the pose of its published points ({' x '.join(map(str, STAGE['shape']))} voxels of "
        f"{STAGE['spacing_mm']} mm): {FIRST_STEPS} steps at first, {MORE_STEPS} a round from the weights of the last. "
        f"{found['cpu_minutes']} CPU minutes of training in all. What limits this: the pose is given, voxels are "
        "coarse, training is short, and adult skulls of laboratory strains are so much alike that eight specimens are "
        "nearly as good as sixteen; nothing follows from this for sets with rare anatomy."
    )
    contents = {place: json.dumps(found, indent=1) + "\n", place.with_suffix(".md"): text(found, settings)}
    for path, content in contents.items():
        with replaced_when_complete(path) as temporary:
            temporary.write_text(content)
    with replaced_when_complete(place.with_suffix(".png")) as temporary:
        draw(found, temporary)
    print(text(found, settings))


def main() -> int:
    """Run or report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("run", "report"))
    parser.add_argument("--work", type=Path, default=Path("runs/which-case-next"), help="folder of results so far")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(6)))
    parser.add_argument("--minutes", type=float, default=60, help="no round is started after so long")
    options = parser.parse_args()
    if options.action == "run":
        run(options.work, options.seeds, options.minutes)
    else:
        report(options.work)
    return 0


if __name__ == "__main__":
    sys.exit(main())
