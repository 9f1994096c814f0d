"""Cohorts on this computer: what may be given, one table and log of all, resuming, and scans at the same time."""

import csv
import hashlib
import json
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from dicom_studies import VALUES, write_study
from tiny_cohort import AFFINE, detect, log_of, make_scan
from tiny_model import NAMES, write_tiny_package

from H3DELandmarksLib.cli.main import main
from H3DELandmarksLib.cohort.engine import Engine, Wishes
from H3DELandmarksLib.cohort.here import AHEAD, Here, Job
from H3DELandmarksLib.cohort.inputs import Given, plan
from H3DELandmarksLib.cohort.log import CohortLog, content_digest
from H3DELandmarksLib.core.files import LONGEST_NAME, held
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.detection.detector import Detector
from H3DELandmarksLib.formats.results import ListedModel
from H3DELandmarksLib.io import isolated
from H3DELandmarksLib.io.markups import read_markups, read_stamp, write_markups


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_tiny_package(tmp_path_factory.mktemp("models") / "tiny").path


@pytest.fixture(autouse=True)
def no_other_models(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("home")))
    monkeypatch.delenv("H3DE_MODELS", raising=False)


@pytest.fixture
def examined(monkeypatch):
    """The scans that a network has looked at, by their first voxel."""
    seen = []
    original = Detector.examine

    def examine(self, volume, **options):
        seen.append(float(volume.array.flat[0]))
        return original(self, volume, **options)

    monkeypatch.setattr(Detector, "examine", examine)
    return seen


def make_cohort(folder, count=4):
    return [make_scan(folder / f"sub-{k:02}" / "ct.nrrd", k) for k in range(count)]


