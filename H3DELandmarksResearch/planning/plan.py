"""``train --from-folder``: a configuration from a folder of scans and point lists, written for editing."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from H3DELandmarksLib.cases.examples import EXAMPLES
from H3DELandmarksLib.cases.findings import IssueKind, QualityIssue, in_order
from H3DELandmarksLib.cases.quality import CheckedCase, check_set
from H3DELandmarksLib.cases.scan_check import MAX_OFF_SHARE, check_on_scans
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.execution import Progress
from H3DELandmarksLib.core.files import write_watched
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.image_plane import is_radiograph
from H3DELandmarksLib.core.landmarks import LandmarkScheme
from H3DELandmarksLib.core.shape_model import learn_shape_model
from H3DELandmarksLib.core.text import plural
from H3DELandmarksLib.formats.manifest import Intensity, License
from H3DELandmarksLib.formats.reading import to_json
from H3DELandmarksLib.io.markups import read_markups
from H3DELandmarksLib.retraining.new_model import MODEL_ID, Anatomy, extent_of, lie_in_any_pose
from H3DELandmarksLib.training.cases import Case
from H3DELandmarksResearch.cases.case_folder import points_of_case, read_case, readers_of_case
from H3DELandmarksResearch.cases.subjects import write_subjects
from H3DELandmarksResearch.converters.conversion import SourceCase, convert_cases
from H3DELandmarksResearch.converters.flat_images import PixelSize, spacing_of
from H3DELandmarksResearch.planning.folder_cases import FolderCase, look_through
from H3DELandmarksResearch.planning.rules import ENOUGH_TO_SPARE, PlannedStages, plan_stages, scheme_of, subsets_of
from H3DELandmarksResearch.training.record import TrainingConfiguration, TrainingData

__all__ = ["plan_folder", "plan_of", "spacing_of"]
logger = logging.getLogger(__name__)

PLAN, CASES = "plan", "cases"
MAX_TOLD = 20  # findings in the report
NOT_STATED = "not stated: fill in before you pass the model on"
INTENDED_USE = "Research; results are to be reviewed by an expert. Not for clinical use."


@dataclass(frozen=True)
class FolderCheck:
    """What was found.

    Attributes:
        misplaced: cases of which most points lie beside what they lie on in the other cases, or outside the scan.
        findings: about the other cases.
    """

    misplaced: tuple[str, ...]
    findings: tuple[QualityIssue, ...]

    def subjects(self, stated: Mapping[str, str]) -> dict[str, str]:
        """The subject of each case whose points lie in its scan; those with one picture are of one subject."""
        subjects = {case: subject for case, subject in stated.items() if case not in self.misplaced}
        for finding in self.findings:
            if finding.kind in (IssueKind.SAME_IMAGE, IssueKind.SAME_POINTS) and finding.other is not None:
                one, other = subjects[finding.other], subjects[finding.case]
                subjects = {case: one if subject == other else subject for case, subject in subjects.items()}
        return subjects


def check_cases(cases: Sequence[CheckedCase], scheme: LandmarkScheme) -> FolderCheck:
    """Look for what would spoil a model: misplaced lists first, as they would hide what else is wrong."""
    misplaced = {
        finding.case
        for finding in check_on_scans([case.on_scan for case in cases], scheme)
        if finding.kind is IssueKind.OFF_ANATOMY and (finding.value or 0.0) > 100 * MAX_OFF_SHARE
    }
    findings = in_order(check_set([case for case in cases if case.id not in misplaced], scheme, {}))
    return FolderCheck(tuple(case.id for case in cases if case.id in misplaced), tuple(findings))


def plan_folder(
    folder: Path,
    output: Path,
    model_id: str | None = None,
    spacing: PixelSize | None = None,
    steps: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Look at a folder's cases and write a configuration for them; one that is there already is kept as it is.

    Args:
        folder: scans and points, see `look_through`.
        output: folder of the run; the plan goes to ``plan`` in it, and cases whose files training can't read to
            ``cases``.
        model_id: of the new model; by default after the folder's name.
        spacing: mm of a pixel, for pictures that do not state it.
        steps: of each stage.
        progress: receives the fraction of the cases that are read.

    Returns:
        The configuration: ``plan/MODEL.json``, with the scheme and a report of the rules beside it.

    Raises:
        InputError: the cases cannot be used, or they are too few.
    """
    path = plan_of(folder, output, model_id)
    if path.exists():
        return path
    model_id = path.stem
    content = look_through(folder, _within(folder, output))
    data, scheme, left_out = _as_cases(content.cases, folder, output, model_id, spacing, progress or (lambda *_: None))
    cases, found = _load(data, [case.name for case in content.cases], scheme)
    subjects, subsets = _chosen(found, {case.name: case.subject for case in content.cases})
    teach = [case.landmarks for case in cases if case.name in subsets["train"]]
    scheme, unseen = scheme_of(model_id, teach, least=1)
    left_out += unseen
    cases = [replace(case, landmarks=case.landmarks.ordered_as(scheme.names)) for case in cases]
    anatomy, is_2d = _survey([case for case in cases if case.name in subjects], set(subsets["train"]), scheme)
    planned = plan_stages(anatomy, scheme, is_2d, len(subsets["train"]), steps)
    configuration = _configuration(model_id, folder, data, subsets, anatomy, is_2d, planned, scheme)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_watched(path.with_name(f"{scheme.id}.json"), json.dumps(scheme.to_dict(), indent=1) + "\n")
    notes = list(content.notes)
    if left_out:
        notes.append(f"Too few cases, or none for training, show {', '.join(left_out)}: left out.")
    for note in notes:
        logger.warning("%s", note)
    write_watched(path.with_suffix(".md"), _report(configuration, planned, scheme, subjects, notes, found))
    write_watched(path, to_json(configuration).decode("utf-8"))
    return path


