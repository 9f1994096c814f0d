"""Corrected sets in the forms of other programs: each is read as its documentation says, and comes back the same."""

import csv
import json
import re
import threading

import numpy as np
import pytest
from cohorts import write_result
from sample_cases import NAMES, SCHEME, points_of, scan_of

from H3DELandmarksLib.cases import CaseLandmark, ModelName, ReviewState, create_project
from H3DELandmarksLib.cases.point_forms import POINT_FORMS
from H3DELandmarksLib.cli.main import main
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.io.images import read_volume, write_volume
from H3DELandmarksLib.io.markups import read_markups, write_markups
from H3DELandmarksResearch.cases.exchange import export_cases, import_cases
from H3DELandmarksResearch.cli import cases as cases_command

ABSENT, UNDECIDED = 2, 3
FLIP = np.array([-1.0, -1.0, 1.0])


def quiet(fraction, message):
    pass


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Two cases of a model; in the second a landmark is absent, and nobody has looked at another."""
    project = create_project(tmp_path_factory.mktemp("p") / "project", SCHEME)
    for seed in (0, 1):
        points = points_of(seed)
        landmarks = [CaseLandmark(name, ReviewState.ACCEPTED, p, p) for name, p in zip(NAMES, points)]
        if seed:
            landmarks[0] = CaseLandmark(NAMES[0], ReviewState.MOVED, points[0], points[0] + 2)
            landmarks[ABSENT] = CaseLandmark(NAMES[ABSENT], ReviewState.ABSENT, None, points[ABSENT])
            landmarks[UNDECIDED] = CaseLandmark(NAMES[UNDECIDED], ReviewState.PROPOSED, points[3], points[3])
        project.add(scan_of(seed), landmarks, ModelName("m", "1.0.0"))
    return project


def truth(project, is_ras):
    """Case ids, and (N, K, 3) positions."""
    sets = {case.id: case.revision().corrected(SCHEME).positions for case in project.cases()}
    return list(sets), np.array(list(sets.values())) * (FLIP if is_ras else 1)


# Readers, written from the documentation of the programs that read these forms


def read_tps(path):
    """As ``geomorph::readland.tps(specID = "ID")``: coordinates are the lines without an equals sign."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    counts = [int(line[4:]) for line in lines if line.startswith("LM3=")]
    assert len(set(counts)) == 1 and not any(re.match("LM=", line) for line in lines)
    rows = [[np.nan if word == "NA" else float(word) for word in line.split()] for line in lines if "=" not in line]
    ids = [line[3:] for line in lines if line.startswith("ID=")]
    return ids, np.array(rows).reshape(len(counts), counts[0], 3)


