"""Which corrected cases may judge a candidate: those that neither it nor its base has learnt from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from H3DELandmarksLib.cohort import CaseProject, ReviewState, Revision
from H3DELandmarksLib.cohort.case_files import CaseFiles
from H3DELandmarksLib.errors import InputError
from H3DELandmarksLib.landmarks import LandmarkSet
from H3DELandmarksLib.models import ModelPackage, available_models
from H3DELandmarksLib.models.lineage import Lineage, lineage_of
from H3DELandmarksLib.promotion.run_folder import RunFolder


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
    lineages = [lineage_of(package.manifest) for package in (base, candidate)] + [run.lineage if run else None]
    if run is None and lineages[1] is None:
        raise InputError(f"The model '{candidate.id}' {candidate.version} does not say which cases it learnt from: "
                         "give the folder of its retraining.")
    learnt = frozenset().union(*(_learnt(lineage) for lineage in lineages if lineage))
    wanted = None
    if run is not None:
        wanted = {case.sha256 for case in run.lineage.cases if case.subset == "held-out"}
        if not wanted:
            raise InputError(f"The retraining in '{run.folder}' held out no case: retrain with held-out cases, because "
                             "cases that a model learnt from cannot judge it.")
    cases = [_read(project, files) for files in project.cases()]
    taught = {case.subject for case in cases if case.sha256 in learnt}
    chosen = [
        case for case in cases
        if (wanted is None or case.sha256 in wanted) and case.subject not in taught and case.sha256 not in learnt
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
        files, files.content().digest, max(files.revision_numbers()), revision.subject or files.id,
        revision.corrected(project.scheme), _accepted(revision),
    )


def _accepted(revision: Revision) -> tuple[str, int]:
    model = "" if revision.model is None else f"{revision.model.id}@{revision.model.version}"
    return model, sum(landmark.state is ReviewState.ACCEPTED for landmark in revision.landmarks)
