"""Scans on disk: what is read, what is refused and in which words."""

import struct
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.io.images import WRITABLE_EXTENSIONS, read_volume, without_ending, write_volume

OBLIQUE = np.array([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]])


def oblique_volume(dtype=np.int16) -> Volume:
    """A small anisotropic scan with distinct voxels, turned away from every patient axis."""
    affine = np.eye(4)
    affine[:3, :3] = OBLIQUE * (0.5, 1 / 3, 2.0)
    affine[:3, 3] = 10.25, -20.5, 1 / 3
    return Volume(np.arange(60).reshape(3, 4, 5).astype(dtype), affine)


def write_image(path: Path, array: np.ndarray, is_vector: bool = False, compress: bool = False) -> Path:
    """Write an array in ITK's order [k, j, i] without this library."""
    sitk.WriteImage(sitk.GetImageFromArray(array, isVector=is_vector), str(path), compress)
    return path


def write_slices(folder: Path, positions: list[float], series: str = "1.2.3", tilt: float = 0.0) -> Path:
    """Write DICOM slices of 4 x 3 voxels, 0.5 x 0.6 mm; slice n holds the value n and lies at (10, 20 + n tilt, z)."""
    folder.mkdir(parents=True, exist_ok=True)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for n, z in enumerate(positions):
        image = sitk.GetImageFromArray(np.full((1, 3, 4), n, np.int16))
        image.SetSpacing((0.5, 0.6, 1.0))
        tags = {
            "0008|0060": "CT",
            "0008|0016": "1.2.840.10008.5.1.4.1.1.2",
            "0008|0018": f"{series}.{n + 1}",
            "0020|000d": "1.2",
            "0020|000e": series,
            "0020|0013": str(n + 1),
            "0020|0032": f"10\\{20 + n * tilt}\\{z}",
            "0020|0037": "1\\0\\0\\0\\1\\0",
        }
        for tag, value in tags.items():
            image.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{series}-{n:03}.dcm"))
        writer.Execute(image)
    return folder


def patched(path: Path, offset: int, layout: str, *values: float) -> Path:
    """Overwrite a field of a binary header."""
    data = bytearray(path.read_bytes())
    struct.pack_into(layout, data, offset, *values)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("extension", WRITABLE_EXTENSIONS)
def test_a_scan_keeps_voxels_and_positions(tmp_path, extension):
    volume = oblique_volume()
    write_volume(tmp_path / f"scan{extension}", volume)
    read = read_volume(tmp_path / f"scan{extension}")
    np.testing.assert_array_equal(read.array, volume.array)
    assert read.array.dtype == np.int16
    precision = 1e-5 if ".nii" in extension else 1e-12
    np.testing.assert_allclose(read.affine, volume.affine, atol=precision)


@pytest.mark.parametrize("extension", WRITABLE_EXTENSIONS)
def test_a_left_handed_scan_keeps_its_positions(tmp_path, extension):
    volume = oblique_volume()
    mirrored = Volume(volume.array, volume.affine * np.array([-1, 1, 1, 1]))
    write_volume(tmp_path / f"scan{extension}", mirrored)
    np.testing.assert_allclose(read_volume(tmp_path / f"scan{extension}").affine, mirrored.affine, atol=1e-5)


def test_positions_agree_with_an_independent_reader(tmp_path):
    write_volume(tmp_path / "scan.nii.gz", oblique_volume())
    ras = nibabel.load(tmp_path / "scan.nii.gz").affine
    np.testing.assert_allclose(np.diag([-1, -1, 1, 1]) @ ras, oblique_volume().affine, atol=1e-5)


def test_the_array_is_indexed_i_j_k(tmp_path):
    path = write_image(tmp_path / "scan.nrrd", np.arange(24, dtype=np.int16).reshape(2, 3, 4))
    volume = read_volume(path)
    assert volume.array.shape == (4, 3, 2)
    assert volume.array[1, 0, 0] == 1 and volume.array[0, 1, 0] == 4 and volume.array[0, 0, 1] == 12


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int32, np.int64, np.float32, np.float64])
@pytest.mark.parametrize("extension", WRITABLE_EXTENSIONS)
def test_number_types_are_kept(tmp_path, dtype, extension):
    write_volume(tmp_path / f"scan{extension}", oblique_volume(dtype))
    assert read_volume(tmp_path / f"scan{extension}").array.dtype == dtype