def read_nts(path):
    """As ``geomorph::readland.nts``: header, labels where an L says so, then values; a declared value is missing."""
    lines = path.read_text(encoding="utf-8").splitlines()
    header = lines[0].upper().split()
    assert header[0] == "1" and header[-1] == "DIM=3"
    count, missing = int(header[1].removesuffix("L")), header[4] if header[3] == "1" else None
    words = " ".join(lines[1:]).split()
    ids, values = words[:count], words[count:]
    numbers = [np.nan if missing is not None and int(float(word)) == int(missing) else float(word) for word in values]
    return ids, np.array(numbers).reshape(count, int(header[2]) // 3, 3)


def read_morphologika(path):
    """As ``geomorph::read.morphologika`` and SlicerMorph's MorphologikaLMConverter."""
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    assert not any("\t" in line for line in lines)
    at = {line.strip("[]"): number for number, line in enumerate(lines) if line.startswith("[")}
    count, points, dimensions = (int(lines[at[name] + 1]) for name in ("individuals", "landmarks", "dimensions"))
    raw = [line for line in lines[at["rawpoints"] + 1 :] if "'" not in line]
    assert len(raw) == count * points and dimensions == 3
    assert len(lines[at["rawpoints"] + 1 :]) == count * points + count
    ids = lines[at["names"] + 1 : at["names"] + 1 + count]
    return ids, np.array([[float(word) for word in line.split()] for line in raw]).reshape(count, points, 3)


def read_wide(path):
    """As ``geomorph::arrayspecs(as.matrix(read.csv(path, row.names = 1)), p, 3)``."""
    with path.open(newline="") as file:
        header, *rows = list(csv.reader(file))
    assert header[1:4] == [f"{NAMES[0]}.x", f"{NAMES[0]}.y", f"{NAMES[0]}.z"]
    numbers = [[np.nan if word == "NA" else float(word) for word in row[1:]] for row in rows]
    return [row[0] for row in rows], np.array(numbers).reshape(len(rows), -1, 3)


def read_long(path, columns):
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    ids = list(dict.fromkeys(row["case"] for row in rows))
    assert [row["name"] for row in rows] == list(NAMES) * len(ids)
    numbers = [[np.nan if row[c] == "NA" else float(row[c]) for c in columns] for row in rows]
    return ids, np.array(numbers).reshape(len(ids), -1, 3), rows


def read_morphoj(path):
    """As MorphoJ's row/column files: tabs, a label, numbers; a first line that is not all numbers is passed over."""
    first, *lines = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
    assert not any(re.fullmatch(r"[-+.\dEe]+", word) for word in first[1:])
    assert not any(c in "".join(map("".join, lines)) for c in ",;")
    return [line[0] for line in lines], np.array([[float(word) for word in line[1:]] for line in lines])


def test_morphoj_gets_cases_without_gaps_and_the_others_are_named(project, tmp_path):
    summary = export_cases(project, "morphoj", tmp_path / "out", quiet)
    (whole,), (partial,) = summary.written, summary.skipped
    assert f"'{NAMES[ABSENT]}', '{NAMES[UNDECIDED]}'" in summary.skipped[partial]
    ids, positions = read_morphoj(tmp_path / "out" / "landmarks.txt")
    known, places = truth(project, False)
    assert ids == [whole]
    np.testing.assert_allclose(positions.reshape(1, -1, 3), places[[known.index(whole)]], atol=1e-6)


@pytest.mark.parametrize("kept", ["cases", "landmarks"])
def test_gaps_are_left_out_where_that_is_asked(kept, tmp_path, capsys):
    for k in range(3):
        presence = np.ones(10)
        presence[4] = k != 1
        (tmp_path / "in").mkdir(exist_ok=True)
        write_markups(tmp_path / "in" / f"s{k}.mrk.json", LandmarkSet(NAMES, points_of(k), presence))
    words = ["export", str(tmp_path / "in"), "--form", "morphoj", "--output", str(tmp_path / "out"), "--complete", kept]
    assert main(words) == 0
    ids, positions = read_morphoj(tmp_path / "out" / "landmarks.txt")
    assert (ids, positions.shape[1]) == ((["s0", "s2"], 30) if kept == "cases" else (["s0", "s1", "s2"], 27))
    names = [
        landmark["name"]
        for landmark in json.loads((tmp_path / "out" / "export.json").read_text(encoding="utf-8"))["cases"][0][
            "landmarks"
        ]
    ]
    assert (NAMES[4] in names) == (kept == "cases")
    assert ("s1" if kept == "cases" else NAMES[4]) in capsys.readouterr().err


def test_nothing_without_gaps_is_refused(tmp_path, capsys):
    for k in range(2):
        presence = np.arange(10) % 2 == k
        (tmp_path / "in").mkdir(exist_ok=True)
        write_markups(tmp_path / "in" / f"s{k}.mrk.json", LandmarkSet(NAMES, points_of(k), presence.astype(float)))
    for kept in ("cases", "landmarks"):
        words = ["export", str(tmp_path / "in"), "--form", "tps", "--output", str(tmp_path / "out"), "--complete", kept]
        assert main(words) == 2 and "gaps" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


ARRAYS = {
    "tps": ("landmarks.tps", read_tps),
    "nts": ("landmarks.nts", read_nts),
    "morphologika": ("landmarks.txt", read_morphologika),
    "table-wide": ("landmarks.csv", read_wide),
}


@pytest.mark.parametrize("is_ras", [False, True])
@pytest.mark.parametrize("form", ARRAYS)
def test_arrays_are_read_as_documented(project, tmp_path, form, is_ras):
    name, read = ARRAYS[form]
    assert len(export_cases(project, form, tmp_path / "out", quiet, is_ras=is_ras).written) == 2
    ids, positions = read(tmp_path / "out" / name)
    expected_ids, expected = truth(project, is_ras)
    assert ids == expected_ids
    np.testing.assert_allclose(positions, expected, atol=1e-6)
    assert np.isnan(positions).any(axis=2).sum() == 2


@pytest.mark.parametrize("is_ras", [False, True])
def test_the_long_table_says_who_decided_what(project, tmp_path, is_ras):
    export_cases(project, "table-long", tmp_path / "out", quiet, is_ras=is_ras)
    columns = ("right_mm", "anterior_mm", "superior_mm") if is_ras else ("left_mm", "posterior_mm", "superior_mm")
    ids, positions, rows = read_long(tmp_path / "out" / "landmarks.csv", columns)
    expected_ids, expected = truth(project, is_ras)
    assert ids == expected_ids
    np.testing.assert_allclose(positions, expected, atol=1e-6)
    said = {(row["state"], row["by"]) for row in rows}
    assert said == {("accepted", "person"), ("moved", "person"), ("absent", "person"), ("proposed", "program")}


@pytest.mark.parametrize("is_ras", [False, True])
@pytest.mark.parametrize("form", ["mrk.json", "fcsv"])
def test_point_lists_come_back(project, tmp_path, form, is_ras):
    export_cases(project, form, tmp_path / "out", quiet, is_ras=is_ras)
    for case in project.cases():
        found, corrected = read_markups(tmp_path / "out" / f"{case.id}.{form}"), case.revision().corrected(SCHEME)
        assert found.names == NAMES
        np.testing.assert_array_equal(found.positions, corrected.positions)
        np.testing.assert_array_equal(found.presence, corrected.presence)


@pytest.mark.parametrize("is_ras", [False, True])
@pytest.mark.parametrize("form", ["mrk.json", "fcsv"])
def test_slicer_loads_the_point_lists(project, tmp_path, form, is_ras):
    slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
    export_cases(project, form, tmp_path / "out", quiet, is_ras=is_ras)
    scene, application = slicer.vtkMRMLScene(), slicer.vtkSlicerApplicationLogic()
    application.SetMRMLScene(scene)
    logic = slicer.vtkSlicerMarkupsLogic()
    logic.SetMRMLApplicationLogic(application)
    logic.SetMRMLScene(scene)
    kind = "vtkMRMLMarkupsJsonStorageNode" if form == "mrk.json" else "vtkMRMLMarkupsFiducialStorageNode"
    for case in project.cases():
        node, storage = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode"), scene.AddNewNodeByClass(kind)
        storage.SetFileName(str(tmp_path / "out" / f"{case.id}.{form}"))
        assert storage.ReadData(node)
        corrected = case.revision().corrected(SCHEME)
        for k, name in enumerate(NAMES):
            status = 2 if corrected.present[k] else 0 if corrected.unknown[k] else 3
            assert (node.GetNthControlPointLabel(k), node.GetNthControlPointPositionStatus(k)) == (name, status)
            if status == 2:  # Slicer shows RAS
                np.testing.assert_allclose(node.GetNthControlPointPosition(k), corrected.positions[k] * FLIP, atol=1e-9)
    logic.SetMRMLScene(None)
    application.SetMRMLScene(None)


@pytest.mark.parametrize("form", [*POINT_FORMS, "folder", "nnlandmark"])
def test_the_record_says_where_everything_comes_from(project, tmp_path, form):
    export_cases(project, form, tmp_path / "out", quiet)
    record = json.loads((tmp_path / "out" / "export.json").read_text(encoding="utf-8"))
    assert (record["form"], record["scheme"]) == (form, "head@1.0")
    assert len(record["skipped"]) == (form == "morphoj")
    assert record["coordinates"] == ("voxels" if form == "nnlandmark" else "LPS") and record["absent"]
    there = {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert set(record["files"]) | {"export.json"} == there
    written = [case for case in project.cases() if case.id not in record["skipped"]]
    assert len(written) == len(record["cases"])
    for case, said in zip(written, record["cases"]):
        assert (said["id"], said["model"], said["scan_sha256"]) == (case.id, "m@1.0.0", case.content().digest)
        assert said["shape"] == [40, 40, 40] and said["spacing_mm"] == [1, 1, 1] and said["revision"] == 1
        states = [(p.name, p.state.value) for p in case.revision().landmarks]
        assert [(p["name"], p["state"]) for p in said["landmarks"]] == states
        by = {"accepted": "person", "moved": "person", "absent": "person", "proposed": "program"}
        assert all(p["by"] == by[p["state"]] for p in said["landmarks"])


def test_the_command_line_offers_every_form():
    assert set(cases_command.POINT_FORMS) == set(POINT_FORMS)


@pytest.mark.parametrize("form", ["folder", "nnlandmark", "mml", "zip"])
def test_ras_is_refused_where_it_does_nothing(project, tmp_path, form, capsys):
    words = ["cases", "export", str(project.folder), str(tmp_path / "out"), "--form", form, "--ras"]
    assert main(words) == 2 and "--ras" in capsys.readouterr().err and not (tmp_path / "out").exists()


# Bad cases, repeating


@pytest.fixture
def damaged(tmp_path):
    """Three cases: the scan of one was changed since, the review of another is broken."""
    project = create_project(tmp_path / "damaged", SCHEME)
    ids = [
        project.add(scan_of(k), [CaseLandmark(NAMES[0], ReviewState.PLACED, points_of(k)[0])]).case for k in range(3)
    ]
    image = project.case(ids[1]).image
    scan = read_volume(image)
    scan.array[0, 0, 0] += 1
    write_volume(image, scan)
    (project.case(ids[2]).folder / "000001" / "revision.json").write_text("{")
    return project, ids


@pytest.mark.parametrize("form", ["folder", "nnlandmark", "zip"])
def test_good_cases_are_exported_and_bad_ones_named(damaged, tmp_path, form, capsys):
    project, ids = damaged
    target = tmp_path / ("out.zip" if form == "zip" else "out")
    assert main(["cases", "export", str(project.folder), str(target), "--form", form, "--json"]) == 2
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert document["cases"] == 1 and sorted(document["skipped"]) == sorted(ids[1:])
    assert "not what it was" in document["skipped"][ids[1]] and "damaged" in document["skipped"][ids[2]]
    assert all(case in err for case in ids[1:]) and not document["ok"]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    if form != "zip":
        assert set(json.loads((target / "export.json").read_text(encoding="utf-8"))["skipped"]) == set(ids[1:])
        other = create_project(tmp_path / "other", SCHEME)
        assert import_cases(other, form, target, quiet).new == ids[:1]


def test_an_export_that_left_out_cases_can_be_repeated(damaged, tmp_path):
    project, ids = damaged
    target = tmp_path / "out"
    assert export_cases(project, "folder", target, quiet).written == ids[:1]
    assert export_cases(project, "folder", target, quiet).written == ids[:1]
    write_volume(project.case(ids[1]).image, scan_of(1))
    summary = export_cases(project, "folder", target, quiet)
    assert (set(summary.written), list(summary.skipped)) == (set(ids[:2]), ids[2:])
    (target / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="--overwrite"):
        export_cases(project, "folder", target, quiet)
    assert (target / "notes.txt").exists()


@pytest.mark.parametrize("is_changed", [False, True])
def test_a_complete_export_is_replaced_on_wish_only(project, tmp_path, is_changed):
    target = tmp_path / "out"
    export_cases(project, "nts", target, quiet)
    if is_changed:
        (target / "landmarks.nts").write_text("changed")
    before = (target / "landmarks.nts").read_bytes()
    with pytest.raises(InputError, match="--overwrite"):
        export_cases(project, "tps", target, quiet)
    assert (target / "landmarks.nts").read_bytes() == before
    export_cases(project, "tps", target, quiet, overwrite=True)
    assert sorted(path.name for path in target.iterdir()) == ["export.json", "landmarks.tps"]


@pytest.mark.parametrize("form", ["zip", "folder", "tps"])
def test_of_five_exports_at_once_one_wins(project, tmp_path, form):
    target = tmp_path / ("out.zip" if form == "zip" else "out")
    codes = []

    def run():
        codes.append(main(["cases", "export", str(project.folder), str(target), "--form", form]))

    threads = [threading.Thread(target=run) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == [0, 2, 2, 2, 2]
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_no_export_has_made_is_kept_in_any_case(project, tmp_path, overwrite):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="another target"):
        export_cases(project, "tps", tmp_path / "out", quiet, overwrite=overwrite)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.txt"]


def test_nothing_is_left_where_no_case_can_be_exported(tmp_path):
    project = create_project(tmp_path / "p", SCHEME)
    case = project.add(scan_of(0), [CaseLandmark(NAMES[0], ReviewState.PLACED, points_of(0)[0])]).case
    (project.case(case).folder / "image.json").write_text("{")
    for form in ("folder", "tps"):
        with pytest.raises(InputError, match="damaged"):
            export_cases(project, form, tmp_path / "out", quiet)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p"]


# The command for point lists


@pytest.fixture
def lists(tmp_path):
    folder = tmp_path / "lists"
    folder.mkdir()
    write_markups(
        folder / "one.mrk.json", LandmarkSet(("A", "B"), [[1, 2, 3], [4, 5, 6]]), {"scan": "0" * 64, "model": "m@1"}
    )
    write_markups(folder / "two é.mrk.json", LandmarkSet(("B", "C"), [[7, 8, 9], [np.nan] * 3], presence=[1, 0]))
    return folder


@pytest.mark.parametrize("form", ["tps", "nts", "morphologika"])
def test_lists_of_files_become_arrays(lists, tmp_path, form, capsys):
    name, read = ARRAYS[form]
    arguments = ["export", str(lists), "--form", form, "--output", str(tmp_path / "out"), "--ras", "--json"]
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["landmarks"] == ["A", "B", "C"]
    ids, positions = read(tmp_path / "out" / name)
    assert ids == ["one", "two_é"]
    nothing = [np.nan] * 3
    np.testing.assert_array_equal(positions, [[[-1, -2, 3], [-4, -5, 6], nothing], [nothing, [-7, -8, 9], nothing]])
    one, two = json.loads((tmp_path / "out" / "export.json").read_text(encoding="utf-8"))["cases"]
    assert (one["model"], {*two}) == ("m@1", {"id", "landmarks"})
    assert [(p["state"], p["by"]) for p in one["landmarks"]] == [("found", "program")] * 2 + [("unknown", None)]
    assert [(p["state"], p["by"]) for p in two["landmarks"]] == [("unknown", None), ("found", None), ("absent", None)]


def test_lists_of_the_same_name_are_told_apart(lists, tmp_path):
    (tmp_path / "b").mkdir()
    write_markups(tmp_path / "b" / "one.mrk.json", LandmarkSet(("A",), [[0, 0, 0]]))
    words = [str(lists / "one.mrk.json"), str(tmp_path / "b"), "--form", "fcsv", "--output", str(tmp_path / "out")]
    assert main(["export", *words]) == 0
    assert sorted(p.name for p in (tmp_path / "out").glob("*.fcsv")) == ["b_one.fcsv", "lists_one.fcsv"]
    (lists / "one.fcsv").write_text("A,1,2,3\n")
    assert main(["export", str(lists), "--form", "mrk.json", "--output", str(tmp_path / "both")]) == 0
    names = sorted(p.name for p in (tmp_path / "both").glob("*.mrk.json"))
    assert names == ["one_fcsv.mrk.json", "one_mrk_json.mrk.json", "two é.mrk.json"]


@pytest.mark.parametrize("form", ["tps", "nts", "morphologika", "morphoj"])
def test_names_that_a_form_makes_equal_stay_apart(tmp_path, form):
    (tmp_path / "lists").mkdir()
    for number, name in enumerate(("a b", "a_b", "c;b", "c_b")):
        write_markups(tmp_path / "lists" / f"{name}.mrk.json", LandmarkSet(("A", "B", "C"), np.eye(3) + number))
    assert main(["export", str(tmp_path / "lists"), "--form", form, "--output", str(tmp_path / "out")]) == 0
    name, read = ARRAYS.get(form, ("landmarks.txt", read_morphoj))
    ids, positions = read(tmp_path / "out" / name)
    assert len(set(ids)) == 4 and sorted(positions.reshape(4, -1)[:, 1]) == [0, 1, 2, 3]


@pytest.mark.parametrize(("form", "told"), [("tps", True), ("fcsv", True), ("table-long", False), ("mrk.json", False)])
def test_pixels_and_millimeters_in_one_export_are_told_where_the_form_does_not(tmp_path, form, told, capsys):
    (tmp_path / "in").mkdir()
    for name, unit in (("a", "px"), ("b", "mm")):
        points = LandmarkSet(("A", "B"), [[1, 2, 3], [4, 5, 6]])
        write_markups(tmp_path / "in" / f"{name}.mrk.json", points, unit=unit)
    assert main(["export", str(tmp_path / "in"), "--form", form, "--output", str(tmp_path / "out")]) == 0
    assert ("in pixels and others in mm" in capsys.readouterr().err) == told


@pytest.mark.parametrize("form", ["mrk.json", "folder"])
def test_the_models_radius_stays_with_the_places_that_were_accepted(tmp_path, form):
    project, points = create_project(tmp_path / "p", SCHEME), points_of(1)
    states = [ReviewState.ACCEPTED, ReviewState.MOVED, ReviewState.ABSENT]
    places = [points[0], points[1] + 2, None]
    landmarks = [
        CaseLandmark(name, state, place, seen, 0.9, 0.8, 1.5)
        for name, state, place, seen in zip(NAMES, states, places, points)
    ]
    case = project.add(scan_of(1), landmarks, ModelName("m", "1.0.0")).case
    export_cases(project, form, tmp_path / "out", quiet)
    found = read_markups(tmp_path / "out" / f"{case}.mrk.json")
    np.testing.assert_array_equal(found.radius[:3], [1.5, np.nan, np.nan])
    np.testing.assert_array_equal(found.confidence[:3], [0.8, np.nan, np.nan])


def test_labels_that_differ_in_blanks_are_one_landmark_of_an_export(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for name, labels in (("a", ("A", "B")), ("b", ("B", "a "))):
        write_markups(tmp_path / "in" / f"{name}.mrk.json", LandmarkSet(labels, [[1, 2, 3], [4, 5, 6]]))
    words = ["export", str(tmp_path / "in"), "--form", "tps", "--output", str(tmp_path / "out"), "--json"]
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["landmarks"] == ["A", "B"] and "'a ' as 'A'" in err
    assert read_tps(tmp_path / "out" / "landmarks.tps")[1].tolist() == [[[1, 2, 3], [4, 5, 6]], [[4, 5, 6], [1, 2, 3]]]


def test_the_record_says_of_which_scan_results_are(tmp_path):
    (tmp_path / "in").mkdir()
    write_result(tmp_path / "in", "a", LandmarkSet(("A", "B"), [[1, 2, 3], [4, 5, 6]]))
    assert main(["export", str(tmp_path / "in"), "--form", "tps", "--output", str(tmp_path / "out")]) == 0
    (case,) = json.loads((tmp_path / "out" / "export.json").read_text(encoding="utf-8"))["cases"]
    assert (case["scan_sha256"], case["shape"], case["spacing_mm"]) == ("1" * 64, [9, 9, 9], [1.0, 1.0, 1.0])


def test_results_of_a_bids_data_set_are_a_folder_of_lists(lists, tmp_path, capsys):
    (tmp_path / "bids").mkdir()
    place = tmp_path / "bids" / "sub-01" / "anat" / "sub-01_desc-landmarks_ct.mrk.json"
    place.parent.mkdir(parents=True)
    write_markups(place, read_markups(lists / "one.mrk.json"))
    words = ["export", str(tmp_path / "bids"), "--form", "tps", "--output", str(tmp_path / "out")]
    assert main(words) == 2 and "holds no point list" in capsys.readouterr().err
    (tmp_path / "bids" / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.10.0"}')
    assert main(words) == 0
    assert read_tps(tmp_path / "out" / "landmarks.tps")[0] == ["sub-01_desc-landmarks_ct"]


def test_no_list_is_lost_whose_name_another_one_is_given(lists, tmp_path):
    write_markups(lists / "one_fcsv.mrk.json", LandmarkSet(("A",), [[0, 0, 0]]))
    (lists / "one.fcsv").write_text("A,1,2,3\n")
    assert main(["export", str(lists), "--form", "mrk.json", "--output", str(tmp_path / "out")]) == 0
    assert len(list((tmp_path / "out").glob("*.mrk.json"))) == 4


def test_a_list_that_cannot_be_read_does_not_stop_the_others(lists, tmp_path, capsys):
    (lists / "bad.mrk.json").write_text("{")
    assert main(["export", str(lists), "--form", "tps", "--output", str(tmp_path / "out")]) == 2
    assert "bad.mrk.json" in capsys.readouterr().err
    assert read_tps(tmp_path / "out" / "landmarks.tps")[0] == ["one", "two_é"]
    for path in lists.glob("*o*"):
        path.unlink()
    assert main(["export", str(lists), "--form", "tps", "--output", str(tmp_path / "none")]) == 2
    assert not (tmp_path / "none").exists()
