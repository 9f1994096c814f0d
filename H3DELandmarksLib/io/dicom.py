"""DICOM: the position, distance and values of every slice, and the volume that follows from them.

One series is gathered by its UID, wherever its files lie. Slices are sorted by position. Even distances, also with a
tilted gantry, give the volume as stored; uneven ones are interpolated onto even distances, with a warning; where more
than three slices are missing, or geometry is not stated, the scan is refused unless the user states it.
Each slice gets its own rescale, or the values of its own table; PixelPaddingValue gets the value of air.
"""

from __future__ import annotations

import math
import os
import re
import struct
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from H3DELandmarksLib.core.errors import H3DELandmarksError, InputError, MissingDependencyError, UnknownPixelSize
from H3DELandmarksLib.core.files import walked
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.text import first_of
from H3DELandmarksLib.io.checks import (
    Spacing,
    air_of,
    check_scalar_volume,
    check_spacing,
    check_unpacked_size,
    damaged,
    times,
    warn,
)
from H3DELandmarksLib.io.radiograph_files import jpeg_size

DICOM_EXTENSIONS = (".dcm", ".dicom", ".ima")
_SAME_AXIS = 2e-3  # largest difference of a direction's components within a scan
_SAME_SIZE = 1e-3  # of a pixel's edge
_EVEN_MM, _EVEN_SHARE = 0.02, 0.02  # of the distance: how far positions may be off an even grid
_SIDEWAYS_MM = 0.2
_MOST_MISSING = 3
_MOST_STRAY = 3
_MOST_KINDS = 16
FEWEST_IMAGES = 3
"""Fewer are no volume but a scout."""
_MOST_FILES = 200_000
_MOST_FRAMES = 8192  # of a file
_DEFLATED = "1.2.840.10008.1.2.1.99"
_JPEG = "1.2.840.10008.1.2.4."
_BIG_ENDIAN = "1.2.840.10008.1.2.2"
_NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", _BIG_ENDIAN, _DEFLATED)
_DECODED = (*_NATIVE, "1.2.840.10008.1.2.5", *(f"{_JPEG}{end}" for end in (50, 51, 57, 70, 80, 81, 90, 91)))
_IMAGES = "1.2.840.10008.5.1.4.1.1."
_ACQUISITIONS = (  # what tells apart those of one series
    *("AcquisitionNumber", "FrameAcquisitionNumber", "AcquisitionTime", "AcquisitionDateTime"),
    *("TemporalPositionIdentifier", "TemporalPositionIndex", "NominalPercentageOfCardiacPhase"),
)
_MADE_ON_SCANS = {f"{_IMAGES}{end}" for end in ("66.4", "66.7", "30", "481.2")}  # segmentations, maps, dose


@dataclass(frozen=True, eq=False)
class Frame:
    """One slice as its file states it.

    Attributes:
        path, index: file and frame in it.
        owner: patient and study; series of two of them are two, whatever UID they share.
        series, number, description, instance: UID and number and text of the series, UID of the image.
        order: number within the series.
        shape: rows and columns.
        position: (3,) LPS mm of the first pixel, None where it is not stated.
        axes: (3, 2) unit vectors along a row and along a column, None where they are not stated.
        pixel: width and height in mm, None where they are not stated.
        is_square: whether they are the same where they are not stated.
        is_at_detector: whether they are the size at the detector, which is larger than in the patient.
        thickness: mm, None where it is not stated.
        rescale: slope and intercept of value = slope * stored + intercept, None where they are not stated.
        has_table: whether a table gives the value of each stored one (Modality LUT), where no rescale is stated.
        is_scout: whether the file calls itself one.
        acquisition: number, time and phase, as far as they are stated; nothing for MR, which acquires slices in turns.
    """

    path: Path
    index: int
    owner: tuple[str, str]
    series: str
    number: str
    description: str
    instance: str
    order: int
    shape: tuple[int, int]
    position: np.ndarray | None
    axes: np.ndarray | None
    pixel: tuple[float, float] | None
    is_square: bool
    is_at_detector: bool
    thickness: float | None
    rescale: tuple[float, float] | None
    has_table: bool
    is_scout: bool
    acquisition: dict[str, str]

    def fits(self, other: Frame) -> bool:
        """Whether both can be slices of one scan: the same size, spacing, orientation, and the same facts stated."""

        def same(here: Any, there: Any, tolerance: float) -> bool:
            if here is None or there is None:
                return here is there
            return bool(np.abs(np.subtract(here, there)).max() <= tolerance)

        return (
            self.shape == other.shape
            and (self.position is None) == (other.position is None)
            and (self.rescale is None, self.has_table) == (other.rescale is None, other.has_table)
            and same(self.axes, other.axes, _SAME_AXIS)
            and same(self.pixel, other.pixel, _SAME_SIZE * (self.pixel or (0.0,))[0])
        )


