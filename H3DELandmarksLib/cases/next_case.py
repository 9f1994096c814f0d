"""Which scan of a folder to correct next: what a model finds in each, and the order that follows; see `benefit`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from H3DELandmarksLib.cases.store import CaseFiles, CaseProject, ImageContent, content_of
from H3DELandmarksLib.core.errors import Cancelled, H3DELandmarksError, InputError
from H3DELandmarksLib.core.image_plane import lay_flat, points_on_sheet
from H3DELandmarksLib.core.landmarks import LandmarkScheme
from H3DELandmarksLib.core.shape_model import ShapeModel
from H3DELandmarksLib.formats.case_record import Revision
from H3DELandmarksLib.io.images import DICOM_EXTENSIONS, READABLE_EXTENSIONS, read_volume

if TYPE_CHECKING:
    from H3DELandmarksLib.core.geometry import Volume
    from H3DELandmarksLib.core.landmarks import LandmarkScheme
    from H3DELandmarksLib.detection import Detector

NO_SCANS = (".seg.nrrd", ".seg.nhdr")


def scans_in(folder: Path, radiographs: bool = False) -> list[Path]:
    """Files that can be scans, and folders with DICOM files, by name; what else lies there is left out.

    Args:
        folder: where to look; folders in it are looked into one level deep.
        radiographs: whether every DICOM file is an image of its own; else those of one folder are one scan.

    Raises:
        InputError: there is no such folder, or nothing in it can be a scan.
    """
    try:
        entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise InputError(f"The folder '{folder}' cannot be read ({error.strerror}): check the path.") from error
    files = [path for path in entries if path.is_file() and _may_be_scan(path)]
    found = files if radiographs else [path for path in files if not _is_dicom(path)]
    if len(found) < len(files):
        found.append(folder)
    for path in entries:
        if path.is_dir():
            inside = sorted(file for file in path.iterdir() if file.is_file() and _is_dicom(file))
            found += inside if radiographs else [path] if inside else []
    if not found:
        raise InputError(
            f"'{folder}' holds no scans: give the folder with the files, or with one folder for each DICOM scan."
        )
    return found


def _may_be_scan(path: Path) -> bool:
    name = path.name.lower()
    return not name.endswith(NO_SCANS) and (name.endswith(READABLE_EXTENSIONS) or _is_dicom(path))


def _is_dicom(path: Path) -> bool:
    if path.name.lower().endswith(DICOM_EXTENSIONS):
        return True
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


FEWEST_POINTS = 3  # that fix a pose


def known_shapes(
    project: CaseProject, scheme: LandmarkScheme, shape: ShapeModel, flat: bool
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of each case of a project the (K, 3) points in the frame of the mean shape and (K,) what is known of them.

    Args:
        project: whose cases; those that cannot be read, or with too few points, are left out.
        scheme: of the model; landmarks are matched by name.
        shape: mean shape.
        flat: whether the model reads radiographs.
    """
    result = []
    for case in project.cases():
        try:
            points = _positions(project.review(case), case, scheme, flat)
        except H3DELandmarksError:
            continue
        reviewed = np.isfinite(points).all(axis=1)
        if reviewed.sum() >= FEWEST_POINTS:
            result.append((in_frame(shape, points), reviewed))
    return result


def in_frame(shape: ShapeModel, points: np.ndarray) -> np.ndarray:
    """(K, 3) points placed on the mean shape by a robust rigid fit; NaN where they are missing."""
    pose, _ = shape.fit(points, np.isfinite(points).all(axis=1).astype(float))
    return pose.to_model(points)


def _positions(revision: Revision, case: CaseFiles, scheme: LandmarkScheme, flat: bool) -> np.ndarray:
    """(K, 3) mm of the points of a case, reviewed or not, on the sheet for radiographs; NaN where there is none."""
    by_name = {p.name: p.position for p in revision.landmarks if p.position is not None}
    points = np.array([by_name.get(name, np.full(3, np.nan)) for name in scheme.names])
    return points_on_sheet(lay_flat(case.volume())[1], points) if flat else points