def table_of(output):
    with (output / "cohort.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# One table, one log


def test_one_table_and_one_log_tell_of_all_scans(tiny, tmp_path, capsys):
    scans, out = make_cohort(tmp_path / "scans"), tmp_path / "out"
    (bad := tmp_path / "scans" / "sub-09" / "ct.nrrd").parent.mkdir()
    bad.write_bytes(b"broken")
    code, result, _ = detect(capsys, out, tmp_path / "scans", "--model", tiny, "--jobs", "2", "--parquet")
    assert code == 2 and (result.cohort.found, result.cohort.failed, result.cohort.resumed) == (4, 1, 0)
    assert 0 < result.cohort.computing <= 1 and result.cohort.jobs == 2
    assert [scan.scan for scan in result.scans] == [str(path) for path in (*scans, bad)]
    log = log_of(out)
    assert [(line.scan, line.subject, line.status) for line in log] == [
        *((str(path), path.parent.name, "found") for path in scans),
        (str(bad), "sub-09", "failed"),
    ]
    assert "sub-09" in log[-1].reason and log[-1].outputs is None
    assert all((out / line.outputs.markups).is_file() and line.model.id == "tiny" for line in log[:-1])
    rows = table_of(out)
    assert [(row["scan"], row["landmark"]) for row in rows] == [(str(p), name) for p in scans for name in NAMES]
    for line in log[:-1]:
        points = read_markups(out / line.outputs.markups)
        written = [[float(r[c]) for c in ("x_mm", "y_mm", "z_mm")] for r in rows if r["scan"] == line.scan]
        np.testing.assert_allclose(written, points.positions, atol=1e-3)
    parquet = pytest.importorskip("pyarrow.parquet").read_table(out / "cohort.parquet").to_pylist()
    assert [(row["scan"], row["landmark"], row["x_mm"]) for row in parquet] == [
        (row["scan"], row["landmark"], float(row["x_mm"])) for row in rows
    ]
    assert not list(out.glob(".h3de*"))


def test_a_cell_that_is_no_number_spoils_no_table_of_all(tiny, tmp_path, capsys):
    parquet = pytest.importorskip("pyarrow.parquet")
    make_cohort(tmp_path / "scans", 2)
    out, words = tmp_path / "out", (tmp_path / "scans", "--model", tiny, "--resume", "--parquet")
    detect(capsys, out, *words)
    table = out / log_of(out)[0].outputs.table
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    rows[1][rows[0].index("left_mm")] = "?"
    rows[2] = rows[2][:6]
    with table.open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows(rows)
    make_scan(tmp_path / "scans" / "sub-07" / "ct.nrrd", 7)
    code, _, err = detect(capsys, out, *words)
    assert code == 0 and table.name in err
    cells = [row["x_mm"] for row in table_of(out)]
    assert len(cells) == 3 * len(NAMES) and cells[0] == "" and all(map(float, cells[1:]))
    written = parquet.read_table(out / "cohort.parquet").to_pylist()
    assert [row["x_mm"] for row in written] == [float(cell) if cell else None for cell in cells]


def test_a_table_that_is_none_any_more_is_told_and_spoils_no_table_of_all(tiny, tmp_path, capsys):
    make_cohort(tmp_path / "scans", 3)
    out, words = tmp_path / "out", (tmp_path / "scans", "--model", tiny, "--resume")
    detect(capsys, out, *words)
    one, other, _ = (out / line.outputs.table for line in log_of(out))
    one.write_text(f"{'x' * 200_000},\n" + one.read_text(encoding="utf-8"), encoding="utf-8")
    other.write_text(other.read_text(encoding="utf-8").replace(",", ";"), encoding="utf-8")
    code, _, err = detect(capsys, out, *words)
    assert code == 0 and err.count("cannot be read") == 1 and one.name in err
    assert [row["landmark"] for row in table_of(out)] == [*NAMES, *NAMES]


def test_the_log_tells_the_largest_doubt_of_a_scan(tiny, tmp_path, capsys):
    make_cohort(tmp_path / "scans", 3)
    detect(capsys, tmp_path / "out", tmp_path / "scans", "--model", tiny)
    for line in log_of(tmp_path / "out"):
        points = read_markups(tmp_path / "out" / line.outputs.markups)
        doubts = [1 - c if p else a for c, a, p in zip(points.confidence, points.presence, points.present)]
        assert line.doubt == pytest.approx(max(doubts), abs=1e-6)
        assert 0 < line.doubt < 1


def test_a_log_is_followed_while_another_program_writes_it(tiny, tmp_path, capsys):
    make_cohort(tmp_path / "scans", 3)
    detect(capsys, tmp_path / "out", tmp_path / "scans", "--model", tiny)
    path = tmp_path / "out" / "cohort.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.unlink()
    log = CohortLog(tmp_path / "out")
    assert log.entries == [] and not log.follow()
    path.write_bytes(lines[0] + lines[1][:-30])
    assert log.follow() and len(log.entries) == 1
    with path.open("ab") as file:
        file.write(lines[1][-30:])
    assert log.follow() and len(log.entries) == 2 and not log.follow()
    (tmp_path / "new").write_bytes(b"".join(reversed(lines)))  # as at the end of a run
    (tmp_path / "new").replace(path)
    assert log.follow() and log.entries == log_of(tmp_path / "out")[::-1]


def test_one_scan_alone_has_no_table_of_all(tiny, tmp_path, capsys):
    _, result, _ = detect(capsys, tmp_path / "out", make_scan(tmp_path / "a.nrrd"), "--model", tiny)
    assert result.ok and result.cohort is None and not list((tmp_path / "out").glob("cohort*"))


def test_a_scan_that_is_called_cohort_keeps_clear_of_the_table(tiny, tmp_path, capsys):
    make_scan(tmp_path / "scans" / "cohort.nrrd"), make_scan(tmp_path / "scans" / "other.nrrd", 1)
    out = tmp_path / "out"
    code, result, _ = detect(capsys, out, tmp_path / "scans", "--model", tiny)
    assert code == 0 and {Path(scan.table).name for scan in result.scans} == {"cohort_2.csv", "other.csv"}
    assert len(table_of(out)) == 2 * len(NAMES)


def test_two_runs_do_not_write_to_one_folder(tiny, tmp_path, capsys):
    make_cohort(tmp_path / "scans", 2)
    (tmp_path / "out").mkdir()
    with held(tmp_path / "out" / ".h3de-cohort.lock"):
        words = ["detect", str(tmp_path / "scans"), "--model", str(tiny), "--output", str(tmp_path / "out")]
        from H3DELandmarksLib.cli.main import main

        assert main(words) == 2
    assert "Another detection" in capsys.readouterr().err


# What may be given


def test_a_list_names_scans_subjects_models_and_regions(tiny, tmp_path, capsys):
    (tmp_path / "lists").mkdir()
    other = write_tiny_package(tmp_path / "lists" / "other").path
    content = json.loads((other / "manifest.json").read_text())
    (other / "manifest.json").write_text(json.dumps({**content, "id": "other"}))
    a, b = make_scan(tmp_path / "lists" / "data" / "a.nrrd"), make_scan(tmp_path / "lists" / "data" / "b.nrrd", 1)
    (tmp_path / "lists" / "scans.csv").write_text(
        "Path;Subject;Model\ndata/a.nrrd;P1;\ndata/b.nrrd;P2;other\n\ndata/a.nrrd;P1;other\ndata/none.nrrd;P3;\n",
        encoding="utf-8-sig",
    )
    out = tmp_path / "out"
    code, result, _ = detect(capsys, out, tmp_path / "lists" / "scans.csv", "--model", tiny)
    assert code == 2 and [scan.ok for scan in result.scans] == [True, True, True, False]
    assert [scan.model and scan.model.id for scan in result.scans[:3]] == [None, "other", "other"]
    assert [Path(scan.markups).name for scan in result.scans if scan.ok] == [
        "a.mrk.json",
        "b.mrk.json",
        "a_other.mrk.json",
    ]
    lines = {(line.scan, line.subject, line.name) for line in log_of(out)}
    none = str(tmp_path / "lists" / "data" / "none.nrrd")
    assert lines == {(str(a), "P1", "a"), (str(a), "P1", "a_other"), (str(b), "P2", "b"), (none, "P3", "none")}


def test_the_document_says_what_the_confidences_of_a_listed_model_mean(tiny, tmp_path, capsys):
    other = write_tiny_package(tmp_path / "other").path
    content = json.loads((other / "manifest.json").read_text(encoding="utf-8"))
    content["id"], content["calibration"]["confidence"]["tolerance_mm"] = "other", 7.5
    (other / "manifest.json").write_text(json.dumps(content), encoding="utf-8")
    make_scan(tmp_path / "a.nrrd")
    make_scan(tmp_path / "b.nrrd", 1)
    (tmp_path / "list.csv").write_text("path,model\na.nrrd,\nb.nrrd,other\n", encoding="utf-8")
    for words in ((), ("--resume",)):
        code, result, _ = detect(capsys, tmp_path / "out", tmp_path / "list.csv", "--model", tiny, *words)
        assert code == 0 and result.cohort.resumed == 2 * len(words)
        assert result.scans[0].model is None and result.confidence_within_mm != 7.5
        assert result.scans[1].model == ListedModel("other", content["version"], 7.5)


def test_a_folder_of_scans_that_is_called_as_a_model_is_no_model(tiny, tmp_path, capsys):
    make_scan(tmp_path / "mandibular-molar-phantom" / "a.nrrd")
    (tmp_path / "list.csv").write_text("path,model\nmandibular-molar-phantom/a.nrrd,mandibular-molar-phantom\n")
    code, result, _ = detect(capsys, tmp_path / "out", tmp_path / "list.csv", "--model", tiny)
    assert code == 0 and result.scans[0].model.id == "mandibular-molar-phantom"


def test_two_versions_of_a_model_have_lines_and_rows_of_their_own(tiny, tmp_path, capsys, examined):
    other = write_tiny_package(tmp_path / "other").path
    content = json.loads((other / "manifest.json").read_text())
    (other / "manifest.json").write_text(json.dumps({**content, "version": "9.0.0"}))
    make_scan(tmp_path / "a.nrrd")
    (tmp_path / "list.csv").write_text("path,model\na.nrrd,\na.nrrd,other\n", encoding="utf-8")
    words, out = (tmp_path / "list.csv", "--model", tiny), tmp_path / "out"
    assert detect(capsys, out, *words)[0] == 0
    assert [line.model.version for line in log_of(out)] == [content["version"], "9.0.0"]
    assert len(table_of(out)) == 2 * len(NAMES)
    code, result, _ = detect(capsys, out, *words, "--resume")
    assert code == 0 and result.cohort.resumed == 2 and len(examined) == 2


def test_what_a_list_says_of_a_scan_holds_beside_its_folder_and_not_against_itself(tiny, tmp_path, capsys):
    scans = make_cohort(tmp_path / "scans", 3)
    rows = [f"{scans[0]},P1", f"{scans[1]},P2", f"{scans[1]},P3", f"{scans[0]},P1", f"{scans[0]},"]
    (tmp_path / "list.csv").write_text("\n".join(["path,subject", *rows]), encoding="utf-8")
    given = [tmp_path / "list.csv", tmp_path / "scans"]
    for out in (tmp_path / "out", tmp_path / "other"):
        code, _, err = detect(capsys, out, *given, "--model", tiny)
        assert code == 2 and err.count("as of 'P2' and of 'P3'") == 1
        given.reverse()
        known = {line.scan: line.subject for line in log_of(out)}
        assert known == {str(scans[0]): "P1", str(scans[1]): None, str(scans[2]): "sub-02"}
    (tmp_path / "list.csv").write_text("\n".join(["path,subject", *rows[:2]]), encoding="utf-8")
    assert detect(capsys, out, *given, "--model", tiny)[0] == 0
    assert {line.scan: line.subject for line in log_of(out)}[str(scans[1])] == "P2" and len(log_of(out)) == 3


def test_a_listed_folder_without_scans_is_in_the_log_until_it_has_one(tiny, tmp_path, capsys):
    scans = make_cohort(tmp_path / "scans", 2)
    (empty := tmp_path / "empty").mkdir()
    table = tmp_path / "list.csv"
    table.write_text(f"path,series\n{empty},all\n{scans[0]},\n", encoding="utf-8")
    given, out = (table, tmp_path / "scans", tmp_path / "none*.nrrd"), tmp_path / "out"
    assert detect(capsys, out, *given, "--model", tiny)[0] == 2
    told = {line.scan: line.reason for line in log_of(out) if line.status == "failed"}
    assert "holds no scans" in told[str(empty)] and len(told) == 1, "a pattern is no scan"
    make_scan(empty / "ct.nrrd", 5)
    assert detect(capsys, out, *given[:2], "--model", tiny, "--resume")[0] == 0
    assert [line.status for line in log_of(out)] == ["found"] * 3


def test_a_subject_that_a_list_corrects_is_that_of_finished_and_failed_scans(tiny, tmp_path, capsys, examined):
    good = make_scan(tmp_path / "good.nrrd")
    (bad := tmp_path / "bad.nrrd").write_bytes(b"nothing")
    (table := tmp_path / "list.csv").write_text(f"path,subject\n{good},A\n{bad},B\n", encoding="utf-8")
    words = (tmp_path / "out", table, "--model", tiny, "--resume")
    detect(capsys, *words)
    table.write_text(f"path,subject\n{good},B\n{bad},A\n", encoding="utf-8")
    detect(capsys, *words)
    assert {line.scan: line.subject for line in log_of(tmp_path / "out")} == {str(good): "B", str(bad): "A"}
    assert len(examined) == 1 and {row["subject"] for row in table_of(tmp_path / "out")} == {"B"}
    detect(capsys, tmp_path / "out", good, "--model", tiny, "--resume")
    assert {row["subject"] for row in table_of(tmp_path / "out")} == {"B"}, "a list has said so"


def test_a_subject_is_that_of_a_scan_whatever_models_are_listed_for_it(tmp_path):
    scans = make_cohort(tmp_path / "scans", 2)
    rows = [f"{scans[0]},P1,mouse-skull", f"{scans[1]},P2,mouse-skull", f"{scans[1]},P3,spine"]
    (tmp_path / "list.csv").write_text("\n".join(["path,subject,model", *rows]), encoding="utf-8")
    given = Given(False, None, print)
    for path in (tmp_path / "scans", tmp_path / "list.csv"):
        given.add(path)
    assert [(scan.subject, scan.model) for scan in given.scans] == [("P1", None), ("P1", "mouse-skull")]
    assert ["as of 'P2' and of 'P3'" in str(error) for _, error in given.failed] == [True]


def test_files_of_a_data_set_that_are_named_beside_it_have_results_as_it_has(tmp_path):
    scan = make_scan(tmp_path / "set" / "sub-01" / "anat" / "sub-01_ct.nrrd")
    (tmp_path / "set" / "dataset_description.json").write_text('{"BIDSVersion": "1.10.0"}', encoding="utf-8")
    for places in ((scan, tmp_path / "set"), (tmp_path / "set", scan)):
        given = Given(False, None, print)
        for path in places:
            given.add(path)
        assert [one.data_set for one in given.scans] == [tmp_path / "set"]


def test_series_of_a_list_may_be_called_what_no_file_can(tiny, tmp_path, capsys):
    kinds = ("CT/THORAX", "CT/../ABD", "Head 1.5 H30s")
    for series, kind in enumerate(kinds, start=1):
        write_study(tmp_path / "study", series=str(series), name=f"{series}_{{k}}.dcm", kind=kind)
    (tmp_path / "list.csv").write_text(
        "\n".join(["path,series", *(f"study,{kind}" for kind in kinds)]), encoding="utf-8"
    )
    code, result, _ = detect(capsys, tmp_path / "out", tmp_path / "list.csv", "--model", tiny)
    assert code == 0 and [Path(scan.markups).relative_to(tmp_path / "out").as_posix() for scan in result.scans] == [
        "study_CT_THORAX.mrk.json",
        "study_CT_.._ABD.mrk.json",
        "study_Head 1.5 H30s.mrk.json",
    ]


def test_a_file_names_its_subject_without_its_extension(tiny, tmp_path, capsys):
    for seed, name in enumerate(("sub-01.nii.gz", "sub-02_ct.nrrd", "other.nrrd")):
        make_scan(tmp_path / "scans" / name, seed)
    code, _, _ = detect(capsys, tmp_path / "out", tmp_path / "scans", "--model", tiny)
    assert code == 0 and [line.subject for line in log_of(tmp_path / "out")] == [None, "sub-01", "sub-02"]


def test_no_scan_is_of_the_subject_that_the_current_folder_is_called_after(tmp_path, monkeypatch):
    write_study(tmp_path / "study")
    (tmp_path / "sub-07").mkdir()
    monkeypatch.chdir(tmp_path / "sub-07")
    given = Given(False, None, print)
    given.add(tmp_path / "study")
    assert [(scan.path, scan.subject) for scan in given.scans] == [(tmp_path / "study", None)]


@pytest.mark.parametrize("length", [LONGEST_NAME - 6, LONGEST_NAME + 45])
def test_a_name_that_is_too_long_fails_alone(tiny, tmp_path, capsys, length):
    make_scan(tmp_path / "a.nrrd", 1)
    long = f"{'x' * length}.nrrd"
    if length < LONGEST_NAME:
        make_scan(tmp_path / "b.nrrd", 2).rename(tmp_path / long)
    (tmp_path / "list.csv").write_text(f"path\n{long}\na.nrrd\n", encoding="utf-8")
    code, result, err = detect(capsys, tmp_path / "out", tmp_path / "list.csv", "--model", tiny)
    assert code == 2 and [scan.ok for scan in result.scans] == [False, True] and "too long" in err


@pytest.mark.parametrize("text", ["name,age\nx,3\n", "", "path,subject\n,P1\n"])
def test_a_list_without_scans_is_refused(tiny, tmp_path, capsys, text):
    (tmp_path / "list.csv").write_text(text)
    code, result, err = detect(capsys, tmp_path / "out", tmp_path / "list.csv", "--model", tiny)
    assert code == 2 and not result.ok and "path" in err and err.count("\n") == 1


def test_a_list_that_is_not_there_is_a_wrong_path(tiny, tmp_path, capsys):
    code, _, err = detect(capsys, tmp_path / "out", tmp_path / "list.csv", "--model", tiny)
    assert code == 2 and "check its path" in err and "UTF-8" not in err


def test_patterns_that_no_shell_has_replaced(tiny, tmp_path, capsys):
    make_cohort(tmp_path / "scans", 3)
    code, result, _ = detect(capsys, tmp_path / "out", tmp_path / "scans" / "sub-0[12]" / "*.nrrd", "--model", tiny)
    assert code == 0 and [Path(scan.scan).parent.name for scan in result.scans] == ["sub-01", "sub-02"]
    code, _, err = detect(capsys, tmp_path / "out", tmp_path / "scans" / "*.mha", "--model", tiny)
    assert code == 2 and "matches" in err


def make_bids(root):
    root.mkdir()
    (root / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.8.0"}')
    scans = [
        make_scan(root / "sub-01" / "ses-1" / "anat" / "sub-01_ses-1_acq-thin_ct.nii", 1),
        make_scan(root / "sub-02" / "anat" / "sub-02_T1w.nii.gz", 2),
    ]
    make_scan(root / "sub-02" / "func" / "sub-02_task-rest_bold.nii", 3)
    make_scan(root / "sub-02" / "anat" / "sub-02_mask.nii", 4)
    make_scan(root / "derivatives" / "other" / "sub-02" / "anat" / "sub-02_T1w.nii", 5)
    return scans


def test_results_of_a_bids_data_set_are_a_derivative_of_it(tiny, tmp_path, capsys):
    root = tmp_path / "data"
    make_bids(root)
    out = root / "derivatives" / "landmarks"
    code, result, _ = detect(capsys, out, root, "--model", tiny)
    assert code == 0 and len(result.scans) == 2
    assert {Path(entry.path).name for entry in result.passed_over} == {"sub-02_mask.nii", "sub-02_task-rest_bold.nii"}
    description = json.loads((out / "dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative" and description["GeneratedBy"][0]["Name"] == "H3DELandmarks"
    assert description["SourceDatasets"] == [{"URL": root.as_uri()}]
    name = "sub-01/ses-1/anat/sub-01_ses-1_acq-thin_desc-landmarks_ct"
    for ending in (".mrk.json", ".csv", ".provenance.json", ".json"):
        assert (out / f"{name}{ending}").is_file(), ending
    sidecar = json.loads((out / f"{name}.json").read_text())
    assert sidecar["Sources"] == ["bids:raw:sub-01/ses-1/anat/sub-01_ses-1_acq-thin_ct.nii"]
    assert [line.outputs.table for line in log_of(out)] == [f"{name}.csv", "sub-02/anat/sub-02_desc-landmarks_T1w.csv"]
    assert len(table_of(out)) == 2 * len(NAMES)
    code, result, _ = detect(capsys, out, root, "--model", tiny, "--resume")
    assert code == 0 and result.cohort.resumed == 2


def test_results_of_a_bids_data_set_are_evaluated_as_of_its_scans(tiny, tmp_path, capsys):
    scans = make_bids(tmp_path / "data")
    detect(capsys, tmp_path / "out", tmp_path / "data", "--model", tiny)
    for scan in scans:
        name = scan.name.partition(".")[0]
        points = read_markups(next((tmp_path / "out").rglob(f"{name.rpartition('_')[0]}_*.mrk.json")))
        for folder in (tmp_path / "truth", scan.parent):
            folder.mkdir(exist_ok=True)
            write_markups(folder / f"{name}.mrk.json", points.with_positions(points.positions + [0, 0, 2.0]))
    for truth in ("truth", "data", "out"):
        words = ["--predictions", str(tmp_path / "out"), "--reference", str(tmp_path / truth), "--json"]
        assert main(["evaluate", *words]) == 0
        document = json.loads(capsys.readouterr().out)
        assert (document["cases"], document["mre_mm"]) == (2, pytest.approx(0 if truth == "out" else 2, abs=1e-3))


def test_scans_of_a_data_set_may_lie_behind_links_and_those_that_are_not_there_fail(tiny, tmp_path, capsys):
    root = tmp_path / "data"
    make_bids(root)
    try:
        (root / "sub-02" / "anat").rename(tmp_path / "store")
        (root / "sub-02" / "anat").symlink_to(tmp_path / "store", target_is_directory=True)
        (root / "sub-03" / "anat").mkdir(parents=True)
        (root / "sub-03" / "anat" / "sub-03_T1w.nii.gz").symlink_to(root / ".git" / "annex" / "MD5E-s1--0.nii.gz")
    except OSError:
        pytest.skip("no links here")
    code, result, err = detect(capsys, tmp_path / "out", root, "--model", tiny)
    assert code == 2 and "sub-03_T1w.nii.gz' does not exist" in err
    assert [(line.subject, line.status) for line in log_of(tmp_path / "out")] == [
        ("sub-01", "found"),
        ("sub-02", "found"),
        ("sub-03", "failed"),
    ]


def make_sites(folder, *names):
    """Data sets with one scan each, which are called the same; their paths."""
    for seed, name in enumerate(names):
        make_scan(folder / name / "sub-01" / "anat" / "sub-01_ct.nii.gz", seed)
        (folder / name / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.8.0"}')
    return [folder / name for name in names]


def test_scans_of_one_name_in_several_data_sets_stay_apart(tiny, tmp_path, capsys):
    roots, out = make_sites(tmp_path, "site-A", "site-B", "\u00e9/site-B"), tmp_path / "out"
    make_scan(roots[0] / "sub-01" / "anat" / "sub-01_CT.nii", 7)
    make_scan(roots[0] / "sub-02" / "anat" / "sub-02_ct.nrrd", 8)
    code, result, _ = detect(capsys, out, *roots, "--model", tiny, "--jobs", "2")
    assert code == 0 and [Path(scan.markups).name for scan in result.scans] == [
        "sub-01_desc-siteAniilandmarks_CT.mrk.json",
        "sub-01_desc-siteAniigzlandmarks_ct.mrk.json",
        "sub-02_desc-landmarks_ct.mrk.json",
        "sub-01_desc-siteBlandmarks_ct.mrk.json",
        "sub-01_desc-siteB2landmarks_ct.mrk.json",
    ]
    stamps = {read_stamp(Path(scan.markups))["scan"] for scan in result.scans}
    assert len(stamps) == 5 and len(table_of(out)) == 5 * len(NAMES)
    description = json.loads((out / "dataset_description.json").read_text(encoding="utf-8"))
    assert description["SourceDatasets"] == [{"URL": root.as_uri()} for root in roots]
    assert description["DatasetLinks"] == dict(zip(("raw", "raw2", "raw3"), (root.as_uri() for root in roots)))
    for scan, link in zip(result.scans, ("raw", "raw", "raw", "raw2", "raw3")):
        (source,) = json.loads(Path(scan.markups.replace(".mrk.json", ".json")).read_text())["Sources"]
        root = roots[int(link[3:] or 1) - 1]
        assert source == f"bids:{link}:{Path(scan.scan).relative_to(root).as_posix()}"
    code, result, _ = detect(capsys, out, *roots, "--model", tiny, "--resume")
    assert code == 0 and result.cohort.resumed == 5


def test_data_sets_that_come_one_after_another_are_all_named_as_sources(tiny, tmp_path, capsys):
    first, second = make_sites(tmp_path, "first", "second")
    (second / "sub-01").rename(second / "sub-02")
    out = tmp_path / "out"
    for root in (first, second, first):
        assert detect(capsys, out, root, "--model", tiny, "--resume")[0] == 0
    description = json.loads((out / "dataset_description.json").read_text(encoding="utf-8"))
    assert description["SourceDatasets"] == [{"URL": root.as_uri()} for root in (first, second)]
    (sidecar,) = (out / "sub-02").rglob("*_ct.json")
    assert json.loads(sidecar.read_text())["Sources"] == ["bids:raw2:sub-02/anat/sub-01_ct.nii.gz"]


def test_a_bids_data_set_is_not_written_into(tiny, tmp_path, capsys):
    from H3DELandmarksLib.cli.main import main

    make_bids(tmp_path / "data")
    before = (tmp_path / "data" / "dataset_description.json").read_text()
    words = ["detect", str(tmp_path / "data"), "--model", str(tiny), "--output", str(tmp_path / "data")]
    assert main(words) == 2 and "derivatives" in capsys.readouterr().err
    assert (tmp_path / "data" / "dataset_description.json").read_text() == before


def test_every_series_of_a_tree_on_request(tiny, tmp_path, capsys):
    tree = tmp_path / "dicom"
    for study in (1, 2):
        for series in ("1", "2"):
            write_study(tree / f"patient-{study}", study, series, name=f"{series}-{{k:03}}.dcm")
    write_study(tree / "patient-1", 1, "9", name="scout-{k}.dcm", slices=VALUES[:1])
    code, result, _ = detect(capsys, tmp_path / "out", tree, "--model", tiny, "--series", "all")
    assert code == 0 and len(result.scans) == 4 == len({scan.markups for scan in result.scans})
    assert [line.series for line in log_of(tmp_path / "out")] == ["1.2.1.1", "1.2.1.2", "1.2.2.1", "1.2.2.2"]
    rows = table_of(tmp_path / "out")
    assert len({(row["result"], row["landmark"]) for row in rows}) == len(rows) == 12, "no series passes for another"
    assert (tmp_path / "out" / f"{rows[0]['result']}.mrk.json").is_file()
    assert [entry.reason for entry in result.passed_over] == ["a series of 1 images is no volume"]
    code, result, _ = detect(capsys, tmp_path / "one", tree, "--model", tiny)
    assert code == 0 and len(result.scans) == 2


def test_every_series_of_listed_folders_on_request(tiny, tmp_path, capsys):
    for study, name in enumerate(("anna", "bert"), 1):
        for series in ("1", "2"):
            write_study(tmp_path / name, study, series, name=f"{series}-{{k:03}}.dcm")
    (tmp_path / "none").mkdir()
    make_scan(tmp_path / "a.nrrd")
    rows = ["path,subject,series", "anna,P1,", "bert,P2,2", "none,P3,", "a.nrrd,P4,"]
    (tmp_path / "list.csv").write_text("\n".join(rows), encoding="utf-8")
    (root,) = make_sites(tmp_path, "site")
    given = (tmp_path / "list.csv", root)
    code, result, err = detect(capsys, tmp_path / "out", *given, "--model", tiny, "--series", "all")
    assert code == 2 and "holds no scans" in err and [scan.ok for scan in result.scans] == [True] * 5 + [False]
    assert sorted((line.subject or "", line.series or "") for line in log_of(tmp_path / "out")) == [
        ("", ""),
        ("P1", "1.2.1.1"),
        ("P1", "1.2.1.2"),
        ("P2", "2"),
        ("P4", ""),
        ("sub-01", ""),
    ]
    (tmp_path / "list.csv").write_text("path,series\nbert,all\n", encoding="utf-8")
    code, result, _ = detect(capsys, tmp_path / "all", tmp_path / "list.csv", "--model", tiny)
    assert code == 0 and len(result.scans) == 2


def test_one_file_of_every_series_is_resumed_also_from_older_logs(tiny, tmp_path, capsys):
    scan, out = make_scan(tmp_path / "a.nrrd"), tmp_path / "out"
    words = (scan, "--model", tiny, "--series", "all", "--resume")
    detect(capsys, out, *words)
    (line,) = log_of(out)
    assert line.series is None
    log = out / "cohort.jsonl"
    log.write_text(log.read_text(encoding="utf-8").replace('"name"', '"series": "all", "name"'), encoding="utf-8")
    code, result, _ = detect(capsys, out, *words)
    assert code == 0 and result.cohort.resumed == 1 and log_of(out) == [line]


# Resuming


def test_finished_scans_are_known_by_their_content_and_not_by_their_name(tiny, tmp_path, capsys, examined):
    scans, out = make_cohort(tmp_path / "scans"), tmp_path / "out"
    words = (tmp_path / "scans", "--model", tiny, "--resume")
    assert detect(capsys, out, *words)[0] == 0 and len(examined) == 4
    _, result, _ = detect(capsys, out, *words)
    assert result.cohort.resumed == 4 and len(examined) == 4
    scans[0].parent.rename(tmp_path / "scans" / "sub-99")
    code, result, _ = detect(capsys, out, *words)
    assert code == 0 and result.cohort.resumed == 4 and len(examined) == 4
    assert result.scans[-1].markups == str(out / "sub-00_ct.mrk.json")
    make_scan(scans[1], seed=77)  # another scan of the same name
    code, result, err = detect(capsys, out, *words)
    assert code == 2 and "another scan" in err and result.cohort.resumed == 3
    code, result, _ = detect(capsys, out, *words, "--overwrite", "--retry-failed")
    assert code == 0 and result.cohort.resumed == 3 and len(examined) == 5


def test_another_model_other_options_and_lost_results_are_done_again(tiny, tmp_path, capsys, examined):
    make_cohort(tmp_path / "scans", 2)
    out, words = tmp_path / "out", (tmp_path / "scans", "--resume", "--model")
    detect(capsys, out, *words, tiny)
    for path in out.glob("sub-00_ct.*"):
        path.unlink()
    _, result, _ = detect(capsys, out, *words, tiny)
    assert (result.cohort.resumed, len(examined)) == (1, 3)
    _, result, _ = detect(capsys, out, *words, tiny, "--landmarks", "Left")
    assert (result.cohort.resumed, len(examined)) == (0, 5)
    changed = write_tiny_package(tmp_path / "changed")
    content = json.loads((changed.path / "manifest.json").read_text())
    content["calibration"]["presence"]["bias"] = 2.0
    (changed.path / "manifest.json").write_text(json.dumps(content))
    _, result, _ = detect(capsys, out, *words, changed.path, "--landmarks", "Left")
    assert (result.cohort.resumed, len(examined)) == (0, 7)
    assert len(log_of(out)) == 2


def test_failures_are_kept_with_their_reason_and_tried_again_on_request(tiny, tmp_path, capsys, examined):
    scans, out = make_cohort(tmp_path / "scans", 3), tmp_path / "out"
    whole = scans[1].read_bytes()
    scans[1].write_bytes(whole[:-100])
    words = (tmp_path / "scans", "--model", tiny, "--resume")
    code, first, _ = detect(capsys, out, *words)
    code, result, err = detect(capsys, out, *words)
    assert code == 2 and result.cohort.resumed == 3 and "--retry-failed" in err
    assert result.scans[1].error == first.scans[1].error == log_of(out)[1].reason
    code, result, _ = detect(capsys, out, *words, "--retry-failed")
    assert code == 2 and result.cohort.resumed == 2
    scans[1].write_bytes(whole)  # what changes is tried again in any case
    code, result, _ = detect(capsys, out, *words)
    assert code == 0 and result.cohort.resumed == 2 and len(examined) == 3 and len(log_of(out)) == 3


def test_results_that_somebody_has_edited_count_as_finished(tiny, tmp_path, capsys):
    make_cohort(tmp_path / "scans", 2)
    out, words = tmp_path / "out", (tmp_path / "scans", "--model", tiny)
    detect(capsys, out, *words)
    edited = next(out.glob("*.mrk.json"))
    edited.write_text(edited.read_text().replace("Left", "left"))
    before = edited.read_text()
    code, result, _ = detect(capsys, out, *words, "--resume")
    assert code == 0 and result.cohort.resumed == 2 and edited.read_text() == before
    assert detect(capsys, out, *words)[0] == 2 and edited.read_text() == before
    assert [line.status for line in log_of(out)] == ["found", "found"]


def test_results_that_a_later_run_has_replaced_are_not_taken_for_those_of_the_log(tiny, tmp_path, capsys, examined):
    a, b, c = make_cohort(tmp_path / "scans", 3)
    out, words = tmp_path / "out", ("--model", tiny)
    detect(capsys, out, a, *words, "--resume")
    own = log_of(out)[0].outputs.provenance_sha256
    assert own == hashlib.sha256((out / "ct.provenance.json").read_bytes()).hexdigest()
    detect(capsys, out, b, *words, "--overwrite")  # of another patient; a scan alone is not logged
    c.rename(c.with_name("c.nrrd"))
    code, _, err = detect(capsys, out, c.with_name("c.nrrd"), *words, "--resume")
    assert code == 0 and "ct.mrk.json" in err
    assert {row["scan"] for row in table_of(out)} == {str(c.with_name("c.nrrd"))}
    count = len(examined)
    code, result, _ = detect(capsys, out, a, *words, "--resume")
    assert code == 2 and result.cohort.resumed == 0 and len(examined) == count  # refused: another scan's results
    code, result, _ = detect(capsys, out, a, *words, "--retry-failed", "--overwrite")
    assert code == 0 and len(examined) == count + 1 and len(table_of(out)) == 2 * len(NAMES)
    detect(capsys, out, a, *words, "--landmarks", NAMES[0])  # with other options
    code, result, _ = detect(capsys, out, a, *words, "--resume")
    assert code == 0 and result.cohort.resumed == 0 and read_markups(out / "ct.mrk.json").names == NAMES


def test_a_log_of_an_earlier_version_is_resumed(tiny, tmp_path, capsys, examined):
    make_cohort(tmp_path / "scans", 2)
    out, words = tmp_path / "out", (tmp_path / "scans", "--model", tiny, "--resume")
    detect(capsys, out, *words)
    lines = [json.loads(line) for line in (out / "cohort.jsonl").read_text(encoding="utf-8").splitlines()]
    for line in lines:
        del line["outputs"]["provenance_sha256"]
    (out / "cohort.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    code, result, _ = detect(capsys, out, *words)
    assert code == 0 and result.cohort.resumed == 2 == len(examined) and len(table_of(out)) == 2 * len(NAMES)


def scans_in(output):
    """Those of the table."""
    return sorted({row["scan"] for row in table_of(output)})


def test_finished_scans_stay_in_the_log_whatever_others_are_called(tiny, tmp_path, capsys, examined):
    a, b, c = map(str, make_cohort(tmp_path / "scans", 3))
    out, words = tmp_path / "out", ("--model", tiny, "--resume")
    detect(capsys, out, a, b, *words)
    detect(capsys, out, b, *words)  # alone, its results would be called "ct"
    code, result, _ = detect(capsys, out, c, *words)  # these are
    assert code == 0 and Path(result.scans[0].markups).name == "ct.mrk.json" and len(examined) == 3
    assert scans_in(out) == [a, b, c] and [line.scan for line in log_of(out)] == [a, b, c]
    edited = out / "sub-01_ct.mrk.json"
    edited.write_text(edited.read_text().replace("Left", "left"))
    code, result, _ = detect(capsys, out, a, b, *words)
    assert code == 0 and result.cohort.resumed == 2 and len(examined) == 3
    code, result, _ = detect(capsys, out, b, *words)  # although "ct" is another scan's by now
    assert code == 0 and result.cohort.resumed == 1 and result.scans[0].markups == str(edited)
    assert CohortLog(out).entries == log_of(out) and len(log_of(out)) == 3


def test_a_scan_that_fails_displaces_none_of_the_same_name(tiny, tmp_path, capsys):
    a, b = map(str, make_cohort(tmp_path / "scans", 2))
    out, words = tmp_path / "out", ("--model", tiny, "--resume")
    detect(capsys, out, a, *words)
    code, _, err = detect(capsys, out, b, *words)
    assert code == 2 and "another scan" in err and scans_in(out) == [a]
    assert [(line.scan, line.status) for line in log_of(out)] == [(a, "found"), (b, "failed")]
    code, result, _ = detect(capsys, out, b, *words, "--overwrite", "--retry-failed")  # takes their place
    assert code == 0 and scans_in(out) == [b] and [line.scan for line in log_of(out)] == [b]


def test_copies_of_a_scan_are_listed_each_and_a_renamed_one_once(tiny, tmp_path, capsys, examined):
    scans, out = make_cohort(tmp_path / "scans", 2), tmp_path / "out"
    words = (tmp_path / "scans", "--model", tiny, "--resume")
    detect(capsys, out, *words)
    copy = tmp_path / "scans" / "sub-02" / "ct.nrrd"
    copy.parent.mkdir()
    copy.write_bytes(scans[0].read_bytes())
    for _ in range(2):
        _, result, _ = detect(capsys, out, *words)
        assert result.cohort.resumed == 3 and scans_in(out) == sorted(map(str, [*scans, copy]))
    scans[1].parent.rename(renamed := tmp_path / "scans" / "sub-03")
    detect(capsys, out, *words)
    there = sorted(map(str, [scans[0], copy, renamed / "ct.nrrd"]))
    assert scans_in(out) == there == [line.scan for line in log_of(out)] and len(examined) == 2


def test_a_failure_with_another_model_is_forgotten_once_the_scan_is_finished(tiny, tmp_path, capsys):
    (a,) = make_cohort(tmp_path / "scans", 1)
    out = tmp_path / "out"
    assert detect(capsys, out, a, "--model", "mandibular-molar-phantom", "--resume", "--spacing", "0.1")[0] == 2
    assert [line.status for line in log_of(out)] == ["failed"]
    assert detect(capsys, out, a, "--model", tiny, "--resume")[0] == 0
    assert [(line.status, line.model.id) for line in log_of(out)] == [("found", "tiny")]


def test_a_line_that_a_killed_program_has_begun_does_not_count(tiny, tmp_path, capsys, examined):
    make_cohort(tmp_path / "scans", 3)
    out, words = tmp_path / "out", (tmp_path / "scans", "--model", tiny, "--resume")
    detect(capsys, out, *words)
    data = (out / "cohort.jsonl").read_bytes()
    (out / "cohort.jsonl").write_bytes(data[:-30])
    code, result, _ = detect(capsys, out, *words)
    assert code == 0 and result.cohort.resumed == 2 and len(examined) == 4 and len(log_of(out)) == 3


def test_the_content_of_a_scan_is_that_of_all_its_files(tmp_path):
    array = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    import SimpleITK as sitk

    for name in ("a", "b"):
        sitk.WriteImage(sitk.GetImageFromArray(array + (name == "b")), str(tmp_path / f"{name}.mhd"))
    assert content_digest(tmp_path / "a.mhd") != content_digest(tmp_path / "b.mhd")
    (tmp_path / "b.raw").write_bytes((tmp_path / "a.raw").read_bytes())
    one, other = write_study(tmp_path / "one"), write_study(tmp_path / "other", name="IM{k}")
    digest = content_digest(one)
    assert digest is not None and content_digest(tmp_path / "none") is None and content_digest(other) is not None
    (one / "000.dcm").rename(one / "zzz.dcm")
    (one / "results").mkdir()
    (one / "results" / "one.csv").write_text("as detection writes into it", encoding="utf-8")
    assert content_digest(one) == digest
    (one / "zzz.dcm").unlink()
    assert content_digest(one) != digest


@pytest.mark.skipif(os.name == "nt", reason="needs links")
def test_the_content_of_a_scan_is_that_of_linked_folders_too(tmp_path):
    for study, name in enumerate(("anna", "bert"), 1):
        write_study(tmp_path / "store" / name, study)
        (tmp_path / name).mkdir()
        (tmp_path / name / "README.txt").write_text("Exported")
        (tmp_path / name / "dicom").symlink_to(tmp_path / "store" / name)
        (tmp_path / name / "dicom" / "up").symlink_to(tmp_path / "store" / name)  # a circle
    digests = [content_digest(tmp_path / name) for name in ("anna", "bert")]
    assert None not in digests and len(set(digests)) == 2
    (tmp_path / "anna" / "dicom").unlink()
    assert content_digest(tmp_path / "anna") is None  # no image
    (tmp_path / "anna" / "dicom").symlink_to(tmp_path / "store" / "bert")
    assert content_digest(tmp_path / "anna") == digests[1]


def test_a_header_without_its_voxels_has_no_content(tmp_path):
    (tmp_path / "a.mhd").write_text("ObjectType = Image\nElementDataFile = a.raw\n")
    (tmp_path / "a.nhdr").write_text("NRRD0004\ndata file: a.raw\n")
    assert content_digest(tmp_path / "a.mhd") is None and content_digest(tmp_path / "a.nhdr") is None
    (tmp_path / "a.raw").write_bytes(b"voxels")
    assert content_digest(tmp_path / "a.mhd") != content_digest(tmp_path / "a.nhdr") is not None


# Scans at the same time


class Stub:
    """A log of what happens, in place of reading and examining."""

    def __init__(self, monkeypatch, read_s, examine_s):
        self.inside, self.most, self.lock = 0, 0, threading.Lock()
        original = Detector.examine

        def read(path, spacing=None, series=None, as_stored=False, needs_size=True):
            with self.lock:
                self.inside += 1
                self.most = max(self.most, self.inside)
            time.sleep(read_s)
            return Volume(np.zeros((8, 8, 8), np.int16), AFFINE)

        def examine(detector, volume, **options):
            time.sleep(examine_s)
            with self.lock:
                self.inside -= 1
            return original(detector, volume, **options)

        monkeypatch.setattr(isolated, "read_volume", read)
        monkeypatch.setattr(Detector, "examine", examine)


def run_engine(tiny, folder, count, jobs):
    from contextlib import contextmanager

    from H3DELandmarksLib.cohort.examine import Search

    @contextmanager
    def task(name):
        yield lambda fraction, message: None

    given = Given(False, None, print)
    for k in range(count):
        (folder / "scans").mkdir(parents=True, exist_ok=True)
        (folder / "scans" / f"{k:03}.nrrd").write_bytes(b"%d" % k)
        given.add(folder / "scans" / f"{k:03}.nrrd")
    place, search = Here(jobs), Search(str(tiny), device="cpu")
    place.load(search)
    out = folder / "out"
    out.mkdir()
    planned = [Job(scan, files, search) for scan, files in plan(given.scans, out, True)]
    with CohortLog(out).open() as log:
        runner = Engine(place, Wishes(), log, task, lambda error, subject: str(error))
        start = time.monotonic()
        outcomes = list(runner.run(planned))
    return outcomes, place.computing_s / (jobs * (time.monotonic() - start))


def test_reading_and_writing_go_on_while_others_are_examined(tiny, tmp_path, monkeypatch):
    stub = Stub(monkeypatch, read_s=0.1, examine_s=0.4)
    outcomes, computing = run_engine(tiny, tmp_path, 20, jobs=2)
    assert len(outcomes) == 20 and all(outcome.result.ok for outcome in outcomes)
    assert computing > 0.7  # 0.8 were possible if reading and examining alternated in each job
    assert stub.most <= 2 + AHEAD


def test_memory_holds_as_many_scans_as_there_are_threads(tiny, tmp_path, monkeypatch):
    stub = Stub(monkeypatch, read_s=0.0, examine_s=0.005)
    outcomes, _ = run_engine(tiny, tmp_path, 60, jobs=1)
    assert len(outcomes) == 60 and stub.most <= 1 + AHEAD


def test_the_same_points_however_many_at_a_time(tiny, tmp_path, capsys):
    make_cohort(tmp_path / "scans", 5)
    tables = []
    for jobs in ("1", "3"):
        detect(capsys, tmp_path / jobs, tmp_path / "scans", "--model", tiny, "--jobs", jobs)
        tables.append(table_of(tmp_path / jobs))
    for one, other in zip(*tables):
        assert one["scan"] == other["scan"] and one["landmark"] == other["landmark"]
        assert float(one["x_mm"]) == pytest.approx(float(other["x_mm"]), abs=1e-3)


def test_progress_tells_how_many_are_done_and_the_time_left(tiny, tmp_path, capsys):
    make_cohort(tmp_path / "scans", 3)
    words = ["detect", str(tmp_path / "scans"), "--model", str(tiny), "--output", str(tmp_path / "out")]
    assert main([*words, "--progress", "json"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    told = [event for event in events if event["event"] == "scans"]
    assert [(event["done"], event["failed"], event["total"]) for event in told] == [(1, 0, 3), (2, 0, 3), (3, 0, 3)]
    assert told[0]["seconds_left"] > 0 and told[-1]["seconds_left"] == 0
    assert {e["scan"] for e in events if e["event"] == "progress"} == {f"sub-0{k}_ct" for k in range(3)}
