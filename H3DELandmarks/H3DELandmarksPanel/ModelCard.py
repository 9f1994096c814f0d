"""What a model is for, how accurate it is and what it is not for: three lines, and its whole card in a window."""

import base64
import html
import math
import re
import textwrap

import qt
from slicer.i18n import tr as _

from H3DELandmarksLib.cases.examples import MOST
from H3DELandmarksLib.core.errors import ModelPackageError
from H3DELandmarksPanel.PanelContext import onSignal
from H3DELandmarksPanel.SafeText import safeCard

PICTURE_WIDTH = 780  # pixels, as wide as the tables of accuracy
WINDOW_SIZE = (PICTURE_WIDTH + 80, 720)
LONGEST_LINE = 180  # characters, so that what bundled models are for stands there whole
PICTURE_LINK = re.compile(r"!\[[^\]\n]*\]\([^)\n]*\)")
SIMULATED = ("phantom", "composite")  # readers of training data
SUBSETS = ("test", "held-out")  # cases that a model was measured on


def factsAbout(package):
    """Three lines about a ModelPackage: for what, the error that was measured, and for what not."""
    manifest = package.manifest
    limits = " ".join(manifest.limitations) or _("no limits are stated.")
    lines = [
        _("For: {use}").format(use=manifest.intended_use),
        _("Measured error: {error}").format(error=_measuredError(manifest)),
        _("Limits: {limits}").format(limits=limits),
    ]
    return "\n".join(_shortened(line) for line in lines)


def factsAboutExamples(examples):
    """Three lines about an ExampleSet, in the same order."""
    radii = (
        _("Measured error: unknown, and one example tells no radius.")
        if len(examples.cases) == 1
        else _("Measured error: unknown; each radius shows how far the examples disagree.")
    )
    lines = [
        _("For: the points of your cases in '{folder}', which no model finds yet.").format(folder=examples.folder.name),
        radii,
        _("Limits: scans like your cases, in a similar pose. From {most} cases on, train a model: see Teach.").format(
            most=MOST
        ),
    ]
    return "\n".join(lines)


def _isSimulated(manifest):
    """Whether a model was measured on what is simulated, wholly or in real scans; that says little about patients."""
    data = manifest.training.get("data")
    return isinstance(data, dict) and data.get("reader") in SIMULATED


def _measuredError(manifest):
    """One sentence; models of other sites may state whatever they like."""
    unit = "mm" if manifest.height_mm is None else _("thousandths of the picture's height")
    scale = 1.0 if manifest.height_mm is None else 1000 / manifest.height_mm
    for subset in SUBSETS:
        measured = manifest.accuracy.get(subset)
        mean, below, cases = (_number(measured, key) for key in ("mean_mm", "p90_mm", "cases"))
        if mean is not None:
            said = _("mean {mean:.2f} {unit}").format(mean=scale * mean, unit=unit)
            if below is not None:
                said += _(", nine of ten below {below:.2f} {unit}").format(below=scale * below, unit=unit)
            unseen = _(", in {cases:.0f} cases that it had not seen")
            if _isSimulated(manifest):
                unseen = _(", in {cases:.0f} simulated cases; on patients this says nothing")
            said += unseen.format(cases=cases) if cases is not None else ""
            return f"{said}."
    return _("not stated.")


def _number(measured, key):
    value = measured.get(key) if isinstance(measured, dict) else None
    return value if isinstance(value, (int, float)) and math.isfinite(value) else None


def _shortened(line):
    return textwrap.shorten(line, LONGEST_LINE, placeholder=" ...")


def landmarksOf(package):
    """The part of a ModelPackage's card about its landmarks, as Markdown; empty where it has none."""
    section = re.search(r"^## Landmarks\n(.*?)(?=^## |\Z)", safeCard(package), re.MULTILINE | re.DOTALL)
    return section.group(1) if section else ""


def hasLandmarkPicture(package):
    """Whether the card of a ModelPackage shows where its landmarks lie."""
    try:
        return PICTURE_LINK.search(landmarksOf(package)) is not None
    except ModelPackageError:
        return False


class CardWindow:
    """A window with the model card and its figures."""

    def __init__(self, parent):
        """Args: the QWidget to which the window belongs; it closes with it."""
        self._window = qt.QDialog(parent)
        layout = qt.QVBoxLayout(self._window)
        layout.setContentsMargins(0, 0, 0, 0)
        self.browser = qt.QTextBrowser(self._window)
        self.browser.openLinks = False
        onSignal(self.browser, "anchorClicked(QUrl)", self._onLink, None)
        layout.addWidget(self.browser)
        self._window.resize(*WINDOW_SIZE)

    def show(self, package):
        """Show the card of a ModelPackage.

        Raises:
            ModelPackageError: the card is missing or too large.
        """
        self._show(package, safeCard(package), _("Model card: {title} {version}"))

    def showLandmarks(self, package, name):
        """Show where the landmarks of a ModelPackage lie: the pictures and definitions of its card, this name in bold.

        Raises:
            ModelPackageError: the card is missing or too large.
        """
        section = landmarksOf(package)
        pictures = "\n\n".join(match.group() for match in PICTURE_LINK.finditer(section))
        definitions = PICTURE_LINK.sub("", section).replace(f"| {name} |", f"| **{name}** |")
        self._show(package, f"{pictures}\n\n{definitions}", _("Where the landmarks lie: {title}"))

    def _show(self, package, markdown, title):
        self._window.windowTitle = title.format(title=package.manifest.title, version=package.version)
        self.browser.setMarkdown(markdown)
        text = re.sub(r"<img\b[^>]*>", lambda match: _picture(package, match.group()), self.browser.html)
        self.browser.setHtml(text)
        self._window.show()
        self._window.raise_()

    @staticmethod
    def _onLink(url):
        """Open pages of the web; a card of another site can start nothing else."""
        if url.scheme() in ("http", "https"):
            qt.QDesktopServices.openUrl(url)


def _picture(package, tag):
    """The HTML of a picture that the manifest names, compared with its checksum; nothing for any other picture."""
    source = re.search(r'src="([^"]*)"', tag)
    name = html.unescape(source.group(1)) if source else ""
    if name not in package.picture_files:
        return ""
    try:
        content = base64.b64encode(package.read(name)).decode()
    except ModelPackageError as error:
        return f"<i>{html.escape(str(error))}</i>"
    kind = "png" if name.endswith(".png") else "jpeg"
    return f'<img width="{PICTURE_WIDTH}" src="data:image/{kind};base64,{content}"/>'