def plan_of(folder: Path, output: Path, model_id: str | None = None) -> Path:
    """Where the plan of a folder's model lies; raises InputError for an id that can name no model."""
    model_id = model_id or _id_of(folder)
    if not MODEL_ID.fullmatch(model_id):
        raise InputError(
            f"'{model_id}' cannot name a model: use small letters, digits and hyphens, not '{EXAMPLES}' (--model-id)."
        )
    return output / PLAN / f"{model_id}.json"


def _within(folder: Path, output: Path) -> Path | None:
    """Where the run's folder lies in that of the scans, as a path that begins with it; None where it lies elsewhere."""
    try:
        inside = output.resolve().relative_to(folder.resolve())
    except ValueError:
        return None
    return folder / inside if inside.parts else None


def _id_of(folder: Path) -> str:
    text = re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-")[:64]
    return text or "model"


def _as_cases(
    cases: Sequence[FolderCase],
    folder: Path,
    output: Path,
    model_id: str,
    spacing: PixelSize | None,
    progress: Progress,
) -> tuple[Path, LandmarkScheme, list[str]]:
    """The folder where training reads the cases: the given one, or copies in the run; with the scheme of all."""
    if all(case.plain for case in cases):
        lists = [read_markups(points_of_case(folder, case.name)) for case in cases]
        return folder.resolve(), *scheme_of(model_id, lists)
    read = [case.read_points(spacing) for case in cases]
    scheme, left_out = scheme_of(model_id, read)
    target = output / CASES
    target.mkdir(parents=True, exist_ok=True)

    def source(case: FolderCase) -> SourceCase:
        return SourceCase(
            case.name,
            lambda: case.read(spacing, scheme.names),
            readers=lambda: case.read_readers(spacing, scheme.names),
        )

    summary = convert_cases([source(case) for case in cases], target, progress)
    if summary.skipped:
        raise InputError(f"{len(summary.skipped)} cases cannot be used; the first: {summary.skipped[0]}")
    write_subjects(target, {case.name: case.subject for case in cases})
    for case in cases:
        if case.name in summary.kept and not _is_copy(target, case, spacing, scheme.names):
            raise InputError(
                f"The case '{case.name}' in '{target}' is an earlier copy, and its scan or points in '{folder}' are "
                "others now: remove that folder of copies, so that they are made anew."
            )
    return target.resolve(), scheme, left_out


