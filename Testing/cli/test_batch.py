"""One bad file never ends the rest: batches with hostile files, folders, and being stopped."""

import csv
import json
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import hostile_reader
import numpy as np
import pytest
from dicom_studies import write_study
from tiny_model import write_tiny_package

from H3DELandmarksLib.cases.store import create_project
from H3DELandmarksLib.cli.main import main
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.formats.reading import build
from H3DELandmarksLib.formats.results import DetectionResult
from H3DELandmarksLib.io import isolated
from H3DELandmarksLib.io.images import write_volume
from H3DELandmarksLib.io.markups import write_markups
from H3DELandmarksLib.models import find_model

ON_LINUX = sys.platform == "linux"
AFFINE = np.diag([4.0, 4.0, 4.0, 1.0])
pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs links and pipes with names")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_tiny_package(tmp_path_factory.mktemp("models") / "tiny").path


@pytest.fixture(autouse=True)
def no_other_models(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("home")))
    monkeypatch.delenv("H3DE_MODELS", raising=False)


@pytest.fixture
def hostile(monkeypatch):
    """Reading as libraries may do it to hostile files, with little patience."""
    reader = isolated.IsolatedReader(patience_s=1.5)
    monkeypatch.setattr(isolated, "_SHARED", reader)
    monkeypatch.setattr(isolated, "READ_VOLUME", hostile_reader.READ_VOLUME)
    yield reader
    reader.close()


