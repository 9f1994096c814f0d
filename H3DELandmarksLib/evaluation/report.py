"""Comparison of predicted with reference landmarks over cases, as numbers, text and tables."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.files import replaced_when_complete
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.evaluation import metrics
from H3DELandmarksLib.evaluation.metrics import published_rows, published_text


@dataclass(frozen=True)
class Evaluation:
    """Predictions and references of the same cases, brought into one order, and the metrics that follow from them.

    Attributes:
        cases: (N) names of the cases with a prediction and a reference, sorted.
        landmarks: (K) names found in at least one prediction and at least one reference.
        thresholds: distances in mm for the success detection rate.
        errors: (N, K) mm, NaN where a landmark is not present in both.
        present: (N, K) bool, present in the reference.
        known: (N, K) bool, the reference says whether it is present.
        predicted: (N, K) bool, predicted as present.
        radius: (N, K) mm, predicted 90 % radius, NaN where none is stated.
        without_prediction: cases with a reference only.
        without_reference: cases with a prediction only.
        never_predicted: landmarks that references have but no prediction names; they count nowhere.
        never_marked: landmarks that predictions have but no reference names; they count nowhere.
    """

    cases: tuple[str, ...]
    landmarks: tuple[str, ...]
    thresholds: tuple[float, ...]
    errors: np.ndarray
    present: np.ndarray
    known: np.ndarray
    predicted: np.ndarray
    radius: np.ndarray
    without_prediction: tuple[str, ...] = ()
    without_reference: tuple[str, ...] = ()
    never_predicted: tuple[str, ...] = ()
    never_marked: tuple[str, ...] = ()

    @property
    def missed(self) -> np.ndarray:
        """(N, K) bool: present in the reference but not predicted; without an error, and never a success."""
        return self.present & ~self.predicted

    @cached_property
    def presence(self) -> metrics.PresenceScores:
        """Scores of the predicted presence."""
        return metrics.presence_scores(self.predicted, self.present, self.known)

    @cached_property
    def table(self) -> list[dict[str, Any]]:
        """One row per landmark: counts, error summary in mm, success rates, coverage of the stated radius."""
        return [self._row(name, (slice(None), [k])) for k, name in enumerate(self.landmarks)]

    def to_dict(self) -> dict[str, Any]:
        """All numbers as plain JSON values; what cannot be computed is None."""
        mre, sd = metrics.mean_radial_error(self.errors)
        scores = self.presence
        means = metrics.case_means(self.errors)
        return _plain(
            {
                "cases": len(self.cases),
                "mre_mm": mre,
                "sd_mm": sd,
                **{key: value for key, value in self._row("", ()).items() if key != "landmark"},
                "presence": {name: getattr(scores, name) for name in ("accuracy", "precision", "recall", "f1")},
                "published": published_rows(self),
                "per_landmark": self.table,
                "per_case": [
                    {"case": case, "mean_mm": mean, "missed": missed}
                    for case, mean, missed in zip(self.cases, means, self.missed.sum(axis=1))
                ],
                "without_prediction": self.without_prediction,
                "without_reference": self.without_reference,
                "never_predicted": self.never_predicted,
                "never_marked": self.never_marked,
            }
        )

    def text(self) -> str:
        """The report as aligned plain text: what was compared, the figures, one line per landmark."""
        mre, sd = metrics.mean_radial_error(self.errors)
        total, scores = self._row("all", ()), self.presence
        rates = ", ".join(f"{_percent(total[key])} within {key.split('_')[1]} mm" for key in self._rate_names)
        lines = [
            f"{len(self.cases)} cases, {len(self.landmarks)} landmarks, {total['n']} present in the references",
            f"Mean radial error  {_number(mre)} +- {_number(sd)} mm over cases",
            f"Detected           {rates}",
            f"Missed             {total['missed']} present landmarks predicted absent",
            f"Presence           accuracy {_percent(scores.accuracy)}, precision {_percent(scores.precision)}, "
            f"recall {_percent(scores.recall)}, F1 {_percent(scores.f1)}",
            f"90 % radius covers {_percent(total['coverage'])} of errors",
            *self._remarks(),
            *published_text(published_rows(self)),
            "",
            *_aligned([*self.table, total]),
        ]
        return "\n".join(lines) + "\n"

    def write_csv(self, path: str | Path) -> None:
        """Write the table of landmarks; empty where a number cannot be computed.

        Raises:
            InputError: the file cannot be written.
        """
        _write_rows(Path(path), self.table or [self._row("", ())], self.table)

    def write_errors_csv(self, path: str | Path) -> None:
        """Write one line per case and landmark that the reference speaks about.

        Raises:
            InputError: the file cannot be written.
        """
        rows = [
            {
                "case": self.cases[n],
                "landmark": self.landmarks[k],
                "present": int(self.present[n, k]),
                "predicted": int(self.predicted[n, k]),
                "error_mm": float(self.errors[n, k]),
                "radius90_mm": float(self.radius[n, k]),
            }
            for n, k in np.argwhere(self.known)
        ]
        columns = dict.fromkeys(("case", "landmark", "present", "predicted", "error_mm", "radius90_mm"))
        _write_rows(Path(path), [columns], rows)

    @property
    def _rate_names(self) -> list[str]:
        return [f"sdr_{threshold:g}" for threshold in self.thresholds]

    def _row(self, landmark: str, index: tuple) -> dict[str, Any]:
        """The numbers of a part of the (N, K) arrays."""
        errors, present = self.errors[index], self.present[index]
        rates = metrics.success_rates(errors, present, self.thresholds)
        return {
            "landmark": landmark,
            "n": int(present.sum()),
            "missed": int(self.missed[index].sum()),
            **{f"{name}_mm": value for name, value in metrics.error_summary(errors).items()},
            **dict(zip(self._rate_names, rates.tolist())),
            "coverage": metrics.radius_coverage(errors, self.radius[index]),
        }

    def _remarks(self) -> list[str]:
        """Lines about what could not be compared."""
        remarks = (
            ("Without prediction", self.without_prediction),
            ("Without reference ", self.without_reference),
            ("Never predicted   ", self.never_predicted),
            ("Never marked      ", self.never_marked),
        )
        return [f"{title} {', '.join(names)}" for title, names in remarks if names]


def evaluate_sets(
    predictions: Mapping[str, LandmarkSet],
    references: Mapping[str, LandmarkSet],
    thresholds: Sequence[float] = metrics.THRESHOLDS_MM,
) -> Evaluation:
    """Compare predicted with reference landmarks; cases are matched by key, landmarks by name.

    Args:
        predictions: landmark sets in LPS mm by case.
        references: landmark sets in LPS mm by case.
        thresholds: distances in mm for the success detection rate.
    """
    cases = tuple(sorted(predictions.keys() & references.keys()))
    predicted_names = _names(predictions, cases)
    reference_names = _names(references, cases)
    names = tuple(name for name in reference_names if name in predicted_names)
    found = [predictions[case].ordered_as(names) for case in cases]
    truth = [references[case].ordered_as(names) for case in cases]
    shape = (len(cases), len(names))

    def stack(sets: list[LandmarkSet], attribute: str) -> np.ndarray:
        arrays = [getattr(s, attribute) for s in sets]
        return np.stack(arrays) if arrays else np.zeros((*shape, 3) if attribute == "positions" else shape)

    return Evaluation(
        cases=cases,
        landmarks=names,
        thresholds=tuple(float(threshold) for threshold in thresholds),
        errors=metrics.radial_errors(stack(found, "positions"), stack(truth, "positions")),
        present=stack(truth, "present").astype(bool),
        known=~stack(truth, "unknown").astype(bool),
        predicted=stack(found, "present").astype(bool),
        radius=stack(found, "radius"),
        without_prediction=tuple(sorted(references.keys() - predictions.keys())),
        without_reference=tuple(sorted(predictions.keys() - references.keys())),
        never_predicted=tuple(name for name in reference_names if name not in predicted_names),
        never_marked=tuple(name for name in predicted_names if name not in reference_names),
    )


def _names(sets: Mapping[str, LandmarkSet], cases: Sequence[str]) -> tuple[str, ...]:
    """Every landmark name of the given cases, in the order of first appearance."""
    return tuple(dict.fromkeys(name for case in cases for name in sets[case].names))


def _plain(value: Any) -> Any:
    """A copy of nested values that JSON can hold."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _number(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else "-"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %" if math.isfinite(value) else "-"


def _aligned(rows: list[dict[str, Any]]) -> list[str]:
    """Rows of equal keys as lines of aligned columns below their header."""

    def cell(key: str, value: Any) -> str:
        if not isinstance(value, float):
            return str(value)
        return _number(value) if key.endswith("_mm") else _percent(value)

    table = [list(rows[0]), *([cell(key, value) for key, value in row.items()] for row in rows)]
    widths = [max(len(row[c]) for row in table) for c in range(len(table[0]))]
    return ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in table]


def _write_rows(path: Path, pattern: list[dict[str, Any]], rows: list[dict[str, Any]]) -> None:
    """Write rows under the column names of `pattern`; NaN becomes an empty cell."""
    try:
        with replaced_when_complete(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(pattern[0]))
            writer.writeheader()
            for row in _plain(rows):
                writer.writerow({key: "" if value is None else value for key, value in row.items()})
    except OSError as error:
        raise InputError(f"'{path}' cannot be written: check that the folder exists and has space.") from error
