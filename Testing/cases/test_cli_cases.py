"""``h3delandmarks cases``: a project from the first case to the checked set, by words of the command line."""

import json

import pytest
from sample_cases import NAMES, SCHEME, points_of, scan_of, set_of

from H3DELandmarksLib.cli.main import main
from H3DELandmarksLib.io.images import write_volume
from H3DELandmarksLib.io.markups import write_markups


def call(capsys, *words):
    """Exit code and JSON document of one command."""
    code = main(["cases", *map(str, words), "--json"])
    return code, json.loads(capsys.readouterr().out)


@pytest.fixture
def files(tmp_path):
    """A scheme, and a scan with its corrected and proposed points."""
    (tmp_path / "scheme.json").write_text(json.dumps(SCHEME.to_dict()))
    points = points_of(0)
    write_volume(tmp_path / "scan.nrrd", scan_of(0))
    write_markups(tmp_path / "proposed.mrk.json", set_of(points))
    points[0] += 1
    write_markups(tmp_path / "corrected.mrk.json", set_of(points))
    return tmp_path


@pytest.fixture
def project(files, capsys):
    folder = files / "project"
    code, document = call(capsys, "new", folder, "--scheme", files / "scheme.json")
    assert code == 0 and document["scheme"] == SCHEME.to_dict()
    return folder


def add(capsys, project, *words):
    folder = project.parent
    return call(capsys, "add", project, folder / "scan.nrrd", folder / "corrected.mrk.json", *words)


def test_add_list_and_add_again(project, capsys):
    proposed = ("--proposed", project.parent / "proposed.mrk.json", "--model", "head@1.0.0")
    code, first = add(capsys, project, *proposed)
    assert code == 0 and first["is_new_case"] and first["revision"] == 1
    _, listed = call(capsys, "list", project)
    assert listed["cases"][0]["states"] == {"proposed": 9, "moved": 1}
    _, second = add(capsys, project, *proposed, "--accept")
    assert (second["case"], second["revision"]) == (first["case"], 2)
    _, listed = call(capsys, "list", project, "--rebuild")
    assert listed["cases"][0]["states"] == {"accepted": 9, "moved": 1}
    assert listed["cases"][0]["model"] == "head@1.0.0"


def test_points_without_a_proposal_were_placed_unless_nobody_looked(project, capsys):
    add(capsys, project)
    assert call(capsys, "list", project)[1]["cases"][0]["states"] == {"placed": 10}
    add(capsys, project, "--unreviewed")
    assert call(capsys, "list", project)[1]["cases"][0]["states"] == {"proposed": 10}


def test_export_import_and_check(project, capsys, tmp_path):
    add(capsys, project, "--unreviewed")
    assert call(capsys, "export", project, tmp_path / "out.zip")[1]["form"] == "zip"
    call(capsys, "new", tmp_path / "other", "--scheme", tmp_path / "scheme.json")
    code, brought = call(capsys, "import", tmp_path / "other", tmp_path / "out.zip")
    assert code == 0 and len(brought["new"]) == 1
    code, checked = call(capsys, "check", tmp_path / "other", "--pictures", tmp_path / "pictures")
    assert code == 0 and {f["kind"] for f in checked["findings"]} == {"unreviewed"}
    assert {f["landmark"] for f in checked["findings"]} == set(NAMES)
    for finding in checked["findings"]:
        assert set(finding) == {
            "case",
            "landmark",
            "kind",
            "reason",
            "value",
            "unit",
            "position",
            "expected",
            "picture",
            "other",
        }
        assert len(finding["position"]) == 3 and finding["picture"].endswith(".png")


def test_a_subject_is_named_by_another_case(project, capsys):
    _, first = add(capsys, project)
    write_volume(project.parent / "scan.nrrd", scan_of(1))
    add(capsys, project, "--subject", first["case"])
    cases = call(capsys, "list", project)[1]["cases"]
    assert {case["subject"] for case in cases} == {first["case"]} and len(cases) == 2


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["list", "{0}/nothing"], "holds no project"),
        (["new", "{0}/project", "--scheme", "{0}/scheme.json"], "already"),
        (["new", "{0}/p2", "--scheme", "{0}/corrected.mrk.json"], "holds no scheme"),
        (["add", "{0}/project", "{0}/scan.nrrd", "{0}/corrected.mrk.json", "--accept"], "--proposed"),
        (["add", "{0}/project", "{0}/scan.nrrd", "{0}/corrected.mrk.json", "--model", "my model"], "is no model"),
        (["add", "{0}/project", "{0}/absent.nrrd", "{0}/corrected.mrk.json"], "does not exist"),
        (["export", "{0}/project", "{0}/out"], "no cases yet"),
        (["import", "{0}/project", "{0}/none.zip"], "does not exist"),
        (["import", "{0}/project", "{0}/scan.nrrd", "--form", "zip"], "refused"),
        (["import", "{0}/project", "{0}", "--form", "nnlandmark"], "nnLandmark"),
    ],
)
def test_errors_are_one_sentence(project, capsys, words, sentence):
    code, document = call(capsys, *(word.format(project.parent) for word in words))
    assert code == 2 and sentence in document["error"]
    assert document["error"].count("\n") == 0 and "unexpected" not in document["error"]
