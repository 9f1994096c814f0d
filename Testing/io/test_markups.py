"""Point lists on disk: the form that Slicer writes, in both directions, and what is refused."""

import json
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.core.region import Region
from H3DELandmarksLib.io.markups import point_lists_in, read_markups, read_region, write_markups, write_region

NAN = np.nan

FROM_SLICER = """{
 "@schema": "https://raw.githubusercontent.com/slicer/slicer/master/Modules/.../markups-schema-v1.0.4.json#",
 "markups": [{
  "type": "Fiducial", "coordinateSystem": "LPS", "coordinateUnits": "mm", "locked": false, "labelFormat": "%N-%d",
  "lastUsedControlPointNumber": 3,
  "controlPoints": [
   {"id": "1", "label": "A", "description": "tip", "associatedNodeID": "", "position": [-1.1, -2.2, 3.3],
    "orientation": [-1.0, -0.0, -0.0, -0.0, -1.0, -0.0, 0.0, 0.0, 1.0], "selected": true, "locked": false,
    "visibility": true, "positionStatus": "defined"},
   {"id": "2", "label": "B", "description": "", "associatedNodeID": "", "position": "", "selected": true,
    "locked": false, "visibility": true, "positionStatus": "missing"},
   {"id": "3", "label": "C", "description": "", "associatedNodeID": "", "position": "", "selected": true,
    "locked": false, "visibility": true, "positionStatus": "undefined"}],
  "measurements": [
   {"name": "presence", "enabled": true, "printFormat": "%5.3f %s", "controlPointValues": [0.9, 0.2, NaN]},
   {"name": "radius90", "enabled": true, "units": "mm", "printFormat": "%5.3f %s",
    "controlPointValues": [1.5, NaN, -1.0]}],
  "display": {"visibility": true, "opacity": 1.0}
 }]
}"""


def three_landmarks() -> LandmarkSet:
    """One present, one absent, one unknown."""
    return LandmarkSet(
        ("nasion", "molar", "é"),
        [[1 / 3, -2e-7, 1e5 / 7], [NAN] * 3, [NAN] * 3],
        presence=[0.97, 0.1, NAN],
        confidence=[0.8, NAN, NAN],
        radius=[1.25, 3.5, NAN],
        definitions=("where the bones meet", "", "größte Tiefe"),
    )


def edited(path, change) -> None:
    """Apply a change to the only markup of a file."""
    data = json.loads(path.read_text(encoding="utf-8"))
    change(data["markups"][0])
    path.write_text(json.dumps(data), encoding="utf-8")


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "points é.mrk.json"
    write_markups(path, three_landmarks())
    return path


