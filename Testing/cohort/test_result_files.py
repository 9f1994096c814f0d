"""The files of a result: all old or all new, none of a person or of another scan, named after what was typed."""

import errno
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from H3DELandmarksLib.cohort.result_files import SCAN, ResultFiles, fingerprint, make_folder, plan_results
from H3DELandmarksLib.core.errors import InputError, OutputError
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.formats.provenance import Provenance, proposed_points, read_provenance
from H3DELandmarksLib.io.markups import read_markups, read_stamp, write_markups
from H3DELandmarksResearch.planning.point_tables import read_tables

NAMES = ("A", "B", "C")
FIRST, SECOND = (LandmarkSet(NAMES, np.arange(9.0).reshape(3, 3) + shift) for shift in (0, 100))
SUFFIXES = (".mrk.json", ".csv", ".png")


@pytest.fixture
def files(tmp_path):
    """Of a scan that lies elsewhere."""
    (tmp_path / "out").mkdir()
    return ResultFiles(tmp_path / "scan.nrrd", tmp_path / "out", "scan")


def drawing(text):
    return lambda path: path.write_text(text)


def write(files, landmarks, picture="picture", provenance=None, **more):
    files.check_replaceable(picture=picture is not None, **more)
    files.write(landmarks, draw=None if picture is None else drawing(picture), provenance=provenance, **more)


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def assert_written(files, landmarks):
    np.testing.assert_array_equal(read_markups(files.markups).positions, landmarks.positions)
    (table,) = read_tables(files.table).values()
    np.testing.assert_allclose(list(table.positions.values()), landmarks.positions)


def test_own_results_are_replaced_together(files):
    write(files, FIRST, "one")
    write(files, SECOND, "two")
    assert_written(files, SECOND)
    assert files.picture.read_text() == "two" and names_in(files.folder) == ["scan.csv", "scan.mrk.json", "scan.png"]


def test_the_provenance_is_written_with_the_points_and_goes_with_them(files):
    origin = Provenance(software="0.2.0", time="2026-11-29T10:00:00Z", model=None, scan=None, points=())
    origins = [replace(origin, points=proposed_points(points)) for points in (FIRST, SECOND)]
    for points, told in zip((FIRST, SECOND), origins):
        write(files, points, None, provenance=told)
        assert read_provenance(files.provenance) == told
    files.provenance.write_text("edited")
    with pytest.raises(InputError, match="provenance.json"):
        write(files, FIRST, None, provenance=origins[0])
    files.provenance.unlink()
    write(files, FIRST, None)
    assert names_in(files.folder) == ["scan.csv", "scan.mrk.json"]


def test_a_picture_of_older_points_goes_with_them(files):
    write(files, FIRST)
    write(files, SECOND, picture=None)
    assert_written(files, SECOND)
    assert names_in(files.folder) == ["scan.csv", "scan.mrk.json"]


def test_a_picture_of_somebody_elses_stays_where_none_is_drawn(files):
    files.picture.write_text("mine")
    write(files, FIRST, picture=None)
    assert files.picture.read_text() == "mine"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_that_was_there_before_is_kept(files, suffix):
    path = files.folder / f"scan{suffix}"
    path.write_text("my,own\n1,2\n")
    with pytest.raises(InputError, match="--overwrite"):
        write(files, FIRST)
    assert path.read_text() == "my,own\n1,2\n" and names_in(files.folder) == [path.name]
    write(files, FIRST, overwrite=True)
    assert_written(files, FIRST)
    assert names_in(files.folder) == ["scan.csv", "scan.mrk.json", "scan.png"]


def a_column_added(path):
    path.write_text("\n".join(f"{line},x" for line in path.read_text().splitlines()))


def a_digit_changed(path):
    path.write_text(path.read_text().replace("1.0", "1.1", 1))


def saved_by_slicer(path):
    write_markups(path, read_markups(path))


@pytest.mark.parametrize(
    ("suffix", "edit"),
    [
        (".csv", a_column_added),
        (".csv", a_digit_changed),
        (".mrk.json", a_digit_changed),
        (".mrk.json", saved_by_slicer),
        (".png", lambda path: path.write_text("painted")),
    ],
)
def test_what_somebody_edited_is_kept(files, suffix, edit):
    write(files, FIRST)
    path = files.folder / f"scan{suffix}"
    edit(path)
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"edited.*--overwrite"):
        write(files, SECOND)
    assert path.read_bytes() == before
    write(files, SECOND, overwrite=True)
    assert_written(files, SECOND)


