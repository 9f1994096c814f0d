"""Pictures of results: every landmark is where it belongs, whatever the scan's orientation."""

import subprocess
import sys
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from flat_cases import BRIGHTNESS, PLANES, radiograph

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Volume, transform_points
from H3DELandmarksLib.core.landmarks import Cause, LandmarkSet
from H3DELandmarksResearch.figures.canvas import DOTS_PER_INCH, INK, STRONG, as_svg, new_figure, plain_axes
from H3DELandmarksResearch.figures.detection import (
    REFERENCE_COLOR,
    RING_AREA,
    confidence_colors,
    detection_figure,
    draw_detection,
)
from H3DELandmarksResearch.figures.layout import (
    AXIAL,
    CORONAL,
    HEADING_HEIGHT,
    LABEL_STEP,
    SAGITTAL,
    plan_sheet,
    round_length,
    shown_name,
    spread,
)

image = pytest.importorskip("matplotlib.image", reason="pictures need matplotlib")
to_rgb = pytest.importorskip("matplotlib.colors").to_rgb

TURN = np.array([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]])


def volume(directions=None, shape=(40, 50, 30), spacing=(1.0, 0.8, 1.5)) -> Volume:
    """A ball in air."""
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3) if directions is None else directions) * spacing
    affine[:3, 3] = 5, -7, 11
    index = np.indices(shape).transpose(1, 2, 3, 0)
    lps = index @ affine[:3, :3].T + affine[:3, 3]
    center = (np.array(shape) - 1) / 2 @ affine[:3, :3].T + affine[:3, 3]
    radius = np.linalg.norm(lps - center, axis=-1)
    return Volume(np.where(radius < 15, 1000.0, -1000.0).astype(np.float32), affine)


def points(scan: Volume, count: int = 6, **values) -> LandmarkSet:
    """Points that are apart from each other in every view."""
    turns = 2 * np.pi * np.arange(count) / count
    offsets = np.stack([np.cos(turns), np.sin(turns), np.cos(turns + 1)], axis=1)
    return LandmarkSet(tuple(f"P{k}" for k in range(count)), scan.grid.center + 9 * offsets, **values)


def drawn(path) -> np.ndarray:
    """(rows, columns, 3) pixels from 0 to 1, first row at the bottom of the sheet."""
    return image.imread(path)[::-1, :, :3]


def has_color(pixels: np.ndarray, place: np.ndarray, color: np.ndarray, reach: int = 3) -> bool:
    """Whether some pixel within `reach` of a place in inches has a color."""
    column, row = np.rint(place * DOTS_PER_INCH).astype(int)
    part = pixels[row - reach : row + reach + 1, column - reach : column + reach + 1]
    return bool((np.abs(part - color[:3]).max(axis=-1) < 0.06).any())


@pytest.mark.parametrize(
    "directions", [np.eye(3), -np.eye(3), np.eye(3)[:, [2, 0, 1]], TURN], ids=["LPS", "RAI", "permuted", "oblique"]
)
def test_every_present_landmark_is_drawn_in_every_view(directions, tmp_path):
    scan = volume(directions)
    landmarks = points(scan, confidence=np.linspace(0.05, 1, 6), presence=[1, 1, 0, 1, 1, 1])
    draw_detection(scan, landmarks, tmp_path / "a.png", title="test")
    pixels, sheet = drawn(tmp_path / "a.png"), plan_sheet(scan, landmarks)
    colors = confidence_colors(landmarks.confidence)
    assert pixels.shape[:2] == (int(sheet.height * DOTS_PER_INCH), int(sheet.width * DOTS_PER_INCH))
    for panel in sheet.projections:
        places = panel.on_sheet(scan.grid.center + 9 * np.array([0, 0, 0])), panel.on_sheet(landmarks.positions)
        assert pixels[tuple(np.rint(places[0] * DOTS_PER_INCH).astype(int)[::-1])].min() > 0.8  # the ball
        shown = [has_color(pixels, places[1][k], colors[k]) for k in np.flatnonzero(landmarks.present)]
        assert all(shown)


