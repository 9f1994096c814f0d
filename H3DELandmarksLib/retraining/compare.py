"""Comparing a candidate with its base: both look at the held-out cases, and their errors are paired by subject."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial

import numpy as np

from H3DELandmarksLib.cases import CaseProject, ReviewState, Revision
from H3DELandmarksLib.cases.store import CaseFiles
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.evaluation.metrics import case_means, radial_errors
from H3DELandmarksLib.evaluation.paired import counted_errors, holm, improvement, subject_means
from H3DELandmarksLib.formats.comparison import Comparison, Figures, Row
from H3DELandmarksLib.formats.lineage import Lineage, ModelReference, lineage_of
from H3DELandmarksLib.formats.run import RunFolder
from H3DELandmarksLib.formats.schemes import SchemeHistory
from H3DELandmarksLib.models import ModelPackage, available_models


@dataclass(frozen=True)
class HeldOutCase:
    """A case that judges.

    Attributes:
        files: where its scan lies.
        sha256: of the values of the scan.
        revision: number of the review that is the reference.
        subject: id of the case that stands for the subject.
        reference: what a person decided, LPS mm; unknown where nobody has.
        accepted: ``id@version`` of the model whose proposals were accepted unchanged, and how many they are.
    """

    files: CaseFiles
    sha256: str
    revision: int
    subject: str
    reference: LandmarkSet
    accepted: tuple[str, int]


def held_out_cases(
    project: CaseProject, base: ModelPackage, candidate: ModelPackage, run: RunFolder | None = None
) -> list[HeldOutCase]:
    """The cases of a project that may judge, with their newest reviews under the newest scheme.

    A case is left out where a scan of the same subject was learnt from. Without a run, all cases of the project that
    were not learnt from may judge, if the candidate says by hash what it learnt from.

    Args:
        project: with corrected cases.
        base, candidate: the models.
        run: the retraining that made the candidate; only what it held out may judge.

    Raises:
        InputError: none is left.
    """
    lineages = [lineage_of(package.manifest) for package in (base, candidate)] + [run.record.lineage if run else None]
    if run is None and lineages[1] is None:
        raise InputError(
            f"The model '{candidate.id}' {candidate.version} does not say which cases it learnt from: "
            "give the folder of its retraining."
        )
    learnt = frozenset().union(*(_learnt(lineage) for lineage in lineages if lineage))
    wanted = None
    if run is not None:
        wanted = {case.sha256 for case in run.record.cases if case.subset == "held-out"}
        if not wanted:
            raise InputError(
                f"The retraining in '{run.folder}' held out no case: retrain with held-out cases, because "
                "cases that a model learnt from cannot judge it."
            )
    cases = [_read(project, files) for files in project.cases()]
    taught = {case.subject for case in cases if case.sha256 in learnt}
    chosen = [
        case
        for case in cases
        if (wanted is None or case.sha256 in wanted)
        and case.subject not in taught
        and case.sha256 not in learnt
        and not case.reference.unknown.all()
    ]
    if not chosen:
        raise InputError(
            f"No case of '{project.folder}' is left to compare with: all {_count(cases, wanted)} were learnt from, are "
            "of subjects that were learnt from, or were not reviewed; correct cases of other subjects."
        )
    return chosen


def _learnt(lineage: Lineage) -> frozenset[str]:
    """Scans that a model learnt from, and those that a model here learnt from whose encoder it began with."""
    begun, learnt = lineage.encoder_from, lineage.learnt
    for entry in available_models() if begun else ():
        if entry.package and (entry.package.id, entry.package.version) == (begun.id, begun.version):
            before = lineage_of(entry.package.manifest)
            learnt |= before.learnt if before else frozenset()
    return learnt


def _count(cases: Iterable[HeldOutCase], wanted: set[str] | None) -> str:
    """How many cases could have judged."""
    return f"{sum(wanted is None or case.sha256 in wanted for case in cases)} that were held out or are new"


def _read(project: CaseProject, files: CaseFiles) -> HeldOutCase:
    revision = project.review(files)
    return HeldOutCase(
        files,
        files.content().digest,
        max(files.revision_numbers()),
        revision.subject or files.id,
        revision.corrected(project.scheme),
        _accepted(revision),
    )


def _accepted(revision: Revision) -> tuple[str, int]:
    model = "" if revision.model is None else f"{revision.model.id}@{revision.model.version}"
    return model, sum(landmark.state is ReviewState.ACCEPTED for landmark in revision.landmarks)


Progress = Callable[[float, str], None]
ALL = "all"


@dataclass(frozen=True)
class _Answers:
    """What one model said, and whether it was right; (N, K) of cases and landmarks.

    Attributes:
        errors: mm, NaN where not both have a position.
        present: the reference has a position.
        known: the reference says whether there is one.
        predicted: the model says that there is one.
    """

    errors: np.ndarray
    present: np.ndarray
    known: np.ndarray
    predicted: np.ndarray


def detect_both(
    packages: Sequence[ModelPackage],
    cases: Sequence[HeldOutCase],
    device: str = "auto",
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
    backend: str = "auto",
    precision: str = "auto",
) -> list[list[LandmarkSet]]:
    """What each model finds in each case.

    Args:
        packages: of the models.
        cases: to look at.
        device, backend, precision: as for `Detector`.
        progress: receives the fraction done and the case at hand.
        cancelled: asked between steps; True ends the work.

    Raises:
        Cancelled: `cancelled` said so.
        InputError: a scan cannot be read, or is none for the model.
    """
    from H3DELandmarksLib.detection import Detector

    found: list[list[LandmarkSet]] = []
    for package in packages:
        detector, sets = Detector(package, device, backend, precision), []
        found.append(sets)
        for case in cases:
            begun = sum(map(len, found)) / (len(packages) * len(cases))
            share = 1 / (len(packages) * len(cases))
            report = partial(_report, progress, begun, share, f"{package.id} {package.version}, {case.files.id}")
            sets.append(detector.detect(case.files.volume(), report, cancelled))
    return found


def _report(progress: Progress | None, begun: float, share: float, name: str, fraction: float, _: str) -> None:
    if progress is not None:
        progress(begun + share * fraction, name)


def named_now(history: SchemeHistory, found: Sequence[Sequence[LandmarkSet]]) -> list[list[LandmarkSet]]:
    """What models found, by the names that hold now in a project where landmarks were renamed since."""
    return [[history.renamed(points) for points in sets] for sets in found]


def compare_models(
    base: ModelPackage,
    candidate: ModelPackage,
    cases: Sequence[HeldOutCase],
    found: Sequence[Sequence[LandmarkSet]],
    tolerance_mm: float | None = None,
) -> Comparison:
    """Compare what two models found.

    Args:
        base, candidate: the models.
        cases: (N) that judge.
        found: (2, N) what the base and the candidate found, LPS mm; see `named_now`.
        tolerance_mm: distance that counts as right; by default the base's own. A missed point counts as twice as much
            at least.
    """
    tolerance = tolerance_mm or float(base.manifest["calibration"]["confidence"]["tolerance_mm"])
    miss, subjects = 2 * tolerance, [case.subject for case in cases]
    names, (theirs, own) = cases[0].reference.names, (set(sets[0].names) for sets in found)
    common = [name for name in names if name in theirs & own]
    old, new = (_answers(cases, sets, common) for sets in found)
    rows = [_row(name, (slice(None), [k]), old, new, subjects, tolerance, miss) for k, name in enumerate(common)]
    corrected = holm([row.improvement.p for row in rows])
    total = _row(ALL, (), old, new, subjects, tolerance, miss)
    alone = {
        owner: {name: _figures(_answers(cases, sets, [name]), (), tolerance) for name in names if name in mine}
        for owner, sets, mine in (("base", found[0], theirs - own), ("candidate", found[1], own - theirs))
    }
    return Comparison(
        ModelReference.to(base),
        ModelReference.to(candidate),
        tuple((case.files.id, case.revision) for case in cases),
        len(set(subjects)),
        tolerance,
        miss,
        total,
        tuple(_with_p(row, p) for row, p in zip(rows, corrected)),
        alone["base"],
        alone["candidate"],
        tuple(_remarks(base, candidate, cases, common)),
        datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )


def _answers(cases: Sequence[HeldOutCase], sets: Sequence[LandmarkSet], names: Sequence[str]) -> _Answers:
    truth = [case.reference.ordered_as(tuple(names)) for case in cases]
    found = [one.ordered_as(tuple(names)) for one in sets]
    return _Answers(
        np.stack([radial_errors(f.positions, t.positions) for f, t in zip(found, truth)]),
        np.stack([t.present for t in truth]),
        ~np.stack([t.unknown for t in truth]),
        np.stack([f.present for f in found]),
    )


def _row(
    name: str, index: tuple, old: _Answers, new: _Answers, subjects: Sequence[str], tolerance: float, miss: float
) -> Row:
    """The figures of a part of the (N, K) arrays."""
    present = old.present[index]
    base, candidate = counted_errors(old.errors[index], new.errors[index], present, miss)
    gain = improvement(subject_means(case_means(base - candidate), subjects))
    return Row(name, int(present.sum()), _figures(old, index, tolerance), _figures(new, index, tolerance), gain, gain.p)


def _figures(answers: _Answers, index: tuple, tolerance: float) -> Figures:
    errors, present = answers.errors[index], answers.present[index]
    known, right = answers.known[index], answers.predicted[index] == present
    found = errors[np.isfinite(errors)]
    return Figures(
        float(found.mean()) if found.size else np.nan,
        float(np.median(found)) if found.size else np.nan,
        found.size,
        int((present & ~np.isfinite(errors)).sum()),
        float((found <= tolerance).sum() / present.sum()) if present.any() else np.nan,
        float((right & known).sum() / known.sum()) if known.any() else np.nan,
    )


def _with_p(row: Row, p: float) -> Row:
    return Row(row.name, row.points, row.base, row.candidate, row.improvement, float(p))


def _remarks(
    base: ModelPackage, candidate: ModelPackage, cases: Sequence[HeldOutCase], common: Sequence[str]
) -> list[str]:
    """What a reader must know to trust the figures."""
    remarks = []
    if not common:
        remarks.append("The two models have no landmark in common that the project has: nothing can be compared.")
    if lineage_of(base.manifest) is None:
        remarks.append(
            "The base does not say by hash which scans it learnt from: check that these cases are not among them."
        )
    accepted: Mapping[str, int] = {}
    for model, count in (case.accepted for case in cases):
        accepted = {**accepted, model: accepted.get(model, 0) + count}
    for owner, package in (("base", base), ("candidate", candidate)):
        count = accepted.get(f"{package.id}@{package.version}", 0)
        if count:
            remarks.append(
                f"{count} reference points are the {owner}'s own proposals, accepted where they were: they "
                f"count as errors of 0 mm for the {owner}, which favours it."
            )
    return remarks
