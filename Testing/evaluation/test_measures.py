"""Values of measurements, however the points are turned; their intervals; and why there are none."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from H3DELandmarksLib.core.landmarks import Cause, LandmarkSet
from H3DELandmarksLib.core.measurements import Construction, Measurement, Measurements, Norm, ValueClass
from H3DELandmarksLib.core.text import MOST_NAMED
from H3DELandmarksLib.evaluation.measure_geometry import Geometry, cobb_angles
from H3DELandmarksLib.evaluation.measures import measure, shapes, without_moved_radii
from H3DELandmarksLib.formats.measurements import bundled_definitions

NAMES = ("a", "b", "c", "d", "left", "right")
POINTS = np.array([[0, 0, 0], [10, 0, 0], [10, 10, 0], [0, 0, 8], [4, 3, 6], [4, 3, -9]], dtype=float)
MADE = (
    Construction("ab", "line", ("a", "b")),
    Construction("ac", "line", ("a", "c")),
    Construction("ad", "line", ("a", "d")),
    Construction("abc", "plane", ("a", "b", "c")),
    Construction("abd", "plane", ("a", "b", "d")),
    Construction("middle", "midpoint", ("b", "c")),
    Construction("foot", "projection", ("left", "abc")),
    Construction("corner", "projection", ("c", "ab")),
)
# name: kind, operands, value
VALUES = {
    "distance": ("distance", ("a", "c"), np.sqrt(200)),
    "to the midpoint": ("distance", ("a", "middle"), np.sqrt(125)),
    "of projections": ("distance", ("foot", "corner"), np.sqrt(45)),
    "ahead": ("directed distance", ("a", "c", "ab"), np.sqrt(200)),
    "behind": ("directed distance", ("c", "a", "ab"), -np.sqrt(200)),
    "along": ("projected distance", ("c", "left", "ab"), -6.0),
    "within a plane": ("projected distance", ("left", "d", "abc"), 5.0),
    "from a line": ("distance to", ("c", "ab"), 10.0),
    "from a plane": ("distance to", ("right", "abc"), 9.0),
    "above": ("height above", ("left", "abc", "right"), 6.0),
    "below": ("height above", ("right", "abc", "left"), 9.0),
    "above a line": ("height above", ("c", "ab", "d"), 0.0),
    "angle": ("angle", ("b", "a", "c"), 45.0),
    "of lines": ("angle between", ("ab", "ac"), 45.0),
    "line and plane": ("angle between", ("ad", "abc"), 90.0),
    "planes": ("angle between", ("abc", "abd"), 90.0),
    "toward": ("tilt", ("ab", "ac", "c"), 45.0),
    "away": ("tilt", ("ac", "ab", "c"), None),
    "asymmetry": ("asymmetry", ("left", "right", "abc"), -3.0),
    "ratio": ("ratio", ("from a plane", "above"), 1.5),
    "difference": ("difference", ("from a plane", "above"), 3.0),
    "sum": ("sum", ("from a plane", "above", "above"), 21.0),
}
SIGNED = Measurements(
    tuple(Measurement(name, kind, of) for name, (kind, of, value) in VALUES.items() if value is not None), MADE
)


def results(points=POINTS, definitions=SIGNED, radius=None, **options):
    found = measure(LandmarkSet(NAMES, points, radius=radius), definitions, **options)
    return {result.name: result for result in found}


def rotation(vector):
    from scipy.spatial.transform import Rotation

    return Rotation.from_rotvec(vector).as_matrix()


@settings(max_examples=25, deadline=None)
@given(st.tuples(*[st.floats(-3, 3)] * 3), st.tuples(*[st.floats(-200, 200)] * 3), st.booleans(), st.floats(0.2, 5))
def test_values_are_right_however_the_points_lie(turn, shift, is_mirrored, scale):
    SIGNED.check(NAMES)
    matrix = rotation(turn) @ np.diag([-1.0 if is_mirrored else 1.0, 1, 1])
    found = results(scale * POINTS @ matrix.T + shift)
    for name, (_, _, value) in VALUES.items():
        if value is not None:
            expected = value * (scale if SIGNED.unit(SIGNED.measurement(name)) == "mm" else 1)
            assert found[name].value == pytest.approx(expected, abs=2e-3), name


def test_a_tilt_away_from_a_point_is_negative():
    definitions = Measurements(
        (Measurement("toward", "tilt", ("ab", "ac", "c")), Measurement("away", "tilt", ("ab", "ac", "other side"))),
        (*MADE[:2], Construction("other side", "midpoint", ("d", "right"))),
    )
    points = POINTS.copy()
    points[[3, 5]] = [5, -10, 0], [6, -20, 0]
    found = results(points, definitions)
    assert (found["toward"].value, found["away"].value) == pytest.approx((45, -45))


def test_many_points_get_the_plane_that_fits_best():
    rng = np.random.default_rng(3)
    names = tuple("pqrstuv")
    points = np.column_stack([rng.uniform(-9, 9, (7, 2)), np.zeros(7)])
    points[:6, 2] = [0.1, -0.1, 0.1, -0.1, 0.1, -0.1]
    points[6, 2] = 5
    definitions = Measurements(
        (Measurement("height", "distance to", ("v", "plane")),), (Construction("plane", "plane", names[:6]),)
    )
    (result,) = measure(LandmarkSet(names, points @ rotation((1, 2, 3)).T), definitions)
    assert result.value == pytest.approx(5, abs=0.3)


@pytest.mark.parametrize("turn", [1, -1])
def test_a_fitted_plane_looks_where_its_first_three_points_turn_around(turn):
    names, points = tuple("pqrst"), np.array([[0, 0, 0], [9, 0, 0], [9, 9, 0], [0, 9, 0], [4, 4, 5.0]])
    made = (Construction("plane", "plane", names[:4][::turn]), Construction("up", "line", ("p", "t")))
    tilts = Measurements((Measurement("angle", "angle between", ("up", "plane")),), made)
    normal = Geometry(tilts, names, points[None], None).plane("plane")[1][0]
    np.testing.assert_allclose(normal, (0, 0, turn), atol=1e-9)


def test_four_points_in_a_line_make_no_plane():
    names, points = tuple("pqrst"), np.array([[0.0, 0, 0], [1, 2, 3], [2, 4, 6], [5, 10, 15], [4, 4, 5]])
    definitions = Measurements(
        (Measurement("height", "distance to", ("t", "plane")),), (Construction("plane", "plane", names[:4]),)
    )
    assert measure(LandmarkSet(names, points), definitions, flat=False)[0].value is None


def test_points_in_a_line_make_no_plane():
    points = POINTS.copy()
    points[2] = 20, 0, 0
    found = results(points)
    assert found["from a plane"].value is None and "coincide" in found["from a plane"].reason
    assert found["distance"].value == pytest.approx(20)


# Why not


def test_a_point_without_a_position_is_named_with_the_reason():
    landmarks = LandmarkSet(NAMES, np.where([[n in ("c", "d")] for n in NAMES], np.nan, POINTS))
    landmarks = landmarks.unknown_where([n == "d" for n in NAMES], Cause.OUTSIDE_SCAN)
    found = {result.name: result for result in measure(landmarks, SIGNED)}
    assert found["distance"].reason == "c: absent" and found["distance"].value is None
    assert "d: not examined" in found["planes"].reason and "c: absent" in found["planes"].reason
    assert found["sum"].value is None, "what it depends on is asked, too"


def test_a_point_that_a_list_lacks_is_named():
    (result, *_) = measure(LandmarkSet(("a",), POINTS[:1]), SIGNED)
    assert result.value is None and "c" in result.reason


def test_without_a_radius_there_is_a_value_and_no_interval():
    found = results(radius=np.where([n == "d" for n in NAMES], np.nan, 1.0))
    assert found["planes"].value == pytest.approx(90) and found["planes"].low90 is None
    assert "radius" in found["planes"].reason and "d" in found["planes"].reason
    assert found["distance"].low90 is not None and found["distance"].reason is None


def test_a_length_may_be_more_than_half_a_turn_has_degrees():
    found = results(20 * POINTS, radius=np.ones(6))
    assert 180 < found["distance"].low90 < found["distance"].value < found["distance"].high90
    assert found["planes"].high90 <= 180


def test_three_points_that_nobody_has_told_of_may_err_in_space():
    names, points = tuple("abc"), LandmarkSet(tuple("abc"), POINTS[[1, 2, 4]], radius=np.ones(3))
    definitions = Measurements((Measurement("angle", "angle", names),))
    told, untold = (measure(points, definitions, flat=flat)[0] for flat in (False, None))
    assert told == untold and told != measure(points, definitions, flat=True)[0]


def test_a_moved_point_has_no_radius_any_more():
    before = LandmarkSet(NAMES, POINTS, radius=np.ones(6))
    moved = POINTS.copy()
    moved[1, 0] += 1
    kept = without_moved_radii(before.with_positions(moved), before)
    assert np.isnan(kept.radius).tolist() == [False, True, False, False, False, False]


# Units, norms and classes


def test_lengths_of_a_picture_of_unknown_size_are_pixels():
    found = results(pixels=True)
    assert (found["distance"].unit, found["angle"].unit, found["ratio"].unit) == ("px", "degrees", "ratio")


def test_what_is_meant_for_volumes_is_not_measured_in_a_picture():
    flat, tilted = POINTS * (1, 1, 0) + (0, 0, 5), (POINTS * (1, 1, 0)) @ rotation((0.3, 0.2, 0)).T
    volumes, pictures = (replace(SIGNED, points_of=where) for where in ("volume", "picture"))
    for points in (flat, tilted):
        assert not results(points, volumes) and results(points, pictures)
    assert results(POINTS, volumes) and not results(POINTS, pictures)


@pytest.mark.parametrize("meant", ["volume", "picture"])
@pytest.mark.parametrize("there", [0, 1, 2, 3, 5])
def test_few_points_are_of_what_the_definitions_are_meant_for(meant, there):
    points = POINTS * (1, 1, 0) if meant == "picture" or there < 4 else POINTS
    points = np.where(np.arange(len(points))[:, None] < there, points, np.nan)
    found = results(points, Measurements((Measurement("width", "distance", ("a", "b")),), points_of=meant))
    assert found["width"].value == (10 if there > 1 else None)


def test_a_picture_has_no_planes():
    found = results(POINTS * (1, 1, 0))
    assert found["distance"].value == pytest.approx(np.sqrt(200), abs=1e-4) and found["angle"].value == 45
    for name in ("from a plane", "planes", "asymmetry", "sum"):
        assert found[name].value is None and "plane" in found[name].reason, name


def test_norm_and_class_are_told():
    classes = (ValueClass("narrow", None, 14), ValueClass("wide", 14))
    part = Measurement("width", "distance", ("a", "c"), norm=Norm(10, 2, "nobody", 1.5), classes=classes)
    (result,) = measure(LandmarkSet(NAMES, POINTS), Measurements((part,)))
    assert result.z == pytest.approx(2.0711, abs=1e-4) and result.within_norm is False and result.category == "wide"


def test_pixels_are_not_judged_by_millimeters():
    classes = (ValueClass("wide", 14), ValueClass("usual"))
    width = Measurement("width", "distance", ("a", "c"), norm=Norm(10, 2, "nobody"), classes=classes)
    angle = Measurement("angle", "angle", ("b", "a", "c"), norm=Norm(40, 5, "nobody"), classes=classes)
    found = results(definitions=Measurements((width, angle)), pixels=True)
    assert (found["width"].unit, found["width"].norm, found["width"].z, found["width"].category) == ("px", *[None] * 3)
    assert found["width"].within_norm is None and found["angle"].z == 1.0 and found["angle"].category == "wide"


def test_the_end_of_a_norm_belongs_to_it():
    points = LandmarkSet(("a", "c"), np.array([[0.0, 0, 0], [12, 0, 0]]))
    for most, within in ((1.0, True), (0.999, False)):
        part = Measurement("width", "distance", ("a", "c"), norm=Norm(10, 2, "nobody", most))
        (result,) = measure(points, Measurements((part,)))
        assert result.z == 1.0 and result.within_norm is within


# Intervals


def coverage(definitions, names, truth, deviations, dimensions, repeats=200):
    """Share of noisy sets whose interval holds the right value, for each measurement."""
    rng = np.random.default_rng(7)
    exact = measure(LandmarkSet(names, truth), definitions)
    radius = deviations * {2: 2.1460, 3: 2.5003}[dimensions]
    held = np.zeros(len(exact))
    for _ in range(repeats):
        noise = rng.normal(size=truth.shape) * deviations[:, None]
        noise[:, dimensions:] = 0
        found = measure(LandmarkSet(names, truth + noise, radius=radius), definitions)
        held += [f.low90 <= e.value <= f.high90 for f, e in zip(found, exact)]
    return dict(zip([e.name for e in exact], held / repeats))


def test_intervals_hold_nine_of_ten_in_space():
    names = ("menton", "gonion-L", "gonion-R", "condylion-L", "condylion-R", "coronoid-L", "coronoid-R")
    truth = np.array(
        [[0, -50, 0], [48, 20, 15], [-47, 21, 14], [52, 30, 72], [-50, 31, 70], [46, 0, 60], [-47, 1, 61]], float
    )
    definitions = bundled_definitions("head-neck-11")
    for name, share in coverage(definitions, names, truth, np.linspace(0.6, 1.4, 7), 3).items():
        assert 0.85 <= share <= 0.95, name


def test_intervals_hold_nine_of_ten_in_a_picture():
    names = ("a", "b", "c", "d", "left", "right")
    some = ("distance", "angle", "ahead", "toward")
    definitions = Measurements(tuple(SIGNED.measurement(name) for name in some), MADE)
    for name, share in coverage(definitions, names, 5 * POINTS * (1, 1, 0) + (0, 0, 3), np.full(6, 1.0), 2).items():
        assert 0.85 <= share <= 0.95, name


def test_intervals_are_the_same_each_time_and_stay_possible():
    near = LandmarkSet(("a", "b"), [[0, 0, 0], [0.1, 0, 0]], radius=[2, 2])
    part = Measurements((Measurement("gap", "distance", ("a", "b")),))
    first, second = measure(near, part), measure(near, part)
    assert first == second and first[0].low90 == 0.0


def test_errors_of_a_picture_stay_in_its_plane():
    """A radius in a plane means a larger deviation along each axis than in space."""
    part = Measurements((Measurement("gap", "distance", ("a", "b")),))
    picture = LandmarkSet(("a", "b"), [[0, 0, 7], [40, 30, 7]], radius=[2, 2])
    in_plane, in_space = (measure(picture, part, flat=flat)[0] for flat in (None, False))
    ratio = (in_plane.high90 - in_plane.low90) / (in_space.high90 - in_space.low90)
    assert ratio == pytest.approx(2.5003 / 2.1460, abs=0.1)


# The angles of a spine


def spine(tilts, lean=0.0):
    """(1, V, 4, 3) corners of vertebrae of these tilts in degrees, one below another."""
    corners = []
    for k, tilt in enumerate(np.deg2rad(tilts)):
        across, down = np.array([np.cos(tilt), np.sin(tilt), 0]), np.array([-np.sin(tilt), np.cos(tilt), 0])
        center = np.array([lean * k, 30.0 * k, 0])
        corners.append([center + x * 20 * across + y * 10 * down for y in (-1, 1) for x in (-1, 1)])
    return np.array([corners])


def test_the_first_cobb_angle_is_the_largest_difference_of_tilt():
    tilts = [0, 5, 12, 20, 12, 0, -10, -18, -12, -4, 0]
    assert cobb_angles(spine(tilts))[0, 0] == pytest.approx(38)


@given(st.lists(st.floats(-40, 40), min_size=3, max_size=17), st.floats(-3, 3))
@settings(max_examples=25, deadline=None)
def test_cobb_angles_do_not_depend_on_how_the_picture_is_turned(tilts, angle):
    corners = spine(tilts)
    turned = corners @ rotation((0, 0, angle)).T + (5, 6, 7)
    assert cobb_angles(turned)[0, 0] == pytest.approx(max(tilts) - min(tilts), abs=1e-6)


HIGH = [0, 8, 20, 5, -18, -9, 3, 12, 4, 0, 0]  # its largest curve lies in the upper half


@pytest.mark.parametrize("lean", [0.0, 12.0])
@pytest.mark.parametrize(
    ("tilts", "middle", "expected"),
    [
        (HIGH, None, (38, 20, 30)),  # the largest one with one above and with one below
        (HIGH[::-1], None, (38, 30, 12)),  # the third is that of the next curve above the second
        (HIGH, (0, -500, 0), (38, 20, 0)),
        (HIGH[::-1], (0, 500, 0), (38, 30, 20)),
    ],
)
def test_the_other_cobb_angles_of_a_spine_that_crosses_its_line(tilts, middle, expected, lean):
    angles = cobb_angles(spine(tilts, lean), None if middle is None else np.array(middle, float))
    assert angles[0].tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("side", [1, -1])
def test_the_other_cobb_angles_of_a_spine_on_one_side_of_its_line_are_those_with_its_ends(side):
    tilts = side * np.array([15.0, 20, 10, 0, -10, -20, -5])
    bent = np.cumsum([0, *(-30 * np.tan(np.deg2rad((tilts[1:] + tilts[:-1]) / 2)))])
    corners = spine(tilts) + np.pad(bent[None, :, None, None], ((0, 0), (0, 0), (0, 0), (0, 2)))
    for angle in (0.0, 1.2, 2.9):
        angles = cobb_angles(corners @ rotation((0, 0, angle)).T)
        assert angles[0].tolist() == pytest.approx((40, 5, 15), abs=1e-6)


def spine_of(tilts, absent=(), radius=1.0):
    """Points of a spine of these tilts without some vertebrae, and the definition of its largest angle."""
    corners = spine(tilts).reshape(-1, 3)
    names = [f"V{k} {corner}" for k in range(len(tilts)) for corner in range(4)]
    missing = np.isin(np.arange(len(names)) // 4, absent) & (np.arange(len(names)) % 4 == 1)
    points = LandmarkSet(
        tuple(names), np.where(missing[:, None], np.nan, corners), radius=np.where(missing, np.nan, radius)
    )
    return points, Measurements((Measurement("angle", "cobb", tuple(names)),))


TILTS = [0, 5, 12, 20, 12, 0, -10, -18, -12, -4, 0]


def test_an_absent_corner_leaves_its_vertebra_out_and_widens_the_interval():
    (whole,), (rest,) = (measure(*spine_of(TILTS, absent)) for absent in ((), (5,)))
    assert whole.value == pytest.approx(38) and rest.value == pytest.approx(38)
    assert whole.reason is None and "1 of 11 vertebrae left out" in rest.reason and "V5 1" in rest.reason
    assert rest.high90 - rest.low90 > whole.high90 - whole.low90 + 5
    assert {shape.name for shape in shapes(*spine_of(TILTS, (5,)))} == {
        "angle: upper end vertebra",
        "angle: lower end vertebra",
    }


def test_of_many_points_without_a_radius_the_first_are_named_and_the_others_counted():
    landmarks, definitions = spine_of(TILTS)
    unknown = replace(landmarks, radius=np.full(len(landmarks), np.nan))
    (found,) = measure(unknown, definitions)
    assert found.value == pytest.approx(38) and found.low90 is None
    assert landmarks.names[0] in found.reason and landmarks.names[-1] not in found.reason
    assert f"{len(landmarks) - MOST_NAMED} more" in found.reason


def test_without_many_vertebrae_there_is_no_angle():
    (found,) = measure(*spine_of(TILTS, (1, 5, 8)))
    assert found.value is None and "V1 1, V5 1, V8 1: absent" in found.reason


def test_intervals_reach_as_far_as_a_model_has_measured():
    points, definitions = spine_of(TILTS, radius=3.0)
    (usual,), (nearer,) = measure(points, definitions), measure(points, definitions, reaches={"angle": 0.5})
    assert nearer.high90 - nearer.value == pytest.approx(0.5 * (usual.high90 - usual.value), abs=1e-3)
    assert nearer.value == usual.value


def test_a_line_and_an_angle_and_a_plane_are_what_can_be_drawn():
    found = {shape.name: shape for shape in shapes(LandmarkSet(NAMES, POINTS), SIGNED)}
    assert {shape.kind for shape in found.values()} == {"line", "angle", "plane"}
    assert found["angle"].points.tolist() == POINTS[[1, 0, 2]].tolist()
    assert found["from a plane"].points[1] == pytest.approx([4, 3, 0])
    assert "sum" not in found and found["ab"].kind == "line" and found["abc"].kind == "plane"
    fewer = shapes(LandmarkSet(NAMES, np.where([[n == "d"] for n in NAMES], np.nan, POINTS)), SIGNED)
    assert "planes" not in {shape.name for shape in fewer} and len(fewer) < len(found)
