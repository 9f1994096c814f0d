"""The check of cases before training: everything that a person should look at, one issue each.

Points are compared with their own scan (outside, in air, beside what they lie on in the other cases), with the shapes
of the other cases (exchanged sides, single outliers, copies), and with each other (two landmarks at one place); what
nobody has decided about is listed, too. Brightness next to a point is that of the brightest voxel there, on a scale
where the background is 0 and the middle between background and body (parted by Otsu's threshold) is 1, so that
scanners and units compare.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from H3DELandmarksLib.cases.exchanged_points import SmallPicture, exchanged_points, small_picture
from H3DELandmarksLib.cases.same_picture import Fingerprint, fingerprint, repeated_pictures
from H3DELandmarksLib.cases.shape_check import MIN_CASES, MIN_POINTS, LeaveOneOutShape, Prediction, usual_length
from H3DELandmarksLib.cases.store import CaseFiles, CaseProject
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.execution import Progress
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.image_plane import has_unknown_pixels, is_radiograph
from H3DELandmarksLib.core.landmarks import LandmarkScheme
from H3DELandmarksLib.core.shape_model import rigid_fit
from H3DELandmarksLib.formats.case_record import CASE_ID, ImageContent, Revision
from H3DELandmarksLib.formats.schemes import SchemeHistory

# Tuned on 40 mouse skulls with planted errors: H3DELandmarksResearch/studies/check_planted_errors.py.
NEXT_TO_POINT = 2  # voxels
AIR = 0.5
DARKER = 0.6  # than the same landmark usually is
OFF_SHARE, OFF_POINTS = 0.1, 3
MAX_OFF_SHARE = 0.5
SAMPLES_PER_AXIS = 128
TOLERATED_OUTSIDE_MM = 1e-3
OUTLIER_SPREADS, CERTAIN_SPREADS = 5.0, 20.0
SWAP_SPREADS, SWAP_GAIN = 3.0, 4.0
SIDES_SPREADS, SIDES_GAIN = 2.0, 2.0
RIGHT_BEYOND = 50  # one right case in so many is told of, by the spread of the set itself
FARTHEST_SPREADS = 30.0
NEAR_LANDMARKS, NEIGHBOURS = 12, 8
COPIED_MM = 1e-2
SAME_PLACE = 0.5  # of the smallest voxel edge
USUALLY_APART = 4.0  # as many times as that


class IssueKind(enum.Enum):
    """Why a case or landmark deserves a look; the order is that in which findings are told."""

    UNREADABLE = "unreadable"
    SIDES = "sides"
    SWAP = "swap"
    OUTSIDE = "outside"
    AIR = "air"
    OFF_ANATOMY = "off anatomy"
    OUTLIER = "outlier"
    SAME_PLACE = "same place"
    SAME_IMAGE = "same image"
    SAME_POINTS = "same points"
    EXCHANGED = "exchanged cases"
    UNREVIEWED = "unreviewed"


@dataclass(frozen=True)
class QualityIssue:
    """One thing that a person should look at.

    Attributes:
        case: id.
        kind: what it is.
        landmark: name; None for a finding about the case.
        reason: one sentence with what to do.
        value: how large it is, in `unit`; None where there is nothing to measure.
        unit: of the value: "mm", "px", "%" or "points"; lengths are pixels in pictures that do not state their size.
        position: (3,) LPS mm where to look; None without a place.
        expected: (3,) LPS mm where the point would be by the other cases; None where they do not say.
        picture: PNG file, where one was drawn.
        other: the second case of a finding about two.
    """

    case: str
    kind: IssueKind
    landmark: str | None
    reason: str
    value: float | None = None
    unit: str = ""
    position: np.ndarray | None = None
    expected: np.ndarray | None = None
    picture: Path | None = None
    other: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {
            "case": self.case,
            "landmark": self.landmark,
            "kind": self.kind.value,
            "reason": self.reason,
            "value": None if self.value is None else float(self.value),
            "unit": self.unit,
            "position": None if self.position is None else [float(x) for x in self.position],
            "expected": None if self.expected is None else [float(x) for x in self.expected],
            "picture": None if self.picture is None else str(self.picture),
            "other": self.other,
        }


@dataclass(frozen=True)
class _Read:
    """A case that could be read, with the points that it has, reviewed or not."""

    id: str
    revision: Revision
    content: ImageContent
    on_scan: PointsOnScan
    picture: Fingerprint
    small: SmallPicture

    @property
    def points(self) -> CheckedPoints:
        """For the comparison of shapes."""
        return CheckedPoints(self.id, self.on_scan.positions, self.on_scan.unit)


def check_project(project: CaseProject, progress: Progress) -> list[QualityIssue]:
    """Check the newest review of every case.

    Args:
        project: what to check.
        progress: receives the fraction done and the id of the case at hand.

    Returns:
        Findings, case by case; the graver ones of a case first.
    """
    history, cases = project.history(), project.cases()
    scheme = history.newest
    read: list[_Read] = []
    findings: list[QualityIssue] = []
    for number, case in enumerate(cases):
        progress(number / len(cases), case.id)
        try:
            read.append(_read(case, history))
        except InputError as error:
            findings.append(QualityIssue(case.id, IssueKind.UNREADABLE, None, " ".join(str(error).split())))
    findings += check_on_scans([case.on_scan for case in read], scheme)
    points = [case.points for case in read]
    findings += check_shapes(points, scheme) + check_copies(points)
    findings += same_picture_findings([c.id for c in read], [c.picture for c in read], {})
    findings += exchanged_findings([c.id for c in read], [c.small for c in read])
    findings += _same_places(read, scheme)
    findings += [finding for case in read for finding in _unreviewed(case)]
    progress(1.0, "done")
    order = list(IssueKind)
    return sorted(findings, key=lambda f: (f.case, order.index(f.kind)))


def draw_findings(
    project: CaseProject, findings: Sequence[QualityIssue], folder: Path, progress: Progress
) -> list[QualityIssue]:
    """Draw a picture for every finding that has a place; gives the findings with their pictures.

    Args:
        project: whose findings.
        findings: as `check_project` gives them.
        folder: exists; pictures are named after case, kind and landmark number.
        progress: receives the fraction done and the id of the case at hand.
    """
    from H3DELandmarksLib.cases.finding_picture import draw_finding

    history = project.history()
    scheme = history.newest
    result: list[QualityIssue] = []
    scans: dict[str, tuple[Volume, np.ndarray]] = {}  # the case at hand; findings of one case come together
    for number, finding in enumerate(findings):
        progress(number / max(len(findings), 1), finding.case)
        if finding.kind is not IssueKind.UNREADABLE and CASE_ID.fullmatch(finding.case):
            if finding.case not in scans:
                case = project.case(finding.case)
                scans = {finding.case: (case.volume(), history.now(case.revision()).positions(scheme))}
            volume, points = scans[finding.case]
            landmark = "" if finding.landmark is None else f"-{scheme.names.index(finding.landmark) + 1:03d}"
            path = folder / f"{finding.case}-{finding.kind.value.replace(' ', '-')}{landmark}.png"
            draw_finding(volume, points, scheme.names, finding, path)
            finding = replace(finding, picture=path)
        result.append(finding)
    progress(1.0, "done")
    return result


def _read(case: CaseFiles, history: SchemeHistory) -> _Read:
    revision = history.now(case.revision())
    volume, positions = case.volume(), revision.positions(history.newest)
    return _Read(
        case.id,
        revision,
        case.content(),
        look_at_scan(case.id, volume, positions),
        fingerprint(volume),
        small_picture(volume, positions),
    )


def same_picture_findings(
    names: Sequence[str], pictures: Sequence[Fingerprint], subsets: Mapping[str, str]
) -> list[QualityIssue]:
    """One finding for each pair of cases with one picture.

    Args:
        names: of the cases.
        pictures: their fingerprints.
        subsets: names of subsets by case, where there are any.
    """
    findings = []
    for repeat in repeated_pictures(pictures):
        first, second = names[repeat.first], names[repeat.second]
        image = "the mirror image of" if repeat.mirrored else "the same picture as"
        here, there = subsets.get(second), subsets.get(first)
        where = f" One is in '{there}', the other in '{here}'." if here and there and here != there else ""
        reason = f"Its scan is {image} that of {first}, also if it was cut or its grey values changed.{where} "
        reason += "Keep one of the two cases."
        findings.append(
            QualityIssue(second, IssueKind.SAME_IMAGE, None, reason, 100 * repeat.likeness, "%", other=first)
        )
    return findings


def exchanged_findings(names: Sequence[str], cases: Sequence[SmallPicture]) -> list[QualityIssue]:
    """One finding for each pair of cases whose points fit better on each other's picture."""
    findings = []
    for first, second, gain in exchanged_points(cases):
        reason = (
            f"Its points fit the picture of {names[first]} better than its own, and the other way round: "
            "look whether the two point lists, or the two scans, were exchanged."
        )
        findings.append(
            QualityIssue(names[second], IssueKind.EXCHANGED, None, reason, 100 * gain, "%", other=names[first])
        )
    return findings