def is_dicom(path: Path) -> bool:
    """Whether a file is called, or begins, as DICOM files are; a DICOMDIR is none of them."""
    if path.name.lower().endswith(DICOM_EXTENSIONS):
        return True
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM" and path.name.upper() != "DICOMDIR"
    except OSError:
        return False


def is_of_patient(data: Any) -> bool:
    """Whether a file holds an image of a patient, and not none or what was made on one, such as a segmentation."""
    return "Rows" in data and "Columns" in data and data.get("SOPClassUID") not in _MADE_ON_SCANS


def read_file(path: Path, spacing: Spacing | None = None) -> Volume:
    """Read the one or many slices of a file.

    Raises:
        InputError: it is damaged, or its geometry cannot be used.
    """
    return _volume(path, _frames(path, _dataset(path)), spacing)


def read_folder(folder: Path, spacing: Spacing | None = None, series: str | None = None) -> Volume:
    """Read a series of a folder, sub-folders and links included.

    Args:
        folder: where to look.
        spacing: mm, where files do not state it.
        series: UID, number or description; by default the series with most slices, of those that state their position
            where any does.

    Raises:
        InputError: there is none, or its geometry cannot be used.
    """
    return _volume(folder, _frames_of(folder, series), spacing)


def files_of_series(folder: Path, series: str | None = None) -> list[Path]:
    """The files that `read_folder` reads; arguments and errors as there."""
    return list(dict.fromkeys(frame.path for frame in _frames_of(folder, series)))


def _frames_of(folder: Path, series: str | None) -> list[Frame]:
    found, broken = _by_series(folder)
    if series is None:
        _check_whole(folder, found)
    chosen = _chosen(folder, found, series)
    if broken:
        warn(folder, f"holds {len(broken)} DICOM files that cannot be read, such as: {broken[0]}")
    if series is None and len(found) > 1:
        left_out = "; ".join(_told(other) for other in found if other is not chosen)
        most = "most slices" if chosen is max(found, key=len) else "most slices that state their position"
        warn(
            folder,
            f"holds {len(found)} DICOM series: reading the one with {most} ({len(chosen)}, series "
            f"{chosen[0].series}). Left out: {left_out}. Choose another by its number (command line: --series).",
        )
    return chosen


def _check_whole(folder: Path, found: list[list[Frame]]) -> None:
    """Refuse slices of one scan to which a program, such as one that removes names, has given a series each."""
    first, slices = found[0][0], [frame for frames in found for frame in frames]
    is_apart = len(slices) == len(found) >= FEWEST_IMAGES and first.position is not None
    if is_apart and all(frame.owner == first.owner and first.fits(frame) for frame in slices):
        raise InputError(
            f"The {len(slices)} slices in '{folder}' have a series UID each, so that nobody knows whether they are one "
            "scan: export the original series."
        )


def _by_series(folder: Path) -> tuple[list[list[Frame]], list[str]]:
    """The frames of each series, and why files cannot be read."""
    by_series: dict[tuple, list[Frame]] = {}
    broken = []
    for path in _files(folder):
        try:
            for frame in _frames(path, _dataset(path)):
                by_series.setdefault((frame.owner, frame.series), []).append(frame)
        except InputError as error:
            broken.append(str(error))
    if broken and not by_series:
        raise InputError(broken[0])
    if not by_series:
        raise InputError(f"The folder '{folder}' holds no DICOM images: choose the folder of a series, or a scan file.")
    return list(by_series.values()), broken


def modality(path: Path, series: str | None = None) -> str:
    """DICOM's code of what a scan was made with, such as CT; empty where its first file does not say.

    Args:
        path: of the scan.
        series: as for `read_folder`.
    """
    try:
        if path.is_dir():
            path = _chosen(path, _by_series(path)[0], series)[0].path
        return str(_dataset(path).get("Modality") or "") if is_dicom(path) else ""
    except InputError:
        return ""


