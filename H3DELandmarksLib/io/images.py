"""Scans on disk: NRRD, NIfTI, MetaImage, DICOM and pictures of radiographs in, a `Volume` out, and back.

Voxels go through SimpleITK; whatever it would repair without a word is refused first (see image_headers).
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.files import replaced_when_complete
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.io.image_headers import (
    DAMAGED,
    RIGHT_ANGLE,
    NiftiHeader,
    check_finite,
    check_nifti,
    check_spacing,
    count_not_finite,
    numbers,
    shear,
    text_header_spacing,
)
from H3DELandmarksLib.io.radiograph_files import PICTURE_EXTENSIONS, PixelSize, dicom_pixel_size, read_picture

log = logging.getLogger(__name__)

DICOM_EXTENSIONS = (".dcm", ".dicom", ".ima")
READABLE_EXTENSIONS = (".nrrd", ".nhdr", ".nii", ".nii.gz", ".mha", ".mhd", *DICOM_EXTENSIONS, *PICTURE_EXTENSIONS)
WRITABLE_EXTENSIONS = (".nrrd", ".nii", ".nii.gz", ".mha")

_IMAGE_POSITION, _PIXEL_SPACING = "0020|0032", "0028|0030"


def read_volume(path: str | Path, pixel_size: PixelSize | None = None) -> Volume:
    """Read a scan.

    Args:
        path: NRRD, NIfTI or MetaImage file, one DICOM file, a folder with DICOM files (subfolders included; of several
            series the one with most slices is read), or the PNG, JPEG, BMP or TIFF file of a radiograph.
        pixel_size: width and height of a pixel in mm, where a picture or the DICOM file of a radiograph does not state
            it, or is wrong.

    Returns:
        Volume with the stored values, indexed [i, j, k], and its IJK -> LPS mm affine. A radiograph becomes one slice.

    Raises:
        InputError: the file is missing, not supported, damaged, not one scalar image, or without a usable geometry.
    """
    path = Path(path)
    try:
        exists, is_folder = path.exists(), path.is_dir()
    except OSError as error:
        raise InputError(f"'{path}' cannot be opened: check the path and the permission to read it.") from error
    if not exists:
        raise InputError(f"'{path}' does not exist: check the path, or whether its drive is connected.")
    with _quiet_itk():
        volume = _read_series(path, pixel_size) if is_folder else _read_file(path, pixel_size)
    check_finite(path, count_not_finite(volume.array))
    return volume


def write_volume(path: str | Path, volume: Volume, compress: bool = True) -> None:
    """Write a scan; a file of that name is replaced only when the new one is complete.

    Args:
        path: .nrrd, .nii, .nii.gz or .mha. NIfTI keeps positions to about seven digits, the others exactly.
        volume: values and IJK -> LPS mm affine. Booleans are stored as 0 and 1, half precision as single.

    Raises:
        InputError: unsupported extension, a sheared volume in NIfTI, or a folder that cannot be written to.
    """
    path = Path(path)
    extension = _extension(path)
    if extension not in WRITABLE_EXTENSIONS:
        raise InputError(f"'{path}' cannot be written: choose a name that ends with {', '.join(WRITABLE_EXTENSIONS)}.")
    if extension.startswith(".nii") and shear(volume.affine[:3, :3]) > RIGHT_ANGLE:
        raise InputError(f"'{path}' cannot be written, because NIfTI holds no sheared scans: choose .nrrd instead.")
    try:
        with _quiet_itk(), replaced_when_complete(path) as temporary:
            sitk.WriteImage(_image_from_volume(volume), str(temporary), compress)
    except (RuntimeError, OSError) as error:
        raise InputError(f"'{path}' cannot be written: check that the folder exists and has space.") from error


@contextmanager
def _quiet_itk() -> Iterator[None]:
    """Keep ITK's warnings off the error output: what matters in them is checked here."""
    before = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(before)


def _extension(path: Path) -> str:
    """The lower-case extension; '.nii.gz' counts as one."""
    name = path.name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else path.suffix.lower()


