"""Comparing a candidate with its base: both look at the held-out cases, and their errors are paired by subject."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from H3DELandmarksLib.cases import CaseProject, ReviewState, Revision
from H3DELandmarksLib.cases.store import CaseFiles
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.execution import Progress, part_of, silent
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.evaluation.metrics import case_means, radial_errors
from H3DELandmarksLib.evaluation.paired import counted_errors, holm, improvement, subject_means
from H3DELandmarksLib.evaluation.readers import human_floor
from H3DELandmarksLib.formats.case_record import utc_now
from H3DELandmarksLib.formats.comparison import Comparison, Figures, Row
from H3DELandmarksLib.formats.lineage import Lineage, lineage_of
from H3DELandmarksLib.formats.run import RunFolder
from H3DELandmarksLib.models import ModelPackage, available_models
from H3DELandmarksLib.retraining.cases import ReviewedCase, joined_by_picture

ALL = "all"


@dataclass(frozen=True)
class HeldOutCase(ReviewedCase):
    """A case that two models are compared on.

    Attributes:
        reference: what a person decided, LPS mm; unknown where nobody has.
        accepted: ``id@version`` of the model whose proposals were accepted unchanged, and how many they are.
        readers: what several people marked, by a word for each, LPS mm.
    """

    reference: LandmarkSet
    accepted: tuple[str, int]
    readers: Mapping[str, LandmarkSet] = field(default_factory=dict)


def held_out_cases(
    project: CaseProject, base: ModelPackage, candidate: ModelPackage, run: RunFolder | None = None
) -> list[HeldOutCase]:
    """The cases that two models may be compared on, with their newest reviews under the newest scheme.

    A case is left out where a scan of the same subject was learnt from. Without a run, all cases that were not learnt
    from are taken, if the candidate says by hash what it learnt from; cases that show one picture are of one subject
    then, as a run has them.

    Args:
        project: with corrected cases.
        base, candidate: the models.
        run: the retraining that made the candidate; only what it held out is taken.

    Raises:
        InputError: none is left.
    """
    learnt = _learnt_from(base, candidate, run)
    wanted = None if run is None else _held_out_by(run)
    cases = [_read(project, files) for files in project.cases()]
    if run is None:
        cases, _ = joined_by_picture(cases)
    learnt_subjects = {case.subject for case in cases if case.sha256 in learnt}
    possible = [case for case in cases if wanted is None or case.sha256 in wanted]
    chosen = [c for c in possible if c.subject not in learnt_subjects and not c.reference.unknown.all()]
    if not chosen:
        raise InputError(
            f"No case of '{project.folder}' is left to compare with: all {len(possible)} that were held out or are new "
            "were learnt from, are of subjects that were learnt from, or were not reviewed; correct cases of other "
            "subjects."
        )
    return chosen


def _learnt_from(base: ModelPackage, candidate: ModelPackage, run: RunFolder | None) -> frozenset[str]:
    """SHA-256 of all scans that either model learnt from."""
    stated = lineage_of(candidate.manifest)
    if run is None and stated is None:
        raise InputError(
            f"The model '{candidate.id}' {candidate.version} does not say which cases it learnt from: "
            "give the folder of its retraining."
        )
    lineages = (lineage_of(base.manifest), stated, run.record.lineage if run else None)
    return frozenset().union(*(_learnt_with_encoder(lineage) for lineage in lineages if lineage))


def _learnt_with_encoder(lineage: Lineage) -> frozenset[str]:
    """Scans that a model learnt from, and those that a model here learnt from whose encoder it began with."""
    donor = lineage.encoder_from and lineage_here(lineage.encoder_from.name)
    return lineage.learnt | (donor.learnt if donor else frozenset())


def lineage_here(name: str) -> Lineage | None:
    """The lineage of a model ``id@version`` on this computer; None where it is not here or does not say one."""
    for entry in available_models():
        if entry.package and f"{entry.package.id}@{entry.package.version}" == name:
            return lineage_of(entry.package.manifest)
    return None


def _held_out_by(run: RunFolder) -> set[str]:
    held_out = {case.sha256 for case in run.record.cases if case.subset == "held-out"}
    if not held_out:
        raise InputError(
            f"The retraining in '{run.folder}' held out no case: retrain with held-out cases, because "
            "cases that a model learnt from cannot judge it."
        )
    return held_out


def _read(project: CaseProject, files: CaseFiles) -> HeldOutCase:
    revision = project.review(files)
    return HeldOutCase(
        files=files,
        sha256=files.content().digest,
        revision=max(files.revision_numbers()),
        subject=project.subject_of(files),
        reference=revision.corrected(project.scheme),
        accepted=_accepted(revision),
        readers=revision.readers,
    )


def _accepted(revision: Revision) -> tuple[str, int]:
    model = "" if revision.model is None else f"{revision.model.id}@{revision.model.version}"
    as_proposed = (ReviewState.ACCEPTED, ReviewState.ACCEPTED_IN_BULK)
    return model, sum(landmark.state in as_proposed for landmark in revision.landmarks)


def detect_both(
    packages: Sequence[ModelPackage],
    cases: Sequence[HeldOutCase],
    device: str = "auto",
    progress: Progress = silent,
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

    share = 1 / (len(packages) * len(cases))
    found: list[list[LandmarkSet]] = []
    for package in packages:
        detector = Detector(package, device, backend, precision)
        sets: list[LandmarkSet] = []
        for case in cases:
            begun = share * (len(found) * len(cases) + len(sets))
            report = part_of(progress, begun, share, f"{package.id} {package.version}, {case.files.id}")
            sets.append(detector.detect(case.files.volume(), report, cancelled))
        found.append(sets)
    return found


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
        found: (2, N) what the base and the candidate found, LPS mm, by the names of the references.
        tolerance_mm: distance that counts as right; by default the base's own. A missed point counts as twice as much
            at least.
    """
    tolerance = tolerance_mm or base.manifest.calibration.confidence.tolerance_mm
    old_names, new_names = (set(sets[0].names) for sets in found)
    names = cases[0].reference.names
    common = [name for name in names if name in old_names & new_names]
    old, new = (_answers(cases, sets, common) for sets in found)
    subjects, miss_mm = [case.subject for case in cases], 2 * float(tolerance)

    def row(name: str, index: tuple) -> Row:
        """The figures of a part of the (N, K) arrays."""
        present = old.present[index]
        before, after = counted_errors(old.errors[index], new.errors[index], present, miss_mm)
        gain = improvement(subject_means(case_means(before - after), subjects))
        base_figures, candidate_figures = (each.figures(index, tolerance) for each in (old, new))
        return Row(name, int(present.sum()), base_figures, candidate_figures, gain, gain.p)

    def alone(sets: Sequence[LandmarkSet], name: str) -> Figures:
        """The figures of a landmark that one model has alone."""
        return _answers(cases, sets, [name]).figures((), tolerance)

    rows = [row(name, (slice(None), [k])) for k, name in enumerate(common)]
    floors = [human_floor([s.ordered_as(tuple(common)) for s in sets], [c.readers for c in cases]) for sets in found]
    corrected = holm([each.improvement.p for each in rows])
    return Comparison(
        base=base.reference,
        candidate=candidate.reference,
        cases=tuple((case.files.id, case.revision) for case in cases),
        subjects=len(set(subjects)),
        tolerance_mm=float(tolerance),
        miss_mm=miss_mm,
        total=row(ALL, ()),
        landmarks=tuple(replace(each, p_corrected=float(p)) for each, p in zip(rows, corrected)),
        only_base={n: alone(found[0], n) for n in names if n in old_names - new_names},
        only_candidate={n: alone(found[1], n) for n in names if n in new_names - old_names},
        remarks=tuple(_remarks(base, candidate, cases, common)),
        time=utc_now(),
        format_version=2 if floors[0] else 1,
        length_unit="px" if base.manifest.length_unit == "px" else None,
        base_floor=floors[0],
        candidate_floor=floors[1],
    )


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

    def figures(self, index: tuple, tolerance_mm: float) -> Figures:
        """The figures of a part of the arrays."""
        errors, present, known = self.errors[index], self.present[index], self.known[index]
        right = (self.predicted[index] == present) & known
        found = errors[np.isfinite(errors)]
        return Figures(
            mean_mm=float(found.mean()) if found.size else np.nan,
            median_mm=float(np.median(found)) if found.size else np.nan,
            found=found.size,
            missed=int((present & ~np.isfinite(errors)).sum()),
            success=float((found <= tolerance_mm).sum() / present.sum()) if present.any() else np.nan,
            presence=float(right.sum() / known.sum()) if known.any() else np.nan,
        )