def _same_places(cases: Sequence[_Read], scheme: LandmarkScheme) -> list[QualityIssue]:
    """Two landmarks of a case at one place, which usually lie apart."""
    positions = np.stack([case.on_scan.positions for case in cases]) if cases else np.empty((0, len(scheme), 3))
    findings = []
    for number, case in enumerate(cases):
        limit = SAME_PLACE * float(case.content.grid.spacing.min())
        apart = np.linalg.norm(positions[number][:, None] - positions[number][None], axis=2)
        for k, m in zip(*np.where(np.triu(apart <= limit, 1))):
            elsewhere = np.delete(np.linalg.norm(positions[:, k] - positions[:, m], axis=1), number)
            elsewhere = elsewhere[np.isfinite(elsewhere)]
            if elsewhere.size and np.median(elsewhere) < USUALLY_APART * limit:
                continue
            first, second = scheme.names[k], scheme.names[m]
            reason = f"'{first}' and '{second}' lie at one place: place one of them again."
            findings.append(
                QualityIssue(
                    case.id,
                    IssueKind.SAME_PLACE,
                    second,
                    reason,
                    float(apart[k, m]),
                    case.on_scan.unit,
                    positions[number][m],
                )
            )
    return findings


def _unreviewed(case: _Read) -> list[QualityIssue]:
    findings = []
    for landmark in case.revision.landmarks:
        if landmark.state.is_waiting:
            reason = f"Nobody has decided about '{landmark.name}': accept it, move it, or mark it as absent."
            findings.append(
                QualityIssue(case.id, IssueKind.UNREVIEWED, landmark.name, reason, position=landmark.position)
            )
    return findings


