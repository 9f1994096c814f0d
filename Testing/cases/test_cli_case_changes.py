"""``cases migrate``, ``cases scheme`` and ``cases rank`` by words of the command line."""

import csv
import json

import numpy as np
import pytest
from sample_cases import NAMES, SCHEME, placed, points_of, scan_of
from tiny_model import write_tiny_package, write_tiny_radiograph_package

from H3DELandmarksLib.cases import create_project
from H3DELandmarksLib.cases.next_case import rank_scans
from H3DELandmarksLib.cli.main import main
from H3DELandmarksLib.core.errors import Cancelled
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.detection import Detector
from H3DELandmarksLib.io.images import write_volume
from H3DELandmarksLib.io.scan_folders import find_scans
from H3DELandmarksLib.models import find_model


def call(capsys, *words):
    """Exit code and JSON document of one command."""
    code = main(["cases", *map(str, words), "--json"])
    return code, json.loads(capsys.readouterr().out)


@pytest.fixture
def project(tmp_path):
    project = create_project(tmp_path / "project", SCHEME)
    for seed in range(2):
        project.add(scan_of(seed), placed(points_of(seed)))
    return project


def write_scheme(folder, **changes):
    path = folder / "new.json"
    path.write_text(json.dumps({**SCHEME.to_dict(), "version": "2.0", **changes}))
    return path


def test_a_migration_is_told_first_and_then_done(project, tmp_path, capsys):
    landmarks = [p for p in SCHEME.to_dict()["landmarks"] if p["name"] != "top"]
    landmarks[-1] = {"name": "nose", "definition": "the tip"}
    words = (
        "migrate",
        project.folder,
        "--scheme",
        write_scheme(tmp_path, landmarks=landmarks),
        "--rename",
        "front=nose",
        "--same-points",
        "nose",
    )
    code, told = call(capsys, *words, "--dry-run")
    assert code == 0 and not told["done"] and len(project.schemes()) == 1
    assert told["changes"] == [
        {"kind": "renamed", "landmark": "nose", "old_name": "front", "cases": 2},
        {"kind": "reworded", "landmark": "nose", "old_name": "front", "cases": 2},
        {"kind": "dropped", "landmark": "top", "old_name": "top", "cases": 2},
    ]
    code, done = call(capsys, *words)
    assert code == 0 and done["done"] and {**done, "done": False} == told
    _, listed = call(capsys, "list", project.folder)
    assert listed["scheme"]["version"] == "2.0"
    assert [case["states"] for case in listed["cases"]] == [{"placed": 9}] * 2


def test_sentences_for_people(project, capsys):
    assert main(["cases", "scheme", str(project.folder), "--define", "top", "another place", "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Scheme 'head' 1.0 (10 landmarks) -> 1.1 (10)"
    assert "points in 2 cases become proposals" in lines[1]
    assert lines[-1] == "Nothing was changed."


def test_single_changes_make_a_new_version(project, tmp_path, capsys):
    code, done = call(
        capsys,
        "scheme",
        project.folder,
        "--add",
        "chin",
        "--define",
        "chin",
        "low",
        "--drop",
        "dL",
        "--drop",
        "dR",
        "--rename",
        "front=nose",
    )
    assert code == 0 and done["to"] == "1.1"
    assert project.scheme.names == (*NAMES[:6], "top", "nose", "chin")
    assert project.scheme.pairs == SCHEME.pairs[:3]
    code, shown = call(capsys, "scheme", project.folder)
    assert [scheme["version"] for scheme in shown["schemes"]] == ["1.0", "1.1"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["scheme", "--add", "chin"], "--define"),
        (["scheme", "--add", "top", "--define", "top", "x"], "'top'"),
        (["scheme", "--add", "TOP", "--define", "TOP", "x"], "differs from 'top'"),
        (["scheme", "--add", "a", "--define", "a", "x", "--rename", "top=A"], "differs from 'A'"),
        (["scheme", "--add", "chin ", "--define", "chin ", "x"], "blank"),
        (["scheme", "--define", "top", "x", "--define", "top", "y"], "defined twice"),
        (["scheme", "--drop", "beak"], "no landmark 'beak'"),
        (["scheme", "--define", "beak", "x"], "no landmark 'beak'"),
        (["scheme", "--drop", "top", "--rename", "top=a"], "choose one"),
        (["scheme", "--rename", "top"], "OLD=NEW"),
        (["scheme", "--rename", "top=a", "--rename", "top=b"], "twice"),
        (["scheme", "--dry-run"], "Nothing is to be changed"),
        (["migrate", "--scheme", "{0}/none.json"], "holds no scheme"),
        (["migrate", "--scheme", "{0}/twice.json"], "'top'"),
    ],
)
def test_refusals_are_one_sentence_and_change_nothing(project, tmp_path, capsys, words, sentence):
    twice = [*SCHEME.to_dict()["landmarks"], {"name": "top", "definition": ""}]
    write_scheme(tmp_path, landmarks=twice).rename(tmp_path / "twice.json")
    code, document = call(capsys, words[0], project.folder, *(word.format(tmp_path) for word in words[1:]))
    assert code == 2 and sentence in document["error"]
    assert "\n" not in document["error"] and "unexpected" not in document["error"]
    assert len(project.schemes()) == 1


