"""What a page says of a cohort, without a browser."""

import json
import os
import re
import unicodedata
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from cohorts import HOSTILE, MODEL, REASON, write_cohort, write_result
from flat_cases import radiograph
from sample_cases import NAMES, points_of, scan_of

pytest.importorskip("matplotlib", reason="reports need matplotlib")
pytest.importorskip("jinja2", reason="reports need Jinja2")

from H3DELandmarksLib.cli.main import main  # noqa: E402
from H3DELandmarksLib.core.geometry import Volume  # noqa: E402
from H3DELandmarksLib.core.landmarks import LandmarkSet  # noqa: E402
from H3DELandmarksLib.formats.export import sha256_of  # noqa: E402
from H3DELandmarksLib.io.images import write_volume  # noqa: E402
from H3DELandmarksLib.io.markups import read_markups, write_markups  # noqa: E402
from H3DELandmarksResearch.report import plots  # noqa: E402
from H3DELandmarksResearch.report.cohort import read_cohort  # noqa: E402
from H3DELandmarksResearch.report.cohort_sections import cohort_page  # noqa: E402
from H3DELandmarksResearch.report.page import Table  # noqa: E402
from H3DELandmarksResearch.report.thumbnails import points_alone, thumbnail, thumbnail_of_case  # noqa: E402


