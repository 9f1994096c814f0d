"""Predicted beside reference landmarks over cases, as figures and text.

The text ends with the table in which landmark detection is published: MRE +- SD, success detection rates, accuracy and
F1 of presence, for all cases and apart for complete ones (no landmark is absent) and incomplete ones, as He et al. do
for the MML set (Neurocomputing 567:127051).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from H3DELandmarksLib.core.execution import THRESHOLDS_MM
from H3DELandmarksLib.core.image_plane import LengthUnit, in_unit, named_in
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.core.text import aligned, number, percent, plain, plural, with_spread
from H3DELandmarksLib.evaluation import metrics
from H3DELandmarksLib.evaluation.paired import FEWEST, bootstrap_interval

FLAT_MM = 1e-3  # points of one plane lie no farther from it


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
        offset_free: (N, K) mm, errors after a rigid fit and without each landmark's systematic offset, see
            `metrics.offset_free_errors`; NaN where that cannot be told.
        without_prediction: cases with a reference only.
        without_reference: cases with a prediction only.
        never_predicted: landmarks that references have but no prediction names; they count nowhere.
        never_marked: landmarks that predictions have but no reference names; they count nowhere.
        is_2d: the reference points of every case lie in a plane, as those of radiographs do.
        unit: of all lengths, in texts and in `to_dict`; entries of tables in memory are always called ``..._mm``.
    """

    cases: tuple[str, ...]
    landmarks: tuple[str, ...]
    thresholds: tuple[float, ...]
    errors: np.ndarray
    present: np.ndarray
    known: np.ndarray
    predicted: np.ndarray
    radius: np.ndarray
    offset_free: np.ndarray
    without_prediction: tuple[str, ...] = ()
    without_reference: tuple[str, ...] = ()
    never_predicted: tuple[str, ...] = ()
    never_marked: tuple[str, ...] = ()
    is_2d: bool = False
    unit: LengthUnit = "mm"

    @property
    def missed(self) -> np.ndarray:
        """(N, K) bool: present in the reference but not predicted; without an error, and never a success."""
        missed: np.ndarray = self.present & ~self.predicted
        return missed

    @cached_property
    def presence(self) -> metrics.PresenceScores:
        """Scores of the predicted presence."""
        return metrics.presence_scores(self.predicted, self.present, self.known)

    @cached_property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval (mm) of the mean radial error over cases; None of fewer than five, which tell of no others."""
        means = metrics.case_means(self.errors)
        means = means[np.isfinite(means)]
        if len(means) < FEWEST:
            return None
        low, high = bootstrap_interval(means)
        return max(low, 0.0), high

    @cached_property
    def table(self) -> list[dict[str, Any]]:
        """One row per landmark: counts, error summary in mm, success rates, coverage of the stated radius."""
        return [self._row(name, (slice(None), [k])) for k, name in enumerate(self.landmarks)]

    @cached_property
    def published_rows(self) -> list[dict[str, Any]]:
        """The published figures of all cases and, where some are incomplete, of complete and incomplete ones.

        Rows with ``cases`` (whole, complete, incomplete), ``n`` (how many), ``mre_mm``, ``sd_mm``, ``sdr_T`` for each
        threshold, ``accuracy`` and ``f1``; NaN where a number cannot be computed. A present landmark that was predicted
        absent counts as not detected; one that was predicted in spite of its absence counts only in the last two.
        """
        complete = (self.present | ~self.known).all(axis=1)
        whole = self._published_row("whole", np.ones_like(complete))
        if complete.all():
            return [whole]
        return [whole, self._published_row("complete", complete), self._published_row("incomplete", ~complete)]

    @cached_property
    def radiograph_form(self) -> dict[str, Any] | None:
        """The figures as papers on radiographs define them; None for volumes.

        ``mre_mm`` and ``sd_mm`` (population) over points, ``sdr_T`` the mean over landmarks of the share below T mm.
        """
        if not self.is_2d:
            return None
        rates = metrics.landmark_success_rates(self.errors, self.present, self.thresholds)
        mre, sd = metrics.pooled_error(self.errors)
        return {"mre_mm": mre, "sd_mm": sd, **dict(zip(self._rate_names, rates.tolist()))}

    @cached_property
    def offset_free_form(self) -> dict[str, Any] | None:
        """The figures without systematic offsets, as ``mre_mm``, ``sd_mm``, ``median_mm`` and ``p90_mm``.

        None where no error is known, as with a single case.
        """
        if not np.isfinite(self.offset_free).any():
            return None
        mre, sd = metrics.mean_radial_error(self.offset_free)
        summary = metrics.error_summary(self.offset_free)
        return {"mre_mm": mre, "sd_mm": sd, "median_mm": summary["median"], "p90_mm": summary["p90"]}

    def to_dict(self) -> dict[str, Any]:
        """All numbers as plain JSON values; what cannot be computed is None."""
        mre, sd = metrics.mean_radial_error(self.errors)
        scores = self.presence
        means = metrics.case_means(self.errors)
        content: dict[str, Any] = plain(
            {
                "cases": len(self.cases),
                "mre_mm": mre,
                "sd_mm": sd,
                "mre_interval_mm": self.interval,
                **{key: value for key, value in self._row("", ()).items() if key != "landmark"},
                "presence": {name: getattr(scores, name) for name in ("accuracy", "precision", "recall", "f1")},
                "published": self.published_rows,
                **({"radiograph_form": self.radiograph_form} if self.is_2d else {}),
                "offset_free": self.offset_free_form,
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
        named: dict[str, Any] = named_in(content, self.unit)
        return named

    def text(self) -> str:
        """The report as aligned plain text: what was compared, the figures, one line per landmark."""
        mre, sd = metrics.mean_radial_error(self.errors)
        total, scores = self._row("all", ()), self.presence
        rates = ", ".join(f"{percent(total[key])} within {key.split('_')[1]} {self.unit}" for key in self._rate_names)
        within = "" if self.interval is None else f", 95 % interval {' to '.join(map(number, self.interval))}"
        lines = [
            f"{plural(len(self.cases), 'case')}, {plural(len(self.landmarks), 'landmark')}, "
            f"{total['n']} present in the references",
            f"Mean radial error  {with_spread(mre, sd)} {self.unit} over cases{within}",
            *_offset_free_lines(self.offset_free_form, self.unit),
            f"Detected           {rates}",
            f"Missed             {plural(total['missed'], 'present landmark')}, not found",
            f"Presence           accuracy {percent(scores.accuracy)}, precision {percent(scores.precision)}, "
            f"recall {percent(scores.recall)}, F1 {percent(scores.f1)}",
            f"90 % radius covers {percent(total['coverage'])} of errors",
            *self._remarks(),
            *_radiograph_lines(self.radiograph_form, self.unit),
            *_published_lines(self.published_rows, self.unit),
            "",
            *_table_lines([*self.table, total], self.unit),
        ]
        return "\n".join(lines) + "\n"

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

    def _published_row(self, name: str, part: np.ndarray) -> dict[str, Any]:
        errors, present = self.errors[part], self.present[part]
        mre, sd = metrics.mean_radial_error(errors)
        rates = metrics.success_rates(errors, present, self.thresholds)
        scores = metrics.presence_scores(self.predicted[part], present, self.known[part])
        return {
            "cases": name,
            "n": int(part.sum()),
            "mre_mm": mre,
            "sd_mm": sd,
            **dict(zip(self._rate_names, rates.tolist())),
            "accuracy": scores.accuracy,
            "f1": scores.f1,
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
    thresholds: Sequence[float] = THRESHOLDS_MM,
    unit: LengthUnit = "mm",
) -> Evaluation:
    """Compare predicted with reference landmarks; cases are matched by key, landmarks by name.

    Args:
        predictions: landmark sets in LPS mm by case.
        references: landmark sets in LPS mm by case.
        thresholds: distances in mm for the success detection rate.
        unit: of all lengths, where they are no mm.
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

    found_points, true_points = stack(found, "positions"), stack(truth, "positions")
    return Evaluation(
        cases=cases,
        landmarks=names,
        thresholds=tuple(float(threshold) for threshold in thresholds),
        errors=metrics.radial_errors(found_points, true_points),
        present=stack(truth, "present").astype(bool),
        known=~stack(truth, "unknown").astype(bool),
        predicted=stack(found, "present").astype(bool),
        radius=stack(found, "radius"),
        offset_free=metrics.offset_free_errors(found_points, true_points),
        without_prediction=tuple(sorted(references.keys() - predictions.keys())),
        without_reference=tuple(sorted(predictions.keys() - references.keys())),
        never_predicted=tuple(name for name in reference_names if name not in predicted_names),
        never_marked=tuple(name for name in predicted_names if name not in reference_names),
        is_2d=_in_planes([one.positions[one.present] for one in truth]),
        unit=unit,
    )


