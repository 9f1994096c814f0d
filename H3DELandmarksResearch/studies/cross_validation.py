"""Cross-validation of a whole model: every stage trained anew for each fold of specimens.

    python -m H3DELandmarksResearch.studies.cross_validation mouse-skull --folds 5
    python -m H3DELandmarksResearch.studies.cross_validation mouse-skull --only 0 --steps-share 0.1 --work runs/short

Each model learns from all folds but one, for steps that are fixed before; in that fold landmarks are found by the whole
detection, which knows no pose: in the scan as it is, and stored in another pose (see `accuracy`). Positions
alone are judged, so that no calibration is fitted: a point counts as missed where the network itself calls it absent.
The offset-free error (see `offset_free_errors`) is that of the specimens in the pose of their scans.
Kill it at any moment and start it again: training goes on from its last checkpoint, and what is measured stays.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.files import atomic_write
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.detection import Detector
from H3DELandmarksLib.evaluation import evaluate_sets
from H3DELandmarksLib.evaluation.metrics import THRESHOLDS_MM, mean_radial_error, success_rates
from H3DELandmarksLib.formats.reading import to_json
from H3DELandmarksLib.formats.training import TrainingStage
from H3DELandmarksLib.io.markups import read_markups, write_markups
from H3DELandmarksLib.models import open_package
from H3DELandmarksResearch.cases.case_folder import POINTS_SUFFIX
from H3DELandmarksResearch.studies import RESULTS, RUNS, command_of, run_study, write_results
from H3DELandmarksResearch.studies.accuracy import stored_poses
from H3DELandmarksResearch.studies.folds import stored_folds, write_fold
from H3DELandmarksResearch.training.configuration import (
    Configuration,
    doubtful_cases,
    find_configuration,
    load_cases,
    read_configuration,
)
from H3DELandmarksResearch.training.run import package_uncalibrated, run_training

MISSED = "missed"
POINTS = "points"


def main(arguments: Sequence[str] | None = None) -> int:
    """Train and measure whatever is missing, then write the table of the folds that are done."""
    options = _parser().parse_args(arguments)
    configuration = read_configuration(find_configuration(options.configuration))
    folds = stored_folds(configuration.record.id, configuration, options.folds)
    work = options.work or RUNS / f"cross-validation-{configuration.path.stem}"
    output = options.output or RESULTS / f"cross_validation-{configuration.path.stem}"
    for number in range(len(folds)) if options.only is None else options.only:
        if not 0 <= number < len(folds):
            raise InputError(f"There is no fold {number}: the folds are 0 to {len(folds) - 1}.")
        folder = work / f"fold-{number}"
        fold = _fold(configuration, folds, number, folder, options.steps_share)
        if not (folder / "package" / "manifest.json").exists():
            told = lambda share, text: print(text, flush=True)  # noqa: E731
            run_training(fold.path, folder / "run", resume=True, progress=told, package=False)
            package_uncalibrated(fold, folder / "run").path.rename(folder / "package")
        measure(fold, folder, options.poses)
        print(write_table(configuration, work, len(folds), output, command_of("cross_validation", arguments)))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configuration", help="training configuration: a path or a bundled name")
    parser.add_argument("--folds", type=int, default=5, help="how many folds there are")
    parser.add_argument("--only", type=int, nargs="+", help="numbers of the folds to do now (default: all)")
    parser.add_argument("--poses", type=int, default=2, help="poses of each specimen; the first is that of the scan")
    parser.add_argument("--steps-share", type=float, default=1.0, help="part of the configured steps to train for")
    parser.add_argument("--work", type=Path, help="folder of the runs (default: runs/cross-validation-CONFIGURATION)")
    parser.add_argument("--output", type=Path, help="table without suffix (default: benchmarks/cross_validation-...)")
    return parser


def _fold(
    configuration: Configuration, folds: Sequence[Sequence[str]], number: int, folder: Path, share: float
) -> Configuration:
    """The configuration of a fold, written into its folder the first time.

    Raises:
        InputError: the folder belongs to a longer or shorter training.
    """
    path = folder / "configuration.json"
    fold = read_configuration(write_fold(configuration, folds, number, folder / "planned.json")).with_steps()
    stages = tuple(_with_share_of_steps(stage, share) for stage in fold.record.stages)
    fold = replace(fold, record=replace(fold.record, stages=stages))
    if path.exists():
        kept = read_configuration(path)
        if kept.record.stages != fold.record.stages or kept.split() != fold.split():
            raise InputError(f"'{folder}' was begun with other settings: use those, or another folder with --work.")
        return kept
    with atomic_write(path) as partial:
        partial.write_bytes(to_json(fold.record))
    return read_configuration(path)


def _with_share_of_steps(stage: TrainingStage, share: float) -> TrainingStage:
    steps = max(1, round(stage.training.steps * share))
    return replace(stage, training=replace(stage.training, steps=steps))


def measure(fold: Configuration, folder: Path, poses: int) -> None:
    """Errors of the fold's model on its test specimens, kept one by one in ``folder/errors.json``.

    The points themselves, of the model and of the reference, LPS mm, lie in ``folder/points/found`` and ``true``.
    """
    path = folder / "errors.json"
    errors: dict[str, list[float | str | None]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    detector = Detector(open_package(folder / "package"))
    for case in load_cases(fold, "test", folder):
        for posed in stored_poses(case, poses, axes_only=False):
            if posed.name not in errors:
                found = detector.detect(posed.volume).ordered_as(posed.landmarks.names)
                distance = np.linalg.norm(found.positions - posed.landmarks.positions, axis=1)
                errors[posed.name] = [
                    None if not there else float(d) if np.isfinite(d) else MISSED
                    for d, there in zip(distance, posed.landmarks.present)
                ]
                for kind, points in (("found", found), ("true", posed.landmarks)):
                    kept = folder / POINTS / kind / f"{posed.name}{POINTS_SUFFIX}"
                    kept.parent.mkdir(parents=True, exist_ok=True)
                    write_markups(kept, points)
                with atomic_write(path) as partial:
                    partial.write_text(json.dumps(errors), encoding="utf-8")


def offset_free_figures(folders: Sequence[Path]) -> dict[str, float] | None:
    """The error without systematic offsets over all folds, as `Evaluation.offset_free_form`.

    Args:
        folders: of the folds; those measured by versions that kept no points have none.
    """
    sets: dict[str, dict[str, LandmarkSet]] = {"found": {}, "true": {}}
    for folder in folders:
        for kind, kept in sets.items():
            for path in sorted((folder / POINTS / kind).glob(f"*{POINTS_SUFFIX}")):
                if ", pose " not in path.name:  # copies of a specimen are no other cases
                    kept[path.name] = read_markups(path)
    return evaluate_sets(sets["found"], sets["true"]).offset_free_form


def figures_of(errors: Mapping[str, Sequence[float | str | None]], thresholds: Sequence[float]) -> dict:
    """Mean error in mm, success rates and the worst case; a landmark called absent counts in the rates as missed."""
    numbers = {None: np.nan, MISSED: np.inf}
    rows = np.array([[numbers.get(e, e) for e in row] for row in errors.values()], dtype=float)
    finite = np.where(np.isfinite(rows), rows, np.nan)
    mean, deviation = mean_radial_error(finite)
    rates = success_rates(finite, ~np.isnan(rows), thresholds)
    return {
        "cases": len(rows),
        "mre_mm": mean,
        "sd_mm": deviation,
        "success": [float(rate) for rate in rates],
        "worst_case_mm": float(np.nanmax(np.nanmean(finite, axis=1))),
        "called_absent": int(np.isinf(rows).sum()),
    }


def write_table(configuration: Configuration, work: Path, count: int, output: Path, command: str) -> str:
    """Write ``output`` .json and .md of all folds that are measured; returns the table."""
    thresholds = list(configuration.record.thresholds_mm or THRESHOLDS_MM)
    measured = {n: work / f"fold-{n}" / "errors.json" for n in range(count)}
    errors = {n: json.loads(path.read_text(encoding="utf-8")) for n, path in measured.items() if path.exists()}
    rows = {f"fold {n}": figures_of(found, thresholds) for n, found in errors.items()}
    every = {f"{n} {name}": row for n, found in errors.items() for name, row in found.items()}
    rows["all"] = figures_of(every, thresholds)
    apart = doubtful_cases(configuration.path)
    trusted = {name: row for name, row in every.items() if name.split(" ", 1)[1].split(", pose ")[0] not in apart}
    if 0 < len(trusted) < len(every):
        rows["all but the doubtful"] = figures_of(trusted, thresholds)
    means = [rows[f"fold {n}"]["mre_mm"] for n in errors]
    spread = float(np.std(means, ddof=1)) if len(means) > 1 else float("nan")
    stages = read_configuration(work / f"fold-{min(errors)}" / "configuration.json").record.stages
    lines = [
        f"# Cross-validation of {configuration.record.id}",
        "",
        f"`{command}`; whole detection, no pose given; {len(errors)} of {count} folds done; steps: "
        + ", ".join(f"{stage.name} {stage.training.steps}" for stage in stages)
        + ".",
        "",
        "| | scans | MRE +- SD, mm | worst scan, mm |" + "".join(f" SDR {t:g} mm |" for t in thresholds) + " missed |",
        "|---" * (5 + len(thresholds)) + "|",
    ]
    for name, row in rows.items():
        rates = "".join(f" {100 * rate:.1f} % |" for rate in row["success"])
        lines.append(
            f"| {name} | {row['cases']} | {row['mre_mm']:.3f} +- {row['sd_mm']:.3f} | {row['worst_case_mm']:.3f} |"
            f"{rates} {row['called_absent']} |"
        )
    offset_free = offset_free_figures([path.parent for path in measured.values()])
    if offset_free is not None:
        lines += ["", f"Offset-free: {offset_free['mre_mm']:.3f} +- {offset_free['sd_mm']:.3f} mm."]
    if apart:
        lines += ["", "Doubtful:", "", *(f"- {name}: {why}" for name, why in apart.items())]
    lines += ["", f"Mean of the folds' means {np.mean(means):.3f} mm, SD between folds {spread:.3f} mm."]
    table = "\n".join(lines) + "\n"
    written = {"command": command, "thresholds_mm": thresholds, "rows": rows, "fold_means_mm": means}
    written["offset_free"] = offset_free
    write_results(output, written, table)
    return table


if __name__ == "__main__":
    run_study(main)