class Reader(HTMLParser):
    """The elements of a page, and the data of its cards."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.texts = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def data(self):
        return json.loads(next(t for t in self.texts if t.startswith('{"byPerson"')))


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """A cohort of 8 scans, of which one is not recognised, with two failures, and its page."""
    root = tmp_path_factory.mktemp("cohort")
    folder = write_cohort(root / "results", 8, root / "scans")
    assert main(["report", str(folder), "--output", str(root / "report.html"), "--json"]) == 0
    return folder, (root / "report.html").read_text(encoding="utf-8")


def test_the_page_needs_nothing_from_outside_and_runs_only_its_own_script(reported):
    page = Reader(reported[1])
    for tag, attributes in page.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base")
        assert "src" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
        if tag == "a":
            assert attributes["href"].startswith("#")
    scripts = [attributes for tag, attributes in page.elements if tag == "script"]
    assert scripts == [{"type": "application/json", "id": "data"}, {}]
    policy = next(a["content"] for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy and "'sha256-" in policy and "unsafe-inline' script" not in policy
    assert not re.search(r"https?://(?!www\.w3\.org/)", reported[1])


def test_hostile_names_stay_text(reported):
    page = Reader(reported[1])
    assert not [tag for tag, _ in page.elements if tag == "img"]
    assert page.data["cases"][1]["subject"] == HOSTILE
    assert [t for t in page.texts if REASON in t] and page.data["cases"][-1]["reason"] == REASON


def test_every_scan_is_a_card_with_what_its_files_say(reported):
    folder, page = reported[0], Reader(reported[1]).data
    assert len(page["cases"]) == 10 and page["names"] == list(NAMES) and page["models"] == ["head@1.0.0"]
    states = [page["caseStates"][case["state"]] for case in page["cases"]]
    assert states[0] == "not recognised" and states[-2:] == ["failed"] * 2 and page["cases"][0]["doubt"] == 1
    case = page["cases"][3]
    written = read_markups(folder / "head_0003.mrk.json")
    for point in case["points"]:
        name, state, doubt, confidence, radius, presence, place, marks = point
        if page["states"][state] == "found":
            np.testing.assert_allclose(place, written.positions[name], atol=0.01)
            assert doubt == pytest.approx(1 - confidence, abs=2e-3) and radius > 0 and len(marks) == 6
        else:
            assert place is None and marks is None and doubt == pytest.approx(presence)
    assert case["doubt"] == max(p[2] for p in case["points"])
    assert dict(case["links"])["Point list"] == "results/head_0003.mrk.json"


def test_points_lie_on_their_bone_in_the_picture():
    from io import BytesIO

    from PIL import Image

    for turn in (np.eye(3), np.diag([-1, -1, 1]), np.eye(3)[:, [2, 0, 1]]):
        scan, points = scan_of(3), points_of(3)
        affine = scan.affine.copy()
        affine[:3, :3] = turn @ affine[:3, :3]
        picture = thumbnail(Volume(scan.array, affine), LandmarkSet(NAMES, points @ turn.T))
        pixels = np.asarray(Image.open(BytesIO(picture.image)).convert("L"))
        assert pixels.shape == (picture.height, picture.width) and len(picture.image) < 12_000
        for x, y in picture.marks.reshape(-1, 2):
            assert pixels[int(y), int(x)] > 200
        assert [view[4] for view in picture.views] == ["RLAP", "RLSI", "APSI"]


def test_large_scans_are_made_coarse_without_moving_anything():
    array = np.zeros((450, 430, 201), np.int16)
    array[300:304, 100:104, 50:53] = 1000
    array[20:430, 20:400, 20:180] += 100
    scan = Volume(array, np.diag([0.5, 0.5, 1.0, 1.0]))
    spot = LandmarkSet(("A",), [[150.75, 50.75, 51]])
    picture = thumbnail(scan, spot)
    from io import BytesIO

    from PIL import Image

    pixels = np.asarray(Image.open(BytesIO(picture.image)).convert("L")).astype(int)
    for x, y in picture.marks.reshape(-1, 2):
        near = pixels[int(y) - 1 : int(y) + 2, int(x) - 1 : int(x) + 2]
        assert near.max() > 150


def test_radiographs_are_one_picture_without_sides():
    scan, points = radiograph(1, width=3.0)
    picture = thumbnail(scan, points)
    assert len(picture.views) == 1 and picture.views[0][4] == "" and picture.marks.shape == (len(points), 2)


def test_a_scan_that_has_changed_is_not_shown_below_the_points_of_another(tmp_path):
    folder = write_cohort(tmp_path / "results", 3, tmp_path / "scans", failed=0, strange=0)
    case = read_cohort(folder)[1]
    assert thumbnail_of_case(case).image is not None
    other = tmp_path / "scans" / "head_0002.nrrd"
    (tmp_path / "scans" / "head_0001.nrrd").write_bytes(other.read_bytes())
    assert thumbnail_of_case(case).image is None
    moved = replace(case, scan=tmp_path / "nowhere" / "head_0001.nrrd")
    assert thumbnail_of_case(moved, [tmp_path / "scans"]).image is None
    assert thumbnail_of_case(replace(moved, voxels_sha256=None), [tmp_path / "scans"]).image is not None


def test_results_without_a_log_are_reported_and_a_kept_document_tells_the_failures(tmp_path):
    scan = scan_of(0)
    write_result(tmp_path, "a", LandmarkSet(NAMES, points_of(0), confidence=np.full(10, 0.9)), scan, "a.nrrd")
    cases = read_cohort(tmp_path)
    assert [(case.name, case.model, case.state) for case in cases] == [("a", "head@1.0.0", "found")]
    document = {
        "format": "h3delandmarks-detection",
        "model": {"id": "head", "version": "1.0.0"},
        "scans": [
            {
                "scan": "a.nrrd",
                "ok": True,
                "markups": "elsewhere/a.mrk.json",
                "provenance": "elsewhere/a.provenance.json",
            },
            {"scan": "b.nrrd", "ok": False, "error": "It is damaged."},
        ],
    }
    (tmp_path / "run.json").write_text(json.dumps(document))
    cases = read_cohort(tmp_path)
    assert [(case.state, case.reason) for case in cases] == [("found", ""), ("failed", "It is damaged.")]


def document_of(*scans, **more):
    """A document of ``detect --json``; each scan is a path and the name of its results, or None where it failed."""
    entries = [
        {"scan": path, "ok": True, "markups": f"out/{name}.mrk.json", "provenance": f"out/{name}.provenance.json"}
        if name
        else {"scan": path, "ok": False, "error": "It is damaged."}
        for path, name in scans
    ]
    model = {"id": "head", "version": "1.0.0"}
    return {"format": "h3delandmarks-detection", "model": model, "scans": entries, **more}


def test_of_several_documents_the_newest_tells_of_each_scan(tmp_path):
    for name in ("a", "x"):
        write_result(tmp_path, name, LandmarkSet(NAMES, points_of(0)), None, f"{name}.nrrd")
    first, second = document_of(("a.nrrd", "a"), ("x.nrrd", None)), document_of(("a.nrrd", "a"), ("x.nrrd", "x"))
    for number, (name, document) in enumerate((("z_first.json", first), ("b_second.json", second))):
        (tmp_path / name).write_text(json.dumps(document), encoding="utf-8")
        os.utime(tmp_path / name, (1e9 + number, 1e9 + number))
    assert [(case.name, case.state) for case in read_cohort(tmp_path)] == [("a.nrrd", "found"), ("x.nrrd", "found")]
    os.utime(tmp_path / "z_first.json", (2e9, 2e9))  # x failed after it had been found, as after other results
    assert [(case.name, case.state) for case in read_cohort(tmp_path)] == [("a.nrrd", "found"), ("x.nrrd", "failed")]


def test_of_several_documents_two_models_of_one_scan_count_twice(tmp_path):
    for name in ("a", "a_again"):
        write_result(tmp_path, name, LandmarkSet(NAMES, points_of(0)), None, "a.nrrd")
    other = {"id": "other", "version": "1.0.0"}
    for name, document in (("1", document_of(("a.nrrd", "a"))), ("2", document_of(("a.nrrd", "a_again"), model=other))):
        (tmp_path / f"{name}.json").write_text(json.dumps(document), encoding="utf-8")
    assert [case.model for case in read_cohort(tmp_path)] == ["head@1.0.0", "other@1.0.0"]


@pytest.mark.parametrize("coding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
def test_a_kept_document_is_read_in_the_coding_of_the_shell_that_kept_it(tmp_path, coding):
    write_result(tmp_path, "a", LandmarkSet(NAMES, points_of(0)), None, "a.nrrd")
    mark = "\ufeff" if coding == "utf-16-be" else ""
    text = mark + json.dumps(document_of(("a.nrrd", "a"), ("b.nrrd", None)))
    (tmp_path / "run.json").write_bytes(text.encode(coding))
    assert [case.state for case in read_cohort(tmp_path)] == ["found", "failed"]


@pytest.mark.parametrize("strange", ["\u2028", "\u0085", "\x0c", "\x1c"])
def test_a_line_of_the_log_ends_at_its_line_feed_alone(tmp_path, strange):
    folder = write_cohort(tmp_path / "results", 2, failed=1, strange=0)
    entry = {"scan": f"/of{strange}two.nrrd", "name": "two", "status": "failed", "reason": "Damaged.", "seconds": 1}
    with (folder / "cohort.jsonl").open("ab") as log:
        log.write(json.dumps(entry, ensure_ascii=False).encode() + b"\r\n")
    assert "two" in [case.name for case in read_cohort(folder)]


def test_a_table_of_measurements_that_cannot_be_read_is_told(tmp_path, capsys):
    folder = write_cohort(tmp_path / "results", 3, failed=0, strange=0)
    head = "case,measurement,value,unit,title"
    (folder / "head_0000.measured.csv").write_bytes(f"{head}\na,m,80,\xb0,Gr\xf6\xdfe\n".encode("cp1252"))
    (folder / "head_0001.measured.csv").write_bytes(f"{head}\na,m,80,degrees,Size\n".encode("utf-8-sig"))
    text = f"{head}\na,m,80,degrees,Size\n".replace(",", ";")
    (folder / "head_0002.measured.csv").write_text(text, encoding="utf-8")
    target = tmp_path / "page.html"
    assert main(["report", str(folder), "--output", str(target), "--points-only"]) == 0
    assert "head_0000.measured.csv" in capsys.readouterr().err
    first, *others = read_cohort(folder)
    assert first.landmarks is not None and first.measurements == ()
    assert [[(m.name, m.value) for m in case.measurements] for case in others] == [[("m", 80.0)]] * 2


@pytest.mark.parametrize("scans", [5, ["a"], [{"scan": "a", "markups": 5}], [{"scan": "a", "model": "head"}]])
def test_documents_and_lines_that_somebody_has_spoilt_are_left_out(tmp_path, scans):
    write_result(tmp_path, "a", LandmarkSet(NAMES, points_of(0)))
    (tmp_path / "kept.json").write_text(json.dumps(document_of() | {"scans": scans}), encoding="utf-8")
    assert [case.name for case in read_cohort(tmp_path)] == ["a"]
    (tmp_path / "cohort.jsonl").write_text('{"scan": "b", "outputs": ["c"]}\n', encoding="utf-8")
    assert [case.name for case in read_cohort(tmp_path)] == ["a"]


def test_point_lists_alone_are_reported(tmp_path):
    for k in range(4):
        write_markups(tmp_path / f"s{k}.mrk.json", LandmarkSet(NAMES, points_of(k)))
    write_volume(tmp_path / "s2.nrrd", scan_of(2))
    cases = read_cohort(tmp_path)
    assert [thumbnail_of_case(case).image is not None for case in cases] == [False, False, True, False]
    assert [case.doubt for case in cases] == [None] * 4 and {s for c in cases for s in c.states} == {"found"}
    target = tmp_path / "page.html"
    assert main(["report", str(tmp_path), "--output", str(target)]) == 0
    assert "Generalized Procrustes analysis of 4 subjects and 10 landmarks" in target.read_text(encoding="utf-8")


def test_what_a_person_has_changed_is_no_longer_in_doubt(tmp_path):
    found = LandmarkSet(NAMES, points_of(0), [1] * 9 + [0.3], np.full(10, 0.2))
    write_result(tmp_path, "a", found, scan_of(0))
    changed = points_of(0)
    changed[0] += 3
    presence = [1, 0, 1, np.nan, *[1] * 6]
    write_markups(tmp_path / "a.mrk.json", LandmarkSet(NAMES, changed, presence, np.full(10, 0.2)))
    (case,) = read_cohort(tmp_path)
    assert case.states[:4] == ("moved", "absent, by a person", "found", "not examined") and case.states[9] == "placed"
    np.testing.assert_allclose(case.doubts[[0, 1, 2, 9]], [0, 0, 0.8, 0])
    np.testing.assert_array_equal(
        case.landmarks.confidence[:3], [np.nan, np.nan, 0.2]
    )  # the model's, of its own points


def test_what_was_measured_before_points_were_moved_is_left_out_and_told(tmp_path):
    folder = write_cohort(tmp_path / "results", 4, failed=0, strange=0)
    for k in range(3):
        (folder / f"head_000{k}.measured.csv").write_text(f"case,measurement,value,unit\na,SNA,{80 + k},degrees\n")
    for k, step in ((0, 3.0), (1, 1e-5)):
        points = read_markups(folder / f"head_000{k}.mrk.json")
        write_markups(folder / f"head_000{k}.mrk.json", points.with_positions(points.positions + step))
    cases = read_cohort(folder)
    assert [[m.value for m in case.measurements] for case in cases] == [[], [81], [82], []]
    assert [case.is_measured_before for case in cases] == [True, False, False, False]
    target = tmp_path / "page.html"
    assert main(["report", str(folder), "--output", str(target), "--points-only"]) == 0
    assert "Left out, as points were moved after they were measured: head_0000." in target.read_text(encoding="utf-8")


def test_the_last_line_of_a_scan_holds_and_cut_lines_and_ways_out_are_ignored(tmp_path):
    folder = write_cohort(tmp_path / "results", 3, failed=1, strange=0)
    log = folder / "cohort.jsonl"
    again = {"scan": "/bad_0.nrrd", "name": "bad_0", "status": "failed", "reason": "Still damaged.", "seconds": 1}
    out = {"scan": "/x.nrrd", "name": "x", "model": MODEL, "outputs": {"markups": "../../x.mrk.json"}, "seconds": 1}
    log.write_text(log.read_text() + json.dumps(again) + "\n" + json.dumps(out) + '\n{"scan": "/half')
    cases = read_cohort(folder)
    assert [case.name for case in cases] == ["head_0000", "head_0001", "head_0002", "bad_0", "x"]
    assert cases[3].reason == "Still damaged." and "missing" in cases[4].reason


def test_what_another_detection_has_replaced_is_not_told_of_the_scan_before(tmp_path):
    folder = write_cohort(tmp_path / "results", 3, failed=0, strange=0)
    log = folder / "cohort.jsonl"
    entries = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    for entry, digest in zip(entries, ("0" * 64, sha256_of(folder / entries[1]["outputs"]["provenance"]))):
        entry["scan"], entry["outputs"]["provenance_sha256"] = "/moved/" + entry["name"], digest
    log.write_text("\n".join(map(json.dumps, entries)) + "\n", encoding="utf-8")
    cases = {case.name: str(case.scan) for case in read_cohort(folder)}
    assert len(cases) == 3 and cases["head_0001"] == str(Path("/moved/head_0001"))
    assert cases["head_0000"] != str(Path("/moved/head_0000"))


def test_a_damaged_result_is_a_failure_with_its_reason(tmp_path):
    folder = write_cohort(tmp_path / "results", 3, failed=0, strange=0)
    (folder / "head_0001.provenance.json").write_text("{")
    (folder / "head_0002.mrk.json").write_text("no")
    cases = read_cohort(folder)
    assert [case.state for case in cases][1:] == ["failed", "failed"]
    assert "provenance.json" in cases[1].reason and "head_0002" in cases[2].reason


def test_measurements_are_shown_where_results_hold_any(tmp_path):
    folder = write_cohort(tmp_path / "results", 4, failed=0, strange=0)
    for k in range(4):
        head = "case,measurement,value,unit,low90,high90,within_norm,norm_mean,norm_sd,title"
        rows = f"{head}\na,<SNA>,{80 + k},degrees,78,86,{str(k < 3).lower()},82,2,Angle\n"
        rows += f"a,SNB,{70 + k},degrees,,,,,,Angle\n"
        (folder / f"head_000{k}.measured.csv").write_text(rows)
    case = read_cohort(folder)[3]
    assert (case.measurements[0].value, case.measurements[0].is_usual) == (83, False)
    target = tmp_path / "page.html"
    assert main(["report", str(folder), "--output", str(target), "--points-only"]) == 0
    page = Reader(target.read_text(encoding="utf-8"))
    assert page.data["cases"][3]["measurements"] == [
        ["<SNA>", "83.00 degrees", "78.00 to 86.00", "82 \N{PLUS-MINUS SIGN} 2", "outside the usual"],
        ["SNB", "73.00 degrees", "", "", ""],
    ]
    (row, other) = (text for text in page.texts if text in ("81.50", "71.50"))
    assert (row, other) == ("81.50", "71.50")
    assert ("section", {"id": "measurements"}) in page.elements


def test_pixels_and_millimeters_are_never_averaged(tmp_path):
    points = [LandmarkSet(NAMES, points_of(k), radius=np.full(10, 2.0)) for k in range(4)]
    for k, found in enumerate(points):
        scan = Volume(np.zeros((40, 50, 1), np.uint8), np.diag([*([1.0 + k // 2] * 2), 1, 1]))
        write_result(tmp_path, f"s{k}", found, scan)
        unit = ("px", "mm")[k // 2]
        (tmp_path / f"s{k}.measured.csv").write_text(f"case,measurement,value,unit\na,width,{10 + k},{unit}\n")
    target = tmp_path / "page.html"
    cases = read_cohort(tmp_path)
    assert [case.unit for case in cases] == ["px", "px", "mm", "mm"]
    page = cohort_page("t", "f", cases, [None] * 4, target)
    tables = {block.caption: block for part in page.sections for block in part.blocks if isinstance(block, Table)}
    measured = [[cell.text for cell in row[:4]] for row in tables["Every measurement over all scans"].rows]
    assert measured == [["width", "px", "2", "10.50"], ["width", "mm", "2", "12.50"]]
    assert {row[6].text for row in tables["Every landmark over all scans"].rows} == {"\N{EN DASH}"}
    assert {row[5].text for row in tables["Mean shape: centroid size 1"].rows} == {"\N{EN DASH}"}


def test_landmarks_of_one_name_from_two_models_are_told_apart(tmp_path):
    folder = write_cohort(tmp_path / "results", 8, failed=0, strange=0)
    for k in range(4):
        path = folder / f"head_000{k}.measured.csv"
        path.write_text(f"case,measurement,value,unit\na,width,{10 + k // 2},mm\n", encoding="utf-8")
    lines = [json.loads(line) for line in (folder / "cohort.jsonl").read_text(encoding="utf-8").splitlines()]
    for line in lines[::2]:
        line["model"] = {**line["model"], "version": "2.0.0"}
    (folder / "cohort.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")
    page = cohort_page("t", "f", read_cohort(folder), [None] * 8, tmp_path / "page.html")
    tables = [block for part in page.sections for block in part.blocks if isinstance(block, Table)]
    landmarks, measured = (
        next(t.rows for t in tables if t.caption == f"Every {what} over all scans")
        for what in ("landmark", "measurement")
    )
    models = ("head@2.0.0", "head@1.0.0")
    assert [row[0].text for row in landmarks] == [f"{name} ({model})" for model in models for name in NAMES]
    assert [(row[0].text, row[2].text) for row in measured] == [(f"width ({model})", "2") for model in models]
    shapes = [part for part in page.sections if part.title.startswith("Shapes")]
    assert [part.title for part in shapes] == [f"Shapes of {model}" for model in models]
    assert "4 subjects and 10 landmarks" in shapes[0].blocks[0]
    assert len({part.id for part in page.sections}) == len(page.sections)


def test_points_alone_need_points():
    assert points_alone(LandmarkSet(("A",), [[np.nan] * 3], [0.0])) is None
    one = points_alone(LandmarkSet(("A", "B"), [[1, 2, 3], [np.nan] * 3], [1, 0]))
    assert np.isfinite(one.marks[0]).all() and np.isnan(one.marks[1]).all()


def test_a_page_on_another_drive_links_the_whole_path(tmp_path, monkeypatch):
    folder = write_cohort(tmp_path / "results", 3, failed=0, strange=0)

    def other_drive(path, start):
        raise ValueError(f"path is on mount 'C:', start on mount 'D:': {path}, {start}")

    monkeypatch.setattr(os.path, "relpath", other_drive)
    cases = read_cohort(folder)
    (links, *_) = [
        card["links"] for card in cohort_page("t", "f", cases, [None] * 3, tmp_path / "p.html").cards["cases"]
    ]
    assert dict(links)["Point list"] == (folder / "head_0000.mrk.json").resolve().as_uri()


def test_labels_that_differ_in_case_or_the_form_of_accents_are_one_landmark(tmp_path, capsys):
    accent, elsewhere = (unicodedata.normalize(form, "\u00c9pine") for form in ("NFC", "NFD"))
    for number, names in enumerate([(accent, "Na"), (elsewhere, "na "), (accent, "Na")]):
        write_markups(tmp_path / f"{number}.mrk.json", LandmarkSet(names, np.eye(3)[:2] * 9, np.ones(2)))
    assert {case.landmarks.names for case in read_cohort(tmp_path)} == {(accent, "Na")}


def test_equal_values_have_an_axis_that_can_be_read():
    svg = plots.histograms("same", [("landmarks found, %", np.full(5, 100.0))], "").svg
    assert ">100<" in svg and "1e2" not in svg


def test_names_are_found_as_they_are_written(tmp_path):
    (tmp_path / "results").mkdir()
    write_result(tmp_path / "results", "Gro\u00dfe", LandmarkSet(NAMES, points_of(0)))
    (case,) = cohort_page("t", "f", read_cohort(tmp_path / "results"), [None], tmp_path / "p.html").cards["cases"]
    assert "gro\u00dfe" in case["search"]


def test_lists_without_points_give_a_page(tmp_path):
    write_markups(tmp_path / "a.mrk.json", LandmarkSet((), np.empty((0, 3))))
    target = tmp_path / "page.html"
    assert main(["report", str(tmp_path), "--output", str(target)]) == 0
    assert "No shapes are compared." in target.read_text(encoding="utf-8")


@pytest.mark.parametrize("made", [False, True])
def test_a_folder_without_results_is_refused(made, tmp_path, capsys):
    if made:
        (tmp_path / "empty").mkdir()
    assert main(["report", str(tmp_path / "empty"), "--output", str(tmp_path / "page.html")]) == 2
    assert "folder" in capsys.readouterr().err and not (tmp_path / "page.html").exists()


def test_where_the_scans_are_is_not_asked_of_points_alone(tmp_path, capsys):
    folder = write_cohort(tmp_path / "results", 3, failed=0)
    words = ["report", str(folder), "--output", str(tmp_path / "page.html"), "--points-only", "--scans", str(tmp_path)]
    assert main(words) == 2 and "--scans" in capsys.readouterr().err and not (tmp_path / "page.html").exists()


def test_a_page_that_is_there_is_kept_without_overwrite(tmp_path, capsys):
    folder = write_cohort(tmp_path / "results", 3, failed=0)
    (tmp_path / "page.html").write_text("mine")
    assert main(["report", str(folder), "--output", str(tmp_path / "page.html")]) == 2
    assert (tmp_path / "page.html").read_text() == "mine" and "--overwrite" in capsys.readouterr().err