@pytest.fixture
def folder(tmp_path):
    """Three scans, one of them under two names, and a file that is none."""
    folder = tmp_path / "scans"
    folder.mkdir()
    for seed in range(3):
        write_volume(folder / f"scan {seed}.nrrd", scan_of(seed))
    write_volume(folder / "scan 2 again.nii.gz", scan_of(2))
    (folder / "broken.nrrd").write_bytes(b"NRRD0004\n")
    return folder


def test_scans_are_ranked_without_those_of_the_project(project, folder, tmp_path, capsys):
    write_tiny_package(tmp_path / "tiny")
    output = tmp_path / "ranking.csv"
    words = (
        "rank",
        folder,
        "--model",
        tmp_path / "tiny",
        "--cases",
        project.folder,
        "--output",
        output,
        "--device",
        "cpu",
    )
    code, document = call(capsys, *words)
    assert code == 2 and not document["ok"]
    assert [(entry["rank"], entry["scan"][len(str(folder)) + 1 :]) for entry in document["scans"]] == [
        (1, "scan 2 again.nii.gz"),
        (2, "scan 2.nrrd"),
    ]
    assert document["scans"][1]["reasons"] == ["the same scan as scan 2 again.nii.gz: last"]
    assert {entry["case"] for entry in document["known"]} == {case.id for case in project.cases()}
    assert [entry["scan"] for entry in document["unreadable"]] == [str(folder / "broken.nrrd")]
    with output.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["scan"] for row in rows] == [entry["scan"] for entry in document["scans"]]
    assert [row["reason"] for row in rows] == [entry["reasons"][0] for entry in document["scans"]]
    (folder / "broken.nrrd").unlink()
    code, document = call(capsys, *words[:4], *words[6:], "--overwrite")
    assert code == 0 and len(document["scans"]) == 4 and document["known"] == []


def test_ranking_tells_how_far_it_is_and_can_be_stopped(folder, tmp_path):
    detector, scans = Detector(write_tiny_package(tmp_path / "tiny"), "cpu"), find_scans(folder).scans
    told = []
    rank_scans(scans, detector, progress=lambda fraction, message: told.append((fraction, message)))
    fractions = [fraction for fraction, _ in told]
    assert fractions == sorted(fractions) and fractions[0] == 0 and fractions[-1] == 1
    assert len(told) > 2 * len(scans) and {message for _, message in told[:-1]} == {scan.path.name for scan in scans}
    with pytest.raises(Cancelled):
        rank_scans(scans, detector, cancelled=lambda: True)


def test_radiographs_are_ranked_in_their_plane(tmp_path, capsys):
    write_tiny_radiograph_package(tmp_path / "flat")
    (tmp_path / "scans").mkdir()
    rng = np.random.default_rng(0)
    for number in range(2):
        array = rng.integers(0, 255, (64, 1, 64)).astype(np.uint8)
        write_volume(tmp_path / "scans" / f"{number}.nrrd", Volume(array, np.eye(4)))
    scheme = find_model(str(tmp_path / "flat")).scheme
    project = create_project(tmp_path / "project", scheme)
    code, document = call(
        capsys,
        "rank",
        tmp_path / "scans",
        "--model",
        tmp_path / "flat",
        "--cases",
        project.folder,
        "--output",
        tmp_path / "ranking.csv",
        "--device",
        "cpu",
    )
    assert code == 0 and [entry["rank"] for entry in document["scans"]] == [1, 2]


def test_nothing_but_a_ranking_is_replaced(folder, tmp_path, capsys):
    write_tiny_package(tmp_path / "tiny")
    output = tmp_path / "mine.csv"
    output.write_text("a,b\n1,2\n")
    words = ("rank", folder, "--model", tmp_path / "tiny", "--output")
    for path, sentence in (
        (output, "--overwrite"),
        (tmp_path / "x" / "y.csv", "does not exist"),
        (tmp_path / "x.txt", ".csv"),
    ):
        code, document = call(capsys, *words, path)
        assert code == 2 and sentence in document["error"]
    assert output.read_text() == "a,b\n1,2\n"
    code, document = call(capsys, "rank", tmp_path / "x", "--model", tmp_path / "tiny", "--output", tmp_path / "r.csv")
    assert code == 2 and "cannot be read" in document["error"]