def _in_planes(cases: Sequence[np.ndarray]) -> bool:
    """Whether the (n, 3) mm points of every case lie in a plane, which three points always do and say nothing of."""
    telling = [points - points.mean(axis=0) for points in cases if len(points) > 3]
    return bool(telling) and all(np.linalg.svd(p, compute_uv=False)[2] <= FLAT_MM * len(p) for p in telling)


def _names(sets: Mapping[str, LandmarkSet], cases: Sequence[str]) -> tuple[str, ...]:
    """Every landmark name of the given cases, in the order of first appearance."""
    return tuple(dict.fromkeys(name for case in cases for name in sets[case].names))


def _table_lines(rows: Sequence[Mapping[str, Any]], unit: LengthUnit) -> list[str]:
    """Rows of equal keys as lines of aligned columns below their header."""

    def cell(key: str, value: Any) -> str:
        if not isinstance(value, float):
            return str(value)
        return number(value) if key.endswith("_mm") else percent(value)

    head = [in_unit(key, unit) for key in rows[0]]
    return aligned([head, *([cell(*entry) for entry in row.items()] for row in rows)], right=True)


def _radiograph_lines(form: Mapping[str, Any] | None, unit: LengthUnit) -> list[str]:
    """The figures as papers on radiographs define them, in two lines."""
    if form is None:
        return []
    rates = [f"{percent(value)} < {key[4:]} {unit}" for key, value in form.items() if key.startswith("sdr_")]
    return [
        f"As in radiograph papers: MRE {with_spread(form['mre_mm'], form['sd_mm'])} {unit} over points,",
        f"                   SDR, mean over landmarks: {', '.join(rates)}",
    ]


def _offset_free_lines(form: Mapping[str, Any] | None, unit: LengthUnit) -> list[str]:
    """The error without systematic offsets, in one line."""
    if form is None:
        return []
    error = f"{with_spread(form['mre_mm'], form['sd_mm'])} {unit}"
    return [f"  offset-free      {error}: after a rigid fit, without each landmark's mean offset in the other cases"]


def _published_lines(rows: Sequence[Mapping[str, Any]], unit: LengthUnit) -> list[str]:
    """The published rows as aligned lines; nothing where there is only the row of all cases."""
    if len(rows) < 2:
        return []
    rates = [key for key in rows[0] if key.startswith("sdr_")]
    limits = " / ".join(key[4:] for key in rates)
    header = ["cases", "n", f"MRE +- SD, {unit}", f"SDR {limits} {unit}, %", "ACC, %", "F1, %"]
    cells = [
        [
            row["cases"],
            str(row["n"]),
            with_spread(row["mre_mm"], row["sd_mm"]),
            " / ".join(number(100 * row[key]) for key in rates) if row["n"] else "-",
            number(100 * row["accuracy"]),
            number(100 * row["f1"]),
        ]
        for row in rows
    ]
    return aligned([header, *cells])
