"""A model from a folder of scans and point lists: what is read, what is planned, what comes out."""

import csv
import json
import shutil
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from H3DELandmarksLib.cli.main import main
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.io.images import write_volume
from H3DELandmarksLib.io.markups import write_markups
from H3DELandmarksLib.models import open_package
from H3DELandmarksLib.training.cases import VolumeStore
from H3DELandmarksResearch.cases.case_folder import points_of_case, read_case, readers_of_case
from H3DELandmarksResearch.planning.folder_cases import look_through
from H3DELandmarksResearch.planning.plan import plan_folder
from H3DELandmarksResearch.planning.point_tables import read_tables
from H3DELandmarksResearch.planning.rules import pairs_of, scheme_of, subsets_of
from H3DELandmarksResearch.training.configuration import read_configuration

NAMES = ("tip", "side left", "side right")


def blobs(seed, size=(40, 40, 40), spacing=1.0):
    """A volume, or a picture where the last size is 1, with three bright blobs, and where they are."""
    rng = np.random.default_rng(seed)
    middle = (np.array(size) - 1) / 2
    points = (
        middle + np.array([[0, -9, 0], [8, 6, 0], [-8, 6, 0.0]]) + rng.uniform(-2, 2, (3, 3)) * (np.array(size) > 1)
    )
    places = np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"), -1)
    values = sum(b * np.exp(-((np.linalg.norm(places - p, axis=-1) / 2.5) ** 2)) for b, p in zip((1, 0.7, 0.4), points))
    array = (values * 200 + rng.normal(0, 2, size)).clip(0, 255).astype(np.uint8)
    return Volume(array, np.diag([spacing, spacing, spacing, 1.0])), points * spacing


def write_case(folder, name, seed, subject=None):
    volume, points = blobs(seed)
    folder.mkdir(parents=True, exist_ok=True)
    write_volume(folder / f"{name}.nrrd", volume)
    write_markups(folder / f"{name}.mrk.json", LandmarkSet(NAMES, points))
    return points


