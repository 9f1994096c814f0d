"""Which scans a folder holds, of every form in which people keep them, and what is passed over."""

import os
import shutil
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from dicom_studies import VALUES, image, write_study
from pydicom.uid import DeflatedExplicitVRLittleEndian

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.io.images import read_volume
from H3DELandmarksLib.io.scan_folders import NO_SCAN, FoundScan, find_scans

links = pytest.mark.skipif(os.name == "nt", reason="links need a privilege")


def found(folder, **options):
    """Paths of scans below the folder as texts, in order."""
    return [scan.path.relative_to(folder).as_posix() for scan in find_scans(folder, **options).scans]


def reasons(folder, **options):
    return {path.relative_to(folder).as_posix(): reason for path, reason in find_scans(folder, **options).passed_over}


def touch(*paths: Path):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_files_of_every_kind_in_order_of_their_paths(tmp_path):
    names = ["a.nii.gz", "b/ct.nrrd", "b/c/ct.mha", "c.NII", "d.mhd", "e.nhdr", "f.dcm"]
    touch(*(tmp_path / name for name in reversed(names)))
    assert found(tmp_path) == sorted(names, key=lambda name: Path(name).parts)


def test_what_is_no_scan_is_listed_with_the_reason(tmp_path):
    touch(
        *(tmp_path / name for name in ("a.nrrd", "part.seg.nrrd", ".hidden.nrrd", ".git/x.nrrd", "notes.txt", "p.png"))
    )
    touch(tmp_path / "a.mrk.json", tmp_path / "DICOMDIR")
    assert found(tmp_path) == ["a.nrrd"]
    told = reasons(tmp_path)
    assert told.pop("notes.txt") == told.pop("a.mrk.json") == NO_SCAN
    assert told.pop(".hidden.nrrd") == told.pop(".git") == "hidden"
    assert "segmentation" in told.pop("part.seg.nrrd") and "picture" in told.pop("p.png")
    assert "list" in told.pop("DICOMDIR") and not told


def test_pictures_are_scans_of_models_for_radiographs_unless_detection_drew_them(tmp_path):
    canvas = pytest.importorskip("H3DELandmarksResearch.figures.canvas")
    figure = pytest.importorskip("matplotlib.figure").Figure()
    touch(tmp_path / "a.png", tmp_path / "b.tif")
    figure.savefig(tmp_path / "c.png", metadata={"Software": canvas.SIGNATURE})
    assert found(tmp_path, radiographs=True) == ["a.png", "b.tif"]
    assert reasons(tmp_path, radiographs=True) == {"c.png": "drawn by detection"}


def test_patients_are_told_apart_and_named_after_their_folders(tmp_path):
    write_study(tmp_path / "sub-01" / "dicom", 1)
    write_study(tmp_path / "sub-02" / "dicom" / "deep", 2, name="IM{k}")
    write_study(tmp_path / "sub-03", 3, name="DIR{part}/IM{k}")
    touch(tmp_path / "sub-04" / "ct.nrrd")
    assert found(tmp_path) == ["sub-01", "sub-02", "sub-03", "sub-04/ct.nrrd"]
    for number in (1, 2, 3):
        np.testing.assert_array_equal(
            read_volume(tmp_path / f"sub-0{number}").array, VALUES.transpose(2, 1, 0) + number, strict=False
        )


@pytest.mark.parametrize("name", ["{k}", "DIR{part}/{k}"])
def test_copies_are_scans_of_their_own(tmp_path, name):
    for folder in ("one", "two"):
        shutil.copytree(write_study(tmp_path / "x" / "one", 1, name=name), tmp_path / folder)
    assert found(tmp_path) == ["one", "two", "x"]


@pytest.mark.parametrize("name", ["{k:03}.dcm", "DIR{part}/{k}", "a/b/{k}"])
def test_a_folder_with_one_study_is_one_scan(tmp_path, name):
    write_study(tmp_path / "patient", 1, name=name)
    assert find_scans(tmp_path / "patient").scans == (FoundScan(tmp_path / "patient"),)
    assert found(tmp_path) == ["."]


def test_series_of_one_study_are_one_scan_from_which_reading_chooses(tmp_path):
    write_study(tmp_path / "kernel", 1, "1", kind="kernel")
    write_study(tmp_path / "soft", 1, "2", kind="soft", slices=VALUES[:4])
    assert found(tmp_path) == ["."]