def test_absent_landmarks_are_named_not_drawn(tmp_path):
    scan = volume()
    everything = points(scan)
    without = points(scan, presence=[1, 1, 1, 1, 1, 0])
    for name, landmarks in (("all", everything), ("less", without)):
        draw_detection(scan, landmarks, tmp_path / f"{name}.png")
    sheet, color = plan_sheet(scan, everything), confidence_colors(np.array([np.nan]))[0]
    place = sheet.projections[0].on_sheet(everything.positions[5])
    assert has_color(drawn(tmp_path / "all.png"), place, color)
    assert not has_color(drawn(tmp_path / "less.png"), place, color)


def test_the_heading_says_what_was_not_examined_and_the_last_line_where_it_comes_from():
    scan = volume()
    some = points(scan).unknown_where([True, False, False, False, False, False], Cause.OUTSIDE_SCAN)
    none = some.unknown_where(np.ones(6, bool), Cause.UNLIKE)
    for landmarks, words in (
        (some, "5 of 6 landmarks found; not examined (outside the scan): P0"),
        (replace(none, causes=(Cause.UNLIKE,) * 6), f"No landmark: not recognised, {Cause.UNLIKE.value}"),
    ):
        figure = detection_figure(scan, landmarks, None, "test", origin="model a@1.0.0")
        texts = [text.get_text() for text in figure.axes[0].texts]
        assert words in texts and texts[-1] == "model a@1.0.0"


WARNING = "structures may be counted one off as a whole, so that no radius is stated: check the first and the last one"


@pytest.mark.parametrize("warning", ["", WARNING])
def test_a_long_heading_ends_within_the_picture_and_a_warning_comes_first(warning):
    scan = volume()
    names = tuple(f"a landmark with a long name, number {number}" for number in range(24))
    landmarks = replace(points(scan, 24), names=names).unknown_where(np.arange(24) > 0, Cause.NO_PLACE)
    figure = detection_figure(scan, landmarks, None, "test", warning=warning)
    figure.canvas.draw()
    heading = [text for text in figure.axes[0].texts if text.get_fontsize() == 8.5]
    right, top = figure.bbox.x1, figure.axes[0].transData.transform((0, figure.get_figheight() - HEADING_HEIGHT))[1]
    assert 1 < len(heading) <= 3
    for text in heading:
        box = text.get_window_extent()
        assert box.x1 <= right and box.y0 >= top, text.get_text()
    told = " ".join(text.get_text() for text in heading)
    assert (
        told.startswith(warning.capitalize() or "1 of 24")
        and "1 of 24 landmarks found" in told
        and told.endswith("...")
    )


def test_reference_is_a_ring_at_its_own_place(tmp_path):
    scan = volume()
    landmarks = points(scan)
    reference = landmarks.with_positions(landmarks.positions + [6.0, 6.0, 6.0])
    draw_detection(scan, landmarks, tmp_path / "with.png", reference=reference.ordered_as(landmarks.names[::-1]))
    draw_detection(scan, landmarks, tmp_path / "without.png")
    panel = plan_sheet(scan, landmarks).projections[2]
    radius = np.sqrt(RING_AREA) / 2 / 72  # a marker's area is in square points
    color = np.array(to_rgb(REFERENCE_COLOR))
    for k in range(len(landmarks)):
        edge = panel.on_sheet(reference.positions[k]) + [0.0, radius]
        assert has_color(drawn(tmp_path / "with.png"), edge, color, reach=1)
        assert not has_color(drawn(tmp_path / "without.png"), edge, color, reach=1)


def test_directions_on_the_sheet():
    scan = volume()
    landmarks = points(scan)
    panels = {panel.view: panel for panel in plan_sheet(scan, landmarks).projections}
    left, posterior, superior = np.eye(3)
    center = scan.grid.center

    def move(view, direction):
        return np.sign(np.round(panels[view].on_sheet(center + direction) - panels[view].on_sheet(center), 6)).tolist()

    assert move(AXIAL, left) == [1, 0] and move(AXIAL, posterior) == [0, -1] and move(AXIAL, superior) == [0, 0]
    assert move(CORONAL, left) == [1, 0] and move(CORONAL, superior) == [0, 1]
    assert move(SAGITTAL, posterior) == [1, 0] and move(SAGITTAL, superior) == [0, 1]
    assert [panel.view.letters[0] for panel in panels.values()] == ["R", "R", "A"]