def _files(folder: Path) -> Iterator[Path]:
    """DICOM files that are not hidden, as those that macOS puts beside others are; each place is visited once."""
    count = 0
    for place, names, files in walked(folder):
        names.sort()
        count += len(files)
        if count > _MOST_FILES:
            raise InputError(f"The folder '{folder}' holds more than {_MOST_FILES} files: choose that of one series.")
        for path in (place / name for name in sorted(files)):
            is_there = path.is_file() or not path.exists()  # links that lead nowhere are slices that cannot be read
            if not path.name.startswith(".") and is_there and is_dicom(path):
                yield path


def _told(frames: list[Frame]) -> str:
    one = frames[0]
    return f"{one.number or '?'} '{one.description}' ({len(frames)} slices, series {one.series})"


def _chosen(folder: Path, found: list[list[Frame]], wanted: str | None) -> list[Frame]:
    """The frames of the series that the user names, or of the one with most slices."""
    if wanted is not None:
        fitting = [s for s in found if wanted in (s[0].series, s[0].number, s[0].description)]
        if len(fitting) != 1:
            apart = " by its UID, or give each a folder of its own" if fitting else ""
            raise InputError(
                f"'{folder}' holds {len(fitting)} series '{wanted}': choose one of "
                f"{'; '.join(map(_told, found))}{apart}."
            )
        return fitting[0]

    def is_volume(frames: list[Frame]) -> bool:  # and no movie
        return sum(frame.position is not None for frame in frames) >= FEWEST_IMAGES

    stacks = [frames for frames in found if not all(frame.is_scout for frame in frames)] or found
    return max(stacks, key=lambda frames: (is_volume(frames), len(frames)))


# Headers


def _pydicom() -> Any:
    try:
        import pydicom
    except ImportError as error:
        raise MissingDependencyError("Reading DICOM needs the package pydicom: install it with pip.") from error
    return pydicom


def _dataset(path: Path, pixels: bool = False) -> Any:
    """A file's attributes, without its pixels unless they are asked for."""
    pydicom = _pydicom()
    try:
        check_deflated(path)
        return pydicom.dcmread(path, stop_before_pixels=not pixels, force=True)
    except H3DELandmarksError:
        raise
    except Exception as error:  # of any kind, since files are hostile
        raise damaged(path) from error


def check_deflated(path: Path) -> None:
    """Refuse a deflated file that grows without end; the elements before its deflated part say whether it is one."""
    with path.open("rb") as file:
        file.seek(132)
        is_deflated = False
        while (head := file.read(8))[:2] == b"\2\0":
            length = int.from_bytes(file.read(4) if head[4:6] == b"OB" else head[6:], "little")
            end = file.tell() + length
            is_deflated |= head[2:4] == b"\x10\0" and file.read(22) == _DEFLATED.encode()
            file.seek(end)
        if not is_deflated:
            return
        file.seek(-len(head), os.SEEK_CUR)
        data = file.read()
    stream, packed, total = zlib.decompressobj(-15), len(data), 0
    while data and not stream.eof:
        total += len(stream.decompress(data, 2**24))
        data = stream.unconsumed_tail
        check_unpacked_size(path, packed, total)


def _numbers(value: Any, count: int) -> list[float] | None:
    """`count` numbers; None where the attribute is missing or empty."""
    if value is None or value == "":
        return None
    values = [float(x) for x in (value if hasattr(value, "__iter__") and not isinstance(value, str) else [value])]
    return values if len(values) == count else None