def test_frames_of_one_file_are_a_scan_of_their_own(tmp_path):
    for number in range(3):
        image(VALUES, number).save_as(tmp_path / f"{number}.dcm")
    assert found(tmp_path) == ["0.dcm", "1.dcm", "2.dcm"]


def test_a_study_among_others_is_read_by_its_series(tmp_path):
    write_study(tmp_path, 1, name="x{part}/A{k}")
    write_study(tmp_path / "x0", 2, name="B{k}")
    touch(tmp_path / "y" / "ct.nrrd")
    scans = find_scans(tmp_path).scans
    assert [scan.path.relative_to(tmp_path).as_posix() for scan in scans] == [".", "x0", "y/ct.nrrd"]
    for number, scan in enumerate(scans[:2], 1):
        array = read_volume(scan.path, series=scan.series).array
        np.testing.assert_array_equal(array, VALUES.transpose(2, 1, 0) + number)


def test_a_study_that_cannot_be_told_apart_is_named(tmp_path):
    write_study(tmp_path, 1, name="A{k}")
    write_study(tmp_path, 2, name="B{k}", slices=VALUES[:5])
    assert find_scans(tmp_path).scans == (FoundScan(tmp_path, "1.2.1.1"),)
    assert "1.2.2.1" in reasons(tmp_path)["B0"] and "--series" in reasons(tmp_path)["B0"]


def test_a_series_that_is_asked_for_chooses_studies(tmp_path):
    write_study(tmp_path / "one", 1, "1", kind="kernel")
    write_study(tmp_path / "one", 1, "2", kind="soft", name="s{k}")
    write_study(tmp_path / "two", 2, "1", kind="soft")
    assert found(tmp_path, series="kernel") == ["one"] and "two" in reasons(tmp_path, series="kernel")
    assert found(tmp_path, series="soft") == ["one", "two"] == found(tmp_path, series="none")


def test_every_dicom_file_is_a_radiograph(tmp_path):
    for number in range(3):
        image(VALUES[0]).save_as(tmp_path / f"IM{number}")
    assert found(tmp_path, radiographs=True) == ["IM0", "IM1", "IM2"]
    for number in range(2):
        (tmp_path / f"IM{number}").unlink()
    assert found(tmp_path, radiographs=True) == ["."]


def test_dicom_without_an_image_is_passed_over(tmp_path):
    write_study(tmp_path / "ct", 1)
    report = image(VALUES[0])
    del report.Rows, report.Columns, report.PixelData
    report.save_as(tmp_path / "report.dcm")
    assert found(tmp_path) == ["."] and "without an image" in reasons(tmp_path)["report.dcm"]


def test_slices_are_counted_and_not_their_files(tmp_path):
    write_study(tmp_path, 1, name="a{k}.dcm", slices=VALUES[:4])
    write_study(tmp_path, 2, name="b{k}.dcm", slices=VALUES[:2])
    image(VALUES, 2, "2").save_as(tmp_path / "c.dcm")
    assert [scan.series for scan in find_scans(tmp_path).scans] == ["1.2.2.2"]


def test_a_movie_of_a_study_is_not_the_series_that_is_read(tmp_path):
    write_study(tmp_path, 1, name="a{k}.dcm")
    image(np.zeros((40, 5, 6), np.int16), 1, "9").save_as(tmp_path / "movie.dcm")
    write_study(tmp_path, 2, name="b{k}.dcm", slices=VALUES[:2])
    assert [scan.series for scan in find_scans(tmp_path).scans] == ["1.2.1.1"]


def test_what_was_made_on_a_scan_is_no_scan_of_its_own(tmp_path):
    write_study(tmp_path / "ct", 1)
    dose = image(np.stack([VALUES[0]] * 20), 1, "2")
    dose.SOPClassUID = "1.2.840.10008.5.1.4.1.1.481.2"
    dose.save_as(tmp_path / "dose.dcm")
    for series in (None, "all"):
        assert found(tmp_path, series=series) == ["."]
    assert "without an image" in reasons(tmp_path)["dose.dcm"]


