"""DICOM series in every form that scanners give them: the voxels and places of the plain series, or a reason."""

import os
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence as Items

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.io.images import read_volume

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


def write_enhanced(path: Path, order) -> Path:
    """One file of many frames, stored in an order of their own."""
    data = image(VALUES[order], ENHANCED_CT)
    data.NumberOfFrames, shared, frames = len(order), Dataset(), []
    measures, turn = Dataset(), Dataset()
    measures.PixelSpacing, turn.ImageOrientationPatient = list(PIXEL), [1, 0, 0, 0, 1, 0]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = Items([measures]), Items([turn])
    for k in order:
        frame, place = Dataset(), Dataset()
        place.ImagePositionPatient = [10, 20, float(k * STEP)]
        frame.PlanePositionSequence = Items([place])
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


def test_a_copied_file_counts_once_and_is_named(tmp_path, caplog):
    write_series(tmp_path)
    shutil.copy(tmp_path / "003.dcm", tmp_path / "003 - Copy.dcm")
    assert_is_plain(read_volume(tmp_path))
    assert "003" in caplog.text


@pytest.mark.parametrize("seed", range(3))
def test_each_slice_has_its_own_rescale(tmp_path, seed):
    intercepts = np.random.default_rng(seed).integers(-1024, 0, len(VALUES))

    def edit(data, k):
        data.RescaleSlope, data.RescaleIntercept = 1, int(intercepts[k])
        data.PixelData = (VALUES[k] - intercepts[k]).astype(np.int16).tobytes()

    assert_is_plain(read_volume(write_series(tmp_path, edit=edit)))


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


def test_a_hole_is_refused_with_its_size(tmp_path):
    heights = [0, 1, 2, 3, 9, 10, 11, 12]
    with pytest.raises(InputError, match="gap of 6 mm"):
        read_volume(write_series(tmp_path, heights=heights))


def _no_place(data, k):
    del data.ImagePositionPatient, data.ImageOrientationPatient


def _no_pixel(data, k):
    del data.PixelSpacing


@pytest.mark.parametrize(("edit", "fact"), [(_no_place, "position"), (_no_pixel, "pixel spacing")])
def test_what_is_not_stated_is_refused_until_the_user_states_it(tmp_path, edit, fact):
    write_series(tmp_path, edit=edit)
    with pytest.raises(InputError, match=fact):
        read_volume(tmp_path)
    volume = read_volume(tmp_path, (0.5, 0.6, STEP))
    np.testing.assert_array_equal(volume.array, VALUES.transpose(2, 1, 0))
    np.testing.assert_allclose(volume.spacing, [0.5, 0.6, STEP])


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


def test_a_file_that_claims_gigabytes_is_refused(tmp_path):
    def edit(data, k):
        data.Rows = data.Columns = 60000

    with pytest.raises(InputError, match="claims"):
        read_volume(write_series(tmp_path, VALUES[:1], edit=edit) / "000.dcm")
