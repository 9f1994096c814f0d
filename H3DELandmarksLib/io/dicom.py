"""DICOM: the position, distance and values of every slice, and the volume that follows from them.

One series is gathered by its UID, wherever its files lie. Slices are sorted by position. Even distances, also with a
tilted gantry, give the volume as stored; uneven ones are interpolated onto even distances, with a warning; where more
than three slices are missing, or geometry is not stated, the scan is refused unless the user states it.
Each slice gets its own rescale. PixelPaddingValue gets the lowest value that was measured.
"""

from __future__ import annotations

import logging
import math
import os
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from H3DELandmarksLib.core.errors import H3DELandmarksError, InputError, MissingDependencyError
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.io.checks import Spacing, check_scalar_volume, check_spacing, check_unpacked_size, damaged

log = logging.getLogger(__name__)

_SAME_AXIS = 0.01  # largest difference of a direction's components within a scan
_EVEN_MM, _EVEN_SHARE = 0.02, 0.02  # of the distance: how far positions may be off an even grid
_SIDEWAYS_MM = 0.2
_MOST_MISSING = 3
_MOST_STRAY = 3
_DEFLATED = "1.2.840.10008.1.2.1.99"
_NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", _DEFLATED)
_DEFLATED_LIMIT = 2**30


@dataclass(frozen=True)
class Frame:
    """One slice as its file states it.

    Attributes:
        path, index: file and frame in it.
        series, number, description, instance: UID and number and text of the series, UID of the image.
        order: number within the series.
        shape: rows and columns.
        position: (3,) LPS mm of the first pixel, None where it is not stated.
        axes: (3, 2) directions along a row and along a column, None where they are not stated.
        pixel: width and height in mm, None where they are not stated.
        thickness: mm, None where it is not stated.
        slope, intercept: value = slope * stored + intercept.
        is_scout: whether the file calls itself one.
    """

    path: Path
    index: int
    series: str
    number: str
    description: str
    instance: str
    order: int
    shape: tuple[int, int]
    position: np.ndarray | None
    axes: np.ndarray | None
    pixel: tuple[float, float] | None
    thickness: float | None
    slope: float
    intercept: float
    is_scout: bool


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
        series: UID, number or description; by default the series with most slices.

    Raises:
        InputError: there is none, or its geometry cannot be used.
    """
    by_series: dict[str, list[Frame]] = {}
    broken = []
    for path in _files(folder):
        try:
            for frame in _frames(path, _dataset(path)):
                by_series.setdefault(frame.series, []).append(frame)
        except H3DELandmarksError as error:
            broken.append(str(error))
    if broken and not by_series:
        raise InputError(broken[0])
    if not by_series:
        raise InputError(f"The folder '{folder}' holds no DICOM files: choose the folder of a series, or a scan file.")
    if broken:
        log.warning("'%s' holds %d DICOM files that cannot be read, such as: %s", folder, len(broken), broken[0])
    return _volume(folder, _chosen(folder, by_series, series), spacing)


def modality(path: Path) -> str:
    """DICOM's code of what a scan was made with, such as CT; empty where the first file of it does not say."""
    first = next(_files(path), None) if path.is_dir() else path if _is_dicom(path) else None
    return "" if first is None else str(_dataset(first).get("Modality") or "")


def _files(folder: Path) -> Iterator[Path]:
    """Files that begin as DICOM does; links are followed, each place is visited once."""
    visited: set[str] = set()
    for place, names, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in visited:
            names.clear()
            continue
        visited.add(real)
        names.sort()
        for name in sorted(files):
            path = Path(place, name)
            if path.is_file() and _is_dicom(path):
                yield path


def _is_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM" and path.name.upper() != "DICOMDIR"
    except OSError:
        return False


