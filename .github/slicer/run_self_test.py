"""Plays the module's self-test inside Slicer and writes a report that can be pasted into an issue.

    Slicer --python-script PATH/TO/run_self_test.py

The open scene is closed. The module may be installed, or lie in the unpacked download beside this file. Detection is
tried, too; if PyTorch is missing, Slicer asks before it is installed. The report and pictures of the window are written
into the current folder, or into that of the variable H3DE_SELF_TEST_FOLDER; where H3DE_SELF_TEST_CONSENT is 1,
questions are answered with yes. Slicer ends with 0 if everything passed.
"""

import logging
import os
import platform
import sys
import time
import traceback
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import qt
import slicer
import slicer.util

HERE = Path(globals().get("__file__", sys.argv[0])).resolve().parent
FOLDER = Path(os.environ.get("H3DE_SELF_TEST_FOLDER") or Path.cwd())
CONSENT = os.environ.get("H3DE_SELF_TEST_CONSENT") == "1"
PACKAGES = ("numpy", "scipy", "SimpleITK", "pydicom", "torch", "torchvision", "safetensors", "pydantic")
YES = ("OK", "Yes", "Install")


class Report:
    """What is printed and written."""

    def __init__(self, path):
        self._path, self._lines, self._start = path, [], time.monotonic()
        self._pictures = 0

    def say(self, text):
        """Add a line, and write at once: a crash leaves what was written before."""
        self._lines.append(text)
        print(text, flush=True)
        self._path.write_text("\n".join(self._lines) + "\n", encoding="utf-8")

    def step(self, text):
        """Add a line with the time, and take a picture of the window."""
        self.say(f"{time.monotonic() - self._start:7.1f} s  {text}")
        window = slicer.util.mainWindow()
        if window:
            self._pictures += 1
            slicer.app.processEvents()
            window.grab().save(str(FOLDER / f"H3DELandmarks-self-test-{self._pictures:02d}.png"))


def describe(report):
    """What runs here."""
    report.say(f"Slicer {slicer.app.applicationVersion} with Python {platform.python_version()}")
    report.say(f"System: {platform.platform()}, {platform.machine()}")
    report.say(f"Packages: {', '.join(f'{name} {installed(name)}' for name in PACKAGES)}")


def installed(name):
    """The version of a Python package."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "-"


def load_module():
    """Load the module from the download where Slicer has not found it by itself."""
    if not hasattr(slicer.modules, "h3delandmarks"):
        file = HERE.parents[1] / "H3DELandmarks" / "H3DELandmarks.py"
        manager = slicer.app.moduleManager().factoryManager()
        manager.registerModule(qt.QFileInfo(str(file)))
        if not manager.loadModules(["H3DELandmarks"]):
            raise RuntimeError(f"The module could not be loaded from {file}.")
    return slicer.util.modulePath("H3DELandmarks")


def answer_questions(report):
    """A timer that says yes to whatever Slicer asks, and never lets it restart."""

    def answer():
        box = qt.QApplication.activeModalWidget()
        buttons = box.findChildren(qt.QPushButton) if box else ()
        yes = next((button for button in buttons if button.text.replace("&", "") in YES), None)
        if yes is not None and yes.enabled:
            asked = getattr(box, "text", "") or getattr(box, "windowTitle", "")
            report.say(f"           Asked: {' '.join(str(asked).split())}")
            yes.click()

    timer = qt.QTimer()
    timer.interval = 500
    timer.connect("timeout()", answer)
    timer.start()
    return timer


def play(report):
    """The self-test of the module; then a detection by a click, which installs what is missing."""
    from H3DELandmarksPanel import SelfTest

    from H3DELandmarks import H3DELandmarksTest

    class Played(H3DELandmarksTest):
        def delayDisplay(self, message, *arguments, **options):
            logging.info(message)
            report.step(message)

    reason = SelfTest.whyNoDetection()
    if reason and not slicer.app.testingEnabled():
        report.step(f"{reason} It is installed by a click on Detect.")
        test = Played()
        test.setUp()
        SelfTest.detectInSample(test, SelfTest.openPanel())
    Played().runTest()


def main():
    """Play, and return the exit code."""
    report = Report(FOLDER / "H3DELandmarks-self-test.txt")
    timer = answer_questions(report) if CONSENT else None
    try:
        describe(report)
        report.say(f"Module: {load_module()}")
        play(report)
    except Exception:
        report.step("FAILED")
        report.say(traceback.format_exc())
        return 1
    finally:
        if timer:
            timer.stop()
    report.step("PASSED")
    return 0


code = main()
print(f"The report is {FOLDER / 'H3DELandmarks-self-test.txt'}", flush=True)
if code and slicer.app.testingEnabled():
    raise RuntimeError("The self-test failed.")  # in testing mode Slicer ends by itself, with a code that tells this
slicer.util.exit(code)
