"""The mouse skulls of muratmaga/mouse_CT_atlas: volumes in ``data/targets``, points in ``data/target_LMs``.

All point lists claim LPS, but many hold RAS values: the reading that puts the points near bone is taken. The lists of
21 specimens lie in no reading in their scan: they were placed on volumes laid on the atlas's template, which were not
published. The motion into the scan is known for 16, and found for any other from the specimens that do fit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.core.shape_model import Pose
from H3DELandmarksLib.formats.reading import FormatError, build, parse_json
from H3DELandmarksLib.io.isolated import read_volume
from H3DELandmarksLib.io.markups import POINT_EXTENSIONS, read_markups
from H3DELandmarksResearch.converters.atlas_poses import (
    LEAST_SPECIMENS,
    Appearance,
    Example,
    find_motion,
    learn_appearance,
)
from H3DELandmarksResearch.converters.conversion import Progress, SourceCase, Summary, case_name, convert_cases
from H3DELandmarksResearch.training.configuration import doubtful_cases
from H3DELandmarksResearch.training.record import RigidMotion

CONFIGURATIONS = Path(__file__).resolve().parent.parent / "configurations"
BUNDLED_POSES = CONFIGURATIONS / "mouse-skull-poses.json"
VOLUME_SUFFIXES = (".nii.gz", ".nii", ".nrrd")
FLIP = np.array([-1.0, -1.0, 1.0])  # between LPS and RAS
NEAR_VOXELS = 2
NEAR_BONE = 0.9  # of the points; 40 specimens have at least 0.98 in the right reading, at most 0.04 in others


def convert(source: Path, target: Path, options: Mapping[str, Any], progress: Progress) -> Summary:
    """Convert the set.

    Args:
        source: the repository's folder, or one that holds volumes and point lists in any subfolders.
        target: folder for the cases.
        options: ``poses`` (JSON file of known motions, or None for the bundled one), ``move_points`` (write points
            with a known motion moved into the scan; else as they are: `mouse-skull` moves them on loading). Points
            whose motion has to be found are always written moved.
        progress: receives the fraction done and the name of the case at hand.

    Raises:
        InputError: no volume has points.
    """
    points = _by_name(source, POINT_EXTENSIONS)
    volumes = _by_name(source, VOLUME_SUFFIXES)
    poses = _read_poses(Path(options.get("poses") or BUNDLED_POSES))
    pairs = match_names(list(volumes), list(points))
    if not pairs:
        raise InputError(f"'{source}' holds no volume with a point list of its name: choose the repository's folder.")
    atlas = _Atlas({name: (volumes[name], points[other]) for name, other in pairs.items()}, poses)
    move = bool(options.get("move_points"))
    cases = [SourceCase(name, partial(atlas.read, name, move)) for name in pairs]
    summary = convert_cases(cases, target, progress, bool(options.get("leave_out_repeats")))
    summary.notes += _notes(atlas.seen, move)
    doubtful = doubtful_cases(CONFIGURATIONS / "mouse-skull.json")
    summary.notes += [f"{name} is doubtful: {why}" for name, why in doubtful.items() if name in pairs]
    return summary


def match_names(volumes: Sequence[str], points: Sequence[str]) -> dict[str, str]:
    """Which point list belongs to which volume: the same name, or the only one that begins like the volume's.

    Args:
        volumes: names as `plain_name` gives them.
        points: the same of point lists.
    """
    pairs = {name: name for name in volumes if name in points}
    left = [name for name in points if name not in pairs]
    for name in volumes:
        fitting = [other for other in left if name.startswith(other + "_")]
        if name not in pairs and len(fitting) == 1:
            pairs[name] = fitting[0]
    return dict(sorted(pairs.items()))


def plain_name(path: Path, suffixes: Sequence[str]) -> str:
    """A file's name without its ending, dots as underscores, none at the end: B6129PF1.J_.nii.gz is B6129PF1_J."""
    suffix = next(s for s in suffixes if path.name.lower().endswith(s))
    return case_name(path.name[: -len(suffix)].replace(".", "_").strip("_"))


def share_near_bone(volume: Volume, points: np.ndarray) -> float:
    """The part of (K, 3) LPS points that lie inside the volume and at most two voxels from bone (Otsu's threshold)."""
    otsu = sitk.OtsuThresholdImageFilter()
    otsu.Execute(sitk.GetImageFromArray(volume.array))
    inside = volume.grid.contains(points)
    near = 0
    for index in np.rint(volume.grid.ijk_from_lps(points[inside])).astype(int):
        around = tuple(slice(max(0, i - NEAR_VOXELS), i + NEAR_VOXELS + 1) for i in index)
        near += int(volume.array[around].max() > otsu.GetThreshold())
    return near / len(points)