def assert_equal(one: LandmarkSet, other: LandmarkSet) -> None:
    assert one.names == other.names and one.definitions == other.definitions
    for name in ("positions", "presence", "confidence", "radius"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


def test_a_set_survives_the_file_bit_by_bit(written):
    assert_equal(read_markups(written), three_landmarks())


def test_a_file_in_ras_has_the_same_places(tmp_path):
    path = tmp_path / "ras.mrk.json"
    write_markups(path, three_landmarks(), is_ras=True)
    assert_equal(read_markups(path), three_landmarks())
    x, y, z = json.loads(path.read_text(encoding="utf-8"))["markups"][0]["controlPoints"][0]["position"]
    np.testing.assert_array_equal((-x, -y, z), three_landmarks().positions[0])


def test_probabilities_above_one_are_none_and_radii_may_be_long(written):
    def change(markup):
        for measurement in markup["measurements"]:
            measurement["controlPointValues"][0] = 40.0

    edited(written, change)
    read = read_markups(written)
    assert read.presence[0] == 1 and np.isnan(read.confidence[0]) and read.radius[0] == 40


@given(st.lists(st.tuples(*[st.floats(allow_nan=False, allow_infinity=False)] * 3), max_size=4))
def test_every_position_survives(tmp_path_factory, positions):
    path = tmp_path_factory.getbasetemp() / "any.mrk.json"
    landmarks = LandmarkSet(tuple(f"L{k}" for k in range(len(positions))), np.reshape(positions, (-1, 3)))
    write_markups(path, landmarks)
    assert_equal(read_markups(path), landmarks)


def test_the_file_is_strict_json_of_slicers_schema(written):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    data = json.loads(written.read_text(encoding="utf-8"), parse_constant=refuse)
    assert data["@schema"].endswith("Markups/Resources/Schema/markups-schema-v1.0.3.json#")
    markup = data["markups"][0]
    assert (markup["type"], markup["coordinateSystem"], markup["coordinateUnits"]) == ("Fiducial", "LPS", "mm")
    assert [point["positionStatus"] for point in markup["controlPoints"]] == ["defined", "missing", "undefined"]
    assert [point["position"] for point in markup["controlPoints"][1:]] == ["", ""]
    assert not any(point["locked"] for point in markup["controlPoints"])


def test_values_that_nobody_stated_are_minus_one(written):
    markup = json.loads(written.read_text(encoding="utf-8"))["markups"][0]
    values = {m["name"]: (m.get("units"), m["controlPointValues"]) for m in markup["measurements"]}
    assert values == {
        "presence": (None, [0.97, 0.1, -1]),
        "confidence": (None, [0.8, -1, -1]),
        "radius90": ("mm", [1.25, 3.5, -1]),
    }


def test_a_measurement_that_states_nothing_is_left_out(tmp_path):
    write_markups(tmp_path / "p.mrk.json", LandmarkSet(("a",), [[1, 2, 3]]))
    markup = json.loads((tmp_path / "p.mrk.json").read_text())["markups"][0]
    assert [m["name"] for m in markup["measurements"]] == ["presence"]


def test_a_file_saved_by_slicer_is_read(tmp_path):
    (tmp_path / "p.mrk.json").write_text(FROM_SLICER)
    expected = LandmarkSet(
        ("A", "B", "C"),
        [[-1.1, -2.2, 3.3], [NAN] * 3, [NAN] * 3],
        presence=[0.9, 0.2, NAN],
        radius=[1.5, NAN, NAN],
        definitions=("tip", "", ""),
    )
    assert_equal(read_markups(tmp_path / "p.mrk.json"), expected)


@pytest.mark.parametrize("system", ["RAS", 0, "0"])
def test_ras_files_are_turned_into_lps(written, system):
    edited(written, lambda markup: markup.update(coordinateSystem=system))
    np.testing.assert_array_equal(read_markups(written).positions[0], three_landmarks().positions[0] * (-1, -1, 1))


@pytest.mark.parametrize("system", [1, "1", "lps"])
def test_old_codes_of_lps_are_known(written, system):
    edited(written, lambda markup: markup.update(coordinateSystem=system))
    assert_equal(read_markups(written), three_landmarks())


def test_units_may_be_a_code_of_a_scheme(written):
    edited(written, lambda markup: markup.update(coordinateUnits=["mm", "UCUM", "millimeter"]))
    assert read_markups(written).names


def test_without_a_coordinate_system_positions_are_lps(written):
    edited(written, lambda markup: markup.pop("coordinateSystem"))
    assert_equal(read_markups(written), three_landmarks())


def test_unknown_fields_and_a_byte_order_mark_do_not_matter(written):
    edited(written, lambda markup: markup.update(future={"a": 1}))
    written.write_bytes(b"\xef\xbb\xbf" + written.read_bytes())
    assert_equal(read_markups(written), three_landmarks())


def test_the_status_of_a_point_outweighs_a_stale_presence(written):
    def place_molar_and_delete_nasion(markup):
        nasion, molar, _ = markup["controlPoints"]
        molar.update(position=[1, 2, 3], positionStatus="defined")
        nasion.update(position="", positionStatus="missing")

    edited(written, place_molar_and_delete_nasion)
    np.testing.assert_array_equal(read_markups(written).presence, [0, 1, NAN])


def test_values_for_another_number_of_points_are_ignored(written, caplog):
    edited(written, lambda markup: markup["controlPoints"].pop())
    read = read_markups(written)
    np.testing.assert_array_equal(read.presence, [1, 0])
    assert np.isnan(read.radius).all()
    assert "does not fit the points any more" in caplog.text


def test_previews_with_a_position_count_with_a_note(written, caplog):
    """Programs other than Slicer call finished points so."""
    edited(written, lambda markup: markup["controlPoints"][0].update(positionStatus="preview"))
    assert_equal(read_markups(written), three_landmarks())
    assert "preview" in caplog.text and written.name in caplog.text


@pytest.mark.parametrize("position", ["", None, []])
def test_previews_without_a_position_are_unknown(written, position):
    edited(written, lambda m: m["controlPoints"][0].update(positionStatus="preview", position=position))
    assert read_markups(written).unknown[0]


def test_a_file_in_another_encoding_is_told_so(written):
    written.write_bytes(written.read_text(encoding="utf-8").replace("menton", "Zahnlücke").encode("utf-16"))
    with pytest.raises(InputError, match=f"{written.name}' is no text in UTF-8: save it again"):
        read_markups(written)


@pytest.mark.parametrize("content", [b"", b"{", b"[1, 2", b"[" * 100_000])
def test_broken_json_is_refused(tmp_path, content):
    (tmp_path / "p.mrk.json").write_bytes(content)
    with pytest.raises(InputError, match="is damaged or not a point list"):
        read_markups(tmp_path / "p.mrk.json")


@pytest.mark.parametrize("content", ["{}", "[]", "3", '{"markups": 3}', '{"markups": [3]}'])
def test_json_without_markups_is_refused(tmp_path, content):
    (tmp_path / "p.mrk.json").write_text(content)
    with pytest.raises(InputError, match="is not a Slicer point list: choose"):
        read_markups(tmp_path / "p.mrk.json")


def test_several_point_lists_in_a_file_are_refused(written):
    data = json.loads(written.read_text(encoding="utf-8"))
    data["markups"] *= 2
    written.write_text(json.dumps(data))
    with pytest.raises(InputError, match="2 markups"):
        read_markups(written)


@pytest.mark.parametrize("other", ["Curve", "ROI", "Plane"])
def test_the_only_point_list_beside_others_is_chosen_and_said(written, other, caplog):
    data = json.loads(written.read_text(encoding="utf-8"))
    data["markups"].insert(0, {**data["markups"][0], "type": other})
    written.write_text(json.dumps(data))
    assert_equal(read_markups(written), three_landmarks())
    assert other in caplog.text


@pytest.mark.parametrize("label", ["Nasion ", " nasion", "NASION", "na sion", "nasion\u00a0"])
def test_labels_that_differ_by_case_or_blanks_are_matched_and_named(written, label, caplog):
    edited(written, lambda markup: markup["controlPoints"][0].update(label=label))
    assert read_markups(written).names[0] == label
    assert read_markups(written, ("e\u0301", "nasion", "molar")).names == ("nasion", "molar", "e\u0301")
    assert repr(label) in caplog.text or label in caplog.text


def test_labels_that_could_mean_two_landmarks_are_left(written):
    edited(written, lambda markup: markup["controlPoints"][0].update(label="A "))
    edited(written, lambda markup: markup["controlPoints"][1].update(label=" a"))
    assert read_markups(written, ("A", "B")).names[:2] == ("A ", " a")
    edited(written, lambda markup: markup["controlPoints"][1].update(label="A"))
    assert read_markups(written, ("A", "B")).names[:2] == ("A ", "A")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m["measurements"][0].update(controlPointValues=[[1], [2], [3]]), "complete"),
        (lambda m: m["measurements"][0].update(controlPointValues=["1", "2", "3"]), "complete"),
        (lambda m: m["measurements"][0].update(controlPointValues=[10**400, 1, 1]), "complete"),
        (lambda m: m["controlPoints"][0].update(label=None), "complete"),
        (lambda m: m["controlPoints"][0].update(label="\ud800"), "complete"),
        (lambda m: m["controlPoints"][0].update(label="  "), "without a label"),
        (lambda m: m["controlPoints"][0].update(position=[True, 2, 3]), "complete"),
        (lambda m: m["controlPoints"][0].update(position=["1", "2", "3"]), "complete"),
        (lambda m: m["controlPoints"][0].update(position=[[1], [2], [3]]), "complete"),
        (lambda m: m["controlPoints"][0].update(position=None), "complete"),
        (lambda m: m.update(type="Curve"), "holds a markup of type 'Curve'"),
        (lambda m: m.update(coordinateSystem="HFS"), "unknown coordinate system 'HFS'"),
        (lambda m: m.update(coordinateUnits="um"), "gives positions in 'um'"),
        (lambda m: m.update(coordinateUnits=["um", "UCUM", "micrometer"]), "gives positions in 'um'"),
        (lambda m: m.pop("controlPoints"), "is not a complete Slicer point list"),
        (lambda m: m["controlPoints"][0].pop("label"), "is not a complete Slicer point list"),
        (lambda m: m["controlPoints"][0].update(position=[1, 2]), "is not a complete Slicer point list"),
        (lambda m: m["controlPoints"][0].update(positionStatus="lost"), "is not a complete Slicer point list"),
        (lambda m: m["controlPoints"][0].update(position=[1, 2, NAN]), "no finite position for 'nasion'"),
        (lambda m: m["controlPoints"][1].update(label="nasion"), "label 'nasion' more than once"),
        (lambda m: m["controlPoints"][1].update(label=""), "has a control point without a label"),
    ],
)
def test_what_cannot_be_landmarks_is_refused_with_a_reason(written, change, message):
    edited(written, change)
    with pytest.raises(InputError, match=message):
        read_markups(written)


