"""Points of the mandible from its contour. Whatever the contour does not support stays NaN."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import ConvexHull

from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksResearch.head_neck.contours import STEP_MM, Contour, bone_within, extreme, mean_around

SIDES = {"L": 1.0, "R": -1.0}
BONE_HU = 250.0
# (share of the mask, least value in HU) as in `bone_within`. The chin is dense and no other bone is near, so that the
# scan tells where it ends. Angles and coronoid processes are thin, and condyles lie beside another bone: they are what
# is drawn, less the muscle drawn with it.
CHIN_BONE = (0.25, 350.0)
THIN_BONE = (0.5, 100.0)
CHIN_DEPTH_MM = 25.0
# Neither process is as long from front to back as this; processes that end level, in one slice, may both be cut.
PROCESS_MM = 24.0
LEVEL_MM = 2.6
MIDLINE_MM = 8.0
LEAST_HEIGHT_MM = 25.0
# Distances in mm within which the jaws of adults lie.
RANGES = {
    ("menton", "gonion"): (55, 105),
    ("gonion", "condylion"): (40, 82),
    ("condylion", "coronoid"): (27, 46),  # nearer ones are an end of the drawing in the notch
    ("menton", "condylion"): (88, 145),
}
WIDTHS = {"gonion": (72, 125), "condylion": (85, 140), "coronoid": (70, 125)}
ASYMMETRY_MM = 9.0
# The mandibular notch is 13 mm deep on average; contours that end in a plane across both processes have less than this.
NOTCH_MM = 6.0
# The condyle lies 30 mm behind the gonion on average, 22 mm or more in 95 of 100 jaws; a "condyle" that does not is a
# high coronoid process or a place in the notch.
BEHIND_GONION_MM = 18.0


def _direction(degrees: float) -> np.ndarray:
    """Unit vector (left, back, up) in the midsagittal plane, `degrees` above "back"."""
    return np.array([0.0, np.cos(np.radians(degrees)), np.sin(np.radians(degrees))])


TO_GONION, TO_CONDYLION, BACK, UP = (_direction(angle) for angle in (-60, 58, 0, 90))


@dataclass(frozen=True)
class Frame:
    """The mandible's frame: columns of `axes` are left, back and up in LPS; `origin` is a midline point (LPS mm)."""

    axes: np.ndarray
    origin: np.ndarray

    def local(self, points: np.ndarray) -> np.ndarray:
        """(..., 3) left, back, up in mm from LPS mm."""
        return (points - self.origin) @ self.axes

    def lps(self, points: np.ndarray) -> np.ndarray:
        """(..., 3) LPS mm from left, back, up in mm."""
        return points @ self.axes.T + self.origin


def mandible_points(mandible: Contour, scan: Volume | None = None) -> dict[str, np.ndarray]:
    """Menton, gonion, condylion and coronoid tip of both sides, LPS mm; NaN where the contour does not support one.

    Args:
        mandible: its contour.
        scan: CT in Hounsfield units on which it was drawn: tells what in the contour is bone, and where bone goes on.
    """
    names = ["menton", *(f"{name}-{side}" for name in ("gonion", "condylion", "coronoid") for side in SIDES)]
    bone = bone_within(mandible, scan, *THIN_BONE)
    frame = mandible_frame(bone)
    found = dict.fromkeys(names, np.full(3, np.nan))
    if frame is None or mandible.height_mm < LEAST_HEIGHT_MM:
        return found
    thin = frame.local(bone)
    dense = frame.local(bone_within(mandible, scan, *CHIN_BONE))
    chin = dense[dense[:, 1] < dense[:, 1].min() + 4, 0]
    if abs(chin.max() + chin.min()) / 2 > MIDLINE_MM:
        return found
    middle = _chin_middle(dense)
    found["menton"] = extreme(dense[np.abs(dense[:, 0] - middle) <= MIDLINE_MM], -UP) * (UP + BACK)
    found["menton"][0] = middle
    for side, sign in SIDES.items():
        half = thin[thin[:, 0] * sign > MIDLINE_MM]
        found |= {f"{name}-{side}": point for name, point in _side_points(half).items()}
    found = {name: frame.lps(point) for name, point in found.items()}
    found = _without_cut_points(found, mandible, frame, scan)
    return _plausible(found)