def _chosen(folder: Path, by_series: dict[str, list[Frame]], wanted: str | None) -> list[Frame]:
    """The frames of the series that the user names, or of the one with most slices."""

    def names(frames: list[Frame]) -> tuple[str, ...]:
        return frames[0].series, frames[0].number, frames[0].description

    def told(frames: list[Frame]) -> str:
        uid, number, description = names(frames)
        return f"{number or '?'} '{description}' ({len(frames)} slices, series {uid})"

    found = list(by_series.values())
    if wanted is not None:
        fitting = [frames for frames in found if wanted in names(frames)]
        if len(fitting) != 1:
            raise InputError(
                f"'{folder}' holds {len(fitting)} series '{wanted}': choose one of {'; '.join(map(told, found))}."
            )
        return fitting[0]
    stacks = [frames for frames in found if not all(frame.is_scout for frame in frames)] or found
    chosen = max(stacks, key=len)
    if len(found) > 1:
        log.warning(
            "'%s' holds %d DICOM series: reading the one with most slices (%d, series %s). Left out: %s. Choose "
            "another by its number (command line: --series).",
            folder,
            len(found),
            len(chosen),
            chosen[0].series,
            "; ".join(told(frames) for frames in found if frames is not chosen),
        )
    return chosen


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
        _check_deflated(path, pydicom)
        data = pydicom.dcmread(path, stop_before_pixels=not pixels)
        data.get("Rows")
        return data
    except H3DELandmarksError:
        raise
    except Exception as error:  # of any kind, since files are hostile
        raise damaged(path) from error


def _check_deflated(path: Path, pydicom: Any) -> None:
    meta = pydicom.filereader.read_file_meta_info(path)
    if meta.get("TransferSyntaxUID") != _DEFLATED:
        return
    with path.open("rb") as file:
        file.seek(144 + int(meta.get("FileMetaInformationGroupLength", 0)))
        stream, total, data = zlib.decompressobj(-15), 0, file.read()
    while data and not stream.eof:
        total += len(stream.decompress(data, 2**24))
        data = stream.unconsumed_tail
        if total > _DEFLATED_LIMIT:
            check_unpacked_size(path, path.stat().st_size, total)


def _floats(value: Any, count: int) -> list[float] | None:
    """`count` numbers; None where the attribute is missing or empty."""
    if value is None or value == "":
        return None
    values = [float(x) for x in (value if hasattr(value, "__iter__") and not isinstance(value, str) else [value])]
    return values if len(values) == count else None


def _groups(data: Any, index: int) -> list[Any]:
    """Where attributes of a frame can stand, the nearest first."""
    places = []
    for sequence in (data.get("PerFrameFunctionalGroupsSequence"), data.get("SharedFunctionalGroupsSequence")):
        if sequence:
            at = index if sequence is data.get("PerFrameFunctionalGroupsSequence") else 0
            if at < len(sequence):
                places += [
                    item[0] for item in (element.value for element in sequence[at] if element.VR == "SQ") if item
                ]
    return [*places, data]


