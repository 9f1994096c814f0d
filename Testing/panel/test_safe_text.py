"""What strangers have written opens nothing in the panel."""

import json
import re
from pathlib import Path

import pytest
import qt
from operating import add_volume
from PySide6 import QtCore, QtGui, QtWidgets
from test_review_by_clicks import FOUND

from H3DELandmarksLib.scene import show_detection

PANEL = Path(__file__).resolve().parents[2] / "H3DELandmarks"
HOSTILE = """# Card
![own](own.png) ![own, changed](changed.png) !![twice](/{secret}) \\![escaped]({secret})
![file](file:///{secret}) ![with a title]({secret} "x") ![reference][r] ![r] ![of two
lines]({secret}) [open](file:///{secret}) <file:///{secret}>

<img src="{secret}"> <table background="{secret}"><tr><td>x</td></tr></table>
<style>p {{ background-image: url({secret}) }}</style>

[r]: file:///{secret}
"""


class Package:
    """A model package with two pictures, one of which was changed."""

    picture_files = {"own.png": "", "changed.png": ""}

    def __init__(self, folder):
        self.card = HOSTILE.format(secret=folder / "secret.png")

    def model_card(self):
        return self.card


class Watched(QtWidgets.QTextBrowser):
    """Notes what it is asked to load."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def loadResource(self, kind, url):
        self.asked.append(url.toString())
        return super().loadResource(kind, url)


def test_a_card_shows_its_own_pictures_and_loads_nothing_else(module, tmp_path):
    from H3DELandmarksPanel.SafeText import safeCard

    browser = Watched()
    browser.resize(400, 400)
    browser.setMarkdown(safeCard(Package(tmp_path)))
    browser.show()
    QtCore.QCoreApplication.processEvents()
    browser.grab()
    assert set(browser.asked) == {"own.png", "changed.png"}  # which `ModelCard` replaces by what the manifest says
    assert "<img" in browser.toPlainText()


def test_every_label_shows_plain_text():
    plain = re.compile(r'class="QLabel" name="\w+">\s*<property name="textFormat">\s*<enum>Qt::PlainText')
    for path in (PANEL / "Resources" / "UI").glob("*.ui"):
        text = path.read_text(encoding="utf-8")
        assert len(plain.findall(text)) == text.count('class="QLabel"')


@pytest.mark.parametrize("text", ['<img src="file:///secret.png">', "a < b", "</p><b>x", "&lt; <", "two\n<lines>"])
def test_a_tool_tip_shows_a_text_as_it_is(module, text):
    from H3DELandmarksPanel.SafeText import plainTip

    document = QtGui.QTextDocument()
    document.setHtml(plainTip(text))
    assert document.toPlainText() == text and "img" not in document.toHtml().replace("&lt;img", "")


def test_names_of_strangers_open_nothing_and_hide_nothing(open_panel, tiny_model, scene, tmp_path):
    manifest = json.loads((tiny_model / "manifest.json").read_text(encoding="utf-8"))
    title = "Title <img src='x.png'>"
    (tiny_model / "manifest.json").write_text(json.dumps({**manifest, "title": title}), encoding="utf-8")
    volume = add_volume("<img src='y.png'> A")
    panel = open_panel()
    panel.ui.reviewSelector.setCurrentNode(show_detection(FOUND, volume, "tiny@1.0.0", "<img src='z.png'> points"))
    (tmp_path / "scans").mkdir()
    cases, batch = panel.learning.ui, panel.batch.ui
    cases.casesPath.currentPath = str(tmp_path / "cases")
    cases.scansPath.currentPath = batch.batchScansPath.currentPath = str(tmp_path / "scans")
    batch.batchResultsPath.currentPath = str(tmp_path / "results")
    panel.refresh()
    named = [button for button in (cases.addCaseButton, cases.rankButton, batch.batchButton) if button.enabled]
    assert len(named) == 3 and all("img" in button.toolTip for button in named)
    for widget in qt.unwrapped(panel.parent).findChildren(QtWidgets.QWidget):
        assert "<img" not in widget.toolTip() or not QtGui.Qt.mightBeRichText(widget.toolTip()), widget.objectName()


def test_a_plain_tool_tip_stays(module):
    from H3DELandmarksPanel.SafeText import plainTip

    assert plainTip("R & D") == "R & D" and plainTip("") == "" and plainTip(None) is None