def _by_name(source: Path, suffixes: Sequence[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(source.rglob("*")):
        if path.name.lower().endswith(tuple(suffixes)) and path.is_file():
            found.setdefault(plain_name(path, suffixes), path)
    return found


def _read_poses(path: Path) -> dict[str, Pose]:
    try:
        stored = build(dict[str, RigidMotion], parse_json(path.read_bytes()))
        return {name: Pose(np.array(p.rotation), np.array(p.translation)) for name, p in stored.items()}
    except (OSError, FormatError) as error:
        raise InputError(f"'{path}' is not a file of poses: give one like mouse-skull-poses.json.") from error


@dataclass(frozen=True)
class Reading:
    """How a point list is read: LPS mm as stated or with x and y flipped, and the motion from there into the scan."""

    landmarks: LandmarkSet
    flipped: bool
    motion: Pose | None = None
    found: bool = False

    @property
    def in_scan(self) -> LandmarkSet:
        """The points in the scan's LPS mm."""
        if self.motion is None:
            return self.landmarks
        return self.landmarks.with_positions(self.motion.to_lps(self.landmarks.positions))


@dataclass(frozen=True)
class _Atlas:
    """The set's specimens, scan and point list by name, with the known motions; `seen` learns how each was read."""

    files: Mapping[str, tuple[Path, Path]]
    poses: Mapping[str, Pose]
    seen: dict[str, Reading] = field(default_factory=dict)

    def read(self, name: str, move: bool) -> tuple[Volume, LandmarkSet]:
        """Scan and points of a specimen; points with a known motion are moved if `move`, others always."""
        volume, stated = self._load(name)
        reading = _best_reading(volume, stated, self.poses.get(name)) or self._found(name, volume, stated)
        self.seen[name] = reading
        return volume, reading.in_scan if move or reading.found else reading.landmarks

    def _load(self, name: str) -> tuple[Volume, LandmarkSet]:
        scan, point_list = self.files[name]
        volume, stated = read_volume(scan), read_markups(point_list)
        if not stated.present.all():
            raise InputError(f"'{point_list}' has points without a position: place them in Slicer.")
        return volume, stated

    def _found(self, name: str, volume: Volume, stated: LandmarkSet) -> Reading:
        scan, point_list = self.files[name]
        appearance = self._appearances.get(stated.names)
        trouble = f"'{point_list}' does not fit '{scan.name}', neither as LPS nor as RAS"
        if appearance is None:
            raise InputError(
                f"{trouble}: it may lie in the frame of the atlas's template, which {LEAST_SPECIMENS} specimens with "
                "the same points in their own scans would tell; put them beside it, or give its motion with --poses."
            )
        reading = Reading(stated, False, find_motion(volume, stated.positions, appearance), found=True)
        if share_near_bone(volume, reading.in_scan.positions) < NEAR_BONE:
            raise InputError(f"{trouble} nor in any other pose: check that the list belongs to the scan.")
        return reading

    @cached_property
    def _appearances(self) -> dict[tuple[str, ...], Appearance]:
        """What the specimens whose points need no motion look like, by the names of their points."""
        fitting: dict[tuple[str, ...], list[Example]] = {}
        for name in self.files:
            try:
                volume, stated = self._load(name)
            except InputError:  # said when its turn comes
                continue
            reading = _best_reading(volume, stated, None)
            if reading is not None:
                fitting.setdefault(stated.names, []).append(Example(volume, reading.landmarks.positions))
        return {names: learn_appearance(many) for names, many in fitting.items() if len(many) >= LEAST_SPECIMENS}


def _best_reading(volume: Volume, stated: LandmarkSet, known: Pose | None) -> Reading | None:
    """The reading, with the known motion or none, that puts most points near bone; None where too few are."""
    flipped = stated.with_positions(stated.positions * FLIP)
    motions = (None,) if known is None else (None, known)
    readings = [Reading(p, p is flipped, motion) for motion in motions for p in (stated, flipped)]
    shares = [share_near_bone(volume, reading.in_scan.positions) for reading in readings]
    best = int(np.argmax(shares))
    return readings[best] if shares[best] >= NEAR_BONE else None


def _notes(seen: Mapping[str, Reading], move: bool) -> list[str]:
    """Which cases were read otherwise than their files say."""
    flipped = [name for name, how in seen.items() if how.flipped]
    posed = [name for name, how in seen.items() if how.motion is not None and not how.found]
    found = [name for name, how in seen.items() if how.found]
    frame = "lie in the frame of the atlas's template and not in the pose of the scan"
    notes = []
    if flipped:
        notes.append(f"{len(flipped)} point lists hold RAS values under the name LPS: {', '.join(flipped)}.")
    if posed:
        what = "were moved into it" if move else "are left there: training moves them (entry poses of mouse-skull)"
        notes.append(
            f"{len(posed)} point lists lie in another pose than the scan: they {frame}, and {what}: {', '.join(posed)}."
        )
    if found:
        notes.append(
            f"{len(found)} more point lists {frame}; their motions were found from how bone looks around the points "
            f"of the other specimens, and they were moved into the scan: {', '.join(found)}."
        )
    return notes
