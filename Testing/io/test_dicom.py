"""DICOM series in every form that scanners give them: the voxels and places of the plain series, or a reason."""

import contextlib
import os
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.filebase import DicomFileLike
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence as Items

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.io.dicom import modality
from H3DELandmarksLib.io.images import read_volume
from H3DELandmarksLib.io.radiograph_files import jpeg_size

CT, ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1"
VALUES = np.random.default_rng(5).integers(-900, 1200, (8, 5, 6)).astype(np.int16)  # slices, rows, columns
PIXEL, STEP = (0.6, 0.5), 1.25  # rows, columns; slices


def image(values: np.ndarray, sop: str, series: str = "1.2.3") -> FileDataset:
    """A dataset with its pixels, without any geometry."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = sop, pydicom.uid.generate_uid()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID, data.SeriesInstanceUID = sop, meta.MediaStorageSOPInstanceUID, series
    data.StudyInstanceUID, data.Modality = "1.2", "CT"
    data.Rows, data.Columns = values.shape[-2:]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
    data.PixelRepresentation = 1 if values.dtype.kind == "i" else 0
    data.PixelData = values.tobytes()
    return data


def write_series(folder: Path, values=VALUES, heights=None, edit=None, name="{k:03}.dcm", series="1.2.3") -> Path:
    """One file per slice; `edit(data, k)` changes what is stated."""
    for k, plane in enumerate(values):
        data = image(plane, CT, series)
        data.InstanceNumber, data.PixelSpacing = k + 1, list(PIXEL)
        data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        data.ImagePositionPatient = [10, 20, k * STEP if heights is None else heights[k]]
        if edit:
            edit(data, k)
        path = folder / name.format(k=k, part=k // 3)
        path.parent.mkdir(parents=True, exist_ok=True)
        data.save_as(path)
    return folder


def write_enhanced(path: Path, order, values=VALUES, place=None, turn=(1, 0, 0, 0, 1, 0), edit=None) -> Path:
    """One file of many frames, stored in an order of their own; `edit(frame, k)` adds to the facts of slice k."""
    data = image(values[order], ENHANCED_CT)
    data.NumberOfFrames, shared, frames = len(order), Dataset(), []
    measures, orientation = Dataset(), Dataset()
    measures.PixelSpacing, orientation.ImageOrientationPatient = list(PIXEL), list(turn)
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = Items([measures]), Items([orientation])
    for k in order:
        frame, position = Dataset(), Dataset()
        position.ImagePositionPatient = [10, 20, float(k * STEP)] if place is None else place(k)
        frame.PlanePositionSequence = Items([position])
        if edit:
            edit(frame, k)
        frames.append(frame)
    data.SharedFunctionalGroupsSequence, data.PerFrameFunctionalGroupsSequence = Items([shared]), Items(frames)
    data.save_as(path)
    return path


def assert_is_plain(volume) -> None:
    np.testing.assert_array_equal(volume.array, VALUES.transpose(2, 1, 0))
    expected = np.diag([0.5, 0.6, STEP, 1.0])
    expected[:3, 3] = 10, 20, 0
    np.testing.assert_allclose(volume.affine, expected, atol=1e-6)


def test_a_plain_series_is_read_as_itk_reads_it(tmp_path, caplog):
    volume = read_volume(write_series(tmp_path))
    assert_is_plain(volume)
    assert not caplog.records
    itk = sitk.ReadImage([str(path) for path in sorted(tmp_path.iterdir())])
    np.testing.assert_array_equal(volume.array, sitk.GetArrayFromImage(itk).T)
    np.testing.assert_allclose(volume.spacing, itk.GetSpacing())


@pytest.mark.parametrize("name", ["part{part}/{k:03}.dcm", "a/b/{k:03}", "x{k}.1.2.3"])
def test_a_series_is_one_wherever_its_files_lie(tmp_path, name):
    assert_is_plain(read_volume(write_series(tmp_path, name=name)))


@pytest.mark.parametrize("seed", range(4))
def test_frames_of_one_file_are_sorted_by_position(tmp_path, seed):
    order = np.random.default_rng(seed).permutation(len(VALUES))
    assert_is_plain(read_volume(write_enhanced(tmp_path / "ct.dcm", order)))


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege")
def test_links_are_followed_and_circles_end(tmp_path):
    store = write_series(tmp_path / "store")
    patient = tmp_path / "patient"
    patient.mkdir()
    (patient / "ct").symlink_to(store, target_is_directory=True)
    (store / "up").symlink_to(patient, target_is_directory=True)
    assert_is_plain(read_volume(patient))


@pytest.mark.skipif(os.name == "nt", reason="links need a permission")
def test_a_slice_behind_a_link_that_leads_nowhere_is_told(tmp_path, caplog):
    last = sorted(write_series(tmp_path).iterdir())[-1]
    last.unlink()
    last.symlink_to(tmp_path / "not downloaded")
    assert read_volume(tmp_path).array.shape[2] == len(VALUES) - 1
    assert f"holds 1 DICOM files that cannot be read, such as: '{last}'" in caplog.text


def test_a_copied_file_counts_once_and_is_named(tmp_path, caplog):
    write_series(tmp_path)
    shutil.copy(tmp_path / "003.dcm", tmp_path / "003 - Copy.dcm")
    assert_is_plain(read_volume(tmp_path))
    assert "003" in caplog.text


def test_what_macos_writes_beside_files_is_no_damaged_slice(tmp_path, caplog):
    write_series(tmp_path)
    for path in list(tmp_path.iterdir()):
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X" + bytes(100))
    assert_is_plain(read_volume(tmp_path))
    assert not caplog.records


@pytest.mark.parametrize("seed", range(3))
def test_each_slice_has_its_own_rescale(tmp_path, seed):
    intercepts = np.random.default_rng(seed).integers(-1024, 0, len(VALUES))

    def edit(data, k):
        data.RescaleSlope, data.RescaleIntercept = 1, int(intercepts[k])
        data.PixelData = (VALUES[k] - intercepts[k]).astype(np.int16).tobytes()

    assert_is_plain(read_volume(write_series(tmp_path, edit=edit)))


def with_table(data, values, first=0, bits=16, kind="US"):
    """State what each stored value means."""
    table = Dataset()
    table.add_new("LUTDescriptor", "US", [len(values) % 2**16, first % 2**16, bits])
    table.ModalityLUTType = "US"
    stored = values if kind == "US" else np.asarray(values, "<u1" if bits <= 8 else "<u2").tobytes()
    table.add_new("LUTData", kind, stored)
    data.ModalityLUTSequence = Items([table])


@pytest.mark.parametrize("kind", ["US", "OW"])
def test_a_table_of_values_is_applied_and_its_ends_stand_for_what_lies_beyond(tmp_path, kind):
    table = [500, 400, 300, 200, 100, 90, 80, 70]

    def edit(data, k):
        with_table(data, table, first=2, kind=kind)

    stored = np.tile(np.arange(12, dtype=np.uint16), (len(VALUES), 5, 1))[..., :6] + np.uint16(3)
    stored[0] -= 3
    values = read_volume(write_series(tmp_path, stored, edit=edit)).array.transpose(2, 1, 0)
    np.testing.assert_array_equal(values, np.array(table)[np.clip(stored.astype(int) - 2, 0, 7)])


def test_a_table_for_values_with_signs_begins_below_zero(tmp_path):
    stored = np.arange(-15, 15, dtype=np.int16).reshape(5, 6)
    data = image(stored, "1.2.840.10008.5.1.4.1.1.1")
    data.PixelSpacing = list(PIXEL)
    with_table(data, list(range(1000, 1030)), first=-15)
    data.save_as(tmp_path / "x.dcm")
    np.testing.assert_array_equal(read_volume(tmp_path / "x.dcm").array[..., 0].T, np.arange(1000, 1030).reshape(5, 6))


def test_a_negative_with_a_table_is_turned_and_a_rescale_comes_before_a_table(tmp_path):
    data = image(np.arange(30, dtype=np.uint16).reshape(5, 6), "1.2.840.10008.5.1.4.1.1.1")
    data.PixelSpacing, data.PhotometricInterpretation = list(PIXEL), "MONOCHROME1"
    with_table(data, [3 * k for k in range(30)])
    data.save_as(tmp_path / "x.dcm")
    turned = 87 - 3 * np.arange(30).reshape(5, 6)
    np.testing.assert_array_equal(read_volume(tmp_path / "x.dcm").array[..., 0].T, turned)
    data.PhotometricInterpretation, data.RescaleSlope, data.RescaleIntercept = "MONOCHROME2", 2, -10
    data.save_as(tmp_path / "y.dcm")
    stated = 2 * np.arange(30).reshape(5, 6) - 10
    np.testing.assert_array_equal(read_volume(tmp_path / "y.dcm").array[..., 0].T, stated)


def test_a_table_that_only_some_slices_have_is_never_assumed_for_the_others_and_a_cut_one_is_refused(tmp_path, caplog):
    def edit(data, k):
        if k:
            with_table(data, list(range(1, 4001)), first=-2000)

    values = read_volume(write_series(tmp_path / "a", edit=edit)).array
    np.testing.assert_array_equal(values, VALUES[1:].transpose(2, 1, 0) + 2001)
    assert "000.dcm" in caplog.text

    def cut(data, k):
        with_table(data, list(range(100)))
        data.ModalityLUTSequence[0].LUTDescriptor = [200, 0, 16]

    with pytest.raises(InputError, match="damaged"):
        read_volume(write_series(tmp_path / "b", edit=cut))


def test_a_negative_radiograph_is_turned(tmp_path):
    data = image((4095 - np.arange(30).reshape(5, 6)).astype(np.uint16), "1.2.840.10008.5.1.4.1.1.1")
    data.BitsStored, data.HighBit, data.PhotometricInterpretation = 12, 11, "MONOCHROME1"
    data.PixelSpacing = list(PIXEL)
    data.save_as(tmp_path / "x.dcm")
    np.testing.assert_array_equal(read_volume(tmp_path / "x.dcm").array[..., 0].T, np.arange(30).reshape(5, 6))


def test_padding_gets_the_lowest_measured_value(tmp_path):
    padded = VALUES.copy()
    padded[:, 0] = -2000

    def edit(data, k):
        data.add_new("PixelPaddingValue", "SS", -2000)

    array = read_volume(write_series(tmp_path, padded, edit=edit)).array
    assert array.min() == VALUES[:, 1:].min()
    np.testing.assert_array_equal(array[:, 1:], VALUES.transpose(2, 1, 0)[:, 1:])


def test_a_tilted_gantry_keeps_every_position(tmp_path):
    def edit(data, k):
        data.ImagePositionPatient = [10, 20 + 0.3 * k, k * STEP]

    volume = read_volume(write_series(tmp_path, edit=edit))
    np.testing.assert_array_equal(volume.array, VALUES.transpose(2, 1, 0))
    np.testing.assert_allclose(volume.affine[:3, 2], [0, 0.3, STEP], atol=1e-9)


@pytest.mark.parametrize("missing", [{3}, {2, 5}, {3, 4, 5}])
def test_missing_slices_are_interpolated_with_a_warning(tmp_path, caplog, missing):
    count = 12  # enough that the usual distance is known
    ramp = np.broadcast_to(np.arange(count, dtype=np.int16)[:, None, None] * 100, (count, 5, 6))
    kept = [k for k in range(count) if k not in missing]
    volume = read_volume(write_series(tmp_path, ramp[kept], heights=[k * STEP for k in kept]))
    np.testing.assert_array_equal(volume.array, ramp.transpose(2, 1, 0))
    assert volume.spacing[2] == pytest.approx(STEP)
    assert "gap" in caplog.text


@pytest.mark.parametrize("heights", [[0, 1, 2, 3, 9, 10, 11, 12], [0, 1, 7]])
def test_a_hole_is_refused_with_its_size(tmp_path, heights):
    with pytest.raises(InputError, match="gap of 6 mm"):
        read_volume(write_series(tmp_path, VALUES[: len(heights)], heights=heights))


def _no_place(data, k):
    del data.ImagePositionPatient, data.ImageOrientationPatient


def _no_pixel(data, k):
    del data.PixelSpacing


def _pixel_of_zero(data, k):
    data.PixelSpacing = [0, 0]


@pytest.mark.parametrize(
    ("edit", "fact"),
    [(_no_place, "position"), (_no_pixel, "pixel spacing"), (_pixel_of_zero, "voxel spacing of 0 x 0 mm")],
)
def test_what_is_not_stated_is_refused_until_the_user_states_it(tmp_path, edit, fact):
    write_series(tmp_path, edit=edit)
    with pytest.raises(InputError, match=fact):
        read_volume(tmp_path)
    volume = read_volume(tmp_path, (0.5, 0.6, STEP))
    np.testing.assert_array_equal(volume.array, VALUES.transpose(2, 1, 0))
    np.testing.assert_allclose(volume.spacing, [0.5, 0.6, STEP])


def test_pixels_of_unknown_size_are_not_taken_for_squares_where_a_file_denies_it(tmp_path):
    film = image(VALUES[0], CT)
    film.PixelAspectRatio = [2, 1]
    film.save_as(tmp_path / "film.dcm")
    with pytest.raises(InputError, match="not square"):
        read_volume(tmp_path / "film.dcm", needs_size=False)
    assert read_volume(tmp_path / "film.dcm", (0.1, 0.2)).array.shape == (6, 5, 1)
    film.PixelAspectRatio = [1, 1]
    film.save_as(tmp_path / "film.dcm")
    assert read_volume(tmp_path / "film.dcm", needs_size=False).spacing.tolist() == [1, 1, 1]


@pytest.mark.parametrize("number", [None, 1])
def test_slices_without_position_and_number_are_in_no_order(tmp_path, number):
    def edit(data, k):
        del data.ImagePositionPatient
        data.InstanceNumber = number

    with pytest.raises(InputError, match="order is not known"):
        read_volume(write_series(tmp_path, edit=edit, name="{k}.dcm"), (0.5, 0.6, STEP))


def test_one_turned_slice_is_left_out_and_many_are_refused(tmp_path, caplog):
    def turned(count):
        def edit(data, k):
            if k < count:
                data.ImageOrientationPatient = [0, 1, 0, -1, 0, 0]

        return edit

    volume = read_volume(write_series(tmp_path / "one", edit=turned(1)))
    np.testing.assert_array_equal(volume.array, VALUES[1:].transpose(2, 1, 0))
    assert "000.dcm" in caplog.text
    with pytest.raises(InputError, match="orientations"):
        read_volume(write_series(tmp_path / "many", edit=turned(4)))


def test_slices_with_a_series_each_are_told_so(tmp_path):
    def edit(data, k):
        data.SeriesInstanceUID = f"1.2.3.{k}"

    with pytest.raises(InputError, match="The 8 slices in .* have a series UID each"):
        read_volume(write_series(tmp_path, edit=edit))
    assert read_volume(tmp_path, series="1.2.3.4").array.shape[2] == 1


@pytest.mark.parametrize("wanted", ["1.2.4", "7", "bone"])
def test_the_series_is_chosen_by_uid_number_or_description(tmp_path, wanted):
    def edit(data, k):
        data.SeriesNumber, data.SeriesDescription = 7, "bone"

    write_series(tmp_path / "a")
    write_series(tmp_path / "b", VALUES[:5], edit=edit, series="1.2.4")
    assert read_volume(tmp_path).array.shape[2] == 8
    assert read_volume(tmp_path, series=wanted).array.shape[2] == 5
    with pytest.raises(InputError, match="choose"):
        read_volume(tmp_path, series="no such")


@pytest.mark.parametrize("is_scout", [False, True])
def test_a_movie_beside_a_scan_is_not_read_in_its_place(tmp_path, caplog, is_scout):
    write_series(tmp_path)
    movie = image(np.zeros((40, 5, 6), np.int16), "1.2.840.10008.5.1.4.1.1.7.3", "1.2.9")
    movie.NumberOfFrames, movie.PixelSpacing = 40, [1, 1]
    movie.ImageType = ["DERIVED", "SECONDARY", "LOCALIZER" if is_scout else "OTHER"]
    movie.save_as(tmp_path / "movie.dcm")
    assert_is_plain(read_volume(tmp_path))
    assert "most slices that state their position (8, series 1.2.3). Left out: ? '' (40 slices" in caplog.text
    assert read_volume(tmp_path, (1, 1, 1), series="1.2.9").array.shape[2] == 40


@pytest.mark.parametrize("made", ["66.4", "66.7", "30", "481.2"], ids=["segmentation", "labels", "map", "dose"])
def test_what_was_made_on_a_scan_is_never_read_as_the_scan(tmp_path, caplog, made):
    write_series(tmp_path)
    write_enhanced(tmp_path / "0.dcm", range(12), np.zeros((12, 5, 6), np.int16))
    data = pydicom.dcmread(tmp_path / "0.dcm")
    data.SOPClassUID, data.SeriesInstanceUID = f"1.2.840.10008.5.1.4.1.1.{made}", "1.2.9"
    data.decode()
    data.save_as(tmp_path / "0.dcm")
    assert_is_plain(read_volume(tmp_path))
    assert not caplog.records
    with pytest.raises(InputError, match="no image of a patient"):
        read_volume(tmp_path / "0.dcm")


@pytest.mark.parametrize("field", ["PatientID", "StudyInstanceUID"])
def test_slices_of_two_patients_or_studies_are_never_one_scan_whatever_uid_they_share(tmp_path, caplog, field):
    write_series(tmp_path / "a")
    heights = [(8 + k) * STEP for k in range(5)]
    write_series(tmp_path / "b", VALUES[:5], heights, edit=lambda data, k: setattr(data, field, "9"))
    assert_is_plain(read_volume(tmp_path))
    assert "holds 2 DICOM series" in caplog.text
    with pytest.raises(InputError, match=r"holds 2 series '1\.2\.3'.*a folder of its own"):
        read_volume(tmp_path, series="1.2.3")


def test_the_modality_is_that_of_the_series_that_is_read(tmp_path, caplog):
    def of_pet(data, k):
        data.Modality, data.SeriesDescription = "PT", "PET"

    write_series(tmp_path / "0", VALUES[:3], edit=of_pet, series="1.2.8")
    write_series(tmp_path / "1")
    assert modality(tmp_path) == "CT" and modality(tmp_path, "PET") == "PT"
    assert modality(tmp_path, "no such series") == "" and modality(tmp_path / "0" / "000.dcm") == "PT"
    assert not caplog.records


def test_a_file_that_claims_gigabytes_is_refused(tmp_path):
    def edit(data, k):
        data.Rows = data.Columns = 60000

    with pytest.raises(InputError, match="claims"):
        read_volume(write_series(tmp_path, VALUES[:1], edit=edit) / "000.dcm")


# Frames in one file


@settings(max_examples=12, deadline=None)
@given(
    order=st.permutations(range(8)),
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    tilt=st.floats(-0.5, 0.5),
    is_reversed=st.booleans(),
)
def test_every_voxel_of_an_enhanced_file_is_where_its_frame_says(tmp_path_factory, order, angles, tilt, is_reversed):
    rotation = sitk.Euler3DTransform((0, 0, 0), *np.radians(angles)).GetMatrix()
    axes = np.reshape(rotation, (3, 3))
    step = axes @ (0, tilt, -STEP if is_reversed else STEP)
    numbered = np.arange(VALUES.size, dtype=np.int16).reshape(VALUES.shape)

    def place(k):
        return [f"{x:.8f}" for x in (10, 20, 30) + k * step]

    path = tmp_path_factory.mktemp("enhanced") / "ct.dcm"
    volume = read_volume(
        write_enhanced(path, list(order), numbered, place, [f"{x:.10f}" for x in axes[:, :2].T.ravel()])
    )
    ijk = np.stack(np.unravel_index(np.arange(volume.array.size), volume.array.shape), axis=-1)
    k, row, column = np.unravel_index(volume.array.ravel(), VALUES.shape)
    expected = (10, 20, 30) + np.outer(column * 0.5, axes[:, 0]) + np.outer(row * 0.6, axes[:, 1]) + np.outer(k, step)
    np.testing.assert_allclose(volume.grid.lps_from_ijk(ijk), expected, atol=1e-5)


def test_each_frame_has_its_own_rescale(tmp_path):
    intercepts = [-5 * k for k in range(8)]

    def edit(frame, k):
        values = Dataset()
        values.RescaleSlope, values.RescaleIntercept, values.RescaleType = 1, intercepts[k], "HU"
        frame.PixelValueTransformationSequence = Items([values])

    stored = VALUES - np.array(intercepts, np.int16)[:, None, None]
    assert_is_plain(read_volume(write_enhanced(tmp_path / "ct.dcm", [*range(7, -1, -1)], stored, edit=edit)))


def test_a_gap_between_frames_is_interpolated_or_refused(tmp_path, caplog):
    ramp = np.broadcast_to(np.arange(16, dtype=np.int16)[:, None, None] * 100, (16, 5, 6))
    kept = [k for k in range(16) if k not in (6, 7)]
    volume = read_volume(write_enhanced(tmp_path / "a.dcm", kept[::-1], ramp))
    np.testing.assert_array_equal(volume.array, ramp.transpose(2, 1, 0))
    assert "gap 3.75 mm" in caplog.text
    with pytest.raises(InputError, match="gap of 6.25 mm"):
        read_volume(write_enhanced(tmp_path / "b.dcm", [k for k in range(16) if k not in (6, 7, 8, 9)], ramp))


def test_frames_of_a_plain_file_lie_as_far_apart_as_it_says_or_are_refused(tmp_path):
    data = image(VALUES, CT)
    data.NumberOfFrames, data.PixelSpacing = 8, list(PIXEL)
    data.ImageOrientationPatient, data.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [10, 20, 0]
    data.save_as(tmp_path / "a.dcm")
    with pytest.raises(InputError, match="position"):
        read_volume(tmp_path / "a.dcm")
    data.SpacingBetweenSlices = 0
    data.save_as(tmp_path / "a.dcm")
    with pytest.raises(InputError, match="position"):
        read_volume(tmp_path / "a.dcm")
    assert read_volume(tmp_path / "a.dcm", (0.5, 0.6, STEP)).array.shape == (6, 5, 8)
    data.SpacingBetweenSlices = STEP
    data.save_as(tmp_path / "b.dcm")
    assert_is_plain(read_volume(tmp_path / "b.dcm"))


# Distances


@settings(max_examples=12, deadline=None)
@given(gaps=st.lists(st.floats(0.8, 3.0), min_size=9, max_size=14))
def test_a_linear_ramp_stays_linear_whatever_the_distances(tmp_path_factory, gaps):
    heights = np.cumsum([0.0, *gaps])
    ramp = np.rint(heights * 100)[:, None, None] * np.ones((1, 5, 6))
    volume = read_volume(write_series(tmp_path_factory.mktemp("s"), ramp.astype(np.int16), heights=heights.round(6)))
    z = volume.grid.lps_from_ijk([[0, 0, k] for k in range(volume.array.shape[2])])[:, 2]
    assert z[0] == pytest.approx(0, abs=1e-5) and z[-1] == pytest.approx(heights[-1], abs=1e-5)
    np.testing.assert_allclose(volume.array[0, 0], z * 100, atol=2.1)


def test_fine_slices_keep_their_detail_where_coarse_ones_follow(tmp_path, caplog):
    heights = [*np.arange(0, 6, 1.0), *np.arange(6, 30, 3.0)]
    values = np.arange(len(heights), dtype=np.int16)[:, None, None] * np.ones((1, 5, 6), np.int16)
    volume = read_volume(write_series(tmp_path, values, heights=heights))
    np.testing.assert_array_equal(volume.array[0, 0, :7], range(7))
    assert "gap 3 mm" in caplog.text


def test_a_distance_that_the_user_states_overrules_positions(tmp_path):
    volume = read_volume(write_series(tmp_path), (0.25, 0.3, 2.5))
    np.testing.assert_allclose(volume.affine[:3, :3], np.diag([0.25, 0.3, 2.5]))
    np.testing.assert_array_equal(volume.array, VALUES.transpose(2, 1, 0))


# What belongs together


@pytest.mark.parametrize("is_named", [True, False])
@pytest.mark.parametrize("is_same_matrix", [True, False])
def test_scouts_with_the_uid_of_the_series_are_set_apart_and_named(tmp_path, caplog, is_same_matrix, is_named):
    write_series(tmp_path)

    def edit(data, k):
        data.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
        if is_named:
            data.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]

    shape = (2, 5, 6) if is_same_matrix else (2, 30, 40)
    write_series(tmp_path, np.zeros(shape, np.int16), edit=edit, name="scout{k}.dcm")
    assert_is_plain(read_volume(tmp_path))
    assert "scout0.dcm" in caplog.text and "scout1.dcm" in caplog.text


def test_an_axial_scout_is_set_apart(tmp_path, caplog):
    def edit(data, k):
        data.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]

    write_series(tmp_path)
    write_series(tmp_path, VALUES[:1] * 0, heights=[3.3], edit=edit, name="scout{k}.dcm")
    assert_is_plain(read_volume(tmp_path))
    assert "scout0.dcm" in caplog.text


@pytest.mark.parametrize("fact", ["PixelSpacing", "ImagePositionPatient", "matrix"])
def test_mixed_facts_are_refused_and_a_single_odd_slice_is_left_out(tmp_path, caplog, fact):
    def odd(count):
        def edit(data, k):
            if k >= count:
                return
            if fact == "matrix":
                data.Rows, data.Columns = data.Columns, data.Rows
            elif fact == "PixelSpacing":
                data.PixelSpacing = [0.7, 0.7]
            else:
                del data.ImagePositionPatient

        return edit

    volume = read_volume(write_series(tmp_path / "one", edit=odd(1)))
    np.testing.assert_array_equal(volume.array, VALUES[1:].transpose(2, 1, 0))
    assert "000.dcm" in caplog.text
    with pytest.raises(InputError, match="export one series"):
        read_volume(write_series(tmp_path / "half", edit=odd(4)))


def test_directions_that_are_rounded_differently_are_one_orientation(tmp_path, caplog):
    def edit(data, k):
        angle = np.arcsin(0.43 + (-1) ** k * 1e-6)
        data.ImageOrientationPatient = [
            f"{x:.8f}" for x in (np.cos(angle), np.sin(angle), 0, -np.sin(angle), np.cos(angle), 0)
        ]

    volume = read_volume(write_series(tmp_path, edit=edit))
    np.testing.assert_array_equal(volume.array, VALUES.transpose(2, 1, 0))
    assert not caplog.records


def test_slices_that_share_an_instance_uid_but_no_place_are_all_read(tmp_path, caplog):
    def edit(data, k):
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"

    assert_is_plain(read_volume(write_series(tmp_path, edit=edit)))
    assert not caplog.records


ACQUISITIONS = {"AcquisitionNumber": ("1", "2"), "AcquisitionTime": ("101500", "101730.5")}


def write_acquisitions(folder: Path, shift: float, **facts) -> Path:
    """Two passes of one series, the second moved by so many slices; what each states of itself, by name."""
    for number in range(2):

        def edit(data, k, number=number):
            data.InstanceNumber = 8 * number + k
            for name, values in facts.items():
                setattr(data, name, values[number])

        heights = [(k + number * shift) * STEP for k in range(len(VALUES))]
        write_series(folder / str(number), VALUES + number, heights, edit)
    return folder


@pytest.mark.parametrize("shift", [0, 0.5, 0.3, 5.5])
@pytest.mark.parametrize("fact", ACQUISITIONS)
def test_acquisitions_that_lie_in_one_another_are_never_one_scan(tmp_path, fact, shift):
    with pytest.raises(InputError, match=f"several acquisitions.*{fact} '{ACQUISITIONS[fact][0]}'"):
        read_volume(write_acquisitions(tmp_path, shift, **{fact: ACQUISITIONS[fact]}))


def test_phases_of_one_file_are_never_one_scan(tmp_path):
    def edit(frame, k):
        content = Dataset()
        content.TemporalPositionIndex = 1 + k % 2
        frame.FrameContentSequence = Items([content])

    with pytest.raises(InputError, match="several acquisitions.*TemporalPositionIndex"):
        read_volume(write_enhanced(tmp_path / "ct.dcm", range(8), edit=edit))


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_acquisitions_one_above_the_other_are_one_scan_and_those_of_mr_may_take_turns(tmp_path, caplog, modality):
    facts = {**ACQUISITIONS, "Modality": (modality, modality)}
    volume = read_volume(write_acquisitions(tmp_path, 8 if modality == "CT" else 0.5, **facts))
    assert volume.array.shape[2] == 16 and not caplog.records


def test_a_dicomdir_stands_for_its_folder(tmp_path):
    write_series(tmp_path, name="PAT/IM{k}")
    data = image(VALUES[:1], "1.2.840.10008.1.3.10")
    for name in ("Rows", "Columns", "PixelData"):
        del data[name]
    data.save_as(tmp_path / "DICOMDIR")
    assert_is_plain(read_volume(tmp_path / "DICOMDIR"))


# Values


@pytest.mark.parametrize(
    "syntax", [pydicom.uid.DeflatedExplicitVRLittleEndian, pydicom.uid.ImplicitVRLittleEndian, pydicom.uid.RLELossless]
)
def test_every_transfer_syntax_gives_the_plain_series(tmp_path, syntax):
    def edit(data, k):
        if syntax.is_compressed and syntax.is_encapsulated:
            data.compress(syntax)
        data.file_meta.TransferSyntaxUID = syntax

    assert_is_plain(read_volume(write_series(tmp_path, edit=edit)))


@pytest.mark.parametrize(("end", "name"), [("92", "JPEG 2000 Part 2"), ("102", "MPEG-4")])
def test_a_compression_that_is_not_read_is_named(tmp_path, end, name):
    def edit(data, k):
        data.PixelData = pydicom.encaps.encapsulate([bytes(100)])
        data.file_meta.TransferSyntaxUID = f"1.2.840.10008.1.2.4.{end}"

    with pytest.raises(InputError, match=f"compressed in a way that is not read here.*{name}.*uncompressed"):
        read_volume(write_series(tmp_path, edit=edit))


def test_big_endian_values_are_native_once_read(tmp_path):
    for k, path in enumerate(sorted(write_series(tmp_path).iterdir())):
        little = pydicom.dcmread(path)
        little.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRBigEndian
        meta = {"file_meta": little.file_meta, "preamble": b"\0" * 128}
        big = FileDataset("", Dataset(), is_implicit_VR=False, is_little_endian=False, **meta)
        big.update(little)
        big.add_new("PixelData", "OW", VALUES[k].astype(">i2").tobytes())
        big.save_as(path)
    volume = read_volume(tmp_path)
    assert_is_plain(volume)
    assert volume.array.dtype == np.int16 and volume.array.dtype.isnative


def test_indices_of_a_palette_are_no_values(tmp_path):
    def edit(data, k):
        data.PhotometricInterpretation = "PALETTE COLOR"

    with pytest.raises(InputError, match="color"):
        read_volume(write_series(tmp_path, edit=edit))


def test_a_rescale_that_only_some_slices_state_is_never_assumed_for_the_others(tmp_path, caplog):
    def stated_from(first):
        def edit(data, k):
            if k >= first:
                data.RescaleSlope, data.RescaleIntercept = 1, -1024

        return edit

    volume = read_volume(write_series(tmp_path / "a", edit=stated_from(1)))
    np.testing.assert_array_equal(volume.array, VALUES[1:].transpose(2, 1, 0) - 1024)
    assert "no rescale" in caplog.text and "000.dcm" in caplog.text
    with pytest.raises(InputError, match="do not all state"):
        read_volume(write_series(tmp_path / "b", edit=stated_from(4)))


def test_slices_without_a_preamble_are_read(tmp_path):
    write_series(tmp_path)
    for path in tmp_path.iterdir():
        data = pydicom.dcmread(path)
        data.file_meta = FileMetaDataset()
        data.preamble = None
        with path.open("wb") as file:
            stream = DicomFileLike(file)
            stream.is_implicit_VR = stream.is_little_endian = True
            write_dataset(stream, data)
        assert b"DICM" not in path.read_bytes()
    assert_is_plain(read_volume(tmp_path))


@pytest.mark.parametrize("high", [11, 13, 15])
def test_bits_that_belong_to_no_value_are_ignored(tmp_path, high):
    def edit(data, k):
        data.BitsStored, data.HighBit = 12, high
        values = ((VALUES[k].view(np.uint16) & 0x0FFF) | 0x5000).astype(np.uint32) << high - 11
        data.PixelData = (values | (1 << high - 11) - 1).astype(np.uint16).tobytes()

    assert_is_plain(read_volume(write_series(tmp_path, edit=edit)))


@pytest.mark.parametrize("has_padding", [True, False])
@pytest.mark.parametrize("is_inverted", [True, False])
@pytest.mark.parametrize("intercept", [-1024, 0])
def test_air_is_dark_in_a_ct_that_calls_itself_inverted(tmp_path, caplog, intercept, is_inverted, has_padding):
    air = np.full((8, 9, 9), -1000, np.int16)
    air[:, 2:7, 2:7] = np.random.default_rng(1).integers(0, 1500, (8, 5, 5))
    stored = (air - intercept).astype(np.int16 if intercept == 0 else np.uint16)
    if is_inverted:
        stored = (-1 - stored if intercept == 0 else 65535 - stored).astype(stored.dtype)
    if has_padding:
        stored[:, :, :2] = 3000

    def edit(data, k):
        data.PhotometricInterpretation, data.RescaleSlope, data.RescaleIntercept = "MONOCHROME1", 1, intercept
        if has_padding:
            data.add_new("PixelPaddingValue", "SS" if intercept == 0 else "US", 3000)

    volume = read_volume(write_series(tmp_path, stored, edit=edit))
    np.testing.assert_array_equal(volume.array, air.transpose(2, 1, 0))
    assert "MONOCHROME1" in caplog.text


def test_padding_with_a_sign_in_pixels_without_one_is_found(tmp_path):
    padded = (VALUES.astype(int) + 1024).astype(np.uint16)
    padded[:, 0] = 65536 - 2000

    def edit(data, k):
        data.add_new("PixelPaddingValue", "SS", -2000)
        data.RescaleSlope, data.RescaleIntercept = 1, -1024

    array = read_volume(write_series(tmp_path, padded, edit=edit)).array
    np.testing.assert_array_equal(array[:, 1:], VALUES.transpose(2, 1, 0)[:, 1:])
    assert (array[:, 0] < -800).all()


@pytest.mark.parametrize("value", [63536, 4096, 0])
def test_padding_that_only_bits_of_no_value_can_hold_is_found(tmp_path, value):
    padded = (VALUES.astype(int) + 1024).astype(np.uint16)
    padded[:, 0] = value

    def edit(data, k):
        data.PixelRepresentation, data.BitsStored, data.HighBit = 0, 12, 11
        data.RescaleSlope, data.RescaleIntercept = 1, -1024
        data.add_new("PixelPaddingValue", "US", value)

    array = read_volume(write_series(tmp_path, padded, edit=edit)).array
    np.testing.assert_array_equal(array[:, 1:], VALUES.transpose(2, 1, 0)[:, 1:])
    assert len(np.unique(array[:, 0])) == 1 and (array[:, 0] < -800).all()


def test_streaks_below_air_do_not_become_the_padding(tmp_path):
    padded = VALUES.copy()
    padded[:, 0], padded[0, 1, 0] = -32768, -3000

    def edit(data, k):
        data.add_new("PixelPaddingValue", "SS", -32768)

    assert read_volume(write_series(tmp_path, padded, edit=edit)).array[:, 0].min() > -1000


# Hostile


def test_a_deflated_file_that_grows_without_end_is_refused(tmp_path):
    def edit(data, k):
        data.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian

    path = write_series(tmp_path, VALUES[:1], edit=edit) / "000.dcm"
    data = path.read_bytes()
    start = data.index(b"1.2.840.10008.1.2.1.99") + 22
    packer = zlib.compressobj(9, wbits=-15)
    bomb = b"".join(packer.compress(bytes(2**24)) for _ in range(40)) + packer.flush()
    path.write_bytes(data[:start] + bomb)
    with pytest.raises(InputError, match="claims"):
        read_volume(path)


@pytest.mark.parametrize("field", ["Rows", "NumberOfFrames", "BitsAllocated", "ImagePositionPatient", "RescaleSlope"])
@pytest.mark.parametrize("value", [b"\xff\xff\xff\xff", b"\0\0\0\0", b"1e99", b"nan "])
def test_hostile_numbers_are_refused_or_harmless(tmp_path, field, value):
    def edit(data, k):
        data.RescaleSlope, data.NumberOfFrames = "1.5", "1"
        tag = pydicom.tag.Tag(field)
        data[tag] = pydicom.dataelem.RawDataElement(tag, data[tag].VR, 4, value, 0, False, True)

    with contextlib.suppress(InputError):
        assert read_volume(write_series(tmp_path, edit=edit)).array.nbytes < 2**20


@pytest.mark.skipif(os.name == "nt", reason="has no pipes of that kind")
def test_pipes_and_devices_are_no_files(tmp_path):
    write_series(tmp_path)
    os.mkfifo(tmp_path / "pipe.dcm")
    (tmp_path / "endless.dcm").symlink_to("/dev/zero")
    assert_is_plain(read_volume(tmp_path))
    for name in ("pipe.dcm", "endless.dcm"):
        with pytest.raises(InputError, match="no plain file"):
            read_volume(tmp_path / name)


@pytest.mark.parametrize("kind", ["JPEG", "JPEG2000"])
@pytest.mark.parametrize("rows", [40, 60000])
def test_a_codestream_of_another_size_than_the_header_is_refused(tmp_path, kind, rows):
    values = np.random.default_rng(0).integers(0, 1500, (1, 40, 32)).astype(np.uint16)
    writer = sitk.ImageFileWriter()
    writer.SetFileName(str(tmp_path / "a.dcm"))
    writer.UseCompressionOn()
    writer.SetCompressor(kind)
    writer.Execute(sitk.GetImageFromArray(values))
    data = bytearray((tmp_path / "a.dcm").read_bytes())
    if kind == "JPEG":
        struct.pack_into(">H", data, data.index(b"\xff\xc3") + 5, rows)
    else:
        struct.pack_into(">I", data, data.index(b"\xff\x4f\xff\x51") + 12, rows)
    (tmp_path / "a.dcm").write_bytes(data)
    if rows == 40:
        np.testing.assert_array_equal(read_volume(tmp_path / "a.dcm", (1, 1)).array, values.T)
    else:
        with pytest.raises(InputError, match="damaged"):
            read_volume(tmp_path / "a.dcm", (1, 1))


def test_the_size_of_a_jpeg_ls_image_is_known():
    header = b"\xff\xd8\xff\xf7\0\x0b\x10\0\x20\0\x28\1\1\x11\0" + b"\xff\xda\0\x08\1\1\0\0\0\0"
    size = jpeg_size(header + b"\1\2\3\xff\xd9")
    assert (size.height, size.width, size.bits) == (32, 40, 16)
    assert jpeg_size(header + b"\1\2\3") is None
