"""The pictures of a model card: definitions, errors of each landmark, reliability, the worst test cases."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from H3DELandmarksLib.core.errors import MissingDependencyError
from H3DELandmarksLib.core.image_plane import is_radiograph
from H3DELandmarksLib.core.shape_model import rigid_fit
from H3DELandmarksLib.evaluation.metrics import case_means
from H3DELandmarksLib.figures.definitions import draw_every_landmark, draw_failure, draw_overview
from H3DELandmarksLib.figures.landmarks import draw_schematic
from H3DELandmarksLib.figures.plots import draw_errors, draw_reliability
from H3DELandmarksLib.training.cases import Case
from H3DELandmarksLib.training.evaluation import CUT, Verdict

logger = logging.getLogger(__name__)
DEFINITIONS, ACCURACY, RELIABILITY, FAILURES = "definitions", "accuracy", "reliability", "failures"
WORST = 3
# Bytes; all pictures of a package together stay below 400 kB.
OVERVIEW_SIZE, SLICES_SIZE, FAILURE_SIZE = 70_000, 110_000, 45_000


@dataclass(frozen=True)
class CardPicture:
    """A picture of the card.

    Attributes:
        section: where it belongs.
        file: name in the package.
        caption: a sentence below it.
        data: the file's bytes.
    """

    section: str
    file: str
    caption: str
    data: bytes


def card_pictures(
    manifest: Mapping[str, Any], verdict: Verdict, test: Sequence[Case], show_scans: bool
) -> list[CardPicture]:
    """Draw all pictures; none where matplotlib is missing, as in Slicer: the card then has its tables alone.

    Args:
        manifest: scheme and calibration.
        verdict: results.
        test: whole test cases.
        show_scans: whether pictures of the scans may be published; else the mean shape stands for them.
    """
    try:
        scan = _definitions_on_scan if show_scans else _definitions_by_shape
        return [
            *scan(manifest, verdict, test),
            CardPicture(
                ACCURACY,
                "accuracy.png",
                "Errors on the test cases. Points farther right than their triangle lie outside the stated radius.",
                draw_errors(verdict.evaluation.landmarks, verdict.evaluation.errors, verdict.calibration.radius90),
            ),
            _reliability(verdict),
            *_failures(manifest, verdict, test, show_scans),
        ]
    except MissingDependencyError as error:
        logger.warning("The model card has no pictures. %s", error)
        return []


def worst_cases(verdict: Verdict) -> list[int]:
    """Rows of up to `WORST` test cases by mean error, where a wrong word on presence weighs as a large error."""
    evaluation = verdict.evaluation
    wrong = (evaluation.predicted != evaluation.present) & evaluation.known
    penalty = 4 * verdict.calibration.tolerance_mm * wrong.mean(axis=1)
    order = np.argsort(-(np.nan_to_num(case_means(evaluation.errors)) + penalty), kind="stable")
    return order[:WORST].tolist()


def _definitions_on_scan(manifest: Mapping, verdict: Verdict, test: Sequence[Case]) -> Iterator[CardPicture]:
    case = max(test, key=lambda one: one.landmarks.present.sum())
    flat = is_radiograph(case.volume)
    yield CardPicture(
        DEFINITIONS,
        "landmarks.jpg",
        f"The points in {'one radiograph' if flat else 'projections of one scan'}.",
        draw_overview(case.volume, case.landmarks, manifest["title"], OVERVIEW_SIZE),
    )
    if not flat:
        yield CardPicture(
            DEFINITIONS,
            "points.jpg",
            "Every point in slices of the same scan.",
            draw_every_landmark(case.volume, case.landmarks, SLICES_SIZE),
        )


def _definitions_by_shape(manifest: Mapping, verdict: Verdict, test: Sequence[Case]) -> Iterator[CardPicture]:
    scheme = manifest["scheme"]
    names = [landmark["name"] for landmark in scheme["landmarks"]]
    picture = draw_schematic(names, verdict.shape.mean, scheme.get("pairs", ()), _own_frame(manifest))
    yield CardPicture(
        DEFINITIONS,
        "landmarks.png",
        "Mean positions of the points in the training cases; the scans themselves are not ours to show.",
        picture,
    )


def _own_frame(manifest: Mapping) -> bool:
    """Whether the mean shape lies in the anatomy's own frame, by how its first stage looks for poses."""
    return manifest["stages"][0]["poses"] != "scan"


def _reliability(verdict: Verdict) -> CardPicture:
    tolerance = f"{verdict.calibration.tolerance_mm:g} mm"
    titles = {"presence": "The point is in the scan", "confidence": f"The point lies within {tolerance}"}
    diagrams = {title: verdict.reliability[CUT][name]["bins"] for name, title in titles.items()}
    errors = {title: verdict.reliability[CUT][name]["ece"] for name, title in titles.items()}
    return CardPicture(
        RELIABILITY,
        "reliability.png",
        "Stated probabilities against what came true in the test cases, whole and with one end cut off; on the dashed "
        "line they are right. Numbers count statements.",
        draw_reliability(diagrams, errors),
    )


def _failures(manifest: Mapping, verdict: Verdict, test: Sequence[Case], show_scans: bool) -> Iterator[CardPicture]:
    cases, scheme = {case.name: case for case in test}, manifest["scheme"]
    for number, row in enumerate(worst_cases(verdict), start=1):
        name = verdict.evaluation.cases[row]
        case, found = cases[name], verdict.predictions[name]
        caption = _failure_caption(verdict, row)
        if show_scans:
            data = draw_failure(case.volume, found, case.landmarks, name, FAILURE_SIZE)
            yield CardPicture(FAILURES, f"failure-{number}.jpg", caption, data)
        else:
            names, pairs = found.names, scheme.get("pairs", ())
            errors = _in_the_shape_s_frame(manifest, verdict, found.positions, case.landmarks.positions)
            data = draw_schematic(names, verdict.shape.mean, pairs, _own_frame(manifest), errors)
            yield CardPicture(FAILURES, f"failure-{number}.png", caption, data)


def _in_the_shape_s_frame(manifest: Mapping, verdict: Verdict, found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(K, 3) mm from the true points to the found ones, seen in the mean shape's frame; NaN where one is missing."""
    known = np.isfinite(truth).all(axis=1)
    if not _own_frame(manifest):
        return found - truth
    if known.sum() < 3:
        return np.full_like(found, np.nan)
    return (found - truth) @ rigid_fit(verdict.shape.mean[known], truth[known]).rotation


def _failure_caption(verdict: Verdict, row: int) -> str:
    """Name, mean error, the worst points and wrong words on presence of one test case."""
    evaluation = verdict.evaluation
    errors = evaluation.errors[row]
    words = []
    if np.isfinite(errors).any():
        worst = np.argsort(-np.nan_to_num(errors))[:3]
        listed = ", ".join(f"{evaluation.landmarks[k]} {errors[k]:.2f}" for k in worst if np.isfinite(errors[k]))
        words.append(f"mean error {np.nanmean(errors):.2f} mm; worst {listed} mm")
    for title, wrong in (
        ("missed", evaluation.missed[row]),
        ("found but absent", evaluation.predicted[row] & ~evaluation.present[row] & evaluation.known[row]),
    ):
        if wrong.any():
            words.append(f"{title}: {', '.join(evaluation.landmarks[k] for k in np.flatnonzero(wrong))}")
    return f"{evaluation.cases[row]}: {'; '.join(words)}."
