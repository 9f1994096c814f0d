"""What the panel says of the chosen model, and its card in a window."""

import hashlib
import json
import shutil
import zipfile
from types import SimpleNamespace

import pytest
import qt
from operating import add_volume, click
from PySide6.QtCore import QPoint, QUrl
from PySide6.QtGui import QColor, QImage, QTextDocument
from test_review_by_clicks import click_row

from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.models.registry import bundled_folder
from H3DELandmarksLib.scene import show_detection

RED = QColor(250, 20, 30)


@pytest.fixture
def change(models, tiny):
    """Installs the tiny model with another card and pictures."""

    def make(card, pictures=(), named=(), as_zip=False, **entries):
        folder = shutil.copytree(tiny.path, models / "tiny")
        (folder / "model-card.md").write_text(card, encoding="utf-8")
        for name in pictures:
            image = QImage(900, 300, QImage.Format.Format_RGB32)
            image.fill(RED)
            assert image.save(str(folder / name))
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        manifest["pictures"] = [
            {"file": name, "sha256": hashlib.sha256((folder / name).read_bytes()).hexdigest()} for name in named
        ]
        manifest.update(entries)
        (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
        if as_zip:
            with zipfile.ZipFile(models / "tiny.zip", "w") as archive:
                for path in folder.iterdir():
                    archive.write(path, path.name)
            shutil.rmtree(folder)
        return folder

    return make


def shown_card(panel):
    """The browser after a click on the button."""
    click(panel.ui.modelCardButton)
    browser = panel.detection.models.card.browser
    assert browser.visible
    return browser


def red_pixels(browser):
    """Of what the user sees, the number of pixels that only the test's picture has."""
    image = qt.unwrapped(browser).grab().toImage()
    places = (QPoint(x, y) for x in range(0, image.width(), 4) for y in range(0, image.height(), 4))
    return sum(image.pixelColor(place) == RED for place in places)


def test_three_lines_say_for_what_how_accurate_and_for_what_not(open_panel, change):
    accuracy = {"test": {"mean_mm": 0.417, "p90_mm": 0.719, "cases": 20}}
    change("# Card", accuracy=accuracy, intended_use="Teeth.", limitations=["Not for mice.", "Nor rats."])
    panel = open_panel()
    assert panel.ui.modelFactsLabel.text.splitlines() == [
        "For: Teeth.",
        "Measured error: mean 0.42 mm, nine of ten below 0.72 mm, in 20 cases that it had not seen.",
        "Limits: Not for mice. Nor rats.",
    ]


@pytest.mark.parametrize("reader", ["phantom", "composite"])
def test_an_error_in_simulated_scans_is_not_shown_as_one_in_patients(open_panel, change, reader):
    accuracy = {"test": {"mean_mm": 0.417, "cases": 20}}
    change("# Card", accuracy=accuracy, training={"data": {"reader": reader}})
    line = open_panel().ui.modelFactsLabel.text.splitlines()[1]
    assert "0.42 mm" in line and "20 simulated" in line and "had not seen" not in line


@pytest.mark.parametrize("accuracy", [{}, {"test": "good"}, {"test": {"mean_mm": "0.1"}}, {"other": 5}])
def test_an_error_that_nobody_has_measured_is_not_made_up(open_panel, change, accuracy):
    change("# Card", accuracy=accuracy, intended_use="x" * 1000, limitations=["<b>bold</b>\n\n" * 100])
    lines = open_panel().ui.modelFactsLabel.text.splitlines()
    assert lines[1] == "Measured error: not stated." and len(lines) == 3
    assert all(len(line) <= 180 for line in lines) and lines[2].endswith("<b>bold</b> ...")


def test_without_a_model_the_button_is_off(open_panel, models, scene):
    panel = open_panel()
    assert not panel.ui.modelCardButton.enabled and panel.ui.modelFactsLabel.text.startswith("No model is installed")


def test_a_model_that_cannot_be_used_is_named_beside_others(open_panel, models, change):
    change("# Card", intended_use="Teeth.")
    (models / "odd").mkdir()
    lines = open_panel().ui.modelFactsLabel.text.splitlines()
    assert lines[0] == "For: Teeth." and len(lines) == 4 and "odd" in lines[3] and "lacks manifest.json" in lines[3]


@pytest.mark.parametrize("as_zip", [False, True], ids=["folder", "zip file"])
def test_the_card_opens_in_a_window_with_the_pictures_that_the_manifest_names(open_panel, change, as_zip):
    change("# Card\n\n![points](points.png)\n\nFor tests.", ["points.png"], ["points.png"], as_zip)
    add_volume()
    browser = shown_card(open_panel())
    assert "For tests." in browser.plainText and browser.window().windowTitle == "Model card: Tiny model 1.0.0"
    assert red_pixels(browser) > 1000


@pytest.mark.parametrize(
    "card",
    [
        "![p](other.png)",
        "![p](../tiny/other.png)",
        "![p](file://{folder}/other.png)",
        '<img src="{folder}/other.png">',
        "![p](points.png) is damaged",
    ],
)
def test_other_pictures_are_not_shown(open_panel, change, card):
    folder = change("", ["points.png", "other.png"], ["points.png"])
    (folder / "model-card.md").write_text(card.replace("{folder}", str(folder)), encoding="utf-8")
    with (folder / "points.png").open("ab") as file:
        file.write(b"more")
    browser = shown_card(open_panel())
    assert red_pixels(browser) == 0 and "<img" not in browser.html
    assert ("changed or damaged" in browser.plainText) == ("damaged" in card)


def test_links_open_pages_of_the_web_only(open_panel, change, monkeypatch):
    opened = []
    monkeypatch.setattr(qt, "QDesktopServices", SimpleNamespace(openUrl=opened.append), raising=False)
    change("[a](https://example.org/a) [b](file:///etc/passwd) [c](ms-settings:x)")
    browser = shown_card(open_panel())
    for url in ("https://example.org/a", "file:///etc/passwd", "ms-settings:x"):
        qt.unwrapped(browser).anchorClicked.emit(QUrl(url))
    assert [url.toString() for url in opened] == ["https://example.org/a"]
    assert "passwd" not in browser.plainText and "[b]" not in browser.plainText


def test_a_card_that_is_gone_is_told(open_panel, tiny_model):
    panel = open_panel()
    (tiny_model / "model-card.md").unlink()
    click(panel.ui.modelCardButton)
    assert "model-card.md" in panel.ui.statusLabel.text


def test_every_picture_of_the_bundled_cards_is_shown_and_fits(open_panel, monkeypatch, models):
    monkeypatch.setenv("H3DE_MODELS", str(bundled_folder().parents[1] / "Resources" / "Models"))
    panel = open_panel()
    for row in range(panel.ui.modelSelector.count):
        panel.ui.modelSelector.setCurrentIndex(row)
        package = panel.detection.models.chosenPackage()
        browser = shown_card(panel)
        assert browser.html.count("data:image/") == len(package.picture_files) > 2
        assert "not stated" not in panel.ui.modelFactsLabel.text
        document = qt.unwrapped(browser).document()
        assert isinstance(document, QTextDocument) and document.idealWidth() < browser.width * 1.3


LANDMARKS = """# Card

## Landmarks

| name | definition |
|---|---|
| L | left point |
| R | right point |

![where](a.png)

## More

not shown"""


@pytest.mark.parametrize("named", [["a.png"], []])
def test_the_picture_of_the_landmarks_is_one_click_from_the_chosen_one(open_panel, change, scene, named):
    change(LANDMARKS, pictures=["a.png"], named=named)
    panel = open_panel()
    found = LandmarkSet(("L", "R"), [[1, 2, 3], [2, 3, 4]], presence=[0.9, 0.9])
    panel.ui.reviewSelector.setCurrentNode(show_detection(found, add_volume(), "tiny@1.0.0", "points"))
    ui = panel.ui
    assert not ui.pictureButton.visible, "no landmark is chosen"
    click_row(panel, "R")
    assert ui.pictureButton.visible == bool(named), "a picture that the package does not name is never shown"
    if named:
        click(ui.pictureButton)
        browser = panel.review.pictures.browser
        assert browser.visible and red_pixels(browser) > 100
        text = qt.unwrapped(browser).toPlainText()
        assert "right point" in text and "not shown" not in text