def test_booleans_half_precision_and_big_endian_values_are_written(tmp_path):
    for dtype, stored in ((bool, np.uint8), (np.float16, np.float32), (np.dtype(">i2"), np.int16)):
        volume = oblique_volume(dtype)
        write_volume(tmp_path / "scan.nrrd", volume)
        read = read_volume(tmp_path / "scan.nrrd")
        assert read.array.dtype == stored
        np.testing.assert_array_equal(read.array, volume.array)


def test_a_big_endian_file_is_read(tmp_path):
    volume = oblique_volume()
    header = nibabel.Nifti1Header(endianness=">")
    header.set_data_dtype(">i2")
    ras = np.diag([-1, -1, 1, 1]) @ volume.affine
    nibabel.save(nibabel.Nifti1Image(volume.array.astype(">i2"), ras, header), tmp_path / "scan.nii")
    assert (tmp_path / "scan.nii").read_bytes()[:4] == b"\0\0\1\x5c"
    np.testing.assert_array_equal(read_volume(tmp_path / "scan.nii").array, volume.array)


def test_a_sheared_scan_is_kept_by_nrrd_and_refused_by_nifti(tmp_path):
    affine = oblique_volume().affine.copy()
    affine[:3, 1] += 0.1 * affine[:3, 0]
    volume = Volume(oblique_volume().array, affine)
    write_volume(tmp_path / "scan.nrrd", volume)
    np.testing.assert_allclose(read_volume(tmp_path / "scan.nrrd").affine, affine, atol=1e-12)
    with pytest.raises(InputError, match=r"sheared scans: choose \.nrrd"):
        write_volume(tmp_path / "scan.nii.gz", volume)


def test_accents_and_blanks_in_paths_are_fine(tmp_path):
    folder = tmp_path / "Müller été" / "tête à 3"
    folder.mkdir(parents=True)
    write_volume(folder / "scan é.nii.gz", oblique_volume())
    assert read_volume(str(folder / "scan é.nii.gz")).array.shape == (3, 4, 5)


def test_a_radiograph_becomes_one_slice(tmp_path):
    path = write_image(tmp_path / "film.mha", np.arange(6, dtype=np.uint8).reshape(2, 3))
    volume = read_volume(path)
    assert volume.array.shape == (3, 2, 1)
    np.testing.assert_array_equal(volume.affine, np.eye(4))


def test_a_sequence_of_one_frame_is_a_scan(tmp_path):
    assert read_volume(write_image(tmp_path / "one.nrrd", np.zeros((1, 2, 3, 4), np.int16))).array.shape == (4, 3, 2)


def test_a_constant_scan_is_allowed(tmp_path):
    assert np.ptp(read_volume(write_image(tmp_path / "flat.nrrd", np.full((2, 3, 4), 7, np.int16))).array) == 0


def test_writing_replaces_a_file_and_leaves_nothing_else(tmp_path):
    (tmp_path / "scan.nii.gz").write_text("old")
    write_volume(tmp_path / "scan.nii.gz", oblique_volume())
    assert [path.name for path in tmp_path.iterdir()] == ["scan.nii.gz"]


def test_a_failed_write_leaves_nothing(tmp_path):
    with pytest.raises(InputError, match="cannot be written: check that the folder exists"):
        write_volume(tmp_path / "nowhere" / "scan.nrrd", oblique_volume())
    with pytest.raises(InputError, match="choose a name that ends with"):
        write_volume(tmp_path / "scan.xyz", oblique_volume())
    assert not list(tmp_path.iterdir())


# DICOM


def test_a_dicom_folder_is_read_in_the_order_of_positions(tmp_path):
    volume = read_volume(write_slices(tmp_path / "series", [9.0, 7.0, 5.0, 3.0]))
    assert volume.array.shape == (4, 3, 4)
    np.testing.assert_allclose(volume.spacing, (0.5, 0.6, 2.0))
    values_from_below = volume.array[0, 0, :: 1 if volume.affine[2, 2] > 0 else -1]
    np.testing.assert_array_equal(values_from_below, [3, 2, 1, 0])
    np.testing.assert_allclose(volume.grid.contains(np.array([[10, 20, 3], [10, 20, 9], [10, 20, 1]])), [1, 1, 0])


