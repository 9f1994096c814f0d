"""NIfTI headers: which of their up to three statements counts, and what is said where they contradict each other."""

import gzip
import struct
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.io.images import read_volume

VALUES = np.arange(3 * 4 * 5, dtype=np.int16).reshape(3, 4, 5)
SPACING = (0.5, 0.75, 1.25)
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def placed(spacing=SPACING, origin=(10.0, -20.0, 30.0), degrees=0.0) -> np.ndarray:
    """(4, 4) IJK -> RAS mm, turned around the patient's long axis."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    affine = np.eye(4)
    affine[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) * spacing
    affine[:3, 3] = origin
    return affine


def write(path: Path, qform=None, sform=None, codes=(0, 0), edit=None) -> Path:
    """Write `VALUES` with nibabel; `edit(header)` changes the header's fields."""
    scan = nibabel.Nifti1Image(VALUES, None)
    scan.header.set_zooms(SPACING)
    scan.set_qform(qform, codes[0], update_affine=False)
    scan.set_sform(sform, codes[1], update_affine=False)
    if qform is None:
        scan.header.set_zooms(SPACING)
    if edit:
        edit(scan.header)
    nibabel.save(scan, path)
    return path


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("form", ["qform", "sform", "both"])
def test_any_place_is_read_as_itk_and_nibabel_read_it(tmp_path, caplog, form, seed):
    rng = np.random.default_rng(seed)
    affine = placed(origin=rng.uniform(-200, 200, 3))
    affine[:3, :3] = Rotation.random(random_state=seed).as_matrix() * rng.uniform(0.1, 3, 3) * (1, 1, (-1) ** seed)

    def edit(header):
        header["pixdim"][1:4] = np.linalg.norm(affine[:3, :3], axis=0)

    q, s = (affine if form in (name, "both") else None for name in ("qform", "sform"))
    path = write(tmp_path / "a.nii.gz", q, s, (int(q is not None), int(s is not None)), edit)
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array, VALUES)
    np.testing.assert_allclose(volume.affine, LPS @ affine, atol=1e-4)
    np.testing.assert_allclose(volume.affine[:3, 3], sitk.ReadImage(str(path)).GetOrigin(), atol=1e-4)
    assert not caplog.records


def test_two_voxel_sizes_are_refused_until_the_user_states_one(tmp_path):
    path = write(tmp_path / "a.nii", sform=placed((0.8, 0.8, 0.8)), codes=(0, 1))
    with pytest.raises(InputError, match="two voxel sizes"):
        read_volume(path)
    np.testing.assert_allclose(read_volume(path, (0.8, 0.8, 0.8)).spacing, 0.8)


@pytest.mark.parametrize("codes", [(0, 1), (1, 0), (1, 1), (0, 0)])
@pytest.mark.parametrize("stated", [0.0, np.nan, 1.7])
def test_a_size_that_the_user_states_overrules_whatever_the_file_states(tmp_path, caplog, codes, stated):
    right = placed(degrees=25.0)

    def edit(header):
        header["pixdim"][2] = stated

    path = write(tmp_path / "ct.nii", right, right, codes, edit=edit)
    volume = read_volume(path, SPACING)
    if any(codes):
        np.testing.assert_allclose(volume.affine, LPS @ right, atol=1e-5)
        assert not caplog.records
    np.testing.assert_allclose(volume.spacing, SPACING, atol=1e-6)


@pytest.mark.parametrize(("codes", "x"), [((1, 2), -10), ((1, 1), -30), ((2, 4), -10)])
def test_two_places_are_said_and_slicers_is_taken(tmp_path, caplog, codes, x):
    path = write(tmp_path / "a.nii", placed(), placed(origin=(30.0, -20.0, 30.0)), codes)
    assert read_volume(path).affine[0, 3] == pytest.approx(x)
    assert "20 mm" in caplog.text


@pytest.mark.parametrize("axes", [(1, 0, 0), (0, 0, 1), (1, 1, 0)])
@pytest.mark.parametrize("spacing", [SPACING, (1.0, 2.0, 3.0)])
def test_axes_that_two_forms_turn_about_are_refused_since_itk_takes_either(tmp_path, axes, spacing):
    turned = placed(spacing, degrees=20) @ np.diag([*np.where(axes, -1, 1), 1])
    with pytest.raises(InputError, match="two directions"):
        read_volume(write(tmp_path / "a.nii", placed(spacing, degrees=20), turned, (1, 2)))


def test_a_negative_voxel_size_mirrors_nothing_and_is_said(tmp_path, caplog):
    def edit(header):
        header["pixdim"][1] = -SPACING[0]

    volume = read_volume(write(tmp_path / "a.nii", placed(), codes=(1, 0), edit=edit))
    np.testing.assert_allclose(volume.affine, LPS @ placed(), atol=1e-5)
    assert "negative" in caplog.text


def test_a_place_that_is_not_stated_is_said(tmp_path, caplog):
    np.testing.assert_allclose(read_volume(write(tmp_path / "a.nii")).spacing, SPACING)
    assert "not state" in caplog.text


@pytest.mark.parametrize(("degrees", "is_read"), [(0.03, True), (0.9, True), (1.2, False), (20, False)])
def test_axes_up_to_one_degree_off_are_read_with_a_warning(tmp_path, caplog, degrees, is_read):
    affine = placed()
    angle = np.radians(degrees)
    affine[:2, 1] = SPACING[1] * np.array([np.sin(angle), np.cos(angle)])
    path = write(tmp_path / "a.nii", sform=affine, codes=(0, 1))
    if is_read:
        np.testing.assert_allclose(read_volume(path).affine, LPS @ affine, atol=1e-5)
        assert "right angle" in caplog.text
    else:
        with pytest.raises(InputError, match="sheared"):
            read_volume(path)


