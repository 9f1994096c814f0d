"""Definitions of measurements: what they may be made of, and those that come with the software."""

import json
from dataclasses import replace
from importlib import util
from pathlib import Path

import numpy as np
import pytest

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.landmarks import LandmarkDefinition, LandmarkScheme, LandmarkSet
from H3DELandmarksLib.core.measurements import Construction, Measurement, Measurements, Norm, ValueClass
from H3DELandmarksLib.evaluation.measures import measure
from H3DELandmarksLib.formats import reading
from H3DELandmarksLib.formats.measurements import bundled_measurements, measurements_of, measurements_of_names
from H3DELandmarksLib.formats.schemes import read_scheme_bytes, scheme_bytes
from H3DELandmarksResearch.cases.schemes import SchemeEdit, scheme_of_file

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("sella", "nasion", "menton", "gonion")
LINE = Construction("SN", "line", ("sella", "nasion"))
PLANE = Construction("P", "plane", ("sella", "nasion", "menton"))
WIDTH = Measurement("width", "distance", ("sella", "nasion"))
ANGLE = Measurement("angle", "angle", ("sella", "nasion", "menton"))


def definitions(*measurements, constructions=(LINE, PLANE)):
    return Measurements(tuple(measurements), tuple(constructions))


def scheme(measurements, id="own"):
    return LandmarkScheme(id, "1.0", tuple(LandmarkDefinition(name, name) for name in NAMES), measurements=measurements)


@pytest.mark.parametrize(
    ("measurement", "word"),
    [
        (Measurement("m", "distance", ("sela", "nasion")), "'sella'"),  # the nearest known name
        (Measurement("m", "distance", ("sella",)), "2 names"),
        (Measurement("m", "distance", ("sella", "SN")), "a line"),
        (Measurement("m", "angle between", ("SN", "sella")), "a point"),
        (Measurement("m", "asymmetry", ("sella", "nasion", "SN")), "a plane"),
        (Measurement("m", "tilt", ("SN", "P", "menton")), "a plane"),
        (Measurement("m", "ratio", ("width", "angle")), "one unit"),
        (Measurement("m", "sum", ("width", "m")), "not known"),
        (Measurement("m", "cobb", NAMES), "8"),
        (Measurement("width", "distance", ("sella", "menton")), "nothing else has"),
        (Measurement("sella", "distance", ("sella", "menton")), "nothing else has"),
        (Measurement("m", "distance", ("sella", "sella")), "twice"),
    ],
)
def test_what_does_not_fit_is_refused(measurement, word):
    with pytest.raises(InputError, match=word):
        scheme(definitions(WIDTH, ANGLE, measurement))


def test_definitions_of_a_stranger_cost_no_time_and_are_limited():
    doubled = [WIDTH, Measurement("s0", "sum", ("width", "width"))]
    doubled += [Measurement(f"s{k}", "sum", (f"s{k - 1}", f"s{k - 1}")) for k in range(1, 100)]
    middles = [Construction("c0", "midpoint", ("sella", "nasion")), Construction("c1", "midpoint", ("c0", "sella"))]
    middles += [Construction(f"c{k}", "midpoint", (f"c{k - 1}", f"c{k - 2}")) for k in range(2, 100)]
    last = Measurement("last", "distance", ("c99", "menton"))
    deep = scheme(definitions(*doubled, last, constructions=middles)).measurements
    assert deep.landmarks_of("s99") == ("sella", "nasion")
    found = {r.name: r.value for r in measure(LandmarkSet(NAMES, np.eye(4, 3)), deep)}
    assert found["s99"] == pytest.approx(2.0**100 * np.sqrt(2), rel=1e-6) and found["last"] > 0
    for many in ([replace(WIDTH, name=f"w{k}") for k in range(401)], [replace(WIDTH, title="x" * 501)]):
        with pytest.raises(InputError, match="measurements: "):
            scheme(definitions(*many))


def test_a_construction_cannot_use_what_comes_after_it():
    late = Construction("middle", "midpoint", ("far", "sella"))
    with pytest.raises(InputError, match="far"):
        scheme(definitions(WIDTH, constructions=(late, Construction("far", "midpoint", ("nasion", "menton")))))


