"""What is said of a scan first, what can then be accepted, and that a confidence is one number wherever it stands."""

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import qt
import slicer
import slicer.util
from operating import bring_tab, click, type_path, wait_until
from scene_voxels import add_head
from test_review_by_clicks import click_row, rows

from H3DELandmarksLib.cli.main import main
from H3DELandmarksLib.io.images import read_volume, write_volume
from H3DELandmarksLib.io.markups import read_markups
from H3DELandmarksLib.scene import landmarks_from_point_list, volume_from_node

pytestmark = pytest.mark.usefixtures("shared_program")

ROOT = Path(__file__).resolve().parents[2]
RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@pytest.fixture
def molars(models):
    return shutil.copytree(ROOT / "Resources" / "Models" / "mandibular-molar-phantom", models / "molars")


def jaw():
    return read_volume(ROOT / "Resources" / "SampleData" / "mandibular-molar-phantom.nrrd")


def add(volume, name):
    return slicer.util.addVolumeFromArray(np.ascontiguousarray(volume.array.T), ijkToRAS=RAS @ volume.affine, name=name)


def detect(panel, volume):
    panel.ui.volumeSelector.setCurrentNode(volume)
    click(panel.ui.applyButton)
    wait_until(lambda: not panel.isDetecting())
    return re.split(r"(?<=[.!]) ", panel.ui.statusLabel.text)


def part_of(volume, step=1, **limits):
    """Every nth voxel of some slices."""
    i, j, k = (slice(*limits.get(axis, (None, None)), step) for axis in "ijk")
    affine = volume.affine.copy()
    start = np.array([s.start or 0 for s in (i, j, k)])
    affine[:3, 3] = (volume.affine @ [*start, 1])[:3]
    affine[:3, :3] *= step
    return type(volume)(np.ascontiguousarray(volume.array[i, j, k]), affine)


def nothing_can_be_accepted(panel, tmp_path):
    """By row, by key or in bulk, nor does anything teach."""
    ui = panel.ui
    assert not ui.acceptAllButton.enabled and not ui.nextButton.enabled
    for row in rows(panel):
        click_row(panel, row[0])
        assert not ui.acceptButton.enabled
    learning = panel.learning.ui
    bring_tab(qt.unwrapped(learning.casesPath))
    type_path(learning.casesPath, tmp_path / "cases")
    click(learning.addCaseButton)
    assert "Nothing was added" in learning.casesLabel.text


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["noise", "another anatomy", "a part without teeth"])
def test_of_a_scan_that_is_not_recognised_the_first_sentence_says_so(open_panel, molars, kind, tmp_path):
    if kind == "noise":
        voxels = np.random.default_rng(0).normal(0, 400, (60, 60, 60)).astype(np.int16)
        node = slicer.util.addVolumeFromArray(voxels, ijkToRAS=np.diag([0.6, 0.6, 0.6, 1]), name=kind)
    elif kind == "another anatomy":
        node, _ = add_head(kind)
        node.SetSpacing(0.6, 0.6, 0.6)
    else:
        node = add(part_of(jaw(), k=(0, 40)), kind)
    panel = open_panel()
    said = detect(panel, node)
    assert said[0].startswith("This does not look like a cone-beam CT of the human lower jaw"), said
    assert "choose another model" in said[0] and "found" not in said[0]
    assert {row[1] for row in rows(panel)} == {"not recognised"}
    assert not landmarks_from_point_list(panel.ui.reviewSelector.currentNode()).present.any()
    nothing_can_be_accepted(panel, tmp_path)


@pytest.mark.slow
def test_of_a_scan_four_times_too_coarse_the_first_sentence_says_so(open_panel, molars):
    panel = open_panel()
    said = detect(panel, add(part_of(jaw(), step=4), "coarse"))
    assert "voxels (2.40 mm) are coarser" in said[0] and "check each point" in said[0], said
    assert all(row[4] == "" for row in rows(panel)), "no radius holds there"


@pytest.mark.slow
def test_of_a_hopelessly_coarse_scan_nothing_is_examined(open_panel, molars, tmp_path):
    panel = open_panel()
    said = detect(panel, add(part_of(jaw(), step=9), "hopeless"))
    assert "coarse" in said[0] and {row[1] for row in rows(panel)} == {"not examined"}, said
    nothing_can_be_accepted(panel, tmp_path)


@pytest.mark.slow
def test_of_a_cut_scan_it_is_said_what_lies_beyond(open_panel, molars):
    panel = open_panel()
    said = detect(panel, add(part_of(jaw(), i=(0, 94)), "half"))
    assert re.match(r"\d+ of 14 landmarks found", said[0])
    beyond = {row[0] for row in rows(panel) if row[1] == "not examined"}
    assert beyond and any(text.startswith("Not examined, because outside the scan") for text in said)
    for name in beyond:
        click_row(panel, name)
        why = panel.ui.definitionLabel.text
        # Of teeth that were taken for those of the other side, too, nobody knows the place.
        assert not panel.ui.acceptButton.enabled and ("outside the scan" in why or "where it should be" in why)


# One number


@pytest.fixture
def drawn(monkeypatch):
    """Texts of the pictures that are drawn."""
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    texts, original = [], Figure.savefig

    def save(figure, *arguments, **more):
        texts.extend(text.get_text() for text in figure.findobj(Text))
        return original(figure, *arguments, **more)

    monkeypatch.setattr(Figure, "savefig", save)
    return texts


@pytest.mark.slow
def test_a_confidence_is_the_same_number_in_panel_file_table_document_and_picture(
    open_panel, tiny_model, tmp_path, drawn, capsys
):
    node, _ = add_head("head")
    write_volume(tmp_path / "head.nrrd", volume_from_node(node))
    words = [
        "detect",
        tmp_path / "head.nrrd",
        "--model",
        tiny_model,
        "--output",
        tmp_path / "out",
        "--picture",
        "--json",
    ]
    assert main([str(word) for word in words]) == 0
    document = {p["name"]: p for p in json.loads(capsys.readouterr().out)["scans"][0]["landmarks"]}
    with (tmp_path / "out" / "head.csv").open(encoding="utf-8", newline="") as file:
        table = {row["name"]: row for row in csv.DictReader(file)}
    points = read_markups(tmp_path / "out" / "head.mrk.json")

    panel = open_panel()
    detect(panel, node)
    shown = {row[0]: row for row in rows(panel)}
    found = [name for name in points.names if document[name]["state"] == "found"]
    assert found and set(shown) == set(points.names)
    for k, name in enumerate(points.names):
        for column, key, number in ((2, "presence", points.presence[k]), (3, "confidence", points.confidence[k])):
            if not np.isfinite(number):
                assert shown[name][column] == "" == table[name][key] and document[name][key] is None
                continue
            assert float(table[name][key]) == pytest.approx(number, abs=1e-4)
            assert document[name][key] == pytest.approx(number, abs=1e-4)
            assert shown[name][column] == f"{100 * number:.0f} %"
    titles = [text for text in drawn if "confidence" in text and "," in text]
    assert titles
    for title in titles:
        name = title.split(",")[0]
        assert f"confidence {shown[name][3]}" in title and f"90 % within {shown[name][4]}" in title