def write_table(path, columns, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


# Reading


@pytest.mark.parametrize(
    ("columns", "cells", "place"),
    [
        (("landmark", "x", "y", "z"), (1, 2, 3), (1, 2, 3)),
        (("Name", "R", "A", "S"), (1, 2, 3), (-1, -2, 3)),
        (("name", "left_mm", "posterior_mm", "superior_mm"), (1, 2, 3), (1, 2, 3)),
        (("label", "x_px", "y_px"), (4, 5), (4, 5, 0)),
        (("name", "left_px", "posterior_px", "superior_px"), (4, 5, 0), (4, 5, 0)),
        (("name", "right_px", "anterior_px", "superior_px"), (-4, -5, 0), (4, 5, 0)),
        (("label", "x", "y"), (4, 5), (4, 5, 0)),
    ],
)
def test_columns_say_what_coordinates_mean(tmp_path, columns, cells, place):
    write_table(tmp_path / "a.csv", columns, [("tip", *cells)])
    ((scan, table),) = read_tables(tmp_path / "a.csv").items()
    assert scan == "a" and table.in_pixels == any(name.endswith("_px") for name in columns)
    np.testing.assert_allclose(table.positions["tip"], place)


def test_a_table_of_scans_of_both_units_has_columns_for_each(tmp_path):
    columns = ("scan", "name", "left_mm", "posterior_mm", "superior_mm", "left_px", "posterior_px", "superior_px")
    rows = [("a", "tip", 1, 2, 3, "NA", "NA", "NA"), ("b", "tip", "NA", "NA", "NA", 4, 5, 0)]
    write_table(tmp_path / "all.csv", columns, [*rows, ("b", "base", *["NA"] * 6)])
    tables = read_tables(tmp_path / "all.csv")
    assert [tables[scan].in_pixels for scan in "ab"] == [False, True]
    np.testing.assert_allclose([tables[scan].positions["tip"] for scan in "ab"], [(1, 2, 3), (4, 5, 0)])
    write_table(tmp_path / "all.csv", columns, [*rows, ("b", "base", 1, 2, 3, "NA", "NA", "NA")])
    with pytest.raises(InputError, match="line 4: 'b' has points in pixels and in mm"):
        read_tables(tmp_path / "all.csv")


def test_one_table_serves_all_scans_and_an_empty_cell_is_a_missing_landmark(tmp_path):
    rows = [("a.png", "tip", 1, 2), ("a.png", "end", "", ""), ("b.png", "tip", 3, 4)]
    write_table(tmp_path / "points.csv", ("scan", "landmark", "x_px", "y_px"), rows)
    tables = read_tables(tmp_path / "points.csv")
    assert set(tables) == {"a.png", "b.png"} and np.isnan(tables["a.png"].positions["end"]).all()


def test_an_export_of_cases_is_read_as_it_lies(tmp_path):
    write_case(tmp_path, "case-1", 1)
    write_case(tmp_path / "proposed", "case-1", 2)
    (tmp_path / "proposed" / "case-1.nrrd").unlink()
    columns = ("case", "measurement", "value", "unit", "low90", "high90", "reason", "title")
    write_table(tmp_path / "measurements.csv", columns, [("case-1", "width", 5, "mm", 4, 6, "", "Width")])
    write_table(tmp_path / "case-1.measured.csv", columns, [("case-1", "width", 5, "mm", 4, 6, "", "Width")])
    (tmp_path / "export.json").write_text('{"format": "h3delandmarks-export"}', encoding="utf-8")
    (case,) = look_through(tmp_path).cases
    assert case.plain
    np.testing.assert_allclose(case.read_points(None).positions, blobs(1)[1], atol=1e-4)


def test_a_folder_called_proposed_is_one_like_others_where_nothing_was_exported(tmp_path):
    write_case(tmp_path / "proposed", "a", 1)
    assert [case.name for case in look_through(tmp_path).cases] == ["a"]


def test_points_in_linked_and_not_in_hidden_folders_are_found(tmp_path):
    write_case(tmp_path / "archive", "a", 1)
    write_case(tmp_path / "scans" / ".old", "b", 2)
    try:
        (tmp_path / "scans" / "linked").symlink_to(tmp_path / "archive", target_is_directory=True)
        (tmp_path / "archive" / "back").symlink_to(tmp_path / "scans", target_is_directory=True)
    except OSError:
        pytest.skip("this system makes no links")
    assert [case.name for case in look_through(tmp_path / "scans").cases] == ["a"]


def test_only_what_a_table_calls_absent_is_absent(tmp_path):
    columns = ("name", "state", "left_mm", "posterior_mm", "superior_mm")
    states = ("found", "absent", "absent, accepted in bulk", "not examined", "not recognised", "unknown", "")
    rows = [(f"p{k}", state, *((1, 2, 3) if state == "found" else ("", "", ""))) for k, state in enumerate(states)]
    rows.append(("late", "not examined", 4, 5, 6))
    write_volume(tmp_path / "a.nrrd", blobs(1)[0])
    write_table(tmp_path / "a.csv", columns, rows)
    (case,) = look_through(tmp_path).cases
    points = case.read_points(None)
    np.testing.assert_array_equal(points.presence, [1, 0, 0, np.nan, np.nan, np.nan, np.nan, 1])


def test_what_nobody_has_looked_for_stays_unknown_in_the_cases_of_a_run(tmp_path):
    for number in range(8):
        points = write_case(tmp_path / "scans", f"s{number}", number)
        (tmp_path / "scans" / f"s{number}.mrk.json").unlink()
        known = number > 2
        rows = [(name, "found", *p) for name, p in zip(NAMES[: 2 + known], points)]
        rows += [] if known else [(NAMES[2], "not examined", "", "", "")]
        write_table(tmp_path / "scans" / f"s{number}.csv", ("landmark", "state", "x", "y", "z"), rows)
    configuration = read_configuration(plan_folder(tmp_path / "scans", tmp_path / "run"))
    _, landmarks = read_case(configuration.data_folder(), "s1", configuration.scheme.names)
    np.testing.assert_array_equal(landmarks.presence, [1, 1, np.nan])


def test_unknown_points_of_pictures_stay_unknown(tmp_path):
    write_pictures(tmp_path / "pictures", 1)
    rows = [
        ("p0.png", "tip", "found", 3, 4),
        ("p0.png", "end", "not examined", "", ""),
        ("p0.png", "x", "absent", "NA", "NA"),
    ]
    write_table(tmp_path / "pictures" / "points.csv", ("scan", "landmark", "state", "x_px", "y_px"), rows)
    (case,) = look_through(tmp_path / "pictures").cases
    np.testing.assert_array_equal(case.read_points((1.0, 1.0)).presence, [1, np.nan, 0])


def test_a_table_that_gives_a_place_to_what_it_calls_absent_is_refused(tmp_path):
    write_table(tmp_path / "a.csv", ("name", "state", "x", "y", "z"), [("tip", "absent", 1, 2, 3)])
    with pytest.raises(InputError, match="tip"):
        read_tables(tmp_path / "a.csv")


@pytest.mark.parametrize("columns", [("x", "y"), ("x", "y", "zz"), ("x", "y", "z_mm"), ("x_px", "y_px")])
def test_points_of_a_volume_need_a_third_coordinate(tmp_path, columns):
    write_volume(tmp_path / "a.nrrd", blobs(1)[0])
    write_table(tmp_path / "a.csv", ("landmark", *columns), [("tip", *range(10, 10 + len(columns)))])
    (case,) = look_through(tmp_path).cases
    with pytest.raises(InputError, match=r"a\.csv.* z"):
        case.read_points(None)


def test_points_of_a_radiograph_need_no_third_coordinate(tmp_path):
    write_pictures(tmp_path / "pictures", 1)
    write_table(tmp_path / "pictures" / "points.csv", ("scan", "landmark", "x", "y"), [("p0.png", "tip", 3, 4)])
    (case,) = look_through(tmp_path / "pictures").cases
    np.testing.assert_allclose(case.read_points((0.5, 0.5)).positions, [[3, 4, 0]])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a,b\n",
        "name,x,y,z\ntip,1,2,three\n",
        "name,x,y,z\ntip,1,2,inf\n",
        "name,x,y,z\ntip,1,2,3\ntip,1,2,3\n",
        "name,u,v\ntip,1,2\n",
    ],
)
def test_a_table_that_is_none_is_refused(tmp_path, text):
    (tmp_path / "points.csv").write_text(text)
    with pytest.raises(InputError, match="points.csv"):
        read_tables(tmp_path / "points.csv")


