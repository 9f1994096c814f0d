"""The one command with which anyone tries the module in a Slicer, played in the stand-in."""

import os
import runpy
import types
from importlib.metadata import version
from pathlib import Path

import pytest
import qt
import slicer
import slicer.util
from PySide6.QtCore import QEventLoop, QTimer

SCRIPT = Path(__file__).resolve().parents[2] / ".github" / "slicer" / "run_self_test.py"


@pytest.fixture
def run(module, scene, models, python_slicer, tmp_path, monkeypatch):
    """Runs the script; the exit code and the report."""
    import application

    codes = []
    monkeypatch.setattr(slicer.util, "exit", codes.append)
    monkeypatch.chdir(tmp_path)

    def make():
        with application.failing_on_errors():
            inside_event_loop(lambda: runpy.run_path(str(SCRIPT)))
        return codes[-1], (tmp_path / "H3DELandmarks-self-test.txt").read_text(encoding="utf-8")

    yield make
    for host in list(application.hosts):
        application.close_panel(host.self())


def inside_event_loop(act):
    """Slicer runs scripts while it handles events; errors are raised here."""
    loop, errors = QEventLoop(), []

    def run():
        try:
            act()
        except Exception as error:
            errors.append(error)
        finally:
            loop.quit()

    QTimer.singleShot(0, run)
    loop.exec()
    if errors:
        raise errors[0]


def test_the_report_says_what_ran_and_that_it_passed(run, tmp_path):
    code, report = run()
    assert code == 0 and report.rstrip().endswith("PASSED")
    assert "Slicer 5.12" in report and f"numpy {version('numpy')}" in report and "Landmarks were reviewed." in report
    assert str(Path(slicer.modules.h3delandmarks.path)) in report
    assert "There is no model." in report
    pictures = sorted(tmp_path.glob("*.png"))
    assert len(pictures) > 3 and not qt.QPixmap(str(pictures[0])).isNull()


def test_a_failure_is_reported_with_its_place(run, monkeypatch):
    from H3DELandmarksPanel import SelfTest

    monkeypatch.setattr(SelfTest, "bind", lambda *_: 1 / 0)
    monkeypatch.setattr(slicer.app, "testingEnabled", lambda: False)
    monkeypatch.setattr(SelfTest, "whyNoDetection", lambda: "")
    code, report = run()
    assert code == 1 and "FAILED" in report and "ZeroDivisionError" in report and "SelfTest.py" in report


def test_in_testing_mode_a_failure_is_raised(run, monkeypatch):
    from H3DELandmarksPanel import SelfTest

    monkeypatch.setattr(SelfTest, "bind", lambda *_: 1 / 0)
    with pytest.raises(RuntimeError, match="failed"):
        run()


def test_what_is_missing_is_installed_by_a_click_after_consent(run, tiny, models, monkeypatch):
    """Nothing is preinstalled: the click on Detect asks, and the script says yes."""
    import shutil

    from H3DELandmarksPanel import PanelContext, SelfTest

    shutil.copytree(tiny.path, models / "tiny")
    asked, missing = [], [True]

    def ensure(*arguments, **_):
        if missing:
            asked.append(slicer.util.confirmOkCancelDisplay("Install everything now?", "H3DE Landmarks"))
            slicer.util.pip_install("torch")
            missing.clear()

    monkeypatch.setattr(PanelContext, "ensureDependencies", ensure)
    monkeypatch.setattr(SelfTest, "find_spec", lambda name: None if missing else types.SimpleNamespace())
    monkeypatch.setattr(slicer.app, "_testing", False)
    monkeypatch.setitem(os.environ, "H3DE_SELF_TEST_CONSENT", "1")
    code, report = run()
    assert code == 0, report
    assert asked == [True] and "Asked: Install everything now?" in report and "detected by clicks" in report