def mandible_frame(points: np.ndarray) -> Frame | None:
    """The frame of a contour's (N, 3) points, found by alternating tilt and left-right axis; None for a fragment."""
    left = np.array([1.0, 0.0, 0.0])
    middle = (points[:, 0].max() + points[:, 0].min()) / 2 * left
    for _ in range(4):
        back = np.cross([0.0, 0.0, 1.0], left)
        level = np.stack([left, back / np.linalg.norm(back), np.cross(left, back / np.linalg.norm(back))], axis=1)
        axes = _tilted(level, Frame(level, middle).local(points))
        if axes is None:
            return None
        frame = Frame(axes, middle)
        local = frame.local(points)
        halves = [local[local[:, 0] * sign > MIDLINE_MM] for sign in SIDES.values()]
        if min(map(len, halves)) < 100:
            return None
        pairs = [[extreme(half[half[:, 1] > half[:, 1].max() - 60], TO_GONION) for half in halves]]
        tops = [extreme(half, TO_CONDYLION) for half in halves]
        if np.linalg.norm((tops[0] - tops[1])[1:]) < ASYMMETRY_MM:
            pairs.append(tops)
        pairs = frame.lps(np.array(pairs))
        left = (pairs[:, 0] - pairs[:, 1]).mean(axis=0)
        left /= np.linalg.norm(left)
        middle = pairs.mean(axis=(0, 1))
    return Frame(axes, middle)


def _tilted(level: np.ndarray, local: np.ndarray) -> np.ndarray | None:
    """Axes turned about "left" so that a plane from below touches chin and angles: the first that touches far back."""
    outline = local[ConvexHull(local[:, 1:]).vertices]
    front = local[:, 1].min()
    for degrees in np.arange(-30.0, 71.0, 1.0):
        back, up = _direction(degrees), _direction(degrees + 90)
        lowest = outline[np.argmin(outline @ up)]
        chin = outline[np.argmin(outline @ back)]
        if (lowest - chin) @ back > 35 and lowest[1] > front + 25:
            return level @ np.stack([[1.0, 0.0, 0.0], back, up], axis=1)
    return None


def _chin_middle(local: np.ndarray) -> float:
    """Where (mm to the left) the front of the jaw has its middle: the median of its rows' middles from side to side."""
    front = local[local[:, 1] < local[:, 1].min() + CHIN_DEPTH_MM]
    rows = np.unique(np.round(front[:, 1:] / (2 * STEP_MM)), axis=0, return_inverse=True)[1].ravel()
    low, high = np.full(rows.max() + 1, np.inf), np.full(rows.max() + 1, -np.inf)
    np.minimum.at(low, rows, front[:, 0])
    np.maximum.at(high, rows, front[:, 0])
    return float(np.median((low + high) / 2))


def _side_points(half: np.ndarray) -> dict[str, np.ndarray]:
    """Gonion, condylion and coronoid tip of one side in the mandible's frame."""
    points = {name: np.full(3, np.nan) for name in ("gonion", "condylion", "coronoid")}
    if not len(half):
        return points
    back = half[:, 1]
    condylion = extreme(half, TO_CONDYLION)
    points["gonion"] = extreme(half[back > condylion[1] - 60], TO_GONION)
    if condylion[1] - points["gonion"][1] < BEHIND_GONION_MM:
        return points
    points["condylion"] = condylion
    ahead = half[(back < condylion[1] - 15) & (back > condylion[1] - 50)]
    if len(ahead):
        tip = extreme(ahead, UP)
        if notch_depth(half, tip, condylion) >= NOTCH_MM:
            points["coronoid"] = tip
    return points