def test_a_missing_file_and_a_missing_folder_are_named(tmp_path):
    with pytest.raises(InputError, match=r"p\.mrk\.json' does not exist"):
        read_markups(tmp_path / "p.mrk.json")
    with pytest.raises(InputError, match=r"p\.mrk\.json' cannot be written"):
        write_markups(tmp_path / "nowhere" / "p.mrk.json", three_landmarks())


def test_writing_replaces_a_file_and_leaves_nothing_else(written):
    write_markups(written, three_landmarks())
    assert [path.name for path in written.parent.iterdir()] == [written.name]


@pytest.fixture
def region_file(tmp_path):
    write_region(tmp_path / "region é.mrk.json", SLANTED)
    return tmp_path / "region é.mrk.json"


SLANTED = Region(np.array([[8.0, -3, 0, 10], [6, 4, 0, -20], [0, 0, 7, 30], [0, 0, 0, 1]]))
# What a box in LPS is called in RAS: the first two rows change their sign.
MIRRORED = np.diag([-1.0, -1, 1, 1]) @ SLANTED.affine


def test_a_region_comes_back_as_it_was_written(region_file):
    np.testing.assert_allclose(read_region(region_file).affine, SLANTED.affine, atol=1e-12)
    assert [path.name for path in region_file.parent.iterdir()] == [region_file.name]


