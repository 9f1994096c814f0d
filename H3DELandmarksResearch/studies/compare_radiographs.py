"""Radiograph models side by side on the test cases of their configuration, in mm at the detector.

    python -m H3DELandmarksResearch.studies.compare_radiographs mouse-radiograph-hyatt mouse-radiograph-han
    python -m H3DELandmarksResearch.studies.compare_radiographs mouse-radiograph-hyatt runs/mouse-radiograph-han/package

Models are ids or paths of packages; the first is the base, and its configuration names the cases. Differences are
paired over subjects, since the radiographs of one subject go together.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from H3DELandmarksLib.core.files import atomic_write
from H3DELandmarksLib.detection import Detector
from H3DELandmarksLib.evaluation import Evaluation, evaluate_sets
from H3DELandmarksLib.evaluation.metrics import (
    THRESHOLDS_MM,
    error_summary,
    mean_radial_error,
    radius_coverage,
    success_rates,
)
from H3DELandmarksLib.evaluation.paired import Improvement, counted_errors, improvement, subject_means
from H3DELandmarksLib.models import find_model
from H3DELandmarksLib.training.cases import Case
from H3DELandmarksResearch.studies import RESULTS, RUNS, command_of, run_study
from H3DELandmarksResearch.training.configuration import find_configuration, load_cases, read_configuration


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure all models and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="ids or paths of packages; the first is what others are compared to")
    parser.add_argument("--configuration", help="configuration with the test cases (default: that of the first model)")
    parser.add_argument("--cache", type=Path, default=RUNS, help="folder of generated cases")
    parser.add_argument("--output", type=Path, help="table without suffix (default: benchmarks/radiographs-FIRST)")
    options = parser.parse_args(arguments)
    packages = [find_model(model) for model in options.models]
    configuration = read_configuration(find_configuration(options.configuration or packages[0].id))
    cases = load_cases(configuration, "test", options.cache)
    thresholds = configuration.record.thresholds_mm or THRESHOLDS_MM
    measured = {f"{p.id} {p.version}": measure(Detector(p).detect, cases, thresholds) for p in packages}
    figures = {"command": command_of("compare_radiographs", arguments), "thresholds_mm": thresholds}
    figures |= compare(measured, configuration.record.tolerance_mm)
    output = options.output or RESULTS / f"radiographs-{packages[0].id}"
    for suffix, text in ((".json", json.dumps(figures, indent=1)), (".md", as_text(figures))):
        with atomic_write(output.with_name(output.name + suffix)) as partial:
            partial.write_text(text, encoding="utf-8")
    print(as_text(figures))
    return 0


def measure(detect: Callable, cases: Sequence[Case], thresholds: Sequence[float]) -> Evaluation:
    """What a model finds in all cases, beside their exact points."""
    return evaluate_sets({c.name: detect(c.volume) for c in cases}, {c.name: c.landmarks for c in cases}, thresholds)


def subject_of(case: str) -> str:
    """The subject of a radiograph that is named ``SUBJECT_VIEW-NUMBER``."""
    return case.rsplit("_", 1)[0]


def view_of(case: str) -> str:
    """The view of a radiograph that is named ``SUBJECT_VIEW-NUMBER``."""
    return case.rsplit("_", 1)[1].rsplit("-", 1)[0]


def compare(measured: Mapping[str, Evaluation], miss_mm: float) -> dict:
    """Figures of each model, all cases and by view, and how much better each is than the first.

    Args:
        measured: evaluations of the same cases, by model.
        miss_mm: what a point that was not found counts in the paired difference at least.
    """
    first = next(iter(measured.values()))
    subjects = [subject_of(case) for case in first.cases]
    views = sorted({view_of(case) for case in first.cases})
    models = {}
    for name, found in measured.items():
        base, candidate = counted_errors(first.errors, found.errors, first.present, miss_mm)
        better: Improvement = improvement(np.nanmean(subject_means(base - candidate, subjects), axis=1))
        models[name] = {
            **_figures(found, np.ones(len(found.cases), dtype=bool)),
            "views": {v: _figures(found, np.array([view_of(c) == v for c in found.cases])) for v in views},
            "presence_accuracy": found.presence.accuracy,
            "presence_f1": found.presence.f1,
            "coverage": radius_coverage(found.errors, found.radius),
            "improvement_mm": None if found is first else [better.mean, better.low, better.high, better.p],
        }
    return {"subjects": len(set(subjects)), "models": models}


def _figures(found: Evaluation, chosen: np.ndarray) -> dict:
    errors, present = found.errors[chosen], found.present[chosen]
    mean, deviation = mean_radial_error(errors)
    rates = success_rates(errors, present, found.thresholds)
    return {
        "radiographs": int(chosen.sum()),
        "points": int(present.sum()),
        "mre_mm": mean,
        "sd_mm": deviation,
        **{key: error_summary(errors)[key] for key in ("median", "p90")},
        "success": [float(rate) for rate in rates],
    }


def as_text(figures: Mapping) -> str:
    """The table in Markdown."""
    limits = "".join(f" SDR {limit:g} mm |" for limit in figures["thresholds_mm"])
    lines = [
        "# Radiograph models side by side",
        "",
        f"`{figures['command']}`; test radiographs of {figures['subjects']} subjects; millimeters at the detector.",
        "",
        f"| model | view | radiographs | MRE +- SD | median | p90 |{limits} presence right | F1 | radius covers |",
        "|---" * (9 + limits.count("|")) + "|",
    ]
    for name, row in figures["models"].items():
        presence = f" {100 * row['presence_accuracy']:.1f} % | {100 * row['presence_f1']:.1f} % |"
        lines.append(_line(name, "all", row) + f"{presence} {100 * row['coverage']:.1f} % |")
        lines += [_line(name, view, part) + " | | |" for view, part in row["views"].items()]
    for name, row in figures["models"].items():
        if row["improvement_mm"]:
            mean, low, high, p = row["improvement_mm"]
            word = "better" if mean >= 0 else "worse"
            lines += [
                "",
                f"{name} is {word} than the first by {abs(mean):.3f} mm a subject (95 % of the gain "
                f"{low:.3f} to {high:.3f} mm, signed-rank p {p:.2f}; a miss counts the tolerance or the "
                "other model's error).",
            ]
    return "\n".join(lines) + "\n"


def _line(model: str, view: str, row: Mapping) -> str:
    rates = "".join(f" {100 * rate:.1f} % |" for rate in row["success"])
    return (
        f"| {model} | {view} | {row['radiographs']} | {row['mre_mm']:.3f} +- {row['sd_mm']:.3f} | {row['median']:.3f} |"
        f" {row['p90']:.3f} |{rates}"
    )


if __name__ == "__main__":
    run_study(main)
