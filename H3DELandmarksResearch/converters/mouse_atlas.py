"""The mouse skulls of muratmaga/mouse_CT_atlas: volumes in ``data/targets``, points in ``data/target_LMs``.

All point lists claim LPS, but many hold RAS values, and some lie in another pose than their scan. Neither is written
anywhere: both are found by looking which reading puts the points near bone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.core.shape_model import Pose
from H3DELandmarksLib.formats.reading import FormatError, build, parse_json
from H3DELandmarksLib.formats.training import RigidMotion
from H3DELandmarksLib.io.isolated import read_volume
from H3DELandmarksLib.io.markups import POINT_EXTENSIONS, read_markups
from H3DELandmarksResearch.converters.conversion import Progress, SourceCase, Summary, case_name, convert_cases

BUNDLED_POSES = Path(__file__).resolve().parent.parent / "configurations" / "mouse-skull-poses.json"
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
            that lie in another pose moved into the scan; else as they are: `mouse-skull` moves them on loading).
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
    seen: dict[str, str] = {}
    move = bool(options.get("move_points"))
    cases = [
        SourceCase(name, partial(_read, volumes[name], points[other], poses.get(name), move, seen))
        for name, other in pairs.items()
    ]
    summary = convert_cases(cases, target, progress, bool(options.get("leave_out_repeats")))
    summary.notes += _notes(seen, move)
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


def _read(
    scan: Path, point_list: Path, pose: Pose | None, move: bool, seen: dict[str, str]
) -> tuple[Volume, LandmarkSet]:
    """Scan and points in the reading that puts them near bone; `seen` learns which one it was."""
    volume = read_volume(scan)
    stated = read_markups(point_list)
    if not stated.present.all():
        raise InputError(f"'{point_list}' has points without a position: place them in Slicer.")
    readings = {"as stated": stated, "x and y flipped": stated.with_positions(stated.positions * FLIP)}
    motions = {"in the scan's pose": None, **({} if pose is None else {"in another pose": pose})}
    scores = {}
    for motion, known in motions.items():
        for reading, landmarks in readings.items():
            moved = landmarks.positions if known is None else known.to_lps(landmarks.positions)
            scores[reading, motion] = share_near_bone(volume, moved)
    (reading, motion), share = max(scores.items(), key=lambda item: item[1])
    if share < NEAR_BONE:
        raise InputError(
            f"'{point_list}' does not fit '{scan.name}', neither as LPS nor as RAS: its points lie in "
            "another pose, which --poses can give."
        )
    seen[plain_name(scan, VOLUME_SUFFIXES)] = f"{reading}, {motion}"
    landmarks = readings[reading]
    if move and motions[motion] is not None:
        landmarks = landmarks.with_positions(motions[motion].to_lps(landmarks.positions))
    return volume, landmarks


def _notes(seen: Mapping[str, str], move: bool) -> list[str]:
    """Which cases were read otherwise than their files say."""
    flipped = [name for name, how in seen.items() if "flipped" in how]
    posed = [name for name, how in seen.items() if "another pose" in how]
    notes = []
    if flipped:
        notes.append(f"{len(flipped)} point lists hold RAS values under the name LPS: {', '.join(flipped)}.")
    if posed:
        what = "were moved into it" if move else "are left there: training moves them (entry poses of mouse-skull)"
        notes.append(f"{len(posed)} point lists lie in another pose than the scan and {what}: {', '.join(posed)}.")
    return notes