def _frames(path: Path, data: Any) -> list[Frame]:
    """All frames of a file; none where it holds no image."""
    if "Rows" not in data or "Columns" not in data:
        if path.name and "PixelData" not in data and "SOPClassUID" in data:
            return []
        raise damaged(path)
    try:
        count = int(data.get("NumberOfFrames") or 1)
        if not 1 <= count <= 65536:
            raise damaged(path)
        check_scalar_volume(path, (int(data.Columns), int(data.Rows), count), int(data.get("SamplesPerPixel", 1)))
        bits = int(data.get("BitsAllocated", 16))
        check_unpacked_size(path, path.stat().st_size, int(data.Columns) * int(data.Rows) * count * bits // 8)
        return [_frame(path, data, k, count) for k in range(count)]
    except H3DELandmarksError:
        raise
    except Exception as error:  # as above
        raise damaged(path) from error


def _frame(path: Path, data: Any, index: int, count: int) -> Frame:
    places = _groups(data, index)

    def stated(name: str, length: int) -> list[float] | None:
        return next((v for v in (_floats(place.get(name), length) for place in places) if v is not None), None)

    position, orientation = stated("ImagePositionPatient", 3), stated("ImageOrientationPatient", 6)
    between = stated("SpacingBetweenSlices", 1)
    is_many_in_one = count > 1 and "PerFrameFunctionalGroupsSequence" not in data
    axes = None if orientation is None else np.reshape(orientation, (2, 3)).T
    if is_many_in_one and position is not None:
        position = _position_in_file(data, position, axes, between, index)
    pixel = next(
        (v for n in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing") if (v := stated(n, 2))), None
    )
    if pixel is not None:
        check_spacing(path, pixel)
    thickness = stated("SliceThickness", 1)
    slope = (stated("RescaleSlope", 1) or [1.0])[0]
    intercept = (stated("RescaleIntercept", 1) or [0.0])[0]
    if not (math.isfinite(slope) and slope != 0 and math.isfinite(intercept)):
        raise InputError(f"'{path}' states a rescale slope of {slope:g}: export the series again.")
    kinds = {str(word).upper() for word in np.atleast_1d(data.get("ImageType", ""))}
    return Frame(
        path=path,
        index=index,
        series=str(data.get("SeriesInstanceUID", "")),
        number=str(data.get("SeriesNumber", "") or ""),
        description=str(data.get("SeriesDescription", "") or ""),
        instance=f"{data.get('SOPInstanceUID', path)}/{index}",
        order=int(data.get("InstanceNumber") or 0) * 65536 + index,
        shape=(int(data.Rows), int(data.Columns)),
        position=None if position is None else np.array(position),
        axes=axes,
        pixel=None if pixel is None else (pixel[1], pixel[0]),
        thickness=thickness[0] if thickness and thickness[0] > 0 else None,
        slope=slope,
        intercept=intercept,
        is_scout=bool(kinds & {"LOCALIZER", "SCOUT"}),
    )


def _position_in_file(
    data: Any, first: list[float], axes: np.ndarray | None, between: list[float] | None, index: int
) -> list[float] | None:
    """Position of a frame where a file states only that of the first and the distances."""
    offsets = data.get("GridFrameOffsetVector")
    if axes is None or (offsets is None and between is None):
        return None
    along = float(offsets[index]) - float(offsets[0]) if offsets is not None else index * between[0]
    return list(np.array(first) + along * np.cross(axes[:, 0], axes[:, 1]))


# Geometry


def _volume(source: Path, frames: list[Frame], spacing: Spacing | None) -> Volume:
    """The volume of the frames of one series."""
    frames = _without_strays(source, _without_doubles(source, frames))
    if not frames:
        raise InputError(f"'{source}' holds no image: choose a scan.")
    if len(frames) == 1:
        return _single(source, frames[0], spacing)
    if spacing is not None and len(spacing) < 3:
        raise InputError(
            f"'{source}' is no radiograph but holds a series of {len(frames)} slices: give no pixel size for it, or "
            "three numbers."
        )
    frames, affine, places = _placed(source, frames, spacing)
    values = _values(source, frames)
    return Volume(values if places is None else _interpolated(values, places), affine)


def _without_doubles(source: Path, frames: list[Frame]) -> list[Frame]:
    unique = {frame.instance: frame for frame in reversed(frames)}
    doubles = [frame for frame in frames if unique[frame.instance] is not frame]
    if doubles:
        log.warning(
            "'%s' holds %d slices twice, such as '%s': one of each is read.", source, len(doubles), doubles[0].path
        )
    return [frame for frame in frames if unique[frame.instance] is frame]


def _without_strays(source: Path, frames: list[Frame]) -> list[Frame]:
    """Without scouts and a few slices of another orientation or size; all are refused where they are more."""

    def kind(frame: Frame) -> tuple:
        axes = None if frame.axes is None else tuple(np.round(frame.axes.ravel() / _SAME_AXIS / 2).astype(int))
        return frame.shape, axes, None if frame.pixel is None else tuple(round(edge, 4) for edge in frame.pixel)

    counts = Counter(map(kind, frames))
    usual, number = counts.most_common(1)[0] if counts else (None, 0)
    strays = [frame for frame in frames if kind(frame) != usual]
    if not strays:
        return frames
    if not (all(f.is_scout for f in strays) or (len(strays) <= _MOST_STRAY and number >= 3 * len(strays))):
        raise InputError(
            f"The {len(frames)} slices in '{source}' have different orientations, sizes or spacings: "
            "export one series alone."
        )
    log.warning(
        "'%s' holds %d images of another orientation, size or spacing than the others, such as '%s': left out.",
        source,
        len(strays),
        strays[0].path,
    )
    return [frame for frame in frames if kind(frame) == usual]


def _single(source: Path, frame: Frame, spacing: Spacing | None) -> Volume:
    pixel = spacing[:2] if spacing is not None else frame.pixel
    if pixel is None:
        raise InputError(
            f"'{source}' does not state how large its pixels are: give their size in mm (command line: --spacing)."
        )
    affine = np.eye(4)
    if frame.axes is not None:
        affine[:3, :2] = frame.axes
        affine[:3, 2] = np.cross(frame.axes[:, 0], frame.axes[:, 1])
    affine[:3, :3] *= (*pixel, spacing[2] if spacing is not None and len(spacing) > 2 else frame.thickness or 1.0)
    if frame.position is not None:
        affine[:3, 3] = frame.position
    return Volume(_values(source, [frame]), affine)


def _placed(
    source: Path, frames: list[Frame], spacing: Spacing | None
) -> tuple[list[Frame], np.ndarray, np.ndarray | None]:
    """Frames in order, the (4, 4) IJK -> LPS mm affine, and where uneven each frame's place on the even grid."""
    is_placed = all(frame.position is not None and frame.axes is not None for frame in frames)
    pixel = spacing[:2] if spacing is not None else frames[0].pixel
    if pixel is None or (not is_placed and spacing is None):
        missing = " and ".join(["position and orientation"] * (not is_placed) + ["pixel spacing"] * (pixel is None))
        raise InputError(
            f"The {len(frames)} slices in '{source}' do not state their {missing}: export the original series, or give "
            "width, height and distance in mm (command line: --spacing 0.4x0.4x0.8)."
        )
    affine = np.eye(4)
    if not is_placed:
        log.warning("'%s' does not state its position and orientation: check that left and right are right.", source)
        affine[:3, :3] *= spacing
        return sorted(frames, key=lambda frame: frame.order), affine, None
    axes = frames[0].axes
    normal = np.cross(axes[:, 0], axes[:, 1])
    if not np.allclose(axes.T @ axes, np.eye(2), atol=_SAME_AXIS):
        raise InputError(f"The slices in '{source}' have no usable orientation: export the series again.")
    frames = sorted(frames, key=lambda frame: float(frame.position @ normal))
    positions = np.array([frame.position for frame in frames])
    step, places = _even(source, positions, normal)
    affine[:3, :2] = axes * pixel
    affine[:3, 2] = step
    affine[:3, 3] = positions[0]
    return frames, affine, places


def _even(source: Path, positions: np.ndarray, normal: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """(3,) step from slice to slice, and (K,) places in steps where slices do not lie evenly.

    Raises:
        InputError: slices are repeated, beside each other, or more than three are missing.
    """
    heights = (positions - positions[0]) @ normal
    gaps = np.diff(heights)
    usual = float(np.median(gaps))
    whole = positions[-1] - positions[0]
    advice = "export the complete series, one time point alone."
    if not usual > 0 or not np.isfinite(positions).all() or gaps.min() < 0.1 * usual:
        raise InputError(
            f"The {len(positions)} slices in '{source}' are not evenly spaced (some are repeated): {advice}"
        )
    sideways = positions - positions[0] - np.outer(heights / heights[-1], whole)
    if np.linalg.norm(sideways, axis=1).max() > _SIDEWAYS_MM:
        raise InputError(f"The {len(positions)} slices in '{source}' are not evenly spaced (some lie aside): {advice}")
    step = whole / (len(positions) - 1)
    off = np.abs(heights - np.arange(len(heights)) * heights[-1] / (len(heights) - 1)).max()
    if off <= max(_EVEN_MM, _EVEN_SHARE * usual):
        return step, None
    if gaps.max() > (_MOST_MISSING + 1.5) * usual:
        raise InputError(
            f"The {len(positions)} slices in '{source}' are not evenly spaced (a gap of {gaps.max():.4g} mm where "
            f"{usual:.4g} mm are usual): {advice}"
        )
    count = round(heights[-1] / usual)
    log.warning(
        "The slices in '%s' are not evenly spaced (largest gap %.4g mm, usual %.4g mm): what lies between is "
        "interpolated.",
        source,
        gaps.max(),
        usual,
    )
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
    """(columns, rows, slices) with each slice's rescale applied and padding set to the lowest measured value."""
    planes, paddings, inverted = [], [], []
    read: Path | None = None
    for frame in frames:
        if frame.path != read:
            data = _dataset(frame.path, pixels=True)
            stored, read = _stored(frame.path, data), frame.path
        plane = stored[frame.index]
        if plane.shape != frame.shape:
            raise damaged(frame.path)
        planes.append(plane)
        paddings.append(_padding(data, plane))
        inverted.append(_inverted(data, plane))
    values = _rescaled(list(zip(planes, frames)))
    if any(top is not None for top in inverted):
        values = _positive(source, planes, frames, inverted, values)
    is_padding = np.stack(paddings)
    if is_padding.any() and not is_padding.all():
        values[is_padding] = values[~is_padding].min()
    return values.transpose(2, 1, 0)


def _rescaled(planes: Sequence[tuple[np.ndarray, Frame]]) -> np.ndarray:
    """(slices, rows, columns); whole numbers stay whole."""
    rescales = {(frame.slope, frame.intercept) for _, frame in planes}
    if rescales == {(1.0, 0.0)}:
        return np.stack([plane for plane, _ in planes])
    is_whole = all(float(s).is_integer() and float(b).is_integer() for s, b in rescales)
    kind = np.float32
    if is_whole and all(plane.dtype.kind in "iu" for plane, _ in planes):
        ends = [e * f.slope + f.intercept for p, f in planes for e in (int(p.min()), int(p.max()))]
        kind = np.int16 if min(ends) >= -(2**15) and max(ends) < 2**15 else np.int32
    result = np.empty((len(planes), *planes[0][0].shape), kind)
    for k, (plane, frame) in enumerate(planes):
        wide = np.int64 if kind is not np.float32 else np.float64
        result[k] = plane.astype(wide) * wide(frame.slope) + wide(frame.intercept)
    return result


def _padding(data: Any, plane: np.ndarray) -> np.ndarray:
    """Which pixels the file calls padding."""
    value = data.get("PixelPaddingValue")
    if value is None or plane.dtype.kind not in "iu":
        return np.zeros(plane.shape, bool)
    first = int(value)
    last = int(data.get("PixelPaddingRangeLimit", first))
    if first > np.iinfo(plane.dtype).max:  # written as unsigned where pixels are signed
        first, last = first - 65536, last - 65536
    return (plane >= min(first, last)) & (plane <= max(first, last))


def _inverted(data: Any, plane: np.ndarray) -> int | None:
    """Sum of the darkest and brightest stored value where the image is a negative, else None."""
    if str(data.get("PhotometricInterpretation", "")).strip() != "MONOCHROME1":
        return None
    return -1 if plane.dtype.kind == "i" else 2 ** int(data.get("BitsStored", 8 * plane.dtype.itemsize)) - 1


def _positive(
    source: Path, planes: list[np.ndarray], frames: Sequence[Frame], tops: list[int | None], values: np.ndarray
) -> np.ndarray:
    """Values of negatives. In Hounsfield units the word is for screens: whichever makes the rim air is taken."""
    turned = [p if top is None else (top - p.astype(np.int64)).astype(p.dtype) for p, top in zip(planes, tops)]
    positive = _rescaled(list(zip(turned, frames)))
    if all(frame.intercept == 0 for frame in frames):
        return positive

    def rim(array: np.ndarray) -> float:
        return float(np.median(array[:, [0, 0, -1, -1], [0, -1, 0, -1]]))

    taken = values if rim(values) <= rim(positive) else positive
    log.warning(
        "'%s' calls its values inverted (MONOCHROME1): they are taken %s, since air is around the patient then.",
        source,
        "as stored" if taken is values else "inverted",
    )
    return taken


def _stored(path: Path, data: Any) -> np.ndarray:
    """(frames, rows, columns) stored values."""
    try:
        syntax = str(data.file_meta.get("TransferSyntaxUID", _NATIVE[0]))
        array = data.pixel_array if syntax in _NATIVE else _decoded(data)
        count = int(data.get("NumberOfFrames") or 1)
        return np.reshape(array, (count, int(data.Rows), int(data.Columns)))
    except Exception as error:  # of any kind, since files are hostile
        raise damaged(path) from error


_PIXEL_MODULE = (
    "SOPClassUID",
    "SOPInstanceUID",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelData",
)


def _decoded(data: Any) -> np.ndarray:
    """Stored values of a compressed file: ITK decodes a copy without rescale, which it would apply."""
    pydicom = _pydicom()
    copy = pydicom.dataset.FileDataset("", {}, file_meta=data.file_meta, preamble=b"\0" * 128)
    for name in _PIXEL_MODULE:
        if name in data:
            copy[name] = data[name]
    copy.PhotometricInterpretation = "MONOCHROME2"
    with tempfile.TemporaryDirectory(prefix="h3de-") as folder:
        path = Path(folder, "slice.dcm")
        copy.save_as(path)
        return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