def test_scans_and_points_are_matched_by_name_wherever_they_lie(tmp_path):
    write_case(tmp_path / "sub-01", "sub-01_ct", 1)
    write_case(tmp_path / "sub-02", "sub-02_ses-1_ct", 2)
    write_volume(tmp_path / "sub-02" / "sub-02_ses-2_ct.nrrd", blobs(3)[0])
    write_table(tmp_path / "sub-02_ses-2_ct.csv", ("name", "x", "y", "z"), [("tip", 1, 2, 3)])
    write_volume(tmp_path / "lonely.nrrd", blobs(4)[0])
    content = look_through(tmp_path)
    assert {case.name: case.subject for case in content.cases} == {
        "sub-01_ct": "sub-01",
        "sub-02_ses-1_ct": "sub-02",
        "sub-02_ses-2_ct": "sub-02",
    }
    assert "lonely" in " ".join(content.notes)


def test_a_table_says_whose_scans_are_one_subject_s(tmp_path):
    for number in range(3):
        write_case(tmp_path, f"scan{number}", number)
    write_table(tmp_path / "subjects.csv", ("case", "subject"), [("scan0", "p1"), ("scan1.nrrd", "p1")])
    assert [case.subject for case in look_through(tmp_path).cases] == ["p1", "p1", "scan2"]


