"""Manifests: read and written without loss, and refused where an entry is broken, with pydantic and without it."""

import json
from copy import deepcopy

import pytest
from tiny_model import MANIFEST as TINY

from H3DELandmarksLib.formats import reading
from H3DELandmarksLib.formats.manifest import Manifest, upgraded
from H3DELandmarksLib.formats.reading import FormatError, build, parse_json, to_json, to_plain
from H3DELandmarksLib.models.registry import bundled_folder

BUNDLED = sorted(bundled_folder().glob("*/manifest.json"))


@pytest.fixture(params=["pydantic", "bare Slicer"])
def any_python(request, monkeypatch):
    """With pydantic and without it."""

    def missing(record):
        raise ImportError("pydantic")

    if request.param == "bare Slicer":
        monkeypatch.setattr(reading, "type_adapter", missing)
    else:
        pytest.importorskip("pydantic")


def content():
    manifest = deepcopy(TINY)
    for entry in (manifest["stages"][0]["weights"], manifest["shape_model"]):
        entry["sha256"] = "0" * 64
    return manifest


def change(path, value):
    """The valid content with one entry set, or taken out where the value is None."""
    changed = entry = content()
    for part in path[:-1]:
        entry = entry[part]
    if value is None:
        del entry[path[-1]]
    else:
        entry[path[-1]] = value
    return changed


@pytest.mark.parametrize("path", BUNDLED, ids=lambda path: path.parent.name)
def test_bundled_manifests_survive_reading_and_writing(path, any_python):
    record = build(Manifest, upgraded(parse_json(path.read_bytes())))
    assert build(Manifest, parse_json(to_json(record))) == record
    assert record.id == path.parent.name and record.stage(record.stages[0].name) is record.stages[0]


def test_entries_that_are_left_out_are_not_written(any_python):
    plain = to_plain(build(Manifest, content()))
    assert "max_spacing_mm" not in plain and "presence" in plain["calibration"]
    assert json.loads(to_json(build(Manifest, plain))) == json.loads(json.dumps(plain))


def surface(landmark="Left", degrees=90.0, spread_mm=(0.4, 0.1), **changes):
    """An entry ``bone_surface`` of the tiny model."""
    point = {"landmark": landmark, "degrees": degrees, "spread_mm": list(spread_mm)}
    return {"front": "Middle", "left": "Left", "right": "Right", "max_spacing_mm": 1.5, "points": [point], **changes}


def test_bone_surfaces_are_read_and_used_where_they_are_steadier(any_python):
    for spread, is_used in ((0.1, True), (0.4, False)):
        record = build(Manifest, change(("bone_surface",), surface(spread_mm=(0.4, spread))))
        assert [point.is_steadier for point in record.bone_surface.points] == [is_used]
        assert build(Manifest, parse_json(to_json(record))) == record
    assert build(Manifest, content()).bone_surface is None


STRUCTURE = [
    (("title",), None, "title"),
    (("max_spacing",), 1.0, "max_spacing_mm"),
    (("stages", 0, "spacing"), 1.0, "spacing_mm"),
    (("stages", 0, "network", "settings", "dim"), [8, 8, 16, 16], "dims"),
    (("stages", 0, "network", "architecture"), "h3dent", "h3denet"),
    (("stages", 0, "groups"), "all", "groups"),
    (("stages", 0, "groups", 0, "landmarks"), ["Left", "Middle", "Top"], "Top"),
    (("stages", 0, "groups", 0, "landmarks"), ["Left", "Middle"], "landmarks"),
    (("bone_surface",), surface(front="Top"), "bone_surface.front"),
    (("bone_surface",), surface(left="Middle"), "twice"),
    (("bone_surface",), surface(landmark="Top"), "points"),
    (("bone_surface",), surface(degrees=200.0), "degrees"),
    (("bone_surface",), surface(spread_mm=[0.4]), "spread_mm"),
    (("bone_surface",), surface(max_spacing_mm=0.0), "max_spacing_mm"),
    (("stages", 0, "groups", 0, "landmarks"), ["Left", "Left", "Right"], "once"),
    (("stages", 0, "shape"), [32, 32], "shape"),
    (("stages", 0, "shape"), [32, 32, 1], "slice"),
    (("stages", 0, "spacing_mm"), "2", "spacing_mm"),
    (("intensity", "low"), 1500.0, "low"),
    (("intensity",), {"method": "percentile", "low": 1.0, "high": 101.0}, "percentiles"),
    (("calibration", "radius90_mm"), [1.0], "radius90_mm"),
    (("calibration", "points"), {"factor_weights": [0.0] * 5}, "factor_weights"),
    (("calibration",), None, "calibration"),
]


@pytest.mark.parametrize(("path", "value", "word"), STRUCTURE)
def test_unknown_missing_and_contradictory_entries_are_refused_in_either_case(path, value, word, any_python):
    with pytest.raises(FormatError, match=word):
        build(Manifest, change(path, value))


RANGES = [
    (("id",), "Tiny Model"),
    (("version",), "1"),
    (("stages", 0, "spacing_mm"), 0.0),
    (("stages", 0, "shape"), [32, 0, 32]),
    (("stages", 0, "poses"), "scna"),
    (("stages", 0, "views"), 3),
    (("stages", 0, "weights", "file"), "../x.safetensors"),
    (("stages", 0, "weights", "sha256"), "0"),
    (("stages", 0, "decoding", "method"), "magic"),
    (("calibration", "radius90_mm"), [1.0, -1.0, 1.0]),
]


@pytest.mark.parametrize(("path", "value"), RANGES)
def test_values_out_of_range_are_refused_by_the_name_of_their_entry(path, value):
    pytest.importorskip("pydantic")
    with pytest.raises(FormatError) as refused:
        build(Manifest, change(path, value))
    assert str([part for part in path if isinstance(part, str)][-1]) in refused.value.entry


def test_a_newer_version_is_refused_and_an_object_of_another_kind_too(any_python):
    with pytest.raises(FormatError, match="newer"):
        upgraded(change(("schema_version",), 2))
    for other in ([], None, "manifest", 1):
        with pytest.raises(FormatError):
            build(Manifest, other)
