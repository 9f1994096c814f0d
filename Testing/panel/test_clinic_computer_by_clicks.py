"""Detection of one scan on another computer of the clinic: asked for, encrypted, told of, cancelled, and gone."""

import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest
import qt
import slicer
from certificates import make_certificates, security_of
from operating import add_volume, click, files_of_runs, tick, type_path, wait_until, worker_processes
from PySide6.QtGui import Qt as GuiQt
from PySide6.QtGui import QTextDocument

distributed = pytest.importorskip("distributed")
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="makes certificates with openssl")


@pytest.fixture
def panel(open_panel, tiny_model, scene):
    add_volume("Miller")
    return open_panel()


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """A folder with the certificates of a clinic, and of somebody else."""
    folder = tmp_path_factory.mktemp("keys")
    make_certificates(folder, "clinic", "server", "client")
    make_certificates(folder, "stranger", "intruder")
    return folder


@pytest.fixture
def server(keys, tmp_path):
    """A scheduler with a worker, over TLS."""
    with distributed.LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        processes=False,
        protocol="tls://",
        host="127.0.0.1",
        security=security_of(distributed, keys, "clinic", "server"),
        dashboard_address=None,
        local_directory=str(tmp_path / "server"),
    ) as cluster:
        yield cluster


def choose_clinic(panel, address, folder=None, authority="clinic", side="client"):
    ui = panel.ui
    tick(ui.clinicCheckBox)
    assert ui.clinicCheckBox.checked and ui.clinicFields.visible
    ui.clinicAddress.setText(address)
    if folder is not None:
        for name, file in (("Authority", f"{authority}.pem"), ("Certificate", f"{side}.pem"), ("Key", f"{side}.key")):
            type_path(getattr(ui, f"clinic{name}Path"), folder / file)
    slicer.app.processEvents()


def wait_for_end(panel):
    told = set()

    def is_over():
        told.add(panel.ui.statusLabel.text)
        return not panel.isDetecting()

    longest = wait_until(is_over)
    assert longest < 0.4, f"the panel was blocked for {longest:.3f} s"
    return told


def positions(panel):
    node = panel.ui.reviewSelector.currentNode()
    return slicer.util.arrayFromMarkupsControlPoints(node)


def test_at_first_scans_stay_here(panel):
    assert not panel.ui.clinicCheckBox.checked and not panel.ui.clinicFields.visible
    assert panel.ui.applyButton.enabled and not panel.ui.hereButton.visible


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("", "tls://NAME:PORT"),
        ("tls://[::", "tls://NAME:PORT"),
        ("server.clinic.example:8786", "encrypted only"),
        ("tcp://127.0.0.1.evil.example:8786", "encrypted only"),
        ("tls://server.clinic.example:8786", "three certificate files"),
        ("tls://127.0.0.1:8786", "three certificate files"),
    ],
)
def test_nothing_is_sent_without_encryption(panel, address, said):
    choose_clinic(panel, address)
    assert not panel.ui.applyButton.enabled and said in panel.ui.applyWhy.text
    tick(panel.ui.clinicCheckBox)
    assert panel.ui.applyButton.enabled, "on this computer everything is as before"


def test_without_consent_nothing_is_sent(panel, keys, answer, monkeypatch):
    monkeypatch.setattr(panel.detection.progress, "start", lambda run: pytest.fail("started"))
    choose_clinic(panel, "tls://server.clinic.example:8786", keys)
    questions = answer(qt.QMessageBox.No)
    click(panel.ui.applyButton)
    assert "'server.clinic.example'" in questions[0] and "voxels and geometry" in questions[0]
    assert panel.ui.statusLabel.text == "Nothing was sent." and files_of_runs() == []


def test_the_question_is_whole_whatever_the_scan_is_called(panel, keys, answer):
    panel.parameterNode.inputVolume.SetName("CT <br><!-- ")
    choose_clinic(panel, "tls://server.clinic.example:8786", keys)
    questions = answer(qt.QMessageBox.No)
    click(panel.ui.applyButton)
    document = QTextDocument()
    shows = document.setHtml if GuiQt.mightBeRichText(questions[0]) else document.setPlainText  # as QMessageBox does
    shows(questions[0])
    assert "CT <br><!-- " in document.toPlainText() and "can be recognised" in document.toPlainText()


def test_a_consent_holds_for_the_scan_that_was_named(panel, keys, answer, monkeypatch):
    monkeypatch.setattr(panel.detection.progress, "start", lambda run: pytest.fail("started"))
    choose_clinic(panel, "tls://server.clinic.example:8786", keys)
    other = add_volume("Smith")

    def choose_other():
        panel.parameterNode.inputVolume = other
        return True

    questions = answer(qt.QMessageBox.Yes, when=choose_other)
    click(panel.ui.applyButton)
    assert "'Miller'" in questions[0] and "'Smith'" not in questions[0]
    assert panel.ui.statusLabel.text == "Nothing was sent." and files_of_runs() == []