def make_scan(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.random.default_rng(seed).normal(0, 300, (10, 9, 8)).astype(np.int16)
    write_volume(path, Volume(array, AFFINE), compress=False)
    return path


def make_bad_scans(folder):
    """Files of twelve kinds that cannot be read, by what their sentence says."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = make_scan(folder / "whole.nrrd").read_bytes()
    (folder / "whole.nrrd").unlink()
    odd = os.fsdecode(os.fsencode(folder) + b"/bad-M\xfcller.nrrd")
    meta = "ObjectType = Image\nNDims = {}\nDimSize = {}\nElementSpacing = 1 1 1\nElementType = MET_SHORT\n"
    files = {
        "bad-axes.mha": (meta.format(-1, "9 9 9") + "ElementDataFile = LOCAL\n").encode(),
        "bad-claim.nrrd": whole.replace(b"sizes: 10 9 8", b"sizes: 9000 9000 9000"),
        "bad-zlib.mha": meta.format(3, "1600 1000 1000").encode()
        + b"BinaryData = True\nTransformMatrix = 1 0 0 0 1 0 0 0 1\nCompressedData = True\nElementDataFile = LOCAL\n"
        + zlib.compress(b"x"),
        "bad-cut.nrrd": whole[: len(whole) // 2],
        "bad-empty.nii": b"",
        "bad-text.nii.gz": b"not at all",
        "bad-matrix.mha": (meta.format(3, "2 2 2") + "TransformMatrix = 1e308 0 0 0 1e308 0 0 0 1\n").encode()
        + b"ElementDataFile = LOCAL\n"
        + bytes(16),
        odd: whole,
        "segfault-1.nrrd": whole,
        "abort-2.nrrd": whole,
        "spin-3.nrrd": whole,
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    os.mkfifo(folder / "bad-pipe.nrrd")
    return [*(folder / name for name in files), folder / "bad-pipe.nrrd"]


def make_batch(folder):
    """48 good scans of several kinds and 12 bad ones, which lie among each other by name."""
    extensions = (".nrrd", ".nii.gz", ".mha", ".nii")
    good = [make_scan(folder / f"{chr(ord('a') + k // 2)}{k:02}{extensions[k % 4]}", k) for k in range(48)]
    return good, make_bad_scans(folder)


def detect(capsys, *words):
    code = main(["detect", *map(str, words), "--json"])
    out, err = capsys.readouterr()
    return code, build(DetectionResult, json.loads(out)), err


@pytest.mark.parametrize("as_folder", [True, False], ids=["folder", "files"])
def test_sixty_scans_of_which_twelve_are_bad(tiny, hostile, tmp_path, capsys, as_folder):
    good, bad = make_batch(tmp_path / "scans")
    given = [tmp_path / "scans"] if as_folder else sorted([*good, *bad])
    code, result, err = detect(capsys, *given, "--model", tiny, "--output", tmp_path / "out")
    assert code == 2 and not result.ok and len(result.scans) == 60
    done = {scan.scan for scan in result.scans if scan.ok}
    assert done == {str(path) for path in good}
    sentences = [scan.error for scan in result.scans if not scan.ok]
    assert len(sentences) == 12 and all(text.endswith(".") and text.count("\n") == 0 for text in sentences)
    assert [line for line in err.splitlines() if "unexpected" in line.lower()] == []
    assert sorted(err.splitlines()) == sorted(sentences)
    assert len(list((tmp_path / "out").glob("*.mrk.json"))) == 48
    expected = {"segfault": "crash", "abort": "crash", "spin": "progress", "pipe": "plain file", "ller": "UTF-8"}
    for word, reason in expected.items():
        assert sum(word in text and reason in text for text in sentences) == 1, word


def test_a_folder_of_subjects_with_files_links_and_series(tiny, tmp_path, capsys):
    data, store = tmp_path / "data", tmp_path / "store"
    make_scan(store / "MD5E-s1--0123.nrrd")
    for subject in ("sub-01", "sub-02"):
        (data / subject).mkdir(parents=True)
        (data / subject / "ct.nrrd").symlink_to(store / "MD5E-s1--0123.nrrd")
    make_scan(data / "sub-03" / "ct.nrrd", 3)
    write_study(store / "series")
    (data / "sub-04").mkdir()
    (data / "sub-04" / "dicom").symlink_to(store / "series")
    (data / "sub-04" / "up").symlink_to(data)
    (data / "notes.txt").write_text("x")
    out = tmp_path / "out"
    code, result, err = detect(capsys, data, "--model", tiny, "--output", out)
    assert code == 0 and result.ok
    assert [Path(scan.scan).relative_to(data).as_posix() for scan in result.scans] == [
        "sub-01/ct.nrrd",
        "sub-02/ct.nrrd",
        "sub-03/ct.nrrd",
        "sub-04",
    ]
    assert len({scan.markups for scan in result.scans}) == 4 == len(list(out.glob("*.mrk.json")))
    for scan in result.scans:  # named after the subject, not after the store
        assert "sub-0" in Path(scan.markups).name and "MD5E" not in scan.markups
    passed = {Path(entry.path).relative_to(data).as_posix(): entry.reason for entry in result.passed_over}
    assert set(passed) == {"notes.txt", "sub-04/up"} and "circle" in passed["sub-04/up"]
    assert "notes.txt" in err and "circle" in err


def test_folders_without_scans_or_access_cost_themselves_alone(tiny, tmp_path, capsys, monkeypatch):
    good = make_scan(tmp_path / "good" / "a.nrrd")
    (tmp_path / "none").mkdir()
    found = isolated.find_scans

    def with_a_locked_folder(folder, radiographs=False, series=None):
        result = found(folder, radiographs, series)
        locked = (tmp_path / "good" / "locked", "cannot be read (Permission denied)")
        return type(result)(result.scans, result.passed_over, (locked,)) if Path(folder).name == "good" else result

    monkeypatch.setattr(isolated, "find_scans", with_a_locked_folder)
    words = (tmp_path / "none", tmp_path / "good", tmp_path / "missing")
    code, result, err = detect(capsys, *words, "--model", tiny, "--output", tmp_path / "out")
    assert code == 2 and {scan.scan: scan.ok for scan in result.scans} == {
        str(good): True,
        str(tmp_path / "missing"): False,
        str(tmp_path / "none"): False,
        str(tmp_path / "good" / "locked"): False,
    }
    assert "holds no scans" in err and "Permission denied" in err and "does not exist" in err


def test_ranking_goes_on_after_bad_scans(tiny, hostile, tmp_path, capsys):
    folder = tmp_path / "scans"
    for subject in ("sub-01", "sub-02", "sub-03"):
        make_scan(folder / subject / "ct.nrrd", seed=subject != "sub-01")  # two of them are the same
    bad = make_bad_scans(folder / "bad")
    (folder / "notes.txt").write_text("x")
    words = ["cases", "rank", str(folder), "--model", str(tiny), "--output", str(tmp_path / "order.csv"), "--json"]
    assert main(words) == 2
    document = json.loads(capsys.readouterr().out)
    ranked = [Path(entry["scan"]).relative_to(folder).as_posix() for entry in document["scans"]]
    assert sorted(ranked) == ["sub-01/ct.nrrd", "sub-02/ct.nrrd", "sub-03/ct.nrrd"]
    assert "the same scan as sub-0" in document["scans"][2]["reasons"][0]
    assert len(document["unreadable"]) == len(bad) == 12
    assert [Path(entry["path"]).name for entry in document["passed_over"]] == ["notes.txt"]
    with (tmp_path / "order.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 3


def test_every_series_of_a_folder_is_ranked_on_request(tiny, tmp_path, capsys):
    for series in ("1", "2"):
        write_study(tmp_path / "scans" / "anna", 1, series, name=f"{series}-{{k:03}}.dcm")
    write_study(tmp_path / "scans" / "bert", 2)
    make_scan(tmp_path / "scans" / "a.nrrd")
    words = ["cases", "rank", str(tmp_path / "scans"), "--model", str(tiny), "--output", str(tmp_path / "order.csv")]
    assert main([*words, "--series", "all", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["unreadable"] == [] and len(document["scans"]) == 4


def test_import_goes_on_after_bad_scans(tiny, hostile, tmp_path, capsys):
    scheme = find_model(str(tiny)).scheme
    project = create_project(tmp_path / "project", scheme)
    folder = tmp_path / "cases"
    for name in ("a", "segfault-b", "spin-c", "broken-d", "e"):
        make_scan(folder / f"{name}.nrrd", seed=len(name) + ord(name[-1]))
        points = LandmarkSet(scheme.names, np.full((len(scheme), 3), 3.0))
        write_markups(folder / f"{name}.mrk.json", points)
    assert main(["cases", "import", str(project.folder), str(folder), "--json"]) == 2
    document = json.loads(capsys.readouterr().out)
    assert len(document["new"]) == 2 and len(document["skipped"]) == 3
    for name in ("segfault-b", "broken-d"):
        points, scan = folder / f"{name}.mrk.json", folder / f"{name}.nrrd"
        assert main(["cases", "add", str(project.folder), str(scan), str(points)]) == 2
        assert name in capsys.readouterr().err


def test_a_tiff_whose_pages_go_round_in_circles_and_a_cut_bitmap(tiny, tmp_path, capsys):
    entries = b"".join(struct.pack("<HHII", tag, 3, 1, 8) for tag in (256, 257, 258, 277))
    tiff = b"II*\0" + struct.pack("<IH", 8, 4) + entries + struct.pack("<I", 8)
    (tmp_path / "circle.tif").write_bytes(tiff)
    (tmp_path / "cut.bmp").write_bytes(
        b"BM" + struct.pack("<IIIIiiHHIIiiII", 99, 0, 54, 40, 99, 99, 1, 8, 0, 0, 1, 1, 0, 0)
    )
    words = (tmp_path / "circle.tif", tmp_path / "cut.bmp", make_scan(tmp_path / "good.nrrd"))
    code, result, _ = detect(capsys, *words, "--model", tiny, "--output", tmp_path / "out", "--spacing", "0.1")
    assert code == 2 and [scan.ok for scan in result.scans][:2] == [False, False]


STOPPED = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored, where tests run in the background
import sys
import hostile_reader
from H3DELandmarksLib.cli.main import main
from H3DELandmarksLib.io import isolated
isolated.READ_VOLUME = hostile_reader.READ_VOLUME
answered = isolated._Process.ask
def ask(self, request):
    answered(self, request)
    print(self._popen.pid, flush=True)
isolated._Process.ask = ask
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(not ON_LINUX, reason="looks into /proc")
@pytest.mark.parametrize(("number", "status"), [(2, 130), (15, -15)], ids=["SIGINT", "SIGTERM"])
def test_nothing_is_left_of_a_batch_that_is_stopped(tiny, tmp_path, number, status):
    first, stuck = make_scan(tmp_path / "first.nrrd"), make_scan(tmp_path / "spin-file.nrrd")
    root, temporary = Path(__file__).resolve().parents[2], tmp_path / "temporary"
    temporary.mkdir()
    paths = [str(root), str(root / "Testing" / "helpers")]
    program = subprocess.Popen(
        [sys.executable, "-c", STOPPED, "detect", first, stuck, "--model", tiny, "--output", tmp_path / "out"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    reader = int(program.stdout.readline())
    line = program.stdout.readline()
    while not line.startswith(str(reader)):  # until it reads the second scan
        line = program.stdout.readline()
    assert "/dev/shm" not in Path(f"/proc/{reader}/maps").read_text()  # there could be voxels left
    os.killpg(program.pid, number) if number == 2 else program.send_signal(number)
    assert program.wait(20) == status
    assert hostile_reader.ends(reader)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "first.csv",
        "first.mrk.json",
        "first.provenance.json",
    ]
    assert not [path for path in temporary.iterdir() if path.stat().st_size > 0]