def _is_copy(target: Path, case: FolderCase, spacing: PixelSize | None, names: Sequence[str]) -> bool:
    """Whether scan and points of a case are copied as its folder has them now."""
    volume, landmarks = case.read(spacing, names)
    now = {"": landmarks, **case.read_readers(spacing, names)}
    copy, points = read_case(target, case.name, None)
    there = {"": points, **readers_of_case(target, case.name)}
    return (
        np.array_equal(copy.array, volume.array)
        and np.allclose(copy.affine, volume.affine, atol=1e-5)
        and {reader: one.names for reader, one in now.items()} == {reader: one.names for reader, one in there.items()}
        and all(np.allclose(one.positions, there[who].positions, atol=1e-3, equal_nan=True) for who, one in now.items())
        and all(np.array_equal(one.presence, there[who].presence, equal_nan=True) for who, one in now.items())
    )


def _load(folder: Path, names: Sequence[str], scheme: LandmarkScheme) -> tuple[list[Case], FolderCheck]:
    """All cases, without their voxels, and what is to be said of them."""
    cases, looked_at = [], []
    for name in names:
        volume, landmarks = read_case(folder, name, scheme.names)
        looked_at.append(CheckedCase.of(name, volume, landmarks.positions))
        # Voxels of value 0 that take no memory: a plan needs no more than where they lie.
        lattice = Volume(np.broadcast_to(np.uint8(0), volume.array.shape), volume.affine)
        cases.append(Case(name, lattice, landmarks).laid_flat())
    flat = {is_radiograph(case.volume) for case in cases}
    if len(flat) > 1:
        raise InputError(f"'{folder}' holds volumes and radiographs: put them into two folders.")
    return cases, check_cases(looked_at, scheme)


def _chosen(found: FolderCheck, stated: Mapping[str, str]) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    """Subjects and subsets of the cases whose points lie in their scans.

    Raises:
        InputError: these are too few.
    """
    subjects, why = found.subjects(stated), _misplaced(found)
    if why:
        logger.warning("%s", why)
    if found.findings:
        count = len({finding.case for finding in found.findings})
        logger.warning("%s should be looked at: the plan's report says why.", plural(count, "case"))
    try:
        return subjects, subsets_of(subjects)
    except InputError as error:
        raise InputError(f"{error} {why}".strip()) from error


def _misplaced(found: FolderCheck) -> str:
    """Which cases are left out since their points are not of their scan; empty without such a case."""
    if not found.misplaced:
        return ""
    return (
        f"Left out, as most of their points lie outside the scan or beside what they lie on in the other cases: "
        f"{', '.join(found.misplaced)}. Look whether the points are of this scan, and of its frame (columns x, y, z of "
        "tables are LPS mm; r, a, s are RAS)."
    )


def _survey(cases: Sequence[Case], taught: set[str], scheme: LandmarkScheme) -> tuple[Anatomy, bool]:
    """Sizes, by all cases that are not held out as far as points count, and whether the scans are radiographs."""
    teach = [case for case in cases if case.name in taught]
    is_2d = is_radiograph(cases[0].volume)
    canonical_pose = not is_2d and lie_in_any_pose(teach)
    shape = learn_shape_model(np.stack([case.landmarks.positions for case in teach]), scheme, canonical_pose)
    spreads = [extent_of(case, shape, canonical_pose) for case in teach if case.landmarks.present.any()]
    axes = 2 if is_2d else 3
    edges = [case.volume.spacing[:axes] for case in cases]
    anatomy = Anatomy(
        extent=np.max(spreads, axis=0),
        voxel=float(np.median([np.prod(edge) ** (1 / axes) for edge in edges])),
        coarsest=float(max(edge.max() for edge in edges)),
        field_of_view=np.percentile([case.volume.grid.extent for case in cases], 90 if is_2d else 50, axis=0),
        canonical_pose=canonical_pose,
    )
    return anatomy, is_2d