@needs_openssl
def test_the_other_computer_finds_what_this_one_finds(panel, server, keys, tmp_path, monkeypatch, answer, open_panel):
    click(panel.ui.applyButton)
    wait_until(lambda: not panel.isDetecting())
    here = positions(panel)

    # 127.0.0.1 is this computer, and is not asked about: let it be another one for once.
    from H3DELandmarksLib.cohort.address import Address

    monkeypatch.setattr(Address, "is_here", False)
    choose_clinic(panel, server.scheduler_address, keys)
    questions = answer(qt.QMessageBox.Yes)
    click(panel.ui.applyButton)
    told = wait_for_end(panel)
    assert "'127.0.0.1'" in questions[0]
    assert any("(on 127.0.0.1)" in text for text in told), told
    assert "landmarks found" in panel.ui.statusLabel.text and "Examined on 127.0.0.1." in panel.ui.statusLabel.text
    np.testing.assert_allclose(positions(panel), here, atol=1e-3)
    assert panel.review.isWaiting and files_of_runs() == []
    later = open_panel()
    assert later.ui.clinicCheckBox.checked and later.ui.clinicAddress.text == server.scheduler_address


@needs_openssl
def test_cancel_while_the_other_computer_is_asked(panel, server, keys, scene):
    server.scale(0)  # nobody takes the scan
    choose_clinic(panel, server.scheduler_address, keys)
    click(panel.ui.applyButton)
    wait_until(lambda: "(on 127.0.0.1)" in panel.ui.statusLabel.text)
    click(panel.ui.cancelButton)
    assert panel.ui.statusLabel.text == "Cancelled. The scene is as it was." and not panel.ui.hereButton.visible
    wait_until(lambda: not worker_processes())
    assert files_of_runs() == [] and scene.GetNumberOfNodesByClass("vtkMRMLMarkupsFiducialNode") == 0


@needs_openssl
@pytest.mark.parametrize("kind", ["gone", "stranger"])
def test_where_the_other_computer_does_not_answer_this_one_is_offered(panel, server, keys, python_slicer, kind):
    script = python_slicer.read_text(encoding="utf-8")
    impatient = "import H3DELandmarksLib.cohort.cluster as c; c.CONNECT_S = 2"
    shorter = f"-c '{impatient}; import sys, runpy; sys.argv = sys.argv[2:]; runpy.run_module(sys.argv[0], run_name="
    assert '"$@"' in script
    python_slicer.write_text(script.replace('"$@"', f'{shorter}"__main__", alter_sys=True)\' "$@"'), encoding="utf-8")
    address = server.scheduler_address
    choose_clinic(panel, address, keys, *(("stranger", "intruder") if kind == "stranger" else ()))
    if kind == "gone":
        server.close()
    click(panel.ui.applyButton)
    wait_for_end(panel)
    said = panel.ui.statusLabel.text
    assert "does not answer" in said and "on this computer" in said and panel.ui.hereButton.visible
    click(panel.ui.hereButton)
    assert not panel.ui.clinicCheckBox.checked and not panel.ui.hereButton.visible
    wait_until(lambda: not panel.isDetecting())
    assert "landmarks found" in panel.ui.statusLabel.text and "127.0.0.1" not in panel.ui.statusLabel.text


@needs_openssl
def switch_off(server):
    """At once: the worker does not wait for what it examines."""
    for worker in server.workers.values():
        server.sync(worker.close, executor_wait=False)
    server.close()


def test_a_computer_that_goes_away_meanwhile_is_told(panel, server, keys, monkeypatch):
    is_over = threading.Event()
    monkeypatch.setattr("H3DELandmarksLib.cohort.cluster.examine", lambda *_: is_over.wait(120))
    choose_clinic(panel, server.scheduler_address, keys)
    click(panel.ui.applyButton)
    wait_until(lambda: "Waiting for a worker (on 127.0.0.1)" in panel.ui.statusLabel.text)
    threading.Thread(target=switch_off, args=(server,), daemon=True).start()
    wait_for_end(panel)
    is_over.set()
    said = panel.ui.statusLabel.text
    assert "was lost" in said and "on this computer" in said and panel.ui.hereButton.visible
    assert files_of_runs() == []


WITHOUT_TORCH = """
import sys
for name in ("torch", "safetensors", "pydantic"):
    sys.modules[name] = None
from H3DELandmarksLib.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@needs_openssl
def test_this_computer_needs_no_networks_for_it(tiny, server, keys, tmp_path):
    from scene_voxels import head

    from H3DELandmarksLib.io.images import write_volume

    write_volume(tmp_path / "scan.nrrd", head(0)[0])
    files = ["--tls-ca", keys / "clinic.pem", "--tls-cert", keys / "client.pem", "--tls-key", keys / "client.key"]
    words = ["detect", tmp_path / "scan.nrrd", "--model", tiny.path, "--output", tmp_path / "out"]
    words += ["--scheduler", server.scheduler_address, *files]
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH, *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "scan.mrk.json").exists() and not (tmp_path / "out" / "cohort.csv").exists()