def test_what_is_edited_during_the_detection_is_kept(files):
    write(files, FIRST)
    files.check_replaceable(picture=True)
    a_column_added(files.table)
    before = files.table.read_bytes()
    with pytest.raises(InputError, match="--overwrite"):
        files.write(SECOND)
    assert files.table.read_bytes() == before and names_in(files.folder) == ["scan.csv", "scan.mrk.json", "scan.png"]


def test_a_missing_table_is_written_again(files):
    write(files, FIRST)
    files.table.unlink()
    write(files, SECOND)
    assert_written(files, SECOND)


def test_the_scan_itself_is_never_replaced(tmp_path):
    (tmp_path / "scan.png").write_text("pixels")
    files = ResultFiles(tmp_path / "scan.png", tmp_path, "scan")
    for options in ({"picture": True}, {"overwrite": True}):
        with pytest.raises(InputError, match="scan itself"):
            files.check_replaceable(**options)


def volume(seed):
    return Volume(np.random.default_rng(seed).integers(0, 99, (4, 5, 6)).astype(np.int16), np.eye(4))


def test_the_results_of_another_scan_of_the_same_name_are_kept(files):
    first, second = fingerprint(volume(0)), fingerprint(volume(1))
    files.write(FIRST, {SCAN: first})
    assert first == fingerprint(Volume(volume(0).array.astype(np.float32), np.eye(4))) != second
    files.check_same_scan(first)
    with pytest.raises(InputError, match=r"another scan.*--overwrite"):
        files.check_same_scan(second)
    files.check_same_scan(second, overwrite=True)
    files.write(SECOND, {SCAN: second}, overwrite=True)
    assert read_stamp(files.markups)[SCAN] == second


def test_the_results_of_another_scan_that_came_meanwhile_are_kept(files):
    first, second = fingerprint(volume(0)), fingerprint(volume(1))
    together = threading.Barrier(2, timeout=60)

    def write_one(points, scan):
        files.check_same_scan(scan)
        try:
            files.write(points, {SCAN: scan}, draw=lambda path: (path.write_text("x"), together.wait()))
        except InputError as error:
            return error
        return scan

    with ThreadPoolExecutor() as pool:
        done = list(pool.map(write_one, (FIRST, SECOND), (first, second)))
    (error,) = [entry for entry in done if isinstance(entry, InputError)]
    (written,) = [entry for entry in done if entry is not error]
    assert "another scan" in str(error) and read_stamp(files.markups)[SCAN] == written
    assert_written(files, FIRST if written == first else SECOND)


def test_a_picture_that_cannot_be_drawn_costs_no_points(files):
    def fail(path):
        path.write_text("half")
        raise OSError(errno.ENOSPC, "x")

    with pytest.raises(OutputError, match=r"scan\.png.*full"):
        files.write(FIRST, draw=fail)
    assert_written(files, FIRST)
    assert names_in(files.folder) == ["scan.csv", "scan.mrk.json"]
    write(files, SECOND)


class Crash(BaseException):
    """Nothing that code expects."""


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), Crash()])
@pytest.mark.parametrize("first", [True, False])
def test_a_crash_at_any_rename_leaves_old_or_new(files, monkeypatch, error, first):
    if not first:
        write(files, FIRST, "old")
    replace, done = os.replace, 0
    for stop in range(1, 40):
        calls = []

        def failing(source, target, calls=calls, stop=stop):
            calls.append(source)
            if len(calls) == stop:
                raise error
            replace(source, target)

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", failing)
            try:
                files.write(SECOND, draw=drawing("new"), overwrite=True)
                break
            except (OutputError, Crash):
                done += 1
        there = names_in(files.folder)
        assert there in ([], ["scan.csv", "scan.mrk.json", "scan.png"])
        if there:
            is_new = files.picture.read_text() == "new"
            assert_written(files, SECOND if is_new else FIRST)
    assert done >= 3


@pytest.mark.parametrize("name", ["x" * 240, "é" * 120])
def test_a_name_too_long_for_results_is_told(tmp_path, name):
    with pytest.raises(InputError, match="too long"):
        ResultFiles(tmp_path / name, tmp_path, name).check_replaceable()