def test_a_table_of_subjects_that_names_other_cases_is_refused(tmp_path):
    for name in ("s0", "s1", "s2"):
        write_case(tmp_path, name, 1)
    write_table(tmp_path / "subjects.csv", ("case", "subject"), [("S0", "p1"), ("S1", "p1"), ("s2", "p2")])
    with pytest.raises(InputError, match=r"subjects\.csv.*'S0'.*'s0'"):
        look_through(tmp_path)
    rows = [("s0", "p1"), ("s1.mrk.json", "p1"), ("s2", ""), ("s3", "p2")]  # of s3 there is no scan any more
    write_table(tmp_path / "subjects.csv", ("case", "subject"), rows)
    assert [case.subject for case in look_through(tmp_path).cases] == ["p1", "p1", "s2"]
    write_table(tmp_path / "subjects.csv", ("case", "subject"), [("s0", "p1"), ("s0", "p2")])
    with pytest.raises(InputError, match="two subjects"):
        look_through(tmp_path)


def test_a_table_of_subjects_counts_however_it_is_called_and_wherever_it_lies(tmp_path):
    for name in ("s0", "s1"):
        write_case(tmp_path, name, 1)
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "Subjects.csv").write_text("Case;Subject\ns0;p1\ns1;p1\n", encoding="utf-8")
    assert [case.subject for case in look_through(tmp_path).cases] == ["p1", "p1"]


def test_subjects_in_other_letters_are_one(tmp_path):
    for name in ("s0", "s1", "s2"):
        write_case(tmp_path, name, 1)
    (tmp_path / "subjects.csv").write_text("case,subject\ns0,M\u00fc1\ns1,mu\u03081\ns2,p\n", encoding="utf-8")
    subjects = [case.subject for case in look_through(tmp_path).cases]
    assert subjects[0] == subjects[1] != subjects[2]


def test_names_whose_accents_are_stored_in_two_ways_are_one(tmp_path):
    for form, other in (("NFC", "NFD"), ("NFD", "NFC")):
        name, folder = f"M\u00fc {form}", tmp_path / form
        folder.mkdir()
        write_volume(folder / f"{normalize(form, name)}.nrrd", blobs(1)[0])
        write_markups(folder / f"{normalize(other, name)}.mrk.json", LandmarkSet(NAMES, blobs(1)[1]))
        (folder / "subjects.csv").write_text(f"case,subject\n{normalize(other, name)},p\n", encoding="utf-8")
        (case,) = look_through(folder).cases
        assert case.subject == "p" and not case.plain
        volume, points = read_case(folder, normalize(form, name), NAMES)
        assert points.present.all() and points_of_case(folder, name).is_file()
        assert read_case(folder, normalize(other, name), NAMES)[0].array.shape == volume.array.shape


def test_a_folder_without_points_or_with_two_lists_for_a_scan_is_refused(tmp_path):
    write_volume(tmp_path / "a.nrrd", blobs(1)[0])
    with pytest.raises(InputError, match="point"):
        look_through(tmp_path)
    write_case(tmp_path, "a", 1)
    write_table(tmp_path / "a.csv", ("name", "x", "y", "z"), [("tip", 1, 2, 3)])
    with pytest.raises(InputError, match=r"several.*a\.csv'.*a\.mrk\.json'"):
        look_through(tmp_path)


def test_scans_of_one_name_in_several_folders_are_to_be_renamed(tmp_path):
    for subject in ("one", "two"):
        write_case(tmp_path / subject, "scan", 1)
    with pytest.raises(InputError, match="several scans of one name, give each"):
        look_through(tmp_path)


def test_what_is_left_out_is_said_at_once(tmp_path, caplog):
    write_scans(tmp_path / "scans", 8)
    (tmp_path / "scans" / "s7.mrk.json").rename(tmp_path / "scans" / "other.mrk.json")
    path = plan_folder(tmp_path / "scans", tmp_path / "run")
    for text in (caplog.text, path.with_suffix(".md").read_text(encoding="utf-8")):
        assert "left out: s7." in text and "no scan of their name: other." in text