@pytest.mark.parametrize("has_pydantic", [True, False])
def test_a_scheme_keeps_its_measurements_in_its_file(has_pydantic, monkeypatch):
    norm = Norm(70.0, 3.0, "somebody 1990", 1.0)
    kept = scheme(definitions(WIDTH, replace(ANGLE, norm=norm, classes=(ValueClass("wide", 80.0),))))
    if not has_pydantic:
        monkeypatch.setattr(reading, "type_adapter", lambda record: (_ for _ in ()).throw(ImportError))
    assert util.find_spec("pydantic")
    assert read_scheme_bytes(scheme_bytes(kept)) == kept
    content = json.loads(scheme_bytes(kept))
    content["scheme"]["measurements"]["measurements"][0]["of"][0] = "sellla"
    with pytest.raises(ValueError, match="'sella'"):
        read_scheme_bytes(json.dumps(content).encode())
    content["scheme"]["measurements"]["measurements"][0] |= {"of": ["sella", "nasion"], "kind": "distanse"}
    with pytest.raises(ValueError, match="'distance'"):
        read_scheme_bytes(json.dumps(content).encode())


def test_a_scheme_without_measurements_has_the_same_file_as_before():
    assert "measurements" not in json.loads(scheme_bytes(scheme(None)))["scheme"]


@pytest.mark.parametrize("values", [(1.0, 0.0, 1.0), (float("nan"), 1.0, 1.0), (1.0, 1.0, -1.0)])
def test_a_norm_needs_a_spread(values):
    mean, sd, within = values
    with pytest.raises(ValueError, match="sd"):
        Norm(mean, sd, "nobody", within)


def test_a_changed_scheme_keeps_what_can_still_be_measured():
    total = Measurement("total", "sum", ("width", "depth"))
    depth = Measurement("depth", "distance", ("menton", "gonion"))
    whole = definitions(WIDTH, depth, total, ANGLE)
    fewer = whole.adapted(("sella", "N", "gonion"), {"nasion": "N"})
    assert [measured.name for measured in fewer.measurements] == ["width"]
    assert fewer.measurements[0].of == ("sella", "N") and [c.name for c in fewer.constructions] == ["SN"]
    assert whole.adapted(("menton",)) is None
    assert whole.landmarks_of("total") == ("sella", "nasion", "menton", "gonion")


def test_what_depends_on_a_plane_in_any_way_is_not_measured_in_a_picture():
    foot = Construction("foot", "projection", ("gonion", "P"))
    depth = Measurement("depth", "distance to", ("gonion", "P"))
    share, way = Measurement("share", "ratio", ("depth", "width")), Measurement("way", "distance", ("gonion", "foot"))
    whole = definitions(WIDTH, depth, share, way, ANGLE, constructions=(LINE, PLANE, foot))
    points = LandmarkSet(NAMES, [[0, 0, 0], [9, 1, 0], [4, 7, 0], [2, 5, 0]])
    told = {result.name: result.value is not None for result in measure(points, whole, flat=True)}
    assert told == {"width": True, "depth": False, "share": False, "way": False, "angle": True}
    points = LandmarkSet(NAMES, [[0, 0, 0], [9, 1, 0], [4, 7, 0], [2, 5, 3]])
    assert all(result.value is not None for result in measure(points, whole, flat=False))


def test_an_edited_scheme_keeps_its_measurements():
    kept = scheme(definitions(WIDTH, ANGLE))
    edited = SchemeEdit(dropped=("menton",), renamed={"nasion": "N"}).applied_to(kept)
    assert [(part.name, part.of) for part in edited.measurements.measurements] == [("width", ("sella", "N"))]
    assert SchemeEdit(dropped=("gonion",)).applied_to(kept).measurements == kept.measurements


# Those that come with the software


@pytest.mark.parametrize("name", ["isbi2015-19", "head-neck-11", "mouse-skull-45", "mandibular-molars-14"])
def test_bundled_definitions_fit_the_schemes_that_they_are_for(name):
    known = scheme_of_file(ROOT / "H3DELandmarksResearch" / "configurations" / f"{name}.json")
    record = bundled_measurements()[name]
    record.definitions.check(known.names)
    assert measurements_of(known) == record.definitions