def _configuration(
    model_id: str,
    folder: Path,
    data: Path,
    subsets: dict[str, tuple[str, ...]],
    anatomy: Anatomy,
    is_2d: bool,
    planned: PlannedStages,
    scheme: LandmarkScheme,
) -> TrainingConfiguration:
    candidate = anatomy.candidate(model_id)
    tolerance = round(2 * max(anatomy.voxel, min(stage.spacing_mm for stage in planned.stages)), 3)
    return TrainingConfiguration(
        id=model_id,
        version=candidate.version,
        title=model_id.replace("-", " ").capitalize(),
        description=f"Finds {len(scheme)} points in scans like those of the folder '{folder.name}'.",
        modality="radiograph" if is_2d else "not stated",
        anatomy="not stated",
        intended_use=INTENDED_USE,
        limitations=(f"Trained on {len(subsets['train'])} scans of one folder: other scanners were never seen.",),
        license=License(NOT_STATED, NOT_STATED),
        intensity=Intensity("percentile", 0.5 if is_2d else 1.0, 99.9),
        max_spacing_mm=candidate.max_spacing_mm,
        scheme=f"{scheme.id}.json",
        data=TrainingData(reader="case-folder", folder=str(data), split=subsets),
        stages=planned.stages,
        tolerance_mm=tolerance,
        thresholds_mm=tuple(round(factor * tolerance, 3) for factor in (0.5, 1.0, 1.5, 2.0)),
        cross_conformal=sum(map(len, subsets.values())) < ENOUGH_TO_SPARE,
    )


def _report(
    configuration: TrainingConfiguration,
    planned: PlannedStages,
    scheme: LandmarkScheme,
    subjects: Mapping[str, str],
    notes: Sequence[str],
    found: FolderCheck,
) -> str:
    """What was decided and why, for a person."""
    assert isinstance(configuration.data.split, dict)
    subsets = configuration.data.split
    counted = ", ".join(f"{len(names)} for {name}" for name, names in subsets.items())
    pairs = "; ".join(f"{left} and {right}" for left, right in scheme.pairs) or "none, by their names"
    lines = [
        f"# Plan of {configuration.id}",
        "",
        f"Written by `train --from-folder`. Edit `{configuration.id}.json` beside this file and give the same command:",
        "what stands there is kept.",
        "",
        f"- {len(subjects)} scans of {len(set(subjects.values()))} subjects: {counted}; a subject is in one of them.",
        f"- {plural(len(scheme), 'landmark')}. Pairs of left and right: {pairs}.",
        *(f"- {reason}" for reason in planned.reasons),
        f"- An error up to {configuration.tolerance_mm:g} mm counts as right: twice the finest voxel that is seen.",
        "- Radii come from validation and test cases in turn, as there are few."
        if configuration.cross_conformal
        else "- Radii come from the validation cases.",
        *(f"- {note}" for note in (*notes, _misplaced(found)) if note),
        *_findings(found),
    ]
    return "\n".join(lines) + "\n"


def _findings(found: FolderCheck) -> list[str]:
    """A section about cases that should be looked at; nothing where all seem right."""
    if not found.findings:
        return []
    told = [f"- {finding.case}: {finding.reason}" for finding in found.findings[:MAX_TOLD]]
    more = len(found.findings) - len(told)
    rest = [f"- {more} more: `audit` of the folder tells all."] if more else []
    heading = "Cases that should be looked at before training (cases with one picture count as one subject):"
    return ["", heading, "", *told, *rest]
