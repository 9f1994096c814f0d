"""Scans on disk: NRRD, NIfTI, MetaImage, DICOM and pictures of radiographs in, a `Volume` out, and back.

Each form has its own reader (nifti, text_headers, dicom, radiograph_files), which states or refuses what a file leaves
open. SimpleITK, which assumes such things without a word, writes, and decodes pictures and compressed DICOM.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from H3DELandmarksLib.core.errors import InputError, OutputError, UnknownPixelSize
from H3DELandmarksLib.core.files import atomic_write, flush, shown
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.io.checks import RIGHT_ANGLE, Spacing, check_finite, padding_to_air, shear, warn
from H3DELandmarksLib.io.dicom import DICOM_EXTENSIONS, is_dicom, read_file, read_folder
from H3DELandmarksLib.io.nifti import read_nifti
from H3DELandmarksLib.io.radiograph_files import PICTURE_EXTENSIONS, read_picture
from H3DELandmarksLib.io.text_headers import read_metaimage, read_nrrd

READABLE_EXTENSIONS = (".nrrd", ".nhdr", ".nii", ".nii.gz", ".mha", ".mhd", *DICOM_EXTENSIONS, *PICTURE_EXTENSIONS)
UNKNOWN_SIZE = (1.0, 1.0)
WRITABLE_EXTENSIONS = (".nrrd", ".nii", ".nii.gz", ".mha")


def read_volume(
    path: str | Path,
    spacing: Spacing | None = None,
    series: str | None = None,
    as_stored: bool = False,
    needs_size: bool = True,
) -> Volume:
    """Read a scan.

    Args:
        path: NRRD, NIfTI or MetaImage file, one DICOM file, a folder with DICOM files (subfolders included; of several
            series the one with most slices is read), or the PNG, JPEG, BMP or TIFF file of a radiograph.
        spacing: what the file does not state or states wrongly: width and height of a pixel in mm for radiographs, and
            with a third number the distance of slices for scans.
        series: UID, number or description of the series to read, where a folder holds several.
        as_stored: keep padding outside the field of view, which otherwise gets the lowest value that was measured, so
            that it enters no percentile.
        needs_size: False gives a radiograph that does not state how large its pixels are pixels of 1 mm, see
            `core.image_plane.has_unknown_pixels`: for models that read lengths as shares of its height.

    Returns:
        Volume with the stored values, indexed [i, j, k], and its IJK -> LPS mm affine. A radiograph becomes one slice.

    Raises:
        InputError: the file is missing, not supported, damaged, not one scalar image, or without a usable geometry.
    """
    path = Path(path)
    _check_name(path)
    try:
        exists, is_folder = path.exists(), path.is_dir()
    except (OSError, ValueError) as error:
        raise InputError(f"'{path}' cannot be opened: check the path and the permission to read it.") from error
    if not exists:
        raise InputError(f"'{path}' does not exist: check the path, or whether its drive is connected.")
    try:
        with _quiet_itk():
            volume = read_folder(path, spacing, series) if is_folder else _read_file(path, spacing, series)
    except UnknownPixelSize:
        if needs_size:
            raise
        return read_volume(path, UNKNOWN_SIZE, series, as_stored)
    except MemoryError as error:
        raise InputError(f"'{path}' needs more memory than there is: close other programs or crop the scan.") from error
    except OSError as error:
        raise InputError(f"'{path}' cannot be read ({error.strerror}): check the permission to read it.") from error
    check_finite(path, volume.array)
    return volume if as_stored else Volume(padding_to_air(volume.array), volume.affine)


def without_ending(name: str) -> str:
    """The name of a file without the ending of an image; what is nothing but an ending stays."""
    ending = max((e for e in READABLE_EXTENSIONS if name.lower().endswith(e)), key=len, default="")
    return name[: len(name) - len(ending)] or name


def _check_name(path: Path) -> None:
    """Refuse names that are no UTF-8, such as those of old discs: libraries below abort the program on them."""
    if shown(path) != str(path):
        raise InputError(f"The name '{shown(path)}' is not UTF-8: rename the file or folder.")


def write_volume(path: str | Path, volume: Volume, compress: bool = True, durable: bool = True) -> None:
    """Write a scan; a file of that name is replaced only when the new one is complete.

    Args:
        path: .nrrd, .nii, .nii.gz or .mha. NIfTI keeps positions to about seven digits, the others exactly.
        volume: values and IJK -> LPS mm affine. Booleans are stored as 0 and 1, half precision as single.
        compress: whether a smaller file is worth seconds.
        durable: whether it is read back and must survive a loss of power; not needed by what lives for seconds.

    Raises:
        InputError: unsupported extension, or a sheared volume in NIfTI.
        OutputError: it cannot be written.
    """
    path = Path(path)
    _check_name(path)
    extension = _extension(path)
    if extension not in WRITABLE_EXTENSIONS:
        raise InputError(f"'{path}' cannot be written: choose a name that ends with {', '.join(WRITABLE_EXTENSIONS)}.")
    if extension.startswith(".nii") and shear(volume.affine[:3, :3]) > RIGHT_ANGLE:
        raise InputError(f"'{path}' cannot be written, because NIfTI holds no sheared scans: choose .nrrd instead.")
    try:
        with _quiet_itk(), atomic_write(path, durable=durable) as temporary:
            sitk.WriteImage(_image_from_volume(volume), str(temporary), compress)
            if durable:
                flush(temporary)
                _check_is_written(temporary, volume)
    except OutputError:
        raise
    except (RuntimeError, OSError, InputError) as error:
        raise OutputError(f"'{path}' cannot be written: check that the folder exists and has space.") from error


def _check_is_written(path: Path, volume: Volume) -> None:
    """Read back: NIfTI's writer does not tell when the disk is full."""
    if not np.array_equal(read_volume(path, as_stored=True).array, volume.array):
        raise OSError(f"'{path}' holds other values than were written")


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