def test_models_that_come_with_the_software_measure_something_and_stay_as_they_are():
    for manifest in (ROOT / "Resources" / "Models").glob("*/manifest.json"):
        content = json.loads(manifest.read_text(encoding="utf-8"))["scheme"]
        assert "measurements" not in content, "definitions come by the id of the scheme"
        assert measurements_of(scheme_of_file(manifest)), manifest


def test_own_definitions_come_before_bundled_ones():
    own = definitions(WIDTH)
    assert measurements_of(scheme(own, "isbi2015-19")) == own


def test_points_of_unknown_origin_are_known_by_names_that_say_enough():
    names = list(bundled_measurements()["isbi2015-19"].landmarks)
    assert measurements_of_names([*names, "another"]) == bundled_measurements()["isbi2015-19"].definitions
    assert measurements_of_names(names[1:]) is None
    assert measurements_of_names([str(k) for k in range(60)]) is None, "numbers say nothing"


NORMS = {
    "ODI": (74.5, 6.07, "Kim 1974"),
    "APDI": (81.4, 3.8, "Kim and Vietas 1978"),
    "facial angle": (87.8, 3.57, "Downs 1948"),
    "FMA": (21.9, 3.24, "Downs 1948"),
    "Y axis angle": (59.4, 3.82, "Downs 1948"),
    "upper lip to B line": (3, 1, "Legan and Burstone 1980"),
    "lower lip to B line": (2, 1, "Legan and Burstone 1980"),
}


def bundled(scheme_id):
    return {m.name: m for m in bundled_measurements()[scheme_id].definitions.measurements}


def test_norms_are_those_of_their_sources():
    given = {name: m.norm for name, m in bundled("isbi2015-19").items() if m.norm}
    assert {name: (n.mean, n.sd) for name, n in given.items()} == {n: value[:2] for n, value in NORMS.items()}
    for name, (*_, source) in NORMS.items():
        assert given[name].source.startswith(source) and given[name].within_sd == 1
    told = (ROOT / "docs" / "measurements.md").read_text(encoding="utf-8")
    assert all(f"{mean:g}, {sd:g}" in told and source in told for mean, sd, source in NORMS.values())
    others = [r for r in bundled_measurements() if r != "isbi2015-19" for m in bundled(r).values() if m.norm]
    assert not others, "a norm without a row in the table of the documents"


@pytest.mark.parametrize(
    ("name", "low", "high", "below", "normal", "above"),
    [
        ("SNA", 79.4, 83.2, "retrognathic maxilla", "normal", "prognathic maxilla"),
        ("SNB", 74.6, 78.7, "retrognathic mandible", "normal", "prognathic mandible"),
        ("ANB", 3.2, 5.7, "class III", "class I", "class II"),
        ("ODI", 68.4, 80.5, "open bite tendency", "normal", "deep bite tendency"),
        ("APDI", 77.6, 85.2, "class II tendency", "normal", "class III tendency"),
        ("FHI", 0.65, 0.75, "long face tendency", "normal", "short face tendency"),
        ("FHA", 26.8, 31.4, "low angle tendency", "normal", "high angle tendency"),
        ("MW", 2, 4.5, "edge to edge", "normal", "large overjet"),
    ],
)
def test_classes_are_those_of_the_challenge_with_their_limits(name, low, high, below, normal, above):
    part = bundled("isbi2015-19")[name]
    found = [part.class_of(value) for value in (low - 1e-6, low, high, high + 1e-6)]
    assert found == [below, normal, normal, above]
    assert "ISBI 2015 challenge" in part.title


def test_a_curve_of_ten_degrees_is_scoliosis():
    part = bundled("spine-68")["Cobb angle"]
    found = [part.class_of(value) for value in (9.999, 10, 25, 25.001, 45, 45.001)]
    words = ("no", "mild", "mild", "moderate", "moderate", "severe")
    assert found == [f"{word} scoliosis" for word in words]
