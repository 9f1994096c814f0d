"""Which scan of a folder to correct next: what a model finds in each, and the order that follows; see `benefit`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from H3DELandmarksLib.cohort.benefit import (
    DEFAULT_ORDER,
    NEARLY_SAME,
    Choice,
    choose_order,
    point_uncertainty,
    shape_distances,
)
from H3DELandmarksLib.cohort.content import ImageContent, content_of
from H3DELandmarksLib.cohort.known_shapes import FEWEST_POINTS, in_frame, known_shapes
from H3DELandmarksLib.cohort.project import CaseProject
from H3DELandmarksLib.errors import Cancelled, H3DELandmarksError
from H3DELandmarksLib.shape_model import ShapeModel
from H3DELandmarksLib.volume_io import read_volume

if TYPE_CHECKING:
    from H3DELandmarksLib.detection import Detector
    from H3DELandmarksLib.geometry import Volume
    from H3DELandmarksLib.landmarks import LandmarkScheme

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
            "scan": str(self.scan), "score": self.score, "uncertainty": self.uncertainty, "distance": self.distance,
            "reasons": list(self.reasons),
        }  # fmt: skip


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
    scans: Sequence[Path], detector: Detector, project: CaseProject | None = None, progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None, pixel_size: tuple[float, float] | None = None,
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
    seen: Sequence[LookedAt], known: Sequence[tuple[np.ndarray, np.ndarray]], scheme: LandmarkScheme,
    shape: ShapeModel, order: str = DEFAULT_ORDER,
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
    to_known = [shape_distances(s[None], shape.mean[None], shape.tolerance, np.isfinite(s).all(axis=1)[None])[0, 0]
                for s in shapes]
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
    scan: Path, volume: Volume, detector: Detector, before: Sequence[LookedAt], report: Progress,
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