def _frames(path: Path, data: Any) -> list[Frame]:
    """All frames of a file; none where it holds no image of a patient."""
    try:
        if not is_of_patient(data):
            if "SOPClassUID" not in data:
                raise damaged(path)
            return []
        count = int(data.get("NumberOfFrames") or 1)
        if not 1 <= count <= _MOST_FRAMES:
            raise damaged(path)
        is_palette = str(data.get("PhotometricInterpretation", "")).startswith("PALETTE")
        components = 3 if is_palette else int(data.get("SamplesPerPixel", 1))
        check_scalar_volume(path, (int(data.Columns), int(data.Rows), count), components)
        bits = int(data.get("BitsAllocated", 16))
        check_unpacked_size(path, path.stat().st_size, int(data.Columns) * int(data.Rows) * count * bits // 8)
        shared = _items(data.get("SharedFunctionalGroupsSequence"), 0)
        return [_frame(path, data, shared, k, count) for k in range(count)]
    except H3DELandmarksError:
        raise
    except Exception as error:  # as above
        raise damaged(path) from error


def _items(groups: Any, index: int) -> list[Any]:
    """The first item of each sequence in one of the functional groups."""
    if not groups or index >= len(groups):
        return []
    return [element.value[0] for element in groups[index] if element.VR == "SQ" and element.value]


def _frame(path: Path, data: Any, shared: list[Any], index: int, count: int) -> Frame:
    per_frame = data.get("PerFrameFunctionalGroupsSequence")
    places = [*_items(per_frame, index), *shared, data]  # the nearest first

    def stated(name: str, length: int) -> list[float] | None:
        return next((v for place in places if (v := _numbers(place.get(name), length)) is not None), None)

    orientation = stated("ImageOrientationPatient", 6)
    axes = None if orientation is None else _axes(path, orientation)
    position = stated("ImagePositionPatient", 3)
    if position is not None and count > 1 and per_frame is None:
        position = _position_in_file(data, position, axes, index)
    names = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
    pixel = next((v for name in names if (v := stated(name, 2)) is not None), None)
    (thickness,) = stated("SliceThickness", 1) or [0.0]
    slope, intercept = stated("RescaleSlope", 1), stated("RescaleIntercept", 1)
    rescale = None if slope is None and intercept is None else ((slope or [1.0])[0], (intercept or [0.0])[0])
    if rescale is not None and not (0 < abs(rescale[0]) < 1e9 and abs(rescale[1]) < 1e9):
        raise InputError(f"'{path}' states the rescale {rescale}, which cannot be: export the series again.")
    kinds = {str(word).upper() for word in np.atleast_1d(data.get("ImageType", ""))}
    is_mr = data.get("Modality") == "MR"
    acquisition = {
        name: str(place.get(name))
        for name in (() if is_mr else _ACQUISITIONS)
        for place in reversed(places)
        if place.get(name) not in (None, "")
    }
    return Frame(
        path=path,
        index=index,
        owner=(str(data.get("PatientID", "")), str(data.get("StudyInstanceUID", ""))),
        series=str(data.get("SeriesInstanceUID", "")),
        number=str(data.get("SeriesNumber", "") or ""),
        description=str(data.get("SeriesDescription", "") or ""),
        instance=f"{data.get('SOPInstanceUID', path)}/{index}/{position}",
        order=int(data.get("InstanceNumber") or 0) * _MOST_FRAMES + index,
        shape=(int(data.Rows), int(data.Columns)),
        position=None if position is None else np.array(position),
        axes=axes,
        pixel=None if pixel is None else (pixel[1], pixel[0]),
        is_square=len(set(stated("PixelAspectRatio", 2) or [1.0])) == 1,
        is_at_detector=pixel is not None and pixel == stated("ImagerPixelSpacing", 2),
        thickness=thickness if 0 < thickness < math.inf else None,
        rescale=rescale,
        has_table=rescale is None and bool(data.get("ModalityLUTSequence")),
        is_scout=bool(kinds & {"LOCALIZER", "SCOUT"}),
        acquisition=acquisition,
    )


def _axes(path: Path, orientation: list[float]) -> np.ndarray:
    """(3, 2) unit vectors along a row and along a column."""
    axes = np.reshape(orientation, (2, 3)).T
    lengths = np.linalg.norm(axes, axis=0)
    if not (np.abs(lengths - 1) < 0.01).all() or abs(axes[:, 0] @ axes[:, 1]) > 0.01:
        raise InputError(f"'{path}' states an orientation that is none: export the series again.")
    return axes / lengths


def _position_in_file(data: Any, first: list[float], axes: np.ndarray | None, index: int) -> list[float] | None:
    """Position of a frame where a file states only that of the first and the distances."""
    offsets, between = data.get("GridFrameOffsetVector"), _numbers(data.get("SpacingBetweenSlices"), 1)
    if axes is None or (offsets is None and not (between and between[0])):
        return None
    along = index * between[0] if offsets is None and between else float(offsets[index]) - float(offsets[0])
    return list(np.array(first) + along * np.cross(axes[:, 0], axes[:, 1]))


# Geometry


def _volume(source: Path, frames: list[Frame], spacing: Spacing | None) -> Volume:
    """The volume of the frames of one series."""
    frames = _of_one_kind(source, _without_doubles(source, frames))
    if not frames:
        raise InputError(f"'{source}' holds no image of a patient: choose a scan.")
    if len(frames) > 1 and spacing is not None and len(spacing) < 3:
        raise InputError(
            f"'{source}' is no radiograph but holds a series of {len(frames)} slices: give no pixel size for it, or "
            "three numbers."
        )
    pixel = frames[0].pixel if spacing is None else (spacing[0], spacing[1])
    if pixel is not None:
        check_spacing(frames[0].path, pixel[::-1])
    if pixel is None and len(frames) == 1:
        kind, but = (UnknownPixelSize, "") if frames[0].is_square else (InputError, ", but that they are not square")
        raise kind(
            f"'{source}' does not state how large its pixels are{but}: give their size in mm (command line: --spacing)."
        )
    if spacing is None and pixel is not None and len(frames) == 1 and frames[0].is_at_detector:
        warn(
            source,
            f"states the size of its pixels at the detector alone ({times(pixel)} mm), where the patient looks larger: "
            "give the size in the patient, if you know it (command line: --spacing).",
        )
    is_placed = frames[0].position is not None and frames[0].axes is not None
    if pixel is None or not (is_placed or spacing is not None or len(frames) == 1):
        missing = " and ".join(["position and orientation"] * (not is_placed) + ["pixel spacing"] * (pixel is None))
        raise InputError(
            f"The {len(frames)} slices in '{source}' do not state their {missing}: export the original series, or give "
            "width, height and distance in mm (command line: --spacing 0.4x0.4x0.8)."
        )
    if len(frames) > 1 and not is_placed:
        warn(source, "does not state its position and orientation: check that left, right and above are right.")
    frames, step, places = _stacked(source, frames, spacing)
    axes = np.eye(3)[:, :2] if frames[0].axes is None else frames[0].axes
    affine = np.eye(4)
    affine[:3, :2] = axes * pixel
    affine[:3, 2] = np.cross(axes[:, 0], axes[:, 1]) * step if isinstance(step, float) else step
    if frames[0].position is not None:
        affine[:3, 3] = frames[0].position
    values = _values(source, frames)
    return Volume(values if places is None else _interpolated(values, places), affine)


def _without_doubles(source: Path, frames: list[Frame]) -> list[Frame]:
    unique: dict[str, Frame] = {}
    doubles = [frame for frame in frames if unique.setdefault(frame.instance, frame) is not frame]
    if doubles:
        warn(source, f"holds {len(doubles)} slices twice, such as '{doubles[0].path}': one of each is read.")
    return list(unique.values())


def _of_one_kind(source: Path, frames: list[Frame]) -> list[Frame]:
    """Without scouts and a few slices of another orientation or size; all are refused where they are more."""
    kinds: list[list[Frame]] = []
    for frame in [frame for frame in frames if not frame.is_scout] or frames:
        kind = next((kind for kind in kinds if kind[0].fits(frame)), None)
        if kind is not None:
            kind.append(frame)
        elif len(kinds) < _MOST_KINDS:
            kinds.append([frame])
    usual = max(kinds, key=len, default=[])
    kept = set(usual)
    strays = [frame for frame in frames if frame not in kept]
    if not strays:
        return frames
    unexplained = sum(not frame.is_scout for frame in strays)
    if unexplained > _MOST_STRAY or len(usual) < 3 * unexplained:
        raise InputError(
            f"The {len(frames)} slices in '{source}' have different orientations, sizes or spacings, or do not all "
            "state them: export one series alone."
        )
    shown = ", ".join(f"'{frame.path}'" for frame in strays[:_MOST_STRAY])
    warn(
        source,
        f"holds {len(strays)} images that are scouts, or of another orientation, size or spacing than the others, or "
        f"state less, such as no rescale: left out {shown}{' and others' * (len(strays) > _MOST_STRAY)}.",
    )
    return usual


def _stacked(
    source: Path, frames: list[Frame], spacing: Spacing | None
) -> tuple[list[Frame], np.ndarray | float, np.ndarray | None]:
    """Frames in order, the (3,) step between them or its length, and where uneven their places on the even grid."""
    first = frames[0]
    stated = spacing[2] if spacing is not None and len(spacing) > 2 else None
    if len(frames) == 1:
        return frames, float(stated or first.thickness or 1.0), None
    frames = sorted(frames, key=lambda frame: frame.order)
    if first.position is None or first.axes is None:
        if len({frame.order for frame in frames}) < len(frames):
            raise InputError(
                f"The {len(frames)} slices in '{source}' state neither their position nor a number each, so that "
                "their order is not known: export the original series."
            )
        return frames, float(stated or 1.0), None
    normal = np.cross(first.axes[:, 0], first.axes[:, 1])
    heights = np.array([frame.position for frame in frames]) @ normal
    frames = [frames[k] for k in np.argsort(heights, kind="stable")]
    _check_acquisitions(source, frames)
    step, places = _even(source, np.array([frame.position for frame in frames]), normal, stated is None)
    if stated is not None:
        return frames, step * (stated / (step @ normal)), None
    return frames, step, places


def _check_acquisitions(source: Path, frames: list[Frame]) -> None:
    """Refuse a series in which slices of one acquisition, or of one phase, lie between those of another."""
    for name in _ACQUISITIONS:
        stated = [frame.acquisition.get(name) for frame in frames]
        changes = sum(here != above for here, above in zip(stated, stated[1:]))
        if None not in stated and changes >= len(set(stated)):
            which = first_of([f"'{value}'" for value in dict.fromkeys(map(str, stated))])
            raise InputError(
                f"The {len(frames)} slices in '{source}' are of several acquisitions that lie in one another ({name} "
                f"{which}): export one of them alone."
            )


def _even(
    source: Path, positions: np.ndarray, normal: np.ndarray, must_be_even: bool
) -> tuple[np.ndarray, np.ndarray | None]:
    """(3,) step from slice to slice, and (K,) places in steps where slices do not lie evenly.

    Raises:
        InputError: slices are repeated, beside each other, or more than three are missing.
    """
    heights = (positions - positions[0]) @ normal
    gaps = np.diff(heights)
    usual = float(np.quantile(gaps, 0.5, method="lower"))
    whole = positions[-1] - positions[0]

    def refused(why: str) -> InputError:
        return InputError(
            f"The {len(positions)} slices in '{source}' are not evenly spaced ({why}): export the complete series, one "
            "time point alone."
        )

    if not usual > 0 or not np.isfinite(positions).all() or gaps.min() < 0.1 * usual:
        raise refused("some are repeated")
    sideways = positions - positions[0] - np.outer(heights / heights[-1], whole)
    if np.linalg.norm(sideways, axis=1).max() > _SIDEWAYS_MM:
        raise refused("some lie aside")
    step = whole / len(gaps)
    off = np.abs(heights - np.arange(len(heights)) * heights[-1] / len(gaps)).max()
    if not must_be_even or off <= max(_EVEN_MM, _EVEN_SHARE * usual):
        return step, None
    if gaps.max() > (_MOST_MISSING + 1.5) * usual:
        raise refused(f"a gap of {gaps.max():.4g} mm where {usual:.4g} mm are usual")
    warn(
        source,
        f"has slices that are not evenly spaced (largest gap {gaps.max():.4g} mm, usual {usual:.4g} mm): what lies "
        "between is interpolated.",
    )
    count = round(heights[-1] / max(float(np.quantile(gaps, 0.1)), usual / (_MOST_MISSING + 1)))
    return whole / count, heights / heights[-1] * count


def _interpolated(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Slices at whole places, linear between the neighbors."""
    count = round(places[-1]) + 1
    result = np.empty((*values.shape[:2], count), values.dtype, order="F")
    for k in range(count):
        above = int(np.clip(np.searchsorted(places, k), 1, len(places) - 1))
        share = np.clip((k - places[above - 1]) / (places[above] - places[above - 1]), 0, 1)
        mean = (1 - share) * values[..., above - 1] + share * values[..., above]
        result[..., k] = np.rint(mean) if values.dtype.kind in "iu" else mean
    return result


# Values


def _values(source: Path, frames: Sequence[Frame]) -> np.ndarray:
    """(columns, rows, slices) with each slice's rescale or table applied, negatives turned and padding set to air."""
    planes, paddings, tops = [], [], []
    read: Path | None = None
    for frame in frames:
        if frame.path != read:
            data = _dataset(frame.path, pixels=True)
            (stored, is_unmeasured), read = _stored(frame.path, data), frame.path
        plane = stored[frame.index]
        if plane.shape != frame.shape:
            raise damaged(frame.path)
        paddings.append(None if is_unmeasured is None else is_unmeasured[frame.index])
        top = _top_of_negative(data, plane)
        if frame.has_table:
            plane, top = _looked_up(frame.path, data, plane, top)
        planes.append(plane)
        tops.append(top)
    is_padding = None
    if any(padding is not None for padding in paddings):
        is_padding = np.stack([np.zeros(p.shape, bool) if m is None else m for p, m in zip(planes, paddings)])
    values = _rescaled(planes, frames)
    if any(top is not None for top in tops):
        turned = [p if top is None else (top - p.astype(np.int64)).astype(p.dtype) for p, top in zip(planes, tops)]
        values = _positive(source, values, _rescaled(turned, frames), is_padding)
    if is_padding is not None and is_padding.any() and not is_padding.all():
        values[is_padding] = air_of(values, is_padding)
    return values.transpose(2, 1, 0)


def _rescaled(planes: Sequence[np.ndarray], frames: Sequence[Frame]) -> np.ndarray:
    """(slices, rows, columns); whole numbers stay whole."""
    rescales = [frame.rescale or (1.0, 0.0) for frame in frames]
    if set(rescales) == {(1.0, 0.0)}:
        return np.stack(planes)
    kind: type[np.generic] = np.float32
    wide: type[np.generic] = np.float64
    if all(float(x).is_integer() for pair in rescales for x in pair) and all(p.dtype.kind in "iu" for p in planes):
        ends = [end * slope + b for p, (slope, b) in zip(planes, rescales) for end in (int(p.min()), int(p.max()))]
        kind, wide = np.int16 if min(ends) >= -(2**15) and max(ends) < 2**15 else np.int32, np.int64
    result = np.empty((len(planes), *planes[0].shape), kind)
    for k, (plane, (slope, intercept)) in enumerate(zip(planes, rescales)):
        result[k] = plane.astype(wide) * slope + intercept
    return result


def _looked_up(path: Path, data: Any, plane: np.ndarray, top: int | None) -> tuple[np.ndarray, int | None]:
    """Values of stored ones by the file's table, and the sum of its ends in place of `top` where that is one."""
    try:
        table = data.ModalityLUTSequence[0]
        count, first, bits = (int(number) for number in table.LUTDescriptor)
        count = count % 2**16 or 2**16
        first -= 2**16 * (plane.dtype.kind == "i" and first >= 2**15)
        values = table.LUTData
        if isinstance(values, bytes):
            is_big = data.file_meta.TransferSyntaxUID == _BIG_ENDIAN
            values = np.frombuffer(values, "u1" if bits <= 8 and len(values) < 2 * count else f"{'<>'[is_big]}u2")
        values = np.asarray(values).astype(np.uint16)[:count]
        if len(values) < count or plane.dtype.kind not in "iu":
            raise ValueError("a table that is cut, or of fractions")
        ends = int(values.min()) + int(values.max())
        return values[np.clip(plane.astype(np.int64) - first, 0, count - 1)], None if top is None else ends
    except Exception as error:  # of any kind, since files are hostile
        raise damaged(path) from error


def _padding(data: Any, stored: np.ndarray) -> np.ndarray | None:
    """Which pixels the file calls padding; None where it names no such value."""
    value = data.get("PixelPaddingValue")
    if value is None or stored.dtype.kind not in "iu":
        return None
    limits = np.iinfo(stored.dtype)
    first = int(value)
    last = int(data.get("PixelPaddingRangeLimit", first))
    wrapped = 2 ** (8 * stored.dtype.itemsize)  # where it is written with a sign and pixels without, or the reverse
    shift = -wrapped if first > limits.max else wrapped if first < limits.min else 0
    low, high = sorted((first + shift, last + shift))
    return (stored >= max(low, limits.min)) & (stored <= min(high, limits.max))


def _top_of_negative(data: Any, plane: np.ndarray) -> int | None:
    """Sum of the darkest and brightest stored value where the image is a negative, else None."""
    if str(data.get("PhotometricInterpretation", "")).strip() != "MONOCHROME1":
        return None
    return -1 if plane.dtype.kind == "i" else 2 ** int(data.get("BitsStored", 8 * plane.dtype.itemsize)) - 1


def _positive(source: Path, stored: np.ndarray, turned: np.ndarray, is_padding: np.ndarray | None) -> np.ndarray:
    """Values of negatives. In volumes the word may be meant for screens: whichever makes the rim dark is taken."""
    if len(stored) == 1:
        return turned

    def rim(array: np.ndarray) -> float:
        edges = array[:, [0, -1]]
        measured = edges if is_padding is None else edges[~is_padding[:, [0, -1]]]
        return float(np.median(measured)) if measured.size else 0.0

    is_stored = rim(stored) <= rim(turned)
    how = "as stored" if is_stored else "inverted"
    warn(source, f"calls its values inverted (MONOCHROME1): they are taken {how}, since the rim is dark then.")
    return stored if is_stored else turned


def _stored(path: Path, data: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """(frames, rows, columns) stored values, and which of them are padding, as for `_padding`."""
    syntax = data.file_meta.get("TransferSyntaxUID", _NATIVE[0])
    try:
        data.file_meta.TransferSyntaxUID = syntax
        array = _all_bits(data) if syntax in _NATIVE else _decoded(data)
        array = data.pixel_array if array is None else array
        array = array.astype(array.dtype.newbyteorder("="), copy=False)
        array = np.reshape(array, (int(data.get("NumberOfFrames") or 1), int(data.Rows), int(data.Columns)))
        is_padding = _padding(data, array)
        used = _used_bits(data, array) if syntax in _NATIVE else array
        if is_padding is not None and used is not array:  # padding may be a number that only the other bits can hold
            is_padding |= _padding(data, used)
        return used, is_padding
    except Exception as error:  # of any kind, since files are hostile
        if syntax in _DECODED:
            raise damaged(path) from error
        raise InputError(
            f"'{path}' is compressed in a way that is not read here ('{_pydicom().uid.UID(syntax).name[:80]}'): export "
            "it uncompressed."
        ) from error


def _all_bits(data: Any) -> np.ndarray:
    """Stored values with all their bits, of which pydicom 3 drops those above the lowest `BitsStored`."""
    stored = data.get("BitsStored")
    if stored is not None:
        data.BitsStored = data.BitsAllocated
    try:
        array: np.ndarray = data.pixel_array
    finally:
        if stored is not None:
            data.BitsStored = stored
    return array


def _used_bits(data: Any, array: np.ndarray) -> np.ndarray:
    """Values without the bits that belong to no value, which may hold an overlay, or lack the sign."""
    bits = 8 * array.dtype.itemsize
    stored = int(data.get("BitsStored", bits))
    high = int(data.get("HighBit", stored - 1))
    if array.dtype.kind not in "iu" or not 0 < stored <= high + 1 <= bits or stored == bits:
        return array
    return (array << (bits - 1 - high)) >> (bits - stored)


def _encapsulated(packed: bytes) -> bytes:
    """The content of items that follow each other without a gap; behind others ITK may look for minutes."""
    items, place = [], 0
    while packed[place : place + 4] == b"\xfe\xff\x00\xe0":
        (length,) = struct.unpack_from("<I", packed, place + 4)
        items.append(packed[place + 8 : place + 8 + length])
        place += 8 + length
    if place != len(packed):
        raise ValueError("what is no item lies between items")
    return b"".join(items[1:])  # the first one is a table


def _check_codestreams(data: Any, stream: bytes) -> None:
    """Refuse JPEG and JPEG 2000 images that are of another size than the file says: decoders believe theirs."""
    starts = [match.start() for match in re.finditer(rb"\xff\xd8\xff|\xff\x4f\xff\x51", stream)]
    for start, end in zip(starts, [*starts[1:], len(stream)]):
        if stream[start + 1] == 0xD8:
            found = jpeg_size(stream[start:end])
            size = (0, 0, 0) if found is None else (found.height, found.width, 1 + (found.bits - 1) // 16)
        else:
            width, height, left, top = struct.unpack_from(">4I", stream, start + 8)
            size = (height - top, width - left, struct.unpack_from(">H", stream, start + 40)[0])
        if size != (int(data.Rows), int(data.Columns), 1):
            raise ValueError("codestream of another size")
    if len(starts) < int(data.get("NumberOfFrames") or 1):
        raise ValueError("frames are missing")


def _decoded(data: Any) -> np.ndarray | None:
    """Stored values of a compressed file: ITK decodes a copy without rescale, which it would apply, or gives None."""
    pydicom = _pydicom()
    stream = _encapsulated(data.PixelData)
    if data.file_meta.TransferSyntaxUID.startswith(_JPEG):
        _check_codestreams(data, stream)
    copy = pydicom.dataset.FileDataset("", {}, b"\0" * 128, data.file_meta, is_implicit_VR=False)
    copy.update(data.group_dataset(0x0028))
    for name in ("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence"):
        copy.pop(name, None)
    copy.SOPClassUID, copy.SOPInstanceUID, copy["PixelData"] = data.SOPClassUID, data.SOPInstanceUID, data["PixelData"]
    copy.PhotometricInterpretation = "MONOCHROME2"
    with tempfile.TemporaryDirectory(prefix="h3de-") as folder:
        path = Path(folder, "slice.dcm")
        copy.save_as(path)
        try:
            return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
        except RuntimeError:
            return None
