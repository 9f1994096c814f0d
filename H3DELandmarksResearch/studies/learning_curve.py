"""Error against the number of corrected cases: does retraining pay, and from how many cases on?

    python -m H3DELandmarksResearch.studies.learning_curve mouse --base runs/mouse-skull-half/package
    python -m H3DELandmarksResearch.studies.learning_curve definition --base runs/head-neck-ct2/package

Cases are "corrected" by taking the experts' points, put into a real project of cases, and the base is retrained from
the project exactly as ``h3delandmarks train --from-cases`` does it, without holding cases out: every model is measured
on cases that are in no project, by the whole detection. Every point is kept, so that a run which is interrupted goes
on. Intervals are those of a bootstrap over the measured cases; gains are paired by case.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from H3DELandmarksLib.cases import CaseProject, open_project
from H3DELandmarksLib.core.files import atomic_write
from H3DELandmarksLib.detection import Detector
from H3DELandmarksLib.evaluation.metrics import case_means, success_rates
from H3DELandmarksLib.formats.run import RUN, read_run
from H3DELandmarksLib.models import ModelPackage, find_model
from H3DELandmarksLib.retraining.fine_tuning import plan_fine_tuning
from H3DELandmarksLib.retraining.run import retrain, start_run
from H3DELandmarksResearch.studies import RESULTS, RUNS, run_study
from H3DELandmarksResearch.studies.learning_figures import write_figures
from H3DELandmarksResearch.studies.learning_studies import Study, add_corrected, definition_study, mouse_study

STUDIES = {"mouse": mouse_study, "definition": definition_study}
BOOTSTRAPS, LEVELS = 4000, (2.5, 97.5)


def main() -> int:
    """Run a study, then write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=tuple(STUDIES))
    parser.add_argument("--base", required=True, help="id or path of the base model")
    parser.add_argument("--counts", type=int, nargs="+", default=[5, 10, 20], help="numbers of corrected cases")
    parser.add_argument("--steps", type=int, help="steps of each stage (default: as the command line)")
    parser.add_argument("--reference", help="another model to draw as a line, such as one that learnt from everything")
    parser.add_argument("--work", type=Path, help="folder for projects and runs (default: runs/learning-curve-STUDY)")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder for the figures")
    options = parser.parse_args()
    study, base = STUDIES[options.study](), find_model(options.base)
    work = options.work or RUNS / f"learning-curve-{options.study}"
    work.mkdir(parents=True, exist_ok=True)
    test = study.test
    points = {0: measured(work / "base.json", study, base, test)}
    prepare(study, base, work, options.counts, options.steps)
    for count in options.counts:
        candidate, seconds = retrained(work, count)
        points[count] = {**measured(work / f"{count}.json", study, candidate, test), "cpu_seconds": seconds}
    reference = None
    if options.reference:
        reference = measured(work / "reference.json", study, find_model(options.reference), test)
    steps = [] if options.steps is None else ["--steps", str(options.steps)]
    words = ["python -m H3DELandmarksResearch.studies.learning_curve", options.study, "--base PACKAGE", *steps]
    result = {**summary(study, base, points, reference, test), "command": " ".join(words)}
    write_figures(options.output / f"learning_curve_{options.study}", result)
    return 0


def prepare(study: Study, base: ModelPackage, work: Path, counts: Sequence[int], steps: int | None) -> None:
    """Add cases to the project one after the other; at each number of them, decide about a run."""
    folder = work / "cases"
    project = open_project(folder) if folder.exists() else study.start(folder, base)
    for count in sorted(counts):
        if (work / f"run-{count}" / RUN).exists():
            continue
        for day in range(len(project.cases()), count):
            add_corrected(project, study.load(study.correct[day]), day)
        start_run(work / f"run-{count}", plan_fine_tuning(_exactly(project, count), base, steps, held_out=0))


def _exactly(project: CaseProject, count: int) -> CaseProject:
    there = len(project.cases())
    if there != count:
        raise RuntimeError(f"The project has {there} cases, not {count}: start with an empty --work folder.")
    return project