def test_panels_share_one_scale_and_do_not_overlap():
    scan = volume(TURN)
    sheet = plan_sheet(scan, points(scan))
    assert len({round(panel.scale, 9) for panel in sheet.projections}) == 1
    edges = [edge for panel in sheet.projections for edge in panel.extent[:2]]
    assert edges == sorted(edges) and edges[0] > 0 and edges[-1] < sheet.width
    rows, columns = sheet.projections[0].image.shape
    width, height = sheet.projections[0].size
    assert width / columns == pytest.approx(height / rows)


def test_air_is_trimmed_but_no_landmark():
    scan = Volume(np.pad(volume().array, 60, constant_values=-1000.0), np.eye(4))
    inside = LandmarkSet(("A",), [scan.grid.center])
    outlier = LandmarkSet(("A", "B"), [scan.grid.center, [3.0, 3.0, 3.0]])
    small, large = (plan_sheet(scan, landmarks).projections[0] for landmarks in (inside, outlier))
    assert ((small.high - small.low) < 0.5 * np.array(scan.array.shape[:2])).all()
    assert (large.low < 3).all() and (small.low > 30).all()


def test_radiograph_is_one_panel_without_sides(tmp_path):
    scan = Volume(np.random.default_rng(0).uniform(0, 255, (90, 60, 1)).astype(np.uint8), np.diag([0.5, 0.5, 1, 1]))
    landmarks = LandmarkSet(("A", "B"), [[10, 5, 0], [40, 25, 0]], confidence=[0.9, 0.3])
    draw_detection(scan, landmarks, tmp_path / "a.png")
    sheet = plan_sheet(scan, landmarks)
    assert len(sheet.projections) == 1 and sheet.projections[0].view.letters == ("", "", "", "") and not sheet.close_ups
    for k, color in enumerate(confidence_colors(landmarks.confidence)):
        assert has_color(drawn(tmp_path / "a.png"), sheet.projections[0].on_sheet(landmarks.positions[k]), color)


@pytest.mark.parametrize("sheared", [False, True])
@pytest.mark.parametrize("plane", PLANES)
def test_landmarks_of_a_radiograph_are_drawn_on_their_spots_in_any_plane(plane, sheared, tmp_path):
    scan, landmarks = radiograph(1, plane=plane, width=3.0)
    if sheared:
        shear = np.eye(4)
        shear[0, 1] = shear[2, 1] = 0.2
        scan = Volume(scan.array, shear @ scan.affine)
        landmarks = landmarks.with_positions(transform_points(shear, landmarks.positions))
    draw_detection(scan, landmarks, tmp_path / "a.png")
    (panel,) = plan_sheet(scan, landmarks).projections
    places = panel.on_sheet(landmarks.positions)
    columns, rows = ((places - panel.origin) / panel.size * panel.image.shape[::-1]).T
    values = panel.image[panel.image.shape[0] - 1 - rows.astype(int), columns.astype(int)]
    np.testing.assert_allclose(values, 1000 * BRIGHTNESS, rtol=0.2)
    color = confidence_colors(np.array([np.nan]))[0]
    assert all(has_color(drawn(tmp_path / "a.png"), place, color) for place in places)


@pytest.mark.parametrize("count", [1, 45])
def test_labels_never_overlap(count):
    rng = np.random.default_rng(count)
    wanted = np.sort(rng.normal(3, 0.2, count))
    places = spread(wanted, LABEL_STEP, 0.0, 6.0)
    assert (np.diff(places) >= LABEL_STEP - 1e-9).all() and places[0] >= 0 and places[-1] <= 6
    apart = np.arange(5.0)
    assert np.allclose(spread(apart, 0.5, 0, 10), apart)


def test_labels_stay_within_a_range_that_is_too_short():
    places = spread(np.full(11, 0.9), 1.0, 0.0, 1.0)
    assert np.allclose(places, np.linspace(0, 1, 11))