def test_of_several_series_the_largest_is_read_and_named(tmp_path, caplog):
    write_slices(tmp_path / "patient" / "a", [0, 1], series="1.2.3")
    write_slices(tmp_path / "patient" / "b", [0, 1, 2, 3, 4], series="1.2.4")
    assert read_volume(tmp_path / "patient").array.shape[2] == 5
    assert "2 DICOM series: reading the one with most slices (5, series 1.2.4)" in caplog.text


def test_a_tilted_gantry_gives_a_sheared_volume_at_the_right_place(tmp_path):
    volume = read_volume(write_slices(tmp_path / "series", [0.0, 2.0, 4.0], tilt=0.5))
    np.testing.assert_allclose(volume.grid.lps_from_ijk([0, 0, 2]), (10, 21, 4), atol=1e-9)
    np.testing.assert_allclose(volume.affine[:3, 1], (0, 0.6, 0), atol=1e-9)


@pytest.mark.parametrize("positions", [[0, 1, 2, 7, 8], [0, 1, 1, 2, 3], [0, 0, 0]])
def test_missing_or_repeated_slices_are_refused(tmp_path, positions):
    with pytest.raises(InputError, match=r"series' are not evenly spaced .*: export the complete series"):
        read_volume(write_slices(tmp_path / "series", positions))


def test_one_dicom_file_is_read_whatever_its_name(tmp_path):
    write_slices(tmp_path, [0])
    path = next(tmp_path.iterdir()).rename(tmp_path / "IM-1.2.840.77")
    assert read_volume(path).array.shape == (4, 3, 1)


def test_a_series_of_a_file_is_not_passed_over_in_silence(tmp_path, caplog):
    write_volume(tmp_path / "a.nrrd", Volume(np.zeros((3, 4, 5), np.int16), np.eye(4)))
    read_volume(tmp_path / "a.nrrd")
    assert not caplog.records
    read_volume(tmp_path / "a.nrrd", series="3")
    assert "'3' chooses nothing" in caplog.text


def test_a_dicom_file_without_pixel_spacing_numbers_is_refused(tmp_path):
    write_slices(tmp_path, [0])
    path = next(tmp_path.iterdir())
    path.write_bytes(path.read_bytes().replace(b".6\\.5", b"00\\00"))
    with pytest.raises(InputError, match="has a voxel spacing of 0 x 0 mm: correct"):
        read_volume(path)


# What is refused


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"scan\.nrrd' does not exist: check the path"):
        read_volume(tmp_path / "scan.nrrd")


def test_a_folder_without_dicom_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(InputError, match="holds no DICOM images: choose"):
        read_volume(tmp_path)


def test_an_unsupported_extension_is_refused(tmp_path):
    (tmp_path / "scan.xyz").write_text("nothing")
    with pytest.raises(InputError, match=r"scan\.xyz' is not a supported scan: use NRRD"):
        read_volume(tmp_path / "scan.xyz")


@pytest.mark.parametrize("extension", [".nrrd", ".nii", ".mha"])
def test_a_sequence_is_refused_with_its_number_of_frames(tmp_path, extension):
    path = write_image(tmp_path / f"scan{extension}", np.zeros((3, 2, 3, 4), np.int16))
    with pytest.raises(InputError, match="is a sequence of 3 frames"):
        read_volume(path)


@pytest.mark.parametrize("extension", [".nrrd", ".nii", ".mha"])
def test_a_color_image_is_refused_with_its_number_of_components(tmp_path, extension):
    path = write_image(tmp_path / f"scan{extension}", np.zeros((2, 3, 4, 3), np.uint8), is_vector=True)
    with pytest.raises(InputError, match="has 3 values per voxel"):
        read_volume(path)


def test_complex_numbers_are_refused(tmp_path):
    with pytest.raises(InputError, match="holds complex numbers"):
        read_volume(write_image(tmp_path / "scan.nii", np.zeros((2, 3, 4), np.complex64)))


@pytest.mark.parametrize("extension", [".nrrd", ".nii.gz", ".mha"])
def test_voxels_that_are_not_numbers_are_counted(tmp_path, extension):
    array = np.zeros((2, 3, 4), np.float32)
    array[0] = np.nan
    array[1, 0, 0] = np.inf
    with pytest.raises(InputError, match="contains 13 voxels that are not numbers"):
        read_volume(write_image(tmp_path / f"scan{extension}", array))