# In usual distances of a landmark from the mean shape.
FARTHEST = 5.0  # a point that lies farther off counts as one that was found wrongly, not as an unusual shape
MISSING = 2.0  # between a point and none
NEARLY_SAME = 0.4
LEAST_UNCERTAINTY = 0.1
ORDERS = ("random", "combined", "uncertainty", "distance")
DEFAULT_ORDER = ORDERS[0]


@dataclass(frozen=True)
class Choice:
    """One place in the order.

    Attributes:
        scan: index.
        score: expected benefit; comparable within one order only.
        distance: from what is known at this moment, in usual distances of a landmark from the mean shape.
        nearest: index of the scan chosen before that is nearest; None where the mean shape or a case is nearer.
    """

    scan: int
    score: float
    distance: float
    nearest: int | None


def point_uncertainty(
    presence: np.ndarray, confidence: np.ndarray, disagreement: np.ndarray, tolerance_mm: float
) -> np.ndarray:
    """(K,) from 0 to 1: how far each landmark of a scan is from being known.

    Args:
        presence: (K,) calibrated probability that it is in the scan.
        confidence: (K,) calibrated probability that it is there and lies within the tolerance.
        disagreement: (K,) mm between two looks; NaN where there are no two.
        tolerance_mm: what counts as right.
    """
    wrong = np.clip(presence - confidence, 0, 1)
    doubt = 1 - np.abs(2 * presence - 1)
    apart = np.nan_to_num(disagreement)
    unstable = presence * apart / (apart + tolerance_mm)
    return 1 - (1 - wrong) * (1 - doubt) * (1 - unstable)


def shape_distances(
    shapes: np.ndarray, others: np.ndarray, tolerance: np.ndarray, reviewed: np.ndarray | None = None
) -> np.ndarray:
    """(N, M) root mean square distance of corresponding points, each in its landmark's usual distance from the mean.

    Args:
        shapes: (N, K, 3) mm in the frame of the mean shape; NaN where a point is missing.
        others: (M, K, 3) likewise.
        tolerance: (K,) mm, root mean square distance of training subjects from the mean.
        reviewed: (M, K) whether it is known of `others` where a point is or that it is missing; by default of all.
    """
    result = np.full((len(shapes), len(others)), MISSING)
    for n, shape in enumerate(shapes):
        apart = np.minimum(np.linalg.norm(shape - others, axis=2) / tolerance, FARTHEST)
        here, there = np.isfinite(shape).all(axis=1), np.isfinite(others).all(axis=2)
        compared = (here | there) & (True if reviewed is None else reviewed)
        apart = np.where(compared, np.where(here & there, apart, MISSING), 0.0)
        count = compared.sum(axis=1)
        result[n] = np.where(count, np.sqrt((apart**2).sum(axis=1) / np.maximum(count, 1)), MISSING)
    return result


def choose_order(
    order: str, uncertainty: Sequence[float], chance: Sequence[float], to_known: Sequence[float], between: np.ndarray
) -> list[Choice]:
    """The order in which to correct scans.

    Args:
        order: one of ORDERS; "random" and "uncertainty" look at distances only to put near repetitions last.
        uncertainty: (N,) of each scan, from 0 to 1.
        chance: (N,) a random number for each scan, from 0 to 1.
        to_known: (N,) distance of each scan from the nearest of what is known.
        between: (N, N) distances of the scans from each other.
    """
    unsure = LEAST_UNCERTAINTY + np.asarray(uncertainty, dtype=float)
    weights = {"random": chance, "combined": unsure, "uncertainty": unsure, "distance": np.ones(len(unsure))}
    most = NEARLY_SAME if order in ("random", "uncertainty") else np.inf
    return greedy_order(weights[order], to_known, between, most)


def greedy_order(
    weight: Sequence[float], to_known: Sequence[float], between: np.ndarray, most: float = np.inf
) -> list[Choice]:
    """The order in which to correct scans.

    Args:
        weight: (N,) what the distance of each scan is multiplied with.
        to_known: (N,) distance of each scan from the nearest of what is known.
        between: (N, N) distances of the scans from each other.
        most: distance from which on more does not count.
    """
    weight, distance = np.asarray(weight, dtype=float), np.array(to_known, dtype=float)
    nearest: list[int | None] = [None] * len(distance)
    left, choices = list(range(len(distance))), []
    while left:
        benefit = weight * np.minimum(distance, most)
        scan = max(left, key=lambda n: benefit[n])
        choices.append(Choice(scan, float(benefit[scan]), float(distance[scan]), nearest[scan]))
        left.remove(scan)
        for other in left:
            if between[other, scan] < distance[other]:
                distance[other], nearest[other] = between[other, scan], scan
    return choices