def test_nothing_found_and_flat_image_still_give_a_picture(tmp_path):
    scan = Volume(np.zeros((8, 8, 8), np.int16), np.eye(4))
    landmarks = LandmarkSet(("A $x$", "B" * 60), np.full((2, 3), np.nan), presence=[0.0, np.nan])
    draw_detection(scan, landmarks, tmp_path / "a.png", reference=LandmarkSet(("B" * 60,), [[1, 2, 3]]))
    assert drawn(tmp_path / "a.png").std() > 0.01


def test_names_and_lengths_for_people():
    assert shown_name("short") == "short"
    assert shown_name("anterior nasal spine, left") != shown_name("anterior nasal spine, right")
    assert [round_length(x) for x in (1, 0.7, 26, 99, 2.0)] == [1, 0.5, 20, 50, 2]


def test_nothing_is_left_after_a_failure(tmp_path, monkeypatch):
    scan = volume()
    (tmp_path / "a.png").write_text("before")

    def fail(self, path, **options):
        path.write_text("half")
        raise OSError("disk full")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", fail)
    with pytest.raises(InputError, match="a.png.*cannot be written"):
        draw_detection(scan, points(scan), tmp_path / "a.png")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"] and (tmp_path / "a.png").read_text() == "before"


def test_no_display_and_no_opengl_are_needed(tmp_path):
    code = (
        "import sys, numpy as np\n"
        "for name in ('OpenGL', 'vtk', 'tkinter', 'matplotlib.pyplot'): sys.modules[name] = None\n"
        "from H3DELandmarksLib.core.geometry import Volume\n"
        "from H3DELandmarksLib.core.landmarks import LandmarkSet\n"
        "from H3DELandmarksResearch.figures.detection import draw_detection\n"
        "scan = Volume(np.random.default_rng(0).normal(size=(9, 9, 9)), np.eye(4))\n"
        "draw_detection(scan, LandmarkSet(('A',), [[4, 4, 4]]), sys.argv[1])\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.png")], check=True)
    assert (tmp_path / "a.png").stat().st_size > 1000


@pytest.mark.parametrize("form, start", [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF"), ("PDF", b"%PDF")])
def test_the_ending_says_the_form_and_the_same_result_gives_the_same_file(form, start, tmp_path):
    scan = volume()
    for name in ("a", "b"):
        draw_detection(scan, points(scan), tmp_path / f"{name}.{form}", title="<A> & $x$")
    assert (tmp_path / f"a.{form}").read_bytes().startswith(start)
    assert (tmp_path / f"a.{form}").read_bytes() == (tmp_path / f"b.{form}").read_bytes()


def test_words_of_a_drawing_for_papers_stay_words(tmp_path):
    scan = volume()
    draw_detection(scan, points(scan), tmp_path / "a.svg", title="<A> & $x$")
    svg = ElementTree.parse(tmp_path / "a.svg")
    words = {text.text for text in svg.iter("{http://www.w3.org/2000/svg}text")}
    assert {"<A> & $x$", "P0", "Axial"} <= words


def test_a_picture_of_another_form_is_refused(tmp_path):
    scan = volume()
    with pytest.raises(InputError, match="svg"):
        draw_detection(scan, points(scan), tmp_path / "a.bmp")
    assert not list(tmp_path.iterdir())


def test_figures_of_one_page_share_no_names_and_bring_no_style():
    pages = []
    for unique in ("f1", "f2"):
        figure = new_figure(3, 2)
        axes = figure.add_subplot()
        axes.scatter([1, 2], [1, 2], color=STRONG)
        axes.set_title('<script>"#x url(#y) $z$', parse_math=False)
        plain_axes(axes)
        pages.append(as_svg(figure, unique, {INK: "var(--ink)"}))
    roots = [ElementTree.fromstring(page) for page in pages]
    names = [{e.get("id") for e in root.iter() if e.get("id")} for root in roots]
    assert names[0] and not names[0] & names[1]
    assert not [e for e in roots[0].iter() if e.tag.endswith(("style", "metadata", "script"))]
    assert '<script>"#x url(#y) $z$' in {text.text for text in roots[0].iter("{http://www.w3.org/2000/svg}text")}
    assert "var(--ink)" in pages[0] and INK not in pages[0]
    used = {e.get("{http://www.w3.org/1999/xlink}href", "#")[1:] for e in roots[0].iter()} - {""}
    assert used and used <= names[0]