@pytest.mark.parametrize("position", [-8, -4, -40])
def test_a_wrong_checksum_length_or_bit_is_refused(tmp_path, position):
    path = write(tmp_path / "a.nii.gz", placed(), codes=(1, 0))
    data = bytearray(path.read_bytes())
    data[position] ^= 0x10
    path.write_bytes(data)
    with pytest.raises(InputError):
        read_volume(path)


def test_a_gzip_file_of_two_members_is_one_scan(tmp_path):
    data = write(tmp_path / "a.nii", placed(), codes=(1, 0)).read_bytes()
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(data[:400]) + gzip.compress(data[400:]))
    np.testing.assert_array_equal(read_volume(tmp_path / "b.nii.gz").array, VALUES)


def test_voxels_that_a_header_does_not_describe_are_told(tmp_path, caplog):
    path = write(tmp_path / "a.nii", placed(), codes=(1, 0))
    path.write_bytes(path.read_bytes() + bytes(VALUES.nbytes))
    np.testing.assert_array_equal(read_volume(path).array, VALUES)
    assert "a.nii' has 120 bytes more than its header describes: check" in caplog.text


def test_a_header_that_claims_gigabytes_is_refused_before_memory_is_taken(tmp_path):
    data = bytearray(write(tmp_path / "a.nii", placed(), codes=(1, 0)).read_bytes())
    struct.pack_into("<3h", data, 42, 3000, 3000, 3000)
    (tmp_path / "a.nii").write_bytes(data)
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(data))
    for name in ("a.nii", "a.nii.gz"):
        with pytest.raises(InputError):
            read_volume(tmp_path / name)


@pytest.mark.parametrize("degrees", [0.03, 0.9])
def test_of_a_skewed_sform_and_a_qform_the_qform_counts_as_in_itk(tmp_path, caplog, degrees):
    skewed = placed()
    skewed[:2, 1] = SPACING[1] * np.array([np.sin(np.radians(degrees)), np.cos(np.radians(degrees))])
    path = write(tmp_path / "a.nii", placed(), skewed, (1, 1))
    volume = read_volume(path)
    np.testing.assert_allclose(volume.affine, LPS @ placed(), atol=1e-5)
    itk = sitk.ReadImage(str(path))
    np.testing.assert_allclose(volume.affine[:3, :3], np.reshape(itk.GetDirection(), (3, 3)) * SPACING, atol=1e-5)
    assert "right angle" in caplog.text


@pytest.mark.parametrize("code", [2, 3, 4, 5])
def test_an_atlas_transform_beside_a_qform_is_said_whatever_its_size(tmp_path, caplog, code):
    path = write(tmp_path / "a.nii", placed(), placed((1.1, 0.9, 2.0)) @ np.diag([1, 1, 1, 1]), (1, code))
    np.testing.assert_allclose(read_volume(path).affine, LPS @ placed(), atol=1e-5)
    assert "qform is taken" in caplog.text


@pytest.mark.parametrize("unit", ["meter", "mm", "micron"])
@pytest.mark.parametrize("codes", [(1, 0), (0, 1), (1, 1)])
def test_lengths_are_converted_to_mm(tmp_path, unit, codes):
    factor = {"meter": 1e3, "mm": 1.0, "micron": 1e-3}[unit]
    path = write(tmp_path / "a.nii", placed(), placed(), codes, lambda header: header.set_xyzt_units(unit))
    np.testing.assert_allclose(read_volume(path).affine[:3], factor * (LPS @ placed())[:3], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("turn", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0.6, 0.8, 0)])
def test_half_a_turn_is_read_as_itk_reads_it(tmp_path, turn):
    def edit(header):
        for name, value in zip("bcd", turn):
            header[f"quatern_{name}"] = value * (1 + 3e-8)

    path = write(tmp_path / "a.nii", placed(), codes=(1, 0), edit=edit)
    itk = np.reshape(sitk.ReadImage(str(path)).GetDirection(), (3, 3))
    np.testing.assert_allclose(read_volume(path).affine[:3, :3] / SPACING, itk, atol=1e-6)


def test_a_header_whose_voxels_are_in_another_file_is_refused(tmp_path):
    data = bytearray(write(tmp_path / "a.nii", placed(), codes=(1, 0)).read_bytes())
    data[344:347] = b"ni1"
    (tmp_path / "a.nii").write_bytes(data)
    with pytest.raises(InputError, match="NIfTI"):
        read_volume(tmp_path / "a.nii")


@pytest.mark.parametrize("number_type", [np.uint8, np.int16, np.float32, np.float64])
@pytest.mark.parametrize("is_big", [True, False])
def test_values_are_scaled_as_itk_scales_them(tmp_path, number_type, is_big):
    header = nibabel.Nifti1Header(endianness=">" if is_big else "<")
    header.set_data_dtype(np.dtype(number_type).newbyteorder(">" if is_big else "<"))
    scan = nibabel.Nifti1Image(VALUES.astype(number_type), placed(), header)
    scan.header.set_slope_inter(0.5, -7)
    nibabel.save(scan, tmp_path / "a.nii")
    expected = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a.nii"))).T
    np.testing.assert_allclose(read_volume(tmp_path / "a.nii").array, expected)