def _answers(cases: Sequence[HeldOutCase], sets: Sequence[LandmarkSet], names: Iterable[str]) -> _Answers:
    truth = [case.reference.ordered_as(tuple(names)) for case in cases]
    found = [one.ordered_as(tuple(names)) for one in sets]
    return _Answers(
        errors=np.stack([radial_errors(f.positions, t.positions) for f, t in zip(found, truth)]),
        present=np.stack([t.present for t in truth]),
        known=~np.stack([t.unknown for t in truth]),
        predicted=np.stack([f.present for f in found]),
    )


def _remarks(
    base: ModelPackage, candidate: ModelPackage, cases: Sequence[HeldOutCase], common: Sequence[str]
) -> list[str]:
    """What a reader must know to trust the figures."""
    remarks = []
    if not common:
        remarks.append("The two models have no landmark in common that the cases have: nothing can be compared.")
    if lineage_of(base.manifest) is None:
        remarks.append(
            "The old model does not say by hash which scans it learnt from: check that these cases are not among them."
        )
    accepted: Counter[str] = Counter()
    for model, count in (case.accepted for case in cases):
        accepted[model] += count
    for owner, package in (("old model", base), ("new model", candidate)):
        if count := accepted[f"{package.id}@{package.version}"]:
            remarks.append(
                f"{count} reference points are the {owner}'s own proposals, accepted where they were: they "
                f"count as errors of 0 for the {owner}, which favours it."
            )
    return remarks