def _read_file(path: Path, pixel_size: PixelSize | None) -> Volume:
    try:
        extension, size = _supported_extension(path), path.stat().st_size
    except OSError as error:
        raise InputError(f"'{path}' cannot be opened: check the permission to read it.") from error
    if size == 0:
        raise InputError(f"'{path}' is empty: export or copy it again.")
    if extension in PICTURE_EXTENSIONS:
        return _volume_from_image(read_picture(path, pixel_size))
    if pixel_size is not None and extension not in DICOM_EXTENSIONS:
        raise InputError(f"'{path}' states its own spacing: give a pixel size only for pictures and DICOM radiographs.")
    return _read_scan(path, extension, pixel_size)


def _read_scan(path: Path, extension: str, pixel_size: PixelSize | None) -> Volume:
    """Read a file of any format but pictures."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        _check_is_scalar_volume(path, reader)
        _check_header(path, extension, reader)
        if extension in DICOM_EXTENSIONS:
            return _volume_from_dicom(path, reader, pixel_size)
        return _volume_from_image(reader.Execute())
    except RuntimeError as error:
        _check_header(path, extension, None)  # a zero spacing may be why ITK gave up
        raise InputError(f"'{path}' {DAMAGED}.") from error


def _volume_from_dicom(path: Path, reader: sitk.ImageFileReader, pixel_size: PixelSize | None) -> Volume:
    """The volume of one DICOM file; one slice needs a pixel size. ITK turns negatives (MONOCHROME1) into positives."""
    image = reader.Execute()
    if math.prod(image.GetSize()[2:]) > 1:
        if pixel_size is not None:
            raise InputError(f"'{path}' is no radiograph but holds several slices: give no pixel size for it.")
        return _volume_from_image(image)
    pixel_size = pixel_size or dicom_pixel_size(reader)
    if pixel_size is None:
        raise InputError(
            f"'{path}' does not state how large its pixels are: give their size in mm (command line: --spacing)."
        )
    image.SetSpacing((*pixel_size, *image.GetSpacing()[2:]))
    return _volume_from_image(image)


def _supported_extension(path: Path) -> str:
    """The extension that decides how the file is read; DICOM files often have none, or the end of a UID."""
    extension = _extension(path)
    if extension in READABLE_EXTENSIONS:
        return extension
    with path.open("rb") as file:
        if file.read(132)[128:] == b"DICM":
            return ".dcm"
    raise InputError(
        f"'{path}' is not a supported scan: use NRRD, NIfTI (.nii, .nii.gz), MHA or MHD, "
        "DICOM, or for radiographs PNG, JPEG, BMP or TIFF."
    )


def _check_is_scalar_volume(path: Path, reader: sitk.ImageFileReader) -> None:
    """Refuse sequences, vectors and complex numbers before their voxels are read."""
    size = reader.GetSize()
    frames = math.prod(size[3:])
    components = reader.GetNumberOfComponents()
    if "complex" in sitk.GetPixelIDValueAsString(reader.GetPixelID()):
        raise InputError(f"'{path}' holds complex numbers, not one scan: save its magnitude and load that.")
    if components > 1:
        raise InputError(
            f"'{path}' has {components} values per voxel (color, vector or sequence): save one of them as a scan."
        )
    if frames > 1:
        raise InputError(f"'{path}' is a sequence of {frames} frames, not one scan: save one frame and load that.")
    if math.prod(size) == 0:
        raise InputError(f"'{path}' holds no voxels: export or copy it again.")


def _check_header(path: Path, extension: str, reader: sitk.ImageFileReader | None) -> None:
    """Refuse a header whose geometry or size ITK would repair silently.

    Args:
        path: file of a supported format.
        extension: as `_supported_extension` gives it.
        reader: one that has read the file's information, or None where it could not.
    """
    if extension.startswith(".nii"):
        header = NiftiHeader.read(path)
        check_spacing(path, header.spacing)
        check_nifti(path, header, RIGHT_ANGLE if reader is None else 10 * RIGHT_ANGLE)
    elif extension not in DICOM_EXTENSIONS:
        check_spacing(path, text_header_spacing(path))
    elif reader is not None and reader.HasMetaDataKey(_PIXEL_SPACING):
        check_spacing(path, numbers(reader.GetMetaData(_PIXEL_SPACING)))


def _volume_from_image(image: sitk.Image) -> Volume:
    """The voxels of an image, indexed [i, j, k], with the affine of its origin, spacing and direction (LPS)."""
    dimension = image.GetDimension()
    while dimension > 3:
        image, dimension = image[(slice(None),) * (dimension - 1) + (0,)], dimension - 1
    array = sitk.GetArrayFromImage(image).T
    directions = np.eye(3)
    directions[:dimension, :dimension] = np.reshape(image.GetDirection(), (dimension, dimension))
    affine = np.eye(4)
    affine[:dimension, 3] = image.GetOrigin()
    if dimension == 2:
        array = array[:, :, np.newaxis]
        directions[:, 2] = np.cross(directions[:, 0], directions[:, 1])
    affine[:3, :3] = directions * (*image.GetSpacing(), 1.0)[:3]
    return Volume(array, affine)


def _image_from_volume(volume: Volume) -> sitk.Image:
    array = np.ascontiguousarray(volume.array.T)
    replacements: dict[np.dtype, np.dtype] = {
        np.dtype(bool): np.dtype(np.uint8),
        np.dtype(np.float16): np.dtype(np.float32),
    }
    number_type = array.dtype.newbyteorder("=")
    image = sitk.GetImageFromArray(array.astype(replacements.get(number_type, number_type), copy=False))
    image.SetSpacing(volume.spacing.tolist())
    image.SetOrigin(volume.affine[:3, 3].tolist())
    image.SetDirection((volume.affine[:3, :3] / volume.spacing).ravel().tolist())
    return image


def _read_series(folder: Path, pixel_size: PixelSize | None) -> Volume:
    names = _largest_series(folder)
    if len(names) == 1:
        return _read_scan(Path(names[0]), ".dcm", pixel_size)
    if pixel_size is not None:
        raise InputError(f"'{folder}' holds a series of {len(names)} slices: give no pixel size for it.")
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(names)
    reader.MetaDataDictionaryArrayUpdateOn()
    first = sitk.ImageFileReader()
    first.SetFileName(names[0])
    try:
        first.ReadImageInformation()
        _check_is_scalar_volume(folder, first)
        _check_header(folder, ".dcm", first)
        image = reader.Execute()
    except RuntimeError as error:
        raise InputError(f"The files in '{folder}' cannot be read as one scan: export the series again.") from error
    volume = _volume_from_image(image)
    slices = range(len(names))
    if not all(reader.HasMetaDataKey(k, _IMAGE_POSITION) for k in slices):
        return volume
    positions = [numbers(reader.GetMetaData(k, _IMAGE_POSITION)) for k in slices]
    return Volume(volume.array, _affine_along_slices(folder, volume.affine, np.array(positions)))


def _largest_series(folder: Path) -> list[str]:
    """Files of the series with most slices, in the order of their positions."""
    series = []
    for place, _, files in os.walk(folder):
        if files:
            for uid in sitk.ImageSeriesReader.GetGDCMSeriesIDs(place):
                series.append((uid, sitk.ImageSeriesReader.GetGDCMSeriesFileNames(place, uid)))
    if not series:
        raise InputError(f"The folder '{folder}' holds no DICOM files: choose the folder of a series, or a scan file.")
    uid, names = max(series, key=lambda item: len(item[1]))
    if len(series) > 1:
        log.warning(
            "'%s' holds %d DICOM series: reading the one with most slices (%d, series %s).",
            folder,
            len(series),
            len(names),
            uid,
        )
    return list(names)


def _affine_along_slices(folder: Path, affine: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """The affine whose third axis follows the slices' positions, as gantry tilt demands; ITK assumes a right angle.

    Args:
        folder: for the message.
        affine: (4, 4) IJK -> LPS mm as ITK gives it.
        positions: (K, 3) LPS mm of the first voxel of each slice.

    Raises:
        InputError: slices are missing, repeated or unevenly spaced.
    """
    count = len(positions)
    step = (positions[-1] - positions[0]) / (count - 1)
    expected = positions[0] + np.arange(count)[:, np.newaxis] * step
    length = np.linalg.norm(step)
    if not length > 0 or np.linalg.norm(positions - expected, axis=1).max() > 0.25 * length:
        raise InputError(
            f"The {count} slices in '{folder}' are not evenly spaced (some are missing or repeated): "
            "export the complete series, one time point alone."
        )
    affine = affine.copy()
    affine[:3, 2] = step
    return affine