def test_points_of_several_readers_lie_beside_the_reference(tmp_path):
    write_pictures(tmp_path / "pictures")
    rows = [("p1.png", name, *point[:2] + 1) for name, point in zip(NAMES, blobs(1, (60, 64, 1))[1])]
    write_table(tmp_path / "pictures/readers/senior/points.csv", ("scan", "landmark", "x_px", "y_px"), rows)
    path = plan_folder(tmp_path / "pictures", tmp_path / "run", spacing=(1.0, 1.0))
    said = readers_of_case(read_configuration(path).data_folder(), "p1")["senior"]
    np.testing.assert_allclose(said.positions[:, :2], blobs(1, (60, 64, 1))[1][:, :2] + 1, atol=1e-4)
    write_case(tmp_path / "scans", "a", 1)
    (tmp_path / "scans/readers/senior").mkdir(parents=True)
    write_markups(tmp_path / "scans/readers/senior/a.mrk.json", LandmarkSet(NAMES, np.ones((3, 3))))
    (case,) = look_through(tmp_path / "scans").cases
    assert case.plain and set(case.readers) == {"senior"}


def test_a_point_beside_its_picture_names_the_picture(tmp_path):
    write_pictures(tmp_path / "pictures")
    table = tmp_path / "pictures" / "points.csv"
    table.write_text(table.read_text() + "p2.png,end,900,5\r\n")
    with pytest.raises(InputError, match=r"end lie outside .*p2\.png"):
        plan_folder(tmp_path / "pictures", tmp_path / "run", spacing=(1.0, 1.0))


# Rules


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (["gonion-L", "gonion-R", "menton"], [("gonion-L", "gonion-R")]),
        (["T1 upper left", "T1 upper right", "T2 upper left"], [("T1 upper left", "T1 upper right")]),
        (["Left eye", "right eye"], [("Left eye", "right eye")]),
        (["lateral", "rateral", "La", "Ra"], []),
        (["L0", "La", "Lb", "R0", "Ra", "Rb", "tip"], [("L0", "R0"), ("La", "Ra"), ("Lb", "Rb")]),
        (["zyL", "goL", "exL", "zyR", "goR", "exR"], [("zyL", "zyR"), ("goL", "goR"), ("exL", "exR")]),
        (["L1", "L2", "L3", "L4", "R1", "R2", "R3"], []),
        (["left L", "right L", "left R"], [("left L", "right L")]),
        (["left-L", "left-R", "right-L", "right-R"], [("left-L", "right-L"), ("left-R", "right-R")]),
    ],
)
def test_sides_are_words_of_names(names, pairs):
    assert pairs_of(names) == pairs


@given(st.integers(6, 60), st.integers(1, 4))
def test_subjects_are_held_out_whole_and_always_the_same(subjects, scans):
    cases = {f"{s}-{k}": f"subject{s}" for s in range(subjects) for k in range(scans)}
    chosen = subsets_of(cases)
    assert chosen == subsets_of(dict(reversed(cases.items()))) or {k: set(v) for k, v in chosen.items()} == {
        k: set(v) for k, v in subsets_of(dict(reversed(cases.items()))).items()
    }
    assert sorted(name for names in chosen.values() for name in names) == sorted(cases)
    owners = [{cases[name] for name in names} for names in chosen.values()]
    assert all(owners) and sum(map(len, owners)) == subjects
    assert len(owners[0]) >= subjects / 2


def test_too_few_subjects_are_refused():
    with pytest.raises(InputError, match="subjects"):
        subsets_of({f"{k}": f"{k % 5}" for k in range(20)})


def test_landmarks_that_few_cases_show_are_left_out():
    lists = [LandmarkSet(("a", "b") if k < 2 else ("a",), np.ones((2 if k < 2 else 1, 3))) for k in range(5)]
    scheme, left_out = scheme_of("x", lists)
    assert scheme.names == ("a",) and left_out == ["b"]


def test_names_that_differ_in_case_or_blanks_are_one_landmark_unless_a_case_has_both():
    names = [("A", "a", "tip"), ("A", "a", "Tip"), ("A", "a", "tip "), ("A", "a", "tip")]
    scheme, left_out = scheme_of("x", [LandmarkSet(each, np.ones((3, 3))) for each in names])
    assert scheme.names == ("A", "a", "tip") and left_out == []


# Plans