def notch_depth(half: np.ndarray, tip: np.ndarray, condylion: np.ndarray) -> float:
    """How far (mm) the upper outline sinks below the straight line from coronoid tip to condylion."""
    places = np.arange(tip[1] + 3, condylion[1] - 3, STEP_MM)
    if not len(places):
        return 0.0
    share = (places - tip[1]) / (condylion[1] - tip[1])
    line = tip[2] + share * (condylion[2] - tip[2])
    tops = [half[np.abs(half[:, 1] - place) <= STEP_MM, 2] for place in places]
    return float(max((height - top.max() if len(top) else 0.0) for height, top in zip(line, tops)))


def _without_cut_points(
    found: dict[str, np.ndarray], mandible: Contour, frame: Frame, scan: Volume | None
) -> dict[str, np.ndarray]:
    """Points at which the contour ends in a plane, at a face of the scan or within bone are not those of the jaw."""
    found = dict(found)
    local = frame.local(mandible.points)
    for side, sign in SIDES.items():
        half = mandible.points[local[:, 0] * sign > MIDLINE_MM]
        condylion, tip = f"condylion-{side}", f"coronoid-{side}"
        cut = _cut_processes(half, found[condylion], found[tip], scan)
        cut |= {name for name in ("condylion", "coronoid") if mandible.near_edge(found[f"{name}-{side}"], 8.0)}
        gonion = found[f"gonion-{side}"]
        if half[:, 2].max() < gonion[2] + 12 or mandible.near_edge(gonion, 10.0):
            cut.add("gonion")
        found |= {f"{name}-{side}": np.full(3, np.nan) for name in cut}
    if mandible.near_edge(found["menton"], 10.0):
        found["menton"] = np.full(3, np.nan)
    return found


def _cut_processes(half: np.ndarray, condylion: np.ndarray, tip: np.ndarray, scan: Volume | None) -> set[str]:
    """Which of condylion and coronoid tip (LPS mm) of a side's (N, 3) points are ends of the drawing only."""
    if _top_length(half) > PROCESS_MM:
        return {"condylion", "coronoid"}
    if np.isnan(tip).any():
        ahead = half[half[:, 1] < condylion[1] - 15, 2]
        return {"condylion"} if len(ahead) and ahead.max() > condylion[2] - 4 else set()
    if scan is None or mean_around(scan, tip + np.array([0, 0, 6]), 5.0) < BONE_HU:
        return set()
    return {"coronoid", "condylion"} if abs(condylion[2] - tip[2]) < LEVEL_MM else {"coronoid"}


def _top_length(points: np.ndarray) -> float:
    """Longest unbroken extent (mm) along the second LPS axis of the part within 2 mm of the top."""
    along = np.unique(np.round(points[points[:, 2] > points[:, 2].max() - 2.0, 1] / STEP_MM))
    runs = np.split(along, np.flatnonzero(np.diff(along) > 1.5) + 1)
    return max(float(run[-1] - run[0] + 1) * STEP_MM for run in runs)


def _plausible(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Drop points whose distances are not those of a jaw, or too different on the two sides."""
    bad = set()
    for (first, second), (low, high) in RANGES.items():
        lengths = {}
        for side in SIDES:
            a = "menton" if first == "menton" else f"{first}-{side}"
            b = f"{second}-{side}"
            lengths[side] = float(np.linalg.norm(found[a] - found[b]))
            if not np.isnan(lengths[side]) and not low <= lengths[side] <= high:
                bad |= {b} if first != "menton" or second != "gonion" else {a, b}
        if abs(lengths["L"] - lengths["R"]) > ASYMMETRY_MM:
            bad |= {f"{second}-L", f"{second}-R"}
    for name, (low, high) in WIDTHS.items():
        width = np.linalg.norm(found[f"{name}-L"] - found[f"{name}-R"])
        if not np.isnan(width) and not low <= width <= high:
            bad |= {f"{name}-L", f"{name}-R"}
    return {name: np.full(3, np.nan) if name in bad else point for name, point in found.items()}
