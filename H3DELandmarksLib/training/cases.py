"""Annotated cases, ready for drawing training crops from.

Scans of the first cases lie in memory, the others in files that are mapped and read crop by crop, so that a training
needs the same memory however many cases it has.
"""

from __future__ import annotations

import mmap
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Volume, canonical
from H3DELandmarksLib.core.image_plane import counted_as_high, is_radiograph, lay_flat, points_on_sheet
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.core.shape_model import Pose, ShapeModel, rigid_fit
from H3DELandmarksLib.detection.scan import IntensityMapping
from H3DELandmarksLib.formats.manifest import ModelDescription
from H3DELandmarksLib.formats.run import CandidateDescription

IN_MEMORY_BYTES = 1 << 29
SPARE_BYTES = 1 << 30


class VolumeStore:
    """Keeps volumes within a limit of memory.

    What exceeds it lies in unnamed files of a folder, which vanish with the program (on Windows, they are left in the
    folder for temporary files where the program is killed).
    """

    def __init__(self, folder: Path, limit: int = IN_MEMORY_BYTES) -> None:
        """Begin with an empty store; `limit` is in bytes of voxels."""
        self.folder = folder
        self._left = limit

    def kept(self, volume: Volume) -> Volume:
        """The same volume, its voxels in memory or in a file; in a file they lie in `canonical` order.

        Raises:
            InputError: the disk is too full.
        """
        if volume.array.nbytes <= self._left:
            self._left -= volume.array.nbytes
            return volume
        volume = canonical(volume)
        return Volume(self._on_disk(volume.array), volume.affine)

    def _on_disk(self, array: np.ndarray) -> np.ndarray:
        if shutil.disk_usage(self.folder).free < array.nbytes + SPARE_BYTES:
            raise InputError(
                f"The disk of '{self.folder}' has no room for the scans that memory cannot hold: free some, or choose "
                "an output folder on another disk."
            )
        with tempfile.NamedTemporaryFile(prefix=".scan-", dir=self.folder, delete=False) as handle:
            np.ascontiguousarray(array).tofile(handle)
        mapped = np.memmap(handle.name, array.dtype, "r", shape=array.shape)
        with suppress(OSError):  # Windows keeps files that are open
            Path(handle.name).unlink()
        return mapped


def release(array: np.ndarray) -> None:
    """Give back the memory of those parts of a mapped file that were read; nothing happens to other arrays."""
    owner: object = array
    while isinstance(owner, np.ndarray):
        mapped = getattr(owner, "_mmap", None)
        if isinstance(mapped, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)
            return
        owner = owner.base


def absent_unless(inside: np.ndarray, landmarks: LandmarkSet) -> LandmarkSet:
    """The landmarks with those absent that are not inside, (K,) bool; unknown ones stay unknown."""
    presence = np.where(landmarks.unknown, np.nan, np.where(inside, landmarks.presence, 0.0))
    return replace(landmarks, presence=presence)


@dataclass(frozen=True)
class Case:
    """One scan with its landmarks.

    Attributes:
        name: identifier of the subject; the split is by this name.
        volume: scan in any axis order.
        landmarks: positions in LPS mm, in the order of the scheme; from these a model learns.
        readers: what several people marked, each for himself, by a word for each, LPS mm; a model is measured beside
            them.
    """

    name: str
    volume: Volume
    landmarks: LandmarkSet
    readers: Mapping[str, LandmarkSet] = field(default_factory=dict)

    def laid_flat(self) -> Case:
        """A radiograph on its sheet with its landmarks in the plane, see `planar`; other scans as they are."""
        if not is_radiograph(self.volume):
            return self
        volume, lps_from_sheet = lay_flat(self.volume)

        def flat(points: LandmarkSet) -> LandmarkSet:
            return points.with_positions(points_on_sheet(lps_from_sheet, points.positions))

        return Case(self.name, volume, flat(self.landmarks), {word: flat(said) for word, said in self.readers.items()})

    def part(self, corner: Sequence[int] | np.ndarray, sizes: Sequence[int] | np.ndarray) -> Case:
        """So many voxels from a corner (voxel indices) on; every voxel keeps its place, landmarks beyond are absent."""
        affine = self.volume.affine.copy()
        affine[:3, 3] = self.volume.grid.lps_from_ijk(np.asarray(corner, dtype=float))
        volume = Volume(self.volume.array[tuple(slice(a, a + n) for a, n in zip(corner, sizes))], affine)
        return Case(self.name, volume, absent_unless(volume.grid.contains(self.landmarks.positions), self.landmarks))

    def counted_as_high(self, height: float | None) -> Case:
        """The same in the lengths of a model for which each radiograph is so many mm high; None for other models."""
        if height is None:
            return self
        volume, factor = counted_as_high(self.volume, height)
        return Case(self.name, volume, self.landmarks.with_positions(self.landmarks.positions * factor))


@dataclass(frozen=True)
class TrainingCase:
    """A case with what sampling needs: intensity mapping and the pose of the model frame.

    Attributes:
        case: scan and landmarks.
        intensity: mapping to 0..1.
        outside: stored value of samples beyond the scan.
        pose: model frame to LPS.
    """

    case: Case
    intensity: IntensityMapping
    outside: float
    pose: Pose


def prepare_case(
    case: Case, model: ModelDescription | CandidateDescription, shape: ShapeModel, canonical_pose: bool
) -> TrainingCase:
    """Attach intensity mapping and pose to a case.

    Args:
        case: scan and landmarks.
        model: says how stored values are read.
        shape: mean shape that defines the model frame.
        canonical_pose: whether networks see the anatomy in the shape's frame (True) or along the patient's (False).
    """
    volume = canonical(case.volume)
    intensity = IntensityMapping.for_volume(model.intensity, volume)
    outside = intensity.outside(model.outside)
    pose = _pose(case, volume, shape, canonical_pose)
    release(volume.array)
    return TrainingCase(Case(case.name, volume, case.landmarks), intensity, outside, pose)


def _pose(case: Case, volume: Volume, shape: ShapeModel, canonical_pose: bool) -> Pose:
    present = case.landmarks.present
    points = case.landmarks.positions
    if canonical_pose and present.sum() >= 3:
        return rigid_fit(shape.mean[present], points[present])
    if present.any():
        return Pose(np.eye(3), (points[present] - shape.mean[present]).mean(axis=0))
    return Pose(np.eye(3), volume.grid.center)