@pytest.mark.parametrize("form", [".mrk.json", ".csv"])
def test_a_landmark_that_is_written_in_two_ways_is_planned_as_one(tmp_path, form):
    for number in range(8):
        points = write_case(tmp_path / "scans", f"s{number}", number)
        names = NAMES if number < 6 else ("Tip ", "Side Left", "side RIGHT")
        (tmp_path / "scans" / f"s{number}.mrk.json").unlink()
        if form == ".csv":
            rows = [(name, *point) for name, point in zip(names, points)]
            write_table(tmp_path / "scans" / f"s{number}.csv", ("landmark", "x", "y", "z"), rows)
        else:
            write_markups(tmp_path / "scans" / f"s{number}.mrk.json", LandmarkSet(names, points))
    configuration = read_configuration(plan_folder(tmp_path / "scans", tmp_path / "run"))
    assert configuration.scheme.names == NAMES and configuration.scheme.pairs == (NAMES[1:],)
    _, landmarks = read_case(configuration.data_folder(), "s7", configuration.scheme.names)
    np.testing.assert_allclose(landmarks.positions, blobs(7)[1], atol=1e-4)


def test_a_landmark_that_no_case_for_training_shows_is_left_out(tmp_path):
    held_out = set(subsets_of({f"s{k}": f"s{k}" for k in range(14)})["test"])
    write_scans(tmp_path / "scans", 14)
    for name in held_out:
        points = blobs(int(name[1:]))[1]
        late = LandmarkSet((*NAMES, "late"), np.vstack([points, points[:1] + 3]))
        write_markups(tmp_path / "scans" / f"{name}.mrk.json", late)
    path = plan_folder(tmp_path / "scans", tmp_path / "run")
    assert len(held_out) == 3 and read_configuration(path).scheme.names == NAMES
    assert "late: left out" in path.with_suffix(".md").read_text(encoding="utf-8")


def test_a_folder_of_plain_cases_is_planned_where_it_lies(tmp_path):
    for number in range(8):
        write_case(tmp_path / "scans", f"s{number}", number)
    path = plan_folder(tmp_path / "scans", tmp_path / "run")
    configuration = read_configuration(path)
    assert configuration.record.id == "scans" and configuration.data_folder() == (tmp_path / "scans").resolve()
    assert configuration.scheme.pairs == (("side left", "side right"),)
    assert sum(len(names) for names in configuration.split().values()) == 8
    stage = configuration.record.stages[-1]
    assert stage.spacing_mm >= 1.0 and np.array(stage.shape).min() >= 32
    assert "8 scans of 8 subjects" in path.with_suffix(".md").read_text()
    assert not (tmp_path / "run" / "cases").exists()


def test_a_plan_keeps_no_scan_however_large_they_are(tmp_path, monkeypatch):
    write_scans(tmp_path / "scans", 8)
    monkeypatch.setattr(VolumeStore, "kept", lambda store, volume: pytest.fail("a scan was kept"))
    assert plan_folder(tmp_path / "scans", tmp_path / "run").exists()


def test_no_model_is_called_as_proposals_from_examples_are(tmp_path):
    write_scans(tmp_path / "Examples", 8)
    with pytest.raises(InputError, match="not 'examples'.*--model-id"):
        plan_folder(tmp_path / "Examples", tmp_path / "run")
    assert plan_folder(tmp_path / "Examples", tmp_path / "run", "my-examples").is_file()


def test_an_edited_plan_is_kept(tmp_path):
    for number in range(6):
        write_case(tmp_path / "scans", f"s{number}", number)
    path = plan_folder(tmp_path / "scans", tmp_path / "run", steps=50)
    content = json.loads(path.read_text())
    content["stages"][0]["training"]["steps"] = 7
    path.write_text(json.dumps(content))
    assert plan_folder(tmp_path / "scans", tmp_path / "run", steps=50) == path
    assert read_configuration(path).record.stages[0].training.steps == 7


def write_scans(folder, count, turned=()):
    """Cases, those named by number with the points turned about the middle of the scan."""
    for number in range(count):
        points = write_case(folder, f"s{number}", number)
        if number in turned:
            turn, middle = Rotation.from_euler("xyz", (90, 70, 0), degrees=True), np.full(3, 19.5)
            points = turn.apply(points - middle) + middle
            write_markups(folder / f"s{number}.mrk.json", LandmarkSet(NAMES, points))