def _read_file(path: Path, spacing: Spacing | None, series: str | None) -> Volume:
    if not path.is_file():
        raise InputError(f"'{path}' is no plain file: copy the scan to a file of its own.")
    if path.name.upper() == "DICOMDIR":
        return read_folder(path.parent, spacing, series)
    extension = _supported_extension(path)
    if path.stat().st_size == 0:
        raise InputError(f"'{path}' is empty: export or copy it again.")
    if series is not None and extension not in DICOM_EXTENSIONS:
        warn(path, f"holds no series, so that '{series}' chooses nothing: it is read as it is.")
    if extension in PICTURE_EXTENSIONS:
        return read_picture(path, spacing)
    if extension in DICOM_EXTENSIONS:
        return read_file(path, spacing)
    if spacing is not None and len(spacing) < 3:
        raise InputError(
            f"'{path}' states its own spacing: give a pixel size only for pictures and DICOM radiographs, "
            "three numbers for scans."
        )
    if extension.startswith(".nii"):
        return read_nifti(path, spacing)
    return read_nrrd(path, spacing) if extension in (".nrrd", ".nhdr") else read_metaimage(path, spacing)


def _supported_extension(path: Path) -> str:
    """The extension that decides how the file is read; DICOM files often have none, or the end of a UID."""
    extension = _extension(path)
    if extension in READABLE_EXTENSIONS:
        return extension
    if is_dicom(path):
        return ".dcm"
    raise InputError(
        f"'{path}' is not a supported scan: use NRRD, NIfTI (.nii, .nii.gz), MHA or MHD, "
        "DICOM, or for radiographs PNG, JPEG, BMP or TIFF."
    )


def _image_from_volume(volume: Volume) -> sitk.Image:
    array = np.ascontiguousarray(volume.array.T)
    number_type = {"b1": "u1", "f2": "f4"}.get(array.dtype.str[1:], array.dtype.newbyteorder("="))
    image = sitk.GetImageFromArray(array.astype(number_type, copy=False))
    image.SetSpacing(volume.spacing.tolist())
    image.SetOrigin(volume.affine[:3, 3].tolist())
    image.SetDirection((volume.affine[:3, :3] / volume.spacing).ravel().tolist())
    return image