@pytest.mark.parametrize("name", ["x" * 239, "é" * 119])
def test_the_longest_name_works(tmp_path, name):
    files = ResultFiles(tmp_path / name, tmp_path, name)
    write(files, FIRST)
    assert_written(files, FIRST)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_that_are_no_utf8_are_told(tmp_path):
    name = os.fsdecode(b"M\xfcller")
    with pytest.raises(InputError, match=r"M\?ller.*UTF-8"):
        ResultFiles(tmp_path / name, tmp_path, name).check_replaceable()
    with pytest.raises(InputError, match="UTF-8"):
        make_folder(tmp_path / name)


def test_results_are_named_after_links_and_two_subjects_stay_two(tmp_path):
    (tmp_path / "annex").mkdir()
    (tmp_path / "annex" / "MD5E-s1--0.nrrd").touch()
    for subject in ("sub-01", "sub-02"):
        (tmp_path / subject).mkdir()
        (tmp_path / subject / "ct.nrrd").symlink_to(tmp_path / "annex" / "MD5E-s1--0.nrrd")
    scans = [tmp_path / subject / "ct.nrrd" for subject in ("sub-01", "sub-02")]
    again = scans[0].parent / ".." / "sub-02" / "ct.nrrd"
    planned = plan_results([*scans, again], tmp_path)
    assert [(f.scan.name, f.name) for f in planned] == [("ct.nrrd", "sub-01_ct"), ("ct.nrrd", "sub-02_ct")]


def test_names_that_differ_in_the_form_of_accents_alone_stay_apart(tmp_path):
    names = [f.name for f in plan_results([tmp_path / "a" / "\u00e9.nrrd", tmp_path / "b" / "e\u0301.nrrd"], tmp_path)]
    assert names == ["a_\u00e9", "b_e\u0301"]


@pytest.mark.parametrize(
    ("scans", "names"),
    [
        (["Case.nrrd", "case.nrrd"], ["Case_nrrd", "case_nrrd_2"]),
        (["a/Case.nrrd", "a/case.nrrd", "b/Case.nrrd"], ["Case_nrrd", "case_nrrd_2", "Case"]),
        (["a/ct.nii", "A/ct.nii"], ["a_ct", "A_ct_2"]),
        (["p/a/ct.nii", "q/a/ct.nii", "q/A/ct.nii"], ["p_a_ct", "q_a_ct", "q_A_ct_2"]),
        (["a/X.nii", "a/x.nii", "b/X.nii", "b/x.nii"], ["a_X_nii", "a_x_nii_2", "b_X_nii", "b_x_nii_2"]),
        (["ct.nii", "a/ct.nii"], ["private_ct", "a_ct"]),
        (["a_ct.nii", "a/ct.nii", "b/ct.nii"], ["a_ct", "a_ct_2", "b_ct"]),
    ],
)
def test_no_more_folders_are_named_than_tell_scans_apart(tmp_path, scans, names):
    planned = plan_results([tmp_path / "private" / scan for scan in scans], tmp_path)
    assert [files.name for files in planned] == names


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0 or sys.platform != "linux", reason="mounts a disk")
def test_a_full_disk_is_told_and_leaves_what_was_there(tmp_path):
    """A real disk of 64 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("no disk can be mounted here")
    try:
        files = ResultFiles(tmp_path / "scan.nrrd", disk, "scan")
        write(files, FIRST)
        before = {name: (disk / name).read_bytes() for name in names_in(disk)}
        filler = disk / "filler"
        with pytest.raises(OSError, match="space"):
            filler.write_bytes(bytes(2**20))
        free = 64 * 1024 - sum(path.stat().st_size for path in disk.iterdir())
        assert free < 64 * 1024
        with pytest.raises(OutputError, match="disk is full"):
            write(files, SECOND)
        filler.unlink()
        assert {name: (disk / name).read_bytes() for name in names_in(disk)} == before
        write(files, SECOND)
        assert_written(files, SECOND)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").touch()
    for folder, word in ((tmp_path / "file" / "x", "folder"), (tmp_path / ("x" * 300), "too long")):
        with pytest.raises(InputError, match=word):
            make_folder(Path(folder))
