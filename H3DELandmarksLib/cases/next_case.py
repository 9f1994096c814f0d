"""Which scan of a folder to correct next: in random order, where scans that nearly repeat another one come last.

No order by uncertainty or distance has beaten chance on mouse skulls, but a second scan of a shape that is known
teaches little. So every scan gets a random place, which is the same whenever it is ranked again; a model finds its
points; and where these have nearly the shape of a case, or of a scan earlier in the list, the scan goes to the end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from H3DELandmarksLib.cases.store import CaseFiles, CaseProject, content_of
from H3DELandmarksLib.core.errors import Cancelled, H3DELandmarksError
from H3DELandmarksLib.core.execution import Progress, part_of, silent
from H3DELandmarksLib.core.image_plane import lay_flat, points_on_sheet
from H3DELandmarksLib.core.landmarks import LandmarkScheme
from H3DELandmarksLib.core.shape_model import ShapeModel
from H3DELandmarksLib.formats.case_record import ImageContent
from H3DELandmarksLib.io.checks import Spacing
from H3DELandmarksLib.io.isolated import read_volume
from H3DELandmarksLib.io.scan_folders import FoundScan

if TYPE_CHECKING:
    from H3DELandmarksLib.core.geometry import Volume
    from H3DELandmarksLib.detection import Detector

MIN_POINTS = 3  # that fix a pose
# In usual distances of a landmark from the mean shape.
MAX_DISTANCE = 5.0  # a point that lies farther off counts as one that was found wrongly, not as another shape
MISSING = 2.0  # between a point and none
NEARLY_SAME = 0.4
RANDOM = "random"
NO_POINTS = "almost no point was found: look whether it shows what the model was made for"


@dataclass(frozen=True)
class FoundShape:
    """What a model found in a scan.

    Attributes:
        scan: path.
        content: by which the same scan is recognised.
        points: (K, 3) mm in the frame of the model's mean shape; NaN where absent.
    """

    scan: Path
    content: ImageContent
    points: np.ndarray

    @property
    def place(self) -> float:
        """From 0 to 1, as good as random, and the same whenever the scan is ranked again."""
        return int(self.content.digest[:8], 16) / 2**32

    @property
    def count(self) -> int:
        """How many points were found."""
        return int(np.isfinite(self.points).all(axis=1).sum())


@dataclass(frozen=True)
class RankedScan:
    """A place in the list: the path of the scan, and why it stands there."""

    scan: Path
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {"scan": str(self.scan), "reasons": [self.reason]}


@dataclass(frozen=True)
class Ranking:
    """The order in which to correct scans.

    Attributes:
        ranked: the first one first.
        known: scans of the project with the id of their case.
        unreadable: one sentence for each scan that could not be used.
    """

    ranked: tuple[RankedScan, ...]
    known: tuple[tuple[Path, str], ...]
    unreadable: tuple[tuple[Path, str], ...]


def rank_scans(
    scans: Sequence[FoundScan],
    detector: Detector,
    project: CaseProject | None = None,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
    spacing: Spacing | None = None,
    series: str | None = None,
) -> Ranking:
    """Put scans in order.

    Args:
        scans: as `io.scan_folders.find_scans` finds them.
        detector: finds the points.
        project: whose scans are left out, and whose cases count as known.
        progress: receives the fraction done and the name of the scan at hand.
        cancelled: asked between steps; True ends the work.
        spacing, series: as for `io.images.read_volume`, where files do not state it and folders hold several series.

    Raises:
        Cancelled: `cancelled` said so.
        InputError: the project cannot be read.
    """
    report = progress or silent
    needs_size = detector.package.manifest.height_mm is None
    found: list[FoundShape] = []
    known, unreadable = [], []
    for number, (scan, own_series) in enumerate((entry.path, entry.series) for entry in scans):
        report(number / len(scans), scan.name)
        try:
            volume = read_volume(scan, spacing, own_series or series, needs_size=needs_size)
            case = None if project is None else project.find(volume)
            if case is None:
                within = part_of(report, number / len(scans), 1 / len(scans), scan.name)
                found.append(_found_shape(scan, volume, detector, found, within, cancelled))
            else:
                known.append((scan, case.id))
        except Cancelled:
            raise
        except (H3DELandmarksError, OSError, MemoryError) as error:
            unreadable.append((scan, " ".join((str(error) or "It needs more memory than is free.").split())))
    cases = {} if project is None else case_shapes(project, detector.scheme, detector.shape, detector.is_2d)
    report(1.0, "done")
    return Ranking(tuple(ranked(found, cases, detector.shape)), tuple(known), tuple(unreadable))


def ranked(found: Sequence[FoundShape], cases: Mapping[str, np.ndarray], shape: ShapeModel) -> list[RankedScan]:
    """The order of scans: random ones, then near copies, then those in which almost nothing was found.

    Args:
        found: what was found in each.
        cases: that are known already, see `case_shapes`.
        shape: mean shape, and how far its landmarks usually are from it.
    """
    # A landmark without a point is absent in a scan, but may just not have been placed in a case.
    known = [(case, points, np.isfinite(points).all(axis=1)) for case, points in cases.items()]
    names = _names(found)
    contents: dict[str, FoundShape] = {}
    first, copies, hopeless = [], [], []
    for scan in sorted(found, key=lambda scan: (scan.place, scan.scan.name, scan.scan)):
        same = contents.setdefault(scan.content.digest, scan)
        if scan.count < MIN_POINTS:
            hopeless.append(RankedScan(scan.scan, NO_POINTS))
        elif same is not scan:
            copies.append(RankedScan(scan.scan, f"the same scan as {names[same.scan]}: last"))
        elif (other := _near_copy(scan.points, known, shape.tolerance)) is not None:
            copies.append(RankedScan(scan.scan, f"nearly a copy of {other}: last"))
        else:
            first.append(RankedScan(scan.scan, RANDOM))
            known.append((names[scan.scan], scan.points, np.ones(len(scan.points), dtype=bool)))
    return first + copies + hopeless


def _names(found: Sequence[FoundShape]) -> dict[Path, str]:
    """What to call each scan: its name, with that of its folder where others have the same."""
    counts = Counter(shape.scan.name for shape in found)
    return {
        shape.scan: shape.scan.name if counts[shape.scan.name] == 1 else str(Path(*shape.scan.parts[-2:]))
        for shape in found
    }


def _near_copy(
    points: np.ndarray, known: Sequence[tuple[str, np.ndarray, np.ndarray]], tolerance: np.ndarray
) -> str | None:
    """The name of the nearest known shape (name, points, which of them to compare) where it is nearly the same."""
    if not known:
        return None
    names, shapes, compared = zip(*known)
    distances = shape_distances(points, np.stack(shapes), tolerance, np.stack(compared))
    nearest = int(np.argmin(distances))
    return names[nearest] if distances[nearest] <= NEARLY_SAME else None


def shape_distances(points: np.ndarray, others: np.ndarray, tolerance: np.ndarray, compared: np.ndarray) -> np.ndarray:
    """(M,) root mean square distance of corresponding points, each in its landmark's usual distance from the mean.

    Args:
        points: (K, 3) mm in the frame of the mean shape; NaN where a point is missing.
        others: (M, K, 3) likewise.
        tolerance: (K,) mm, root mean square distance of training subjects from the mean.
        compared: (M, K) bool, which landmarks to look at.
    """
    here, there = np.isfinite(points).all(axis=1), np.isfinite(others).all(axis=2)
    apart = np.minimum(np.linalg.norm(others - points, axis=2) / tolerance, MAX_DISTANCE)
    compared = compared & (here | there)
    apart = np.where(compared, np.where(here & there, apart, MISSING), 0.0)
    count = compared.sum(axis=1)
    return np.where(count, np.sqrt((apart**2).sum(axis=1) / np.maximum(count, 1)), MISSING)


def case_shapes(project: CaseProject, scheme: LandmarkScheme, shape: ShapeModel, flat: bool) -> dict[str, np.ndarray]:
    """The points of each case of a project; those that cannot be read, or with too few points, are left out.

    Args:
        project: whose cases.
        scheme: of the model; landmarks are matched by name.
        shape: mean shape.
        flat: whether the model reads radiographs.

    Returns:
        By id of the case (K, 3) mm in the frame of the mean shape; NaN where there is no point.
    """
    result = {}
    for case in project.cases():
        try:
            points = _case_points(project, case, scheme, flat)
        except H3DELandmarksError:
            continue
        if np.isfinite(points).all(axis=1).sum() >= MIN_POINTS:
            result[case.id] = in_frame(shape, points)
    return result


def _case_points(project: CaseProject, case: CaseFiles, scheme: LandmarkScheme, flat: bool) -> np.ndarray:
    """(K, 3) mm, in the plane of the image for radiographs."""
    points = project.review(case).positions(scheme)
    return points_on_sheet(lay_flat(case.volume())[1], points) if flat else points


def in_frame(shape: ShapeModel, points: np.ndarray) -> np.ndarray:
    """(K, 3) points placed on the mean shape by a robust rigid fit; NaN where they are missing."""
    pose, _ = shape.fit(points, np.isfinite(points).all(axis=1).astype(float))
    return pose.to_model(points)


def _found_shape(
    scan: Path,
    volume: Volume,
    detector: Detector,
    before: Sequence[FoundShape],
    report: Progress,
    cancelled: Callable[[], bool] | None,
) -> FoundShape:
    content = content_of(volume)
    for other in before:
        if other.content.same_voxels(content):
            return FoundShape(scan, content, other.points)
    raw = detector.findings(volume, report, cancelled)
    points = raw.pose.to_model(detector.landmark_set(detector.placed(raw)).positions)
    if detector.is_2d:
        points = points * (1, 1, 0)
    if np.isfinite(points).all(axis=1).sum() >= MIN_POINTS:
        points = in_frame(detector.shape, points)
    return FoundShape(scan, content, points)