@pytest.mark.parametrize("extension", [".nrrd", ".nii", ".nii.gz", ".mha", ".dcm"])
@pytest.mark.parametrize("content", [b"", b"this is no image at all"])
def test_an_empty_or_foreign_file_is_refused(tmp_path, extension, content):
    path = tmp_path / f"scan{extension}"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"scan\{extension}' is .*: (export|convert)"):
        read_volume(path)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("extension", [".nrrd", ".nii", ".nii.gz", ".mha"])
@pytest.mark.parametrize("kept", [0.999, 0.9, 0.3])
def test_a_truncated_file_is_refused(tmp_path, extension, compress, kept):
    noise = np.random.default_rng(0).integers(0, 1000, (20, 20, 20)).astype(np.int16)
    path = write_image(tmp_path / f"scan{extension}", noise, compress=compress)
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(InputError, match="is incomplete, damaged"):
        read_volume(path)


def test_a_header_whose_voxel_file_is_missing_is_refused(tmp_path):
    path = write_image(tmp_path / "scan.mhd", np.zeros((2, 3, 4), np.int16))
    (tmp_path / "scan.raw").unlink()
    with pytest.raises(InputError, match=r"names voxels that are not there \('scan.raw'\)"):
        read_volume(path)


def test_a_zero_spacing_in_a_nifti_file_is_refused(tmp_path):
    path = patched(write_image(tmp_path / "scan.nii", np.zeros((2, 3, 4), np.int16)), 76 + 4 * 3, "<f", 0.0)
    with pytest.raises(InputError, match=r"scan\.nii' has a voxel spacing of 1 x 1 x 0 mm: correct"):
        read_volume(path)


@pytest.mark.parametrize("value", ["0", "nan"])
def test_a_zero_spacing_in_an_mha_file_is_refused(tmp_path, value):
    path = write_image(tmp_path / "scan.mha", np.zeros((2, 3, 4), np.int16))
    path.write_bytes(path.read_bytes().replace(b"ElementSpacing = 1 1 1", f"ElementSpacing = 1 {value} 1".encode()))
    with pytest.raises(InputError, match=f"has a voxel spacing of 1 x {value} x 1 mm: correct"):
        read_volume(path)


@pytest.mark.parametrize(
    ("field", "shown"),
    [
        ("space directions: (1,0,0) (0,0,0) (0,0,2)", "1 x 0 x 2"),
        ("spacings: 0 1 2", "0 x 1 x 2"),
        ("spacings: nan 1 2", "nan x 1 x 2"),
    ],
)
def test_a_zero_spacing_in_an_nrrd_file_is_refused(tmp_path, field, shown):
    space = "space: left-posterior-superior\n" if "directions" in field else ""
    header = f"NRRD0004\ntype: uint8\ndimension: 3\n{space}sizes: 4 3 2\n{field}\nencoding: raw\n\n"
    (tmp_path / "scan.nrrd").write_bytes(header.encode() + bytes(24))
    with pytest.raises(InputError, match=f"has a voxel spacing of {shown} mm: correct"):
        read_volume(tmp_path / "scan.nrrd")


@pytest.mark.parametrize("qform_code", [0, 1])
def test_a_sheared_nifti_orientation_is_refused(tmp_path, qform_code):
    path = patched(write_image(tmp_path / "scan.nii", np.zeros((2, 3, 4), np.int16)), 280 + 4, "<f", 0.1)
    patched(path, 252, "<h", qform_code)
    with pytest.raises(InputError, match=r"sheared orientation \(sform\).*: resample"):
        read_volume(path)


def test_itk_warnings_stay_off_the_error_output(tmp_path, capfd):
    path = patched(write_image(tmp_path / "scan.nii", np.zeros((2, 3, 4), np.int16)), 280 + 4, "<f", 1e-3)
    read_volume(path)
    with pytest.raises(InputError):
        read_volume(write_slices(tmp_path / "series", [0, 0, 0]))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.nii.gz", "a"), ("A.NRRD", "A"), ("a.b.mha", "a.b"), ("a.txt", "a.txt"), (".nrrd", ".nrrd"), ("a", "a")],
)
def test_a_name_without_its_ending(name, expected):
    assert without_ending(name) == expected