def test_damaged_dicom_files_are_scans_that_fail_unless_they_lie_in_a_series(tmp_path):
    write_study(tmp_path / "ct", 1)
    touch(tmp_path / "ct" / "bad.dcm", tmp_path / "alone" / "bad.dcm")
    assert found(tmp_path) == ["alone/bad.dcm", "ct"] and "damaged" in reasons(tmp_path)["ct/bad.dcm"]


def test_a_file_that_grows_without_end_is_damaged_and_never_unpacked(tmp_path):
    bomb = write_study(tmp_path / "ct", 1) / "bomb.dcm"
    data = image(VALUES[0])
    data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    data.save_as(bomb)
    head = bomb.read_bytes().partition(DeflatedExplicitVRLittleEndian.encode())[:2]
    packer = zlib.compressobj(9, wbits=-15)
    packed = b"".join(packer.compress(bytes(2**24)) for _ in range(20)) + packer.flush()
    bomb.write_bytes(b"".join(head) + packed)
    assert found(tmp_path) == ["ct"] and "damaged" in reasons(tmp_path)["ct/bomb.dcm"]


@links
def test_links_keep_the_names_that_the_user_gave(tmp_path):
    write_study(tmp_path / "store" / "0a1b", 1)
    touch(tmp_path / "store" / "MD5E-s1--0123.nrrd")
    data = tmp_path / "data"
    for subject in ("sub-01", "sub-02"):
        (data / subject).mkdir(parents=True)
        (data / subject / "ct.nrrd").symlink_to("../../store/MD5E-s1--0123.nrrd")
        (data / f"{subject}-dicom").symlink_to(tmp_path / "store" / "0a1b")
    (data / "gone.nrrd").symlink_to("nowhere.nrrd")
    (data / "self.nrrd").symlink_to("self.nrrd")
    expected = ["gone.nrrd", "self.nrrd", "sub-01/ct.nrrd", "sub-01-dicom", "sub-02/ct.nrrd", "sub-02-dicom"]
    assert found(data) == sorted(expected, key=lambda name: Path(name).parts)


@links
def test_circles_of_links_end(tmp_path):
    touch(tmp_path / "a" / "ct.nrrd")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    for number in range(4):
        (tmp_path / f"n{number}").mkdir()
    for number in range(4):
        for other in range(4):
            (tmp_path / f"n{number}" / f"to{other}").symlink_to(tmp_path / f"n{other}")
    assert found(tmp_path) == ["a/ct.nrrd"]
    assert "circle" in reasons(tmp_path)["a/up"]


def test_folders_may_be_deep_but_not_without_end(tmp_path):
    touch(tmp_path / Path(*"a" * 50) / "ct.nrrd", tmp_path / Path(*"b" * 600) / "ct.nrrd")
    assert found(tmp_path) == ["a/" * 50 + "ct.nrrd"]
    assert list(reasons(tmp_path).values()) == ["too deep"]


@pytest.mark.skipif(os.name == "nt" or sys.platform == "darwin", reason="Linux")
def test_odd_things_with_names_of_scans_are_scans_that_fail(tmp_path):
    os.mkfifo(tmp_path / "pipe.nrrd")
    os.mkfifo(tmp_path / "pipe.dcm")
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "folder.nrrd").mkdir()
    (tmp_path / "empty").mkdir()
    touch(tmp_path / "full.nii" / "ct.nrrd")
    odd = os.fsdecode(b"M\xfcller.nrrd")
    touch(tmp_path / odd)
    assert found(tmp_path) == sorted(["folder.nrrd", "full.nii/ct.nrrd", odd, "pipe.dcm", "pipe.nrrd"])


def test_folders_that_cannot_be_looked_into(tmp_path, monkeypatch):
    touch(tmp_path / "a.nrrd", tmp_path / "locked" / "b.nrrd")
    original = Path.iterdir

    def refuse(self):  # tests may run as root, whom nothing is refused
        if self.name == "locked":
            raise PermissionError(13, "Permission denied")
        return original(self)

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert found(tmp_path) == ["a.nrrd"]
    ((folder, reason),) = find_scans(tmp_path).unreadable
    assert folder == tmp_path / "locked" and "Permission denied" in reason
    for name in ("locked", "none"):
        with pytest.raises(InputError, match=name):
            find_scans(tmp_path / name)