@dataclass(frozen=True)
class PointsOnScan:
    """How the points of a case lie on its scan.

    Attributes:
        case: id.
        positions: (K, 3) LPS mm; NaN where there is none.
        outside: (K,) mm beyond the field of view; 0 inside, NaN without a position.
        brightness: (K,) see above; NaN outside and in radiographs, where dark does not mean air.
        unit: of lengths: "mm", or "px" where the picture does not state how large its pixels are.
    """

    case: str
    positions: np.ndarray
    outside: np.ndarray
    brightness: np.ndarray
    unit: str = "mm"


def look_at_scan(case: str, volume: Volume, positions: np.ndarray) -> PointsOnScan:
    """Measure a case.

    Args:
        case: id.
        volume: its scan.
        positions: (K, 3) LPS mm; NaN where there is none.
    """
    index = volume.grid.ijk_from_lps(positions)
    size = np.array(volume.array.shape)
    beyond = np.maximum(np.maximum(-0.5 - index, index - (size - 0.5)), 0.0)
    outside = np.linalg.norm(beyond * volume.spacing, axis=1)
    brightness = np.full(len(positions), np.nan)
    if not is_radiograph(volume):
        background, threshold = _scale(volume)
        for k in np.flatnonzero(outside <= TOLERATED_OUTSIDE_MM):
            low = np.maximum(np.round(index[k]).astype(int) - NEXT_TO_POINT, 0)
            part = volume.array[tuple(slice(a, b + 2 * NEXT_TO_POINT + 1) for a, b in zip(low, low))]
            brightness[k] = (float(part.max()) - background) / (threshold - background)
    unit = "px" if has_unknown_pixels(volume.array.shape, volume.spacing) else "mm"
    return PointsOnScan(case, positions, outside, brightness, unit)