def test_lists_that_lie_in_another_pose_than_their_scan_are_left_out(tmp_path, caplog):
    write_scans(tmp_path / "scans", 9, turned=(2, 5))
    path = plan_folder(tmp_path / "scans", tmp_path / "run")
    configuration = read_configuration(path)
    used = {name for names in configuration.split().values() for name in names}
    assert used == {f"s{k}" for k in range(9)} - {"s2", "s5"}
    assert not configuration.canonical_pose
    for text in (caplog.text, path.with_suffix(".md").read_text()):
        assert "s2, s5" in text and "frame" in text


def test_where_no_list_lies_in_its_scan_the_frame_is_named(tmp_path):
    for number in range(7):
        points = write_case(tmp_path / "scans", f"s{number}", number)
        (tmp_path / "scans" / f"s{number}.mrk.json").unlink()
        rows = [(name, *point) for name, point in zip(NAMES, points * (-1, -1, 1))]
        write_table(tmp_path / "scans" / f"s{number}.csv", ("name", "x", "y", "z"), rows)
    with pytest.raises(InputError, match="RAS"):
        plan_folder(tmp_path / "scans", tmp_path / "run")


def test_scans_with_one_picture_are_one_subject(tmp_path):
    write_scans(tmp_path / "scans", 9)
    for file in ("s3.nrrd", "s3.mrk.json"):
        shutil.copyfile(tmp_path / "scans" / file, tmp_path / "scans" / file.replace("s3", "again"))
    path = plan_folder(tmp_path / "scans", tmp_path / "run")
    subset = {name: subset for subset, names in read_configuration(path).split().items() for name in names}
    assert len(subset) == 10 and subset["again"] == subset["s3"]
    report = path.with_suffix(".md").read_text()
    assert "10 scans of 9 subjects" in report and "same picture" in report


def test_a_plan_that_is_kept_is_told_with_what_to_do(tmp_path, capsys):
    write_scans(tmp_path / "scans", 6)
    words = ["train", "--from-folder", str(tmp_path / "scans"), "--output", str(tmp_path / "run"), "--plan-only"]
    assert main([*words, "--steps", "9"]) == 0 and "is kept" not in capsys.readouterr().out
    assert "9 steps a stage, as asked for" in (tmp_path / "run/plan/scans.md").read_text()
    assert main([*words, "--steps", "8"]) == 0 and "is kept" in capsys.readouterr().out


def test_right_is_what_the_finest_stage_can_tell(tmp_path):
    write_pictures(tmp_path / "pictures", size=(30, 32), zoom=30)
    record = read_configuration(plan_folder(tmp_path / "pictures", tmp_path / "run", spacing=(0.1, 0.1))).record
    finest = min(stage.spacing_mm for stage in record.stages)
    assert finest > 0.1 and record.tolerance_mm == pytest.approx(2 * finest, abs=1e-3)


def write_pictures(folder, count=6, size=(60, 64), zoom=1):
    rows = []
    folder.mkdir(parents=True)
    for number in range(count):
        volume, points = blobs(number, (*size, 1))
        picture, points = np.kron(volume.array[..., 0].T, np.ones((zoom, zoom), np.uint8)), points * zoom
        sitk.WriteImage(sitk.GetImageFromArray(picture), str(folder / f"p{number}.png"))
        rows += [(f"p{number}.png", name, *point[:2]) for name, point in zip(NAMES, points)]
    write_table(folder / "points.csv", ("scan", "landmark", "x_px", "y_px"), rows)


def test_pictures_with_points_in_pixels_are_copied_into_the_run(tmp_path):
    write_pictures(tmp_path / "pictures")
    path = plan_folder(tmp_path / "pictures", tmp_path / "run", spacing=(0.5, 0.25))
    configuration = read_configuration(path)
    assert configuration.record.is_2d and configuration.data_folder() == (tmp_path / "run" / "cases").resolve()
    volume, landmarks = read_case(configuration.data_folder(), "p3", configuration.scheme.names)
    assert volume.array.shape == (60, 64, 1)
    np.testing.assert_allclose(landmarks.positions, blobs(3, (60, 64, 1))[1] * (0.5, 0.25, 1), atol=1e-4)
    assert all(stage.network.architecture == "hyatt" for stage in configuration.record.stages)


