"""The pictures of a model card: definitions, errors of each landmark, reliability, the worst test cases."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress

import numpy as np

from H3DELandmarksLib.core.errors import MissingDependencyError
from H3DELandmarksLib.core.image_plane import is_radiograph
from H3DELandmarksLib.core.shape_model import rigid_fit
from H3DELandmarksLib.evaluation.metrics import case_means
from H3DELandmarksLib.formats.manifest import Manifest
from H3DELandmarksLib.training.cases import Case
from H3DELandmarksResearch.figures.anatomy import MAX_CASES, mean_anatomy
from H3DELandmarksResearch.figures.card_plots import draw_errors, draw_reliability
from H3DELandmarksResearch.figures.definitions import draw_every_landmark, draw_failure, draw_overview
from H3DELandmarksResearch.figures.landmarks import draw_schematic
from H3DELandmarksResearch.phantom.scheme import PHANTOM
from H3DELandmarksResearch.training.card import CardPicture
from H3DELandmarksResearch.training.evaluation import CUT, ModelEvaluation

logger = logging.getLogger(__name__)
MAX_FAILURES = 3
# Bytes; all pictures of a package together stay below 400 kB.
OVERVIEW_SIZE, SLICES_SIZE, FAILURE_SIZE = 70_000, 110_000, 45_000


def card_pictures(
    manifest: Manifest, measured: ModelEvaluation, test: Sequence[Case], show_scans: bool
) -> list[CardPicture]:
    """Draw all pictures; none where matplotlib is missing, as in Slicer: the card then has its tables alone.

    Args:
        manifest: scheme and calibration.
        measured: results.
        test: whole test cases.
        show_scans: whether pictures of the scans may be published; else a phantom stands for them where one is among
            them, and the mean shape where none is.
    """
    try:
        shown = [case for case in test if show_scans or case.name.startswith(PHANTOM)]
        definitions = (
            _definitions_on_scan(manifest, shown) if shown else _definitions_by_shape(manifest, measured, test)
        )
        return [
            *definitions,
            CardPicture(
                "accuracy",
                "accuracy.png",
                "Errors on the test cases. Points farther right than their triangle lie outside the stated radius.",
                draw_errors(
                    measured.evaluation.landmarks,
                    measured.evaluation.errors,
                    measured.calibration.radius90,
                    manifest.length_unit,
                ),
            ),
            _reliability(measured, manifest.length_unit),
            *_failures(manifest, measured, test, show_scans),
        ]
    except MissingDependencyError as error:
        logger.warning("The model card has no pictures. %s", error)
        return []


def worst_cases(measured: ModelEvaluation) -> list[int]:
    """Rows of up to `MAX_FAILURES` test cases by mean error, where a wrong word on presence weighs as a large error."""
    evaluation = measured.evaluation
    wrong = (evaluation.predicted != evaluation.present) & evaluation.known
    penalty = 4 * measured.calibration.tolerance_mm * wrong.mean(axis=1)
    order = np.argsort(-(np.nan_to_num(case_means(evaluation.errors)) + penalty), kind="stable")
    return order[:MAX_FAILURES].tolist()


def _definitions_on_scan(manifest: Manifest, shown: Sequence[Case]) -> Iterator[CardPicture]:
    case = max(shown, key=lambda one: one.landmarks.present.sum())
    flat, scan = is_radiograph(case.volume), "simulated scan" if case.name.startswith(PHANTOM) else "scan"
    yield CardPicture(
        "definitions",
        "landmarks.jpg",
        f"The points in {'one radiograph' if flat else f'projections of one {scan}'}.",
        draw_overview(case.volume, case.landmarks, manifest.title, OVERVIEW_SIZE),
    )
    if not flat:
        yield CardPicture(
            "definitions",
            "points.jpg",
            f"Every point in slices of the same {scan}.",
            draw_every_landmark(case.volume, case.landmarks, SLICES_SIZE),
        )


def _definitions_by_shape(manifest: Manifest, measured: ModelEvaluation, test: Sequence[Case]) -> Iterator[CardPicture]:
    anatomy, caption = None, "Mean positions of the points in the training cases"
    with suppress(ValueError):  # too few points to place any case
        if not manifest.is_2d:
            anatomy = mean_anatomy(test, measured.shape, manifest.sees_canonical_pose)
            caption += f" on the mean anatomy of {min(len(test), MAX_CASES)} scans"
    picture = draw_schematic(
        manifest.scheme.names,
        measured.shape.mean,
        manifest.scheme.pairs,
        manifest.sees_canonical_pose,
        anatomy=anatomy,
        unit=manifest.length_unit,
    )
    yield CardPicture("definitions", "landmarks.png", f"{caption}; the scans themselves are not ours to show.", picture)


def _reliability(measured: ModelEvaluation, unit: str) -> CardPicture:
    tolerance = f"{measured.calibration.tolerance_mm:g} {unit}"
    titles = {"presence": "The point is in the scan", "confidence": f"The point lies within {tolerance}"}
    diagrams = {title: measured.reliability[CUT][name]["bins"] for name, title in titles.items()}
    errors = {title: measured.reliability[CUT][name]["ece"] for name, title in titles.items()}
    return CardPicture(
        "reliability",
        "reliability.png",
        "Stated probabilities against what came true in the test cases, whole and with one end cut off; on the dashed "
        "line they are right. Numbers count statements.",
        draw_reliability(diagrams, errors),
    )


def _failures(
    manifest: Manifest, measured: ModelEvaluation, test: Sequence[Case], show_scans: bool
) -> Iterator[CardPicture]:
    cases, scheme = {case.name: case for case in test}, manifest.scheme
    for number, row in enumerate(worst_cases(measured), start=1):
        name = measured.evaluation.cases[row]
        case, found = cases[name], measured.predictions[name]
        caption = _failure_caption(measured, row, manifest.length_unit)
        if show_scans:
            data = draw_failure(case.volume, found, case.landmarks, name, FAILURE_SIZE)
            yield CardPicture("failures", f"failure-{number}.jpg", caption, data)
        else:
            names, pairs = found.names, scheme.pairs
            errors = _in_the_shape_s_frame(manifest, measured, found.positions, case.landmarks.positions)
            data = draw_schematic(
                names, measured.shape.mean, pairs, manifest.sees_canonical_pose, errors, unit=manifest.length_unit
            )
            yield CardPicture("failures", f"failure-{number}.png", caption, data)


def _in_the_shape_s_frame(
    manifest: Manifest, measured: ModelEvaluation, found: np.ndarray, truth: np.ndarray
) -> np.ndarray:
    """(K, 3) mm from the true points to the found ones, seen in the mean shape's frame; NaN where one is missing."""
    known = np.isfinite(truth).all(axis=1)
    if not manifest.sees_canonical_pose:
        return found - truth
    if known.sum() < 3:
        return np.full_like(found, np.nan)
    return (found - truth) @ rigid_fit(measured.shape.mean[known], truth[known]).rotation


def _failure_caption(measured: ModelEvaluation, row: int, unit: str = "mm") -> str:
    """Name, mean error, the worst points and wrong words on presence of one test case."""
    evaluation = measured.evaluation
    errors = evaluation.errors[row]
    words = []
    if np.isfinite(errors).any():
        worst = np.argsort(-np.nan_to_num(errors))[:3]
        listed = ", ".join(f"{evaluation.landmarks[k]} {errors[k]:.2f}" for k in worst if np.isfinite(errors[k]))
        words.append(f"mean error {np.nanmean(errors):.2f} {unit}; worst {listed} {unit}")
    for title, wrong in (
        ("missed", evaluation.missed[row]),
        ("found but absent", evaluation.predicted[row] & ~evaluation.present[row] & evaluation.known[row]),
    ):
        if wrong.any():
            words.append(f"{title}: {', '.join(evaluation.landmarks[k] for k in np.flatnonzero(wrong))}")
    return f"{evaluation.cases[row]}: {'; '.join(words)}."