@pytest.mark.parametrize("system", ["RAS", "ras", 0, "0"])
def test_ras_regions_are_turned_into_lps(region_file, system):
    edited(region_file, lambda markup: markup.update(coordinateSystem=system))
    np.testing.assert_allclose(read_region(region_file).affine, MIRRORED, atol=1e-12)


@pytest.mark.parametrize("system", ["LPS", "lps", 1, "1", None])
def test_lps_regions_stay(region_file, system):
    def change(markup):
        markup.pop("coordinateSystem") if system is None else markup.update(coordinateSystem=system)

    edited(region_file, change)
    region_file.write_bytes(b"\xef\xbb\xbf" + region_file.read_bytes())
    np.testing.assert_allclose(read_region(region_file).affine, SLANTED.affine, atol=1e-12)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda m: m.update(type="Fiducial"), "region"),
        (lambda m: m.update(coordinateSystem="IJK"), "IJK"),
        (lambda m: m.update(coordinateUnits="um"), "um"),
        (lambda m: m.pop("size"), "complete"),
        (lambda m: m.update(size=[1, 2]), "complete"),
        (lambda m: m.update(size="large"), "complete"),
        (lambda m: m.update(center=[1, 2, 1e300]), "complete"),
        (lambda m: m.update(center=[1, 2, 10**400]), "complete"),
        (lambda m: m.update(center=[1, 2, NAN]), "complete"),
        (lambda m: m.update(size=["1", "2", "3"]), "complete"),
        (lambda m: m.update(insideOut=True), "Inside"),
        (lambda m: m.update(orientation={"a": 1}), "complete"),
        (lambda m: m.update(size=[1, 2, 0]), "volume"),
    ],
)
def test_what_can_be_no_region_is_refused_with_a_reason(region_file, change, word):
    edited(region_file, change)
    with pytest.raises(InputError, match=word) as told:
        read_region(region_file)
    assert str(told.value).count("\n") == 0


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b"\xff\xfe", b'{"markups": []}', b"[" + b"9" * 5000])
@pytest.mark.parametrize("read", [read_markups, read_region])
def test_broken_files_are_refused_in_a_sentence(tmp_path, content, read):
    (tmp_path / "p.mrk.json").write_bytes(content)
    with pytest.raises(InputError, match="p.mrk.json"):
        read(tmp_path / "p.mrk.json")


def test_a_huge_position_is_refused_in_a_sentence(written):
    edited(written, lambda markup: markup["controlPoints"][0].update(position=[10**400, 0, 0]))
    with pytest.raises(InputError, match="complete"):
        read_markups(written)


def test_a_folder_of_a_file_name_and_a_pipe_are_refused(tmp_path):
    (tmp_path / "p.mrk.json").mkdir()
    with pytest.raises(InputError, match="no file"):
        read_markups(tmp_path / "p.mrk.json")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "q.mrk.json")
        with pytest.raises(InputError, match="no file"):
            read_markups(tmp_path / "q.mrk.json")
    with pytest.raises(InputError, match="opened"):
        read_markups(tmp_path / ("x" * 300))


def test_point_lists_of_a_folder_by_name(tmp_path):
    for name in ("a.mrk.json", "b.fcsv", "C.FCSV", "c.json", ".d.fcsv", "b.mrk.json", ".mrk.json"):
        (tmp_path / name).touch()
    found = {name: [path.name for path in paths] for name, paths in point_lists_in(tmp_path).items()}
    assert found == {"a": ["a.mrk.json"], "b": ["b.fcsv", "b.mrk.json"], "C": ["C.FCSV"]}