Progress = Callable[[float, str], None]
UNCERTAIN = 0.5
UNUSUAL = 2.0  # in usual distances from the mean shape
MOST_NAMES = 5


@dataclass(frozen=True)
class LookedAt:
    """What a model sees in a scan.

    Attributes:
        scan: path.
        content: by which the same scan is recognised.
        shape: (K, 3) mm, found points in the frame of the model's mean shape; NaN where absent.
        uncertainty: (K,) from 0 to 1.
    """

    scan: Path
    content: ImageContent
    shape: np.ndarray
    uncertainty: np.ndarray

    @property
    def chance(self) -> float:
        """A number from 0 to 1 that is as good as random, and the same whenever the scan is ranked again."""
        return int(self.content.digest[:8], 16) / 2**32

    @property
    def count(self) -> int:
        """How many points were found."""
        return int(np.isfinite(self.shape).all(axis=1).sum())


@dataclass(frozen=True)
class RankedScan:
    """A place in the ranking.

    Attributes:
        scan: path.
        score: expected benefit of correcting it next; comparable within one ranking.
        uncertainty: mean over the landmarks, from 0 to 1.
        distance: how unlike all that is known or ranked before, in usual distances from the mean shape; NaN where too
            little was found.
        reasons: in words, the main one first.
    """

    scan: Path
    score: float
    uncertainty: float
    distance: float
    reasons: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {
            "scan": str(self.scan),
            "score": self.score,
            "uncertainty": self.uncertainty,
            "distance": self.distance,
            "reasons": list(self.reasons),
        }


@dataclass(frozen=True)
class Ranking:
    """The order in which to correct scans.

    Attributes:
        ranked: the most useful first.
        known: scans of the project with the id of their case.
        unreadable: one sentence for each scan that could not be used.
    """

    ranked: tuple[RankedScan, ...]
    known: tuple[tuple[Path, str], ...]
    unreadable: tuple[tuple[Path, str], ...]


def rank_scans(
    scans: Sequence[Path],
    detector: Detector,
    project: CaseProject | None = None,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
    pixel_size: tuple[float, float] | None = None,
    order: str = DEFAULT_ORDER,
) -> Ranking:
    """Look at scans with a model and rank them.

    Args:
        scans: files or DICOM folders.
        detector: finds the points.
        project: whose scans are left out, and whose cases count as known.
        progress: receives the fraction done and the name of the scan at hand.
        cancelled: asked between steps; True ends the work.
        pixel_size: mm, of radiographs that do not state it.
        order: what counts, one of `benefit.ORDERS`.

    Raises:
        Cancelled: `cancelled` said so.
        InputError: the project cannot be read.
    """
    report = progress or (lambda fraction, message: None)
    seen: list[LookedAt] = []
    known, unreadable = [], []
    for number, scan in enumerate(scans):
        report(number / len(scans), scan.name)
        try:
            volume = read_volume(scan, pixel_size)
            case = None if project is None else project.find(volume)
            if case is None:
                seen.append(_look_at(scan, volume, detector, seen, _share(report, number, len(scans), scan), cancelled))
            else:
                known.append((scan, case.id))
        except Cancelled:
            raise
        except (H3DELandmarksError, OSError, MemoryError) as error:
            unreadable.append((scan, " ".join((str(error) or "It needs more memory than is free.").split())))
    cases = [] if project is None else known_shapes(project, detector.scheme, detector.shape, detector.flat)
    report(1.0, "done")
    places = ranked(seen, cases, detector.scheme, detector.shape, order)
    return Ranking(tuple(places), tuple(known), tuple(unreadable))