def retrained(work: Path, count: int) -> tuple[ModelPackage, float]:
    """The candidate of a run, gone on with if it is not done, and the processor's seconds that it took."""
    run, start, last = read_run(work / f"run-{count}"), time.process_time(), 0.0

    def tell(fraction: float, message: str, seconds_left: float | None, **more: object) -> None:
        nonlocal last
        if time.monotonic() - last > 30:
            last = time.monotonic()
            left = "" if seconds_left is None else f", {seconds_left:.0f} s left"
            print(f"{count} corrections: {message}{left}", flush=True)

    was_done = run.record.is_done
    candidate = retrain(run, progress=tell)
    if not was_done:
        run.update(cpu_seconds=(run.record.cpu_seconds or 0.0) + time.process_time() - start)
    seconds = run.record.cpu_seconds
    return candidate, float("nan") if seconds is None else seconds


def measured(path: Path, study: Study, model: ModelPackage, test: Sequence[str]) -> dict:
    """Errors of a model in mm, case by landmark, null where nothing was found or nothing is; kept in a file."""
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if kept.get("version") != model.version or kept.get("id") != model.id:
        kept = {"id": model.id, "version": model.version, "errors": {}, "present": {}}
    detector = None
    for name in test:
        if name in kept["errors"]:
            continue
        detector = detector or Detector(model)
        case = study.load(name)
        found = detector.detect(case.volume).ordered_as(case.landmarks.names)
        error = np.linalg.norm(found.positions - case.landmarks.positions, axis=1)
        kept["errors"][name] = [float(e) if np.isfinite(e) else None for e in error]
        kept["present"][name] = case.landmarks.present.tolist()
        kept["landmarks"] = list(case.landmarks.names)
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(kept), encoding="utf-8")
        print(f"{path.stem}: {name} {np.nanmean(error):.3f} mm", flush=True)
    return kept


def summary(
    study: Study, base: ModelPackage, points: Mapping[int, Mapping], reference: Mapping | None, test: Sequence[str]
) -> dict:
    """Figures of every point, by group of landmarks."""
    result = {
        "title": study.title,
        "base": f"{base.id} {base.version}",
        "threshold_mm": study.threshold_mm,
        "measured_on": list(test),
        "groups": {},
    }
    for label, names in study.groups.items():
        before = _of(points[0], names, test)
        rows = [
            {
                "corrections": count,
                **_figures(_of(point, names, test), before, study.threshold_mm),
                "cpu_seconds": point.get("cpu_seconds"),
            }
            for count, point in points.items()
        ]
        result["groups"][label] = {"landmarks": list(names), "points": rows}
        if reference is not None:
            figures = _figures(_of(reference, names, test), before, study.threshold_mm)
            result["groups"][label]["reference"] = {"model": f"{reference['id']} {reference['version']}", **figures}
    return result


def _of(point: Mapping, names: Sequence[str], test: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(N, K) errors and presence of some landmarks."""
    columns = [point["landmarks"].index(name) for name in names]
    errors = np.array([point["errors"][name] for name in test], dtype=float)[:, columns]
    return errors, np.array([point["present"][name] for name in test])[:, columns]


def _figures(now: tuple[np.ndarray, np.ndarray], before: tuple[np.ndarray, np.ndarray], threshold: float) -> dict:
    """Mean error, detection rate and gain with their intervals over resampled cases."""
    errors, present = now
    rng = np.random.default_rng(0)
    draws = rng.integers(len(errors), size=(BOOTSTRAPS, len(errors)))
    means = case_means(errors)
    gains = case_means(before[0]) - means
    rate = lambda rows: float(success_rates(errors[rows], present[rows], [threshold])[0])  # noqa: E731

    def interval(values: list[float] | np.ndarray) -> list[float]:
        return [round(float(x), 4) for x in np.nanpercentile(values, LEVELS)]

    return {
        "mre_mm": round(float(np.nanmean(means)), 4),
        "mre_interval": interval(np.nanmean(means[draws], axis=1)),
        "sdr": round(rate(np.arange(len(errors))), 4),
        "sdr_interval": interval([rate(rows) for rows in draws]),
        "gain_mm": round(float(np.nanmean(gains)), 4),
        "gain_interval": interval(np.nanmean(gains[draws], axis=1)),
        "missed": int((present & ~np.isfinite(errors)).sum()),
        "landmarks": int(present.sum()),
    }


if __name__ == "__main__":
    run_study(main)