def check_on_scans(cases: Sequence[PointsOnScan], scheme: LandmarkScheme) -> list[QualityIssue]:
    """Findings about all cases."""
    usual = np.full(len(scheme), np.nan)
    brightness = np.array([case.brightness for case in cases]).reshape(-1, len(scheme))
    enough = np.isfinite(brightness).sum(axis=0) >= MIN_CASES
    if enough.any():
        usual[enough] = np.nanmedian(brightness[:, enough], axis=0)
    return [finding for case in cases for finding in _check_case_on_scan(case, usual, scheme)]


def _check_case_on_scan(case: PointsOnScan, usual: np.ndarray, scheme: LandmarkScheme) -> list[QualityIssue]:
    findings = []
    with np.errstate(invalid="ignore"):
        darker = case.brightness < DARKER * usual
        in_air = (case.brightness < AIR) & (darker | np.isnan(usual))
        outside = case.outside > TOLERATED_OUTSIDE_MM
    placed = np.isfinite(case.outside)
    off = int((placed & (outside | darker)).sum())
    compared = int((placed & (outside | np.isfinite(case.brightness * usual))).sum())
    if off >= OFF_POINTS and off > OFF_SHARE * compared:
        reason = (
            f"{off} of {compared} points lie beside what they lie on in the other cases: look whether the points "
            "belong to this scan and neither was moved."
        )
        findings.append(QualityIssue(case.case, IssueKind.OFF_ANATOMY, None, reason, 100.0 * off / compared, "%"))
        if off > MAX_OFF_SHARE * compared:
            in_air[:] = False  # one cause, told once
    for k, name in enumerate(scheme.names):
        if outside[k]:
            far = f"{case.outside[k]:.1f} {case.unit}"
            reason = f"'{name}' lies {far} outside the scan: place it again, or mark it as absent."
            findings.append(
                QualityIssue(
                    case.case, IssueKind.OUTSIDE, name, reason, float(case.outside[k]), case.unit, case.positions[k]
                )
            )
        elif in_air[k]:
            reason = f"'{name}' lies in air: place it again, or mark it as absent."
            findings.append(
                QualityIssue(
                    case.case, IssueKind.AIR, name, reason, 100.0 * float(case.brightness[k]), "%", case.positions[k]
                )
            )
    return findings


