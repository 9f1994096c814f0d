"""Slicer's older point lists: every header that versions of Slicer and spreadsheet programs have written."""

import numpy as np
import pytest

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.io.fcsv import fcsv_text
from H3DELandmarksLib.io.markups import read_markups, read_region

POINTS = np.array([[1.5, -2.25, 3.0], [10.0, 20.0, -30.5]])
RAS = POINTS * (-1, -1, 1)
COLUMNS = "# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID"


def rows(points, separator=",", decimal=".", end=""):
    lines = []
    for k, point in enumerate(points):
        places = [f"{x:.4f}".replace(".", decimal) for x in point]
        entries = [f"vtkMRMLMarkupsFiducialNode_{k}", *places, *"0001110", "AB"[k], "", "vtkMRMLScalarVolumeNode1"]
        lines.append(separator.join(entries) + end)
    return lines


FORMS = {
    "4.6": ["# Markups fiducial file version = 4.6", "# CoordinateSystem = 0", COLUMNS, *rows(RAS)],
    "4.10": ["# Markups fiducial file version = 4.10", "# CoordinateSystem = 0", COLUMNS, *rows(RAS)],
    "4.11": ["# Markups fiducial file version = 4.11", "# CoordinateSystem = LPS", COLUMNS, *rows(POINTS)],
    "LPS by number": ["# Markups fiducial file version = 4.8", "# CoordinateSystem = 1", COLUMNS, *rows(POINTS)],
    "RAS in words": ["# Markups fiducial file version = 4.11", "# CoordinateSystem = RAS", COLUMNS, *rows(RAS)],
    "5": ["# Markups fiducial file version = 5.6", "# CoordinateSystem = LPS", COLUMNS, *rows(POINTS, end=",2,0")],
    "no system": ["# Markups fiducial file version = 4.4", COLUMNS, *rows(RAS)],
    "empty system": ["# Markups fiducial file version = 4.4", "# CoordinateSystem =", COLUMNS, *rows(RAS)],
    "no columns": ["# Markups fiducial file version = 4.4", "# CoordinateSystem = 0", *rows(RAS)],
    "no header": rows(RAS),
    "comments between": [COLUMNS, rows(RAS)[0], "# a remark", "", "; another one", rows(RAS)[1], "  "],
    "no blanks": ["#CoordinateSystem=LPS", COLUMNS.replace(" ", ""), *rows(POINTS)],
    "Slicer 3": [
        "# Fiducial List file /tmp/list.fcsv",
        "# version = 2",
        "# name = list",
        "# numPoints = 2",
        "# columns = label,x,y,z,sel,vis",
        *(f"{'AB'[k]},{','.join(map(str, point))},1,1" for k, point in enumerate(RAS)),
    ],
    "Slicer 3 without header": [f"{'AB'[k]},{','.join(map(str, point))},1,1" for k, point in enumerate(RAS)],
    "semicolons": ["# CoordinateSystem = LPS;;;", COLUMNS.replace(",", ";"), *rows(POINTS, ";")],
    "semicolons and decimal commas": [
        "# CoordinateSystem = LPS;;;;",
        COLUMNS.replace(",", ";"),
        *rows(POINTS, ";", ","),
    ],
    "quoted by a spreadsheet": ['"# CoordinateSystem = LPS",,,', f'"{COLUMNS}"', *rows(POINTS)],
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_every_header_is_read(tmp_path, form, newline, mark):
    path = tmp_path / "p.FCSV"
    path.write_bytes((mark + newline.join(FORMS[form]) + newline).encode())
    landmarks = read_markups(path)
    assert landmarks.names == ("A", "B")
    np.testing.assert_allclose(landmarks.positions, POINTS, atol=1e-12)
    np.testing.assert_array_equal(landmarks.presence, [1, 1])


def test_the_status_of_slicer_5_says_what_is_absent(tmp_path):
    lines = [COLUMNS, *(f"{k},1,2,3,0,0,0,1,1,1,0,L{k},,,{k},0" for k in range(4))]
    (tmp_path / "p.fcsv").write_text("\n".join(lines))
    landmarks = read_markups(tmp_path / "p.fcsv")
    np.testing.assert_array_equal(landmarks.presence, [np.nan, 1, 1, 0])
    np.testing.assert_array_equal(landmarks.positions[1:3], [[-1, -2, 3]] * 2)


def test_labels_are_matched_as_in_other_point_lists(tmp_path, caplog):
    (tmp_path / "p.fcsv").write_text("\n".join(FORMS["4.6"]))
    assert read_markups(tmp_path / "p.fcsv", ("b", "a")).names == ("a", "b")
    assert "'A'" in caplog.text


@pytest.mark.parametrize("is_ras", [False, True])
def test_what_is_written_comes_back(tmp_path, is_ras):
    landmarks = LandmarkSet(
        ("a,b", 'say "c"', "é", "d"),
        [[1 / 3, -2e-7, 1e5 / 7], [np.nan] * 3, [np.nan] * 3, [0.0, 0.0, 0.0]],
        presence=[1, 0, np.nan, 1],
        definitions=("one, two", "", "tief", ""),
    )
    (tmp_path / "p.fcsv").write_text(fcsv_text(landmarks, is_ras), encoding="utf-8")
    again = read_markups(tmp_path / "p.fcsv")
    assert (again.names, again.definitions) == (landmarks.names, landmarks.definitions)
    np.testing.assert_array_equal(again.positions, landmarks.positions)
    np.testing.assert_array_equal(again.presence, landmarks.presence)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "no points"),
        (COLUMNS.encode(), "no points"),
        (b"\xff\xfe\x00", "no text in UTF-8"),
        ("a,1,2,3,0,0,0,1,1,1,0,L,Zahnlücke,\n".encode("cp1252"), "no text in UTF-8"),
        (b"id_1,1,two,3\n", "complete"),
        (b"id_1,1_0,2,3\n", "complete"),
        (b"id_1,1,2\n", "complete"),
        (b'a,1,2,"3\n', "complete"),
        (b"a,1,2,3,0,0,0,1,1,1,0,L,,,7,0\n", "complete"),
        (b"a,nan,2,3\n", "finite position for 'a'"),
        (b"a,1e400,2,3\n", "finite position for 'a'"),
        (b"a," + b"9" * 400 + b",2,3\n", "finite position for 'a'"),
        (b"a,1,2,3\na,1,2,3\n", "more than once"),
        (b",1,2,3\n", "without a label"),
        (b"# CoordinateSystem = IJK\na,1,2,3\n", "IJK"),
        (b"# CoordinateSystem = 2\na,1,2,3\n", "coordinate system"),
        (b"a,1,2," + b"x" * 200_000 + b"\n", "complete"),
        (b"x\0y,1,2,z\n", "complete"),
    ],
)
def test_what_is_no_point_list_is_refused_in_a_sentence(tmp_path, content, word):
    (tmp_path / "p.fcsv").write_bytes(content)
    with pytest.raises(InputError, match=word) as told:
        read_markups(tmp_path / "p.fcsv")
    assert "p.fcsv" in str(told.value) and "\n" not in str(told.value)


def test_a_region_is_no_fcsv(tmp_path):
    (tmp_path / "p.fcsv").write_text("\n".join(FORMS["4.6"]))
    with pytest.raises(InputError, match="mrk.json"):
        read_region(tmp_path / "p.fcsv")