def test_a_run_in_the_folder_of_its_scans_is_none_of_its_cases(tmp_path, monkeypatch):
    write_pictures(tmp_path / "pictures")
    monkeypatch.chdir(tmp_path / "pictures")
    path = plan_folder(Path("."), Path("run"), spacing=(0.5, 0.5))
    (Path("run") / "search").mkdir()
    write_table(Path("run") / "search" / "curve.csv", ("step", "loss"), [(1, 2)])
    path.unlink()
    assert plan_folder(Path("."), Path("run"), spacing=(0.5, 0.5)) == path


@pytest.mark.parametrize("change", ["point", "landmark", "spacing", "reader"])
def test_copies_of_what_has_changed_since_serve_no_new_plan(tmp_path, change):
    folder, run, columns = tmp_path / "pictures", tmp_path / "run", ("landmark", "x_px", "y_px")
    write_pictures(folder)
    write_table(folder / "readers/senior/p3.csv", columns, [("tip", 30, 30)])
    path = plan_folder(folder, run, spacing=(0.5, 0.5))
    path.unlink()
    assert plan_folder(folder, run, spacing=(0.5, 0.5)) == path  # nothing has changed
    path.unlink()
    text = (folder / "points.csv").read_text(encoding="utf-8")
    if change == "point":
        first = text.splitlines()[1]
        (folder / "points.csv").write_text(text.replace(first, "p0.png,tip,12,13"), encoding="utf-8")
    elif change == "landmark":
        rows = "".join(f"p{number}.png,new,20,21\n" for number in range(6))
        (folder / "points.csv").write_text(text + rows, encoding="utf-8")
    elif change == "reader":
        write_table(folder / "readers/senior/p3.csv", columns, [("tip", 31, 30)])
    spacing = (0.4, 0.4) if change == "spacing" else (0.5, 0.5)
    with pytest.raises(InputError, match="earlier copy.*others now"):
        plan_folder(folder, run, spacing=spacing)
    shutil.rmtree(run / "cases")
    assert plan_folder(folder, run, spacing=spacing) == path


def test_options_that_belong_to_a_folder_are_refused_without_it(tmp_path, capsys):
    assert main(["train", "isbi2015", "--plan-only", "--output", str(tmp_path)]) == 2
    assert "--from-folder" in capsys.readouterr().err
    assert main(["train", "isbi2015", "--from-folder", str(tmp_path), "--output", str(tmp_path)]) == 2


@pytest.mark.parametrize("words", [["--package"], ["--stage", "search"]])
def test_a_plan_alone_has_no_stages_to_train_or_pack(tmp_path, capsys, words):
    write_scans(tmp_path / "scans", 6)
    command = ["train", "--from-folder", str(tmp_path / "scans"), "--output", str(tmp_path / "run"), "--plan-only"]
    assert main([*command, *words]) == 2
    assert words[0] in capsys.readouterr().err and not (tmp_path / "run").exists()


@pytest.mark.slow
def test_one_command_leads_from_a_folder_to_a_package_that_detects(tmp_path, capsys):
    write_pictures(tmp_path / "dots", 8)
    for reader in ("first", "second"):
        (tmp_path / "dots/readers" / reader).mkdir(parents=True)
        shutil.copyfile(tmp_path / "dots/points.csv", tmp_path / "dots/readers" / reader / "points.csv")
    words = ["train", "--from-folder", str(tmp_path / "dots"), "--output", str(tmp_path / "run"), "--spacing", "1"]
    assert main([*words, "--steps", "4"]) == 0
    package = open_package(tmp_path / "run" / "package")
    assert package.id == "dots" and package.scheme.names == NAMES
    said = capsys.readouterr().out
    assert "models install" in said and "never saw" in said and "95 % interval" not in said and "readers" in said
    picture = tmp_path / "dots" / "p1.png"
    found = [
        "detect",
        str(picture),
        "--model",
        str(package.path),
        "--spacing",
        "1",
        "--output",
        str(tmp_path / "found"),
    ]
    assert main(found) == 0