def _scale(volume: Volume) -> tuple[float, float]:
    """The value of the background, and the threshold to the body; apart even in a scan of one value."""
    step = tuple(slice(None, None, max(1, size // SAMPLES_PER_AXIS)) for size in volume.array.shape)
    sample = np.ascontiguousarray(volume.array[step], dtype=np.float32)
    background = float(np.percentile(sample, 1))
    otsu = sitk.OtsuThresholdImageFilter()
    otsu.Execute(sitk.GetImageFromArray(sample))
    inside = sample > otsu.GetThreshold()
    if not inside.any() or inside.all():
        return background, background + 1e-6
    # Otsu's threshold is anywhere in a gap between both classes; the middle of their means is in its middle.
    return background, max(float(sample[inside].mean() + sample[~inside].mean()) / 2, background + 1e-6)


@dataclass(frozen=True)
class CheckedPoints:
    """What checks need to know of a case's points.

    Attributes:
        case: id.
        positions: (K, 3) LPS mm in the order of the scheme; NaN where there is none.
        unit: of lengths: "mm", or "px" where the picture does not state how large its pixels are.
    """

    case: str
    positions: np.ndarray
    unit: str = "mm"


@dataclass(frozen=True)
class _Sized:
    """A case as its findings name it: they tell its own lengths, cases being compared at one size."""

    name: str
    size: float
    unit: str

    def finding(
        self, kind: IssueKind, landmark: str, reason: str, far: float, place: np.ndarray, expected: np.ndarray
    ) -> QualityIssue:
        """A finding about a place, of which length and places are at the common size."""
        size = self.size
        return QualityIssue(self.name, kind, landmark, reason, size * far, self.unit, size * place, size * expected)


def check_shapes(cases: Sequence[CheckedPoints], scheme: LandmarkScheme) -> list[QualityIssue]:
    """Compare every case with the others; nothing where there are too few to compare with.

    Cases are compared at one size. What is unusual is told by the cases themselves: how far their least usual points
    lie from where the others have them, and how much worse their points fit with exchanged sides.
    """
    if not cases:
        return []
    positions = np.stack([case.positions for case in cases])
    sizes = relative_sizes(positions)
    positions = positions / sizes[:, None, None]
    try:
        usual = LeaveOneOutShape(positions, scheme)
    except ValueError:
        return []
    fits = [_fit_of(positions[n], n, usual, scheme) for n in range(len(cases))]
    limits = _Limits.of(fits, usual.spread)
    near = _Near.of(fits, usual)
    return [
        finding
        for n, case in enumerate(cases)
        for finding in _check_case_shape(
            _Sized(case.case, float(sizes[n]), case.unit), n, fits[n], limits, near, usual, scheme
        )
    ]


def relative_sizes(positions: np.ndarray) -> np.ndarray:
    """(N,) sizes of (N, K, 3) shapes against the usual one, by the median of their distances; 1 where nothing says."""
    distances = np.stack([_mutual_distances(points) for points in positions])
    known = np.isfinite(distances).any(axis=0)
    usual = np.full(distances.shape[1], np.nan)
    usual[known] = np.nanmedian(distances[:, known], axis=0)
    ratio = distances / np.where(usual > 0, usual, np.nan)
    told = np.isfinite(ratio).any(axis=1)
    sizes = np.ones(len(positions))
    sizes[told] = np.nanmedian(ratio[told], axis=1)
    return np.where(sizes > 0, sizes, 1.0)


@dataclass(frozen=True)
class _Fit:
    """A case against the others: as it is named, and with its sides exchanged (None where that says nothing)."""

    points: np.ndarray
    straight: Prediction
    mirrored: np.ndarray | None
    exchanged: Prediction | None
    gain: float  # logarithm of how many times better the exchanged pairs fit; NaN without
    before: float  # usual misfit of the pairs, in spreads


@dataclass(frozen=True)
class _Limits:
    """What is unusual in a set, from its own leave-one-out misfits.

    Attributes:
        outlier: spreads from the expected place.
        gain: logarithm of how many times better exchanged sides must fit; infinite where right cases do not tell
            their sides, as few points or points in a plane.
    """

    outlier: float
    gain: float

    @staticmethod
    def of(fits: Sequence[_Fit | None], spread: np.ndarray) -> _Limits:
        """Limits that one right case in `RIGHT_BEYOND` passes, by robust fits to the set."""
        done = [fit for fit in fits if fit is not None]
        misfits = np.concatenate([fit.straight.distance / spread for fit in done])
        outlier = _outlier_limit(misfits, len(spread))
        gains = np.array([fit.gain for fit in done if np.isfinite(fit.gain)])
        if len(gains) < MIN_CASES or -float(np.median(gains)) < np.log(SIDES_GAIN):
            return _Limits(outlier, np.inf)
        gain = _beyond(gains, len(gains), RIGHT_BEYOND)
        return _Limits(outlier, max(float(np.log(SIDES_GAIN)), gain))


def _outlier_limit(misfits: np.ndarray, landmarks: int) -> float:
    """Spreads that a point of one right case in `RIGHT_BEYOND` passes, from the misfits of all points of a set."""
    known = np.log(np.maximum(misfits[np.isfinite(misfits)], 1e-6))
    beyond = np.exp(min(_beyond(known, len(known), RIGHT_BEYOND * landmarks), 10.0))
    return float(np.clip(beyond, OUTLIER_SPREADS, CERTAIN_SPREADS))


def _beyond(values: np.ndarray, count: int, once_in: float) -> float:
    """What a new value of the same kind passes once in so many times; few wrong values do not move it.

    Args:
        values: of right cases, most of them.
        count: of independent values, which say how well the spread is known.
        once_in: values.
    """
    from scipy.stats import norm, t

    middle, upper = np.percentile(values, [50, 75])
    spread = (upper - middle) / norm.ppf(0.75) * np.sqrt(1 + 1 / count)
    return float(middle + t.ppf(1 - 1 / once_in, max(count - 1, 1)) * spread)


def check_copies(cases: Sequence[CheckedPoints]) -> list[QualityIssue]:
    """Cases whose points are those of an earlier case, moved as a whole: the same subject twice."""
    findings = []
    distances = [_mutual_distances(case.positions) for case in cases]
    for n, case in enumerate(cases):
        for m in range(n):
            both = np.isfinite(distances[n]) & np.isfinite(distances[m])
            if both.sum() < 6 or np.abs(distances[n] - distances[m])[both].max() > COPIED_MM:
                continue
            if _is_moved_copy(case.positions, cases[m].positions):
                reason = f"All points are those of {cases[m].case}: keep one of the two cases."
                findings.append(QualityIssue(case.case, IssueKind.SAME_POINTS, None, reason))
                break
    return findings


def _fit_of(points: np.ndarray, number: int, usual: LeaveOneOutShape, scheme: LandmarkScheme) -> _Fit | None:
    """None for a case of too few points."""
    if np.isfinite(points).all(axis=1).sum() < MIN_POINTS:
        return None
    straight, order = usual.predict(points, without=number), scheme.mirror_order()
    mirrored = np.where((order >= 0)[:, None], points[order], np.nan)
    paired = np.isfinite(points + mirrored).all(axis=1) & (order != np.arange(len(order)))
    if not paired.any() or np.isfinite(mirrored).all(axis=1).sum() < MIN_POINTS:
        return _Fit(points, straight, None, None, np.nan, np.nan)
    exchanged = usual.predict(mirrored, without=number)
    before, after = (float(np.median((p.distance / usual.spread)[paired])) for p in (straight, exchanged))
    return _Fit(points, straight, mirrored, exchanged, float(np.log(max(before, 1e-6) / max(after, 1e-6))), before)


def _check_case_shape(
    case: _Sized,
    number: int,
    fit: _Fit | None,
    limits: _Limits,
    near: _Near | None,
    usual: LeaveOneOutShape,
    scheme: LandmarkScheme,
) -> list[QualityIssue]:
    if fit is None:
        return []
    findings = []
    points, prediction = fit.points, fit.straight
    if fit.mirrored is not None and fit.exchanged is not None and fit.gain > limits.gain and fit.before > SIDES_SPREADS:
        reason = (
            "Left and right are exchanged in all pairs, or the scan is a mirror image: exchange the names, "
            "or load the scan again."
        )
        findings.append(QualityIssue(case.name, IssueKind.SIDES, None, reason, float(np.exp(fit.gain))))
        points, prediction = fit.mirrored, fit.exchanged
    views = [(prediction, usual.spread, limits.outlier)]
    if near is not None and not findings:
        views.insert(0, (near.predictions[number], near.spread, near.limit))
    told: set[int] = set()
    for check in (_exchanges, _outliers):
        for prediction, spread, limit in views:
            findings += check(case, points, prediction, spread, scheme, told, limit)
    return findings


@dataclass(frozen=True)
class _Near:
    """Every point against where its neighbours have it: finds corners and close structures in a bent row.

    Attributes:
        predictions: of each case; expected is NaN where there are too few neighbours.
        spread: (K,) mm, as of `LeaveOneOutShape`.
        limit: spreads from the expected place that are unusual.
    """

    predictions: list[Prediction]
    spread: np.ndarray
    limit: float

    @staticmethod
    def of(fits: Sequence[_Fit | None], usual: LeaveOneOutShape) -> _Near | None:
        """None for schemes of few points."""
        mean = usual.mean
        if np.isfinite(mean).all(axis=1).sum() < NEAR_LANDMARKS:
            return None
        apart = np.linalg.norm(mean[:, None] - mean[None], axis=2)
        np.fill_diagonal(apart, np.inf)
        order = np.argsort(np.nan_to_num(apart, nan=np.inf), axis=1)[:, :NEIGHBOURS]
        predictions = []
        for fit in fits:
            expected = np.full(mean.shape, np.nan)
            if fit is not None:
                missed = (fit.points - fit.straight.expected)[order]  # (K, NEIGHBOURS, 3)
                enough = np.isfinite(missed).all(axis=2).sum(axis=1) > NEIGHBOURS // 2
                expected[enough] = fit.straight.expected[enough] + np.nanmedian(missed[enough], axis=1)
            points = expected if fit is None else fit.points
            predictions.append(Prediction(expected, np.linalg.norm(points - expected, axis=1)))
        distances = np.stack([p.distance for p in predictions])
        if not np.isfinite(distances).any():
            return None
        spread = usual_length(distances)
        misfits = distances / spread
        return _Near(predictions, spread, _outlier_limit(misfits, len(spread)))


def _exchanges(
    case: _Sized,
    points: np.ndarray,
    prediction: Prediction,
    spread: np.ndarray,
    scheme: LandmarkScheme,
    told: set[int],
    limit: float,
) -> list[QualityIssue]:
    """Points that fit much better with each other's names: a finding for each such group, which is told of once.

    Pairs, corners and repeated structures are told alike: the names are given anew so that all points lie as near as
    possible to where they are expected.
    """
    from scipy.optimize import linear_sum_assignment

    known = np.flatnonzero(np.isfinite(points).all(axis=1) & np.isfinite(prediction.expected).all(axis=1))
    apart = np.linalg.norm(prediction.expected[known][:, None] - points[known][None], axis=2) / spread[known][:, None]
    _, new = linear_sum_assignment(np.minimum(apart, FARTHEST_SPREADS) ** 2)
    findings = []
    for cycle in _cycles(new):
        straight = float(np.sqrt(np.mean(apart[cycle, cycle] ** 2)))
        better = float(np.sqrt(np.mean(apart[cycle, new[cycle]] ** 2)))
        if straight <= SWAP_SPREADS or straight <= SWAP_GAIN * better:
            continue
        group = known[cycle]
        if told & {int(k) for k in group}:
            continue
        told.update(int(k) for k in group)
        names = [f"'{scheme.names[k]}'" for k in group]
        listed = f"{', '.join(names[:-1])} and {names[-1]}"
        reason = (
            f"{listed} lie where the other is expected: exchange the two points."
            if len(group) == 2
            else f"{listed} lie where another of them is expected: their order is wrong, name them anew."
        )
        far, first = float(prediction.distance[group].max()), int(group[0])
        findings.append(
            case.finding(IssueKind.SWAP, scheme.names[first], reason, far, points[first], prediction.expected[first])
        )
    return findings


def _cycles(order: np.ndarray) -> list[np.ndarray]:
    """Groups of numbers that a permutation exchanges among themselves, each in ascending order."""
    seen: set[int] = set()
    found = []
    for start in range(len(order)):
        cycle, at = [], start
        while at not in seen:
            seen.add(at)
            cycle.append(at)
            at = int(order[at])
        if len(cycle) > 1:
            found.append(np.array(sorted(cycle)))
    return found


def _outliers(
    case: _Sized,
    points: np.ndarray,
    prediction: Prediction,
    spread: np.ndarray,
    scheme: LandmarkScheme,
    told: set[int],
    limit: float,
) -> list[QualityIssue]:
    findings = []
    for k, name in enumerate(scheme.names):
        distance = prediction.distance[k]
        if k in told or not np.isfinite(distance) or distance <= limit * spread[k]:
            continue
        told.add(k)
        far, usually = (f"{case.size * length:.1f} {case.unit}" for length in (distance, spread[k]))
        reason = (
            f"'{name}' lies {far} from where the other cases have it, which is usually {usually}: look whether it is "
            "right."
        )
        findings.append(
            case.finding(IssueKind.OUTLIER, name, reason, float(distance), points[k], prediction.expected[k])
        )
    return findings


def _mutual_distances(points: np.ndarray) -> np.ndarray:
    """(K * K,) mm between all points."""
    return np.linalg.norm(points[:, None] - points[None], axis=2).ravel()


def _is_moved_copy(points: np.ndarray, others: np.ndarray) -> bool:
    both = np.isfinite(points).all(axis=1) & np.isfinite(others).all(axis=1)
    pose = rigid_fit(points[both], others[both])
    return bool(np.linalg.norm(pose.to_lps(points[both]) - others[both], axis=1).max() <= COPIED_MM)