def ranked(
    seen: Sequence[LookedAt],
    known: Sequence[tuple[np.ndarray, np.ndarray]],
    scheme: LandmarkScheme,
    shape: ShapeModel,
    order: str = DEFAULT_ORDER,
) -> list[RankedScan]:
    """Rank scans that were looked at.

    Args:
        seen: what was seen in each.
        known: of each known case the (K, 3) points in the frame of the mean shape and (K,) what is known of them.
        scheme: of the landmarks.
        shape: mean shape and tolerance.
        order: what counts, one of `benefit.ORDERS`.
    """
    usable = [scan for scan in seen if scan.count >= FEWEST_POINTS]
    shapes = np.array([scan.shape for scan in usable]).reshape(-1, len(scheme), 3)
    # Not every training subject has every landmark: where one is missing, the mean shape says nothing.
    to_known = [
        shape_distances(s[None], shape.mean[None], shape.tolerance, np.isfinite(s).all(axis=1)[None])[0, 0]
        for s in shapes
    ]
    if known and usable:
        cases, reviewed = (np.stack(part) for part in zip(*known))
        to_known = np.minimum(to_known, shape_distances(shapes, cases, shape.tolerance, reviewed).min(axis=1))
    between = shape_distances(shapes, shapes, shape.tolerance)
    uncertainty = [scan.uncertainty.mean() for scan in usable]
    choices = choose_order(order, uncertainty, [scan.chance for scan in usable], to_known, between)
    result = [_ranked(usable, choice, scheme) for choice in choices]
    hopeless = [scan for scan in seen if scan.count < FEWEST_POINTS]
    reason = "almost no point was found: look whether it shows what the model was made for"
    return result + [
        RankedScan(scan.scan, 0.0, float(scan.uncertainty.mean()), float("nan"), (reason,)) for scan in hopeless
    ]


def _share(report: Progress, number: int, count: int, scan: Path) -> Progress:
    """Progress within one of several scans."""
    return lambda fraction, message: report((number + fraction) / count, scan.name)


def _look_at(
    scan: Path,
    volume: Volume,
    detector: Detector,
    before: Sequence[LookedAt],
    report: Progress,
    cancelled: Callable[[], bool] | None,
) -> LookedAt:
    from H3DELandmarksLib.detection.second_look import second_look

    content = content_of(volume)
    for other in before:
        if other.content.same_voxels(content):
            return LookedAt(scan, content, other.shape, other.uncertainty)
    found = detector.findings(volume, report, cancelled)
    landmarks = detector.landmark_set(found)
    apart = np.linalg.norm(second_look(detector, volume, found).positions - found.positions, axis=1)
    points = found.pose.to_model(landmarks.positions)
    if detector.flat:
        points = points * (1, 1, 0)
    if landmarks.present.sum() >= FEWEST_POINTS:
        points = in_frame(detector.shape, points)
    tolerance = detector.calibration.tolerance_mm
    return LookedAt(
        scan, content, points, point_uncertainty(landmarks.presence, landmarks.confidence, apart, tolerance)
    )


def _ranked(usable: Sequence[LookedAt], choice: Choice, scheme: LandmarkScheme) -> RankedScan:
    scan = usable[choice.scan]
    reasons = []
    uncertain = [name for name, u in zip(scheme.names, scan.uncertainty) if u >= UNCERTAIN]
    if uncertain:
        points = f"{len(uncertain)} points" if len(uncertain) > 1 else "1 point"
        more = ", ..." if len(uncertain) > MOST_NAMES else ""
        reasons.append(f"{points} uncertain: {', '.join(uncertain[:MOST_NAMES])}{more}")
    if choice.distance >= UNUSUAL:
        reasons.append(f"unusual shape: {choice.distance:.1f} times as far from known shapes as usual")
    if choice.distance <= NEARLY_SAME and choice.nearest is not None:
        other = usable[choice.nearest]
        same = scan.content.same_voxels(other.content)
        reasons.insert(0, f"{'the same scan as' if same else 'nearly the same shape as'} {other.scan.name}")
    elif choice.distance <= NEARLY_SAME:
        reasons.append("nearly a known shape")
    reasons = reasons or ["nothing unusual"]
    return RankedScan(scan.scan, choice.score, float(scan.uncertainty.mean()), choice.distance, tuple(reasons))
