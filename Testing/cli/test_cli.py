"""The command line: results, sentences and exit codes, with a real but tiny model."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
import unicodedata
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from tiny_model import NAMES, write_tiny_package

import H3DELandmarksLib.detection.detector as detector_module
import H3DELandmarksResearch.cli.demo as demo_command
from H3DELandmarksLib import __version__
from H3DELandmarksLib.cases.store import content_of
from H3DELandmarksLib.cli.console import Console
from H3DELandmarksLib.cli.main import main, make_parser
from H3DELandmarksLib.cohort import detectors
from H3DELandmarksLib.cohort import examine as examine_module
from H3DELandmarksLib.cohort.result_files import plan_results
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.detection import Detector
from H3DELandmarksLib.detection.calibration import Calibration
from H3DELandmarksLib.detection.predictions import Detection
from H3DELandmarksLib.formats.case_record import TIME_FORMAT
from H3DELandmarksLib.formats.provenance import read_provenance
from H3DELandmarksLib.formats.reading import build
from H3DELandmarksLib.formats.results import DetectionResult, MiscountedResult, RecognitionResult
from H3DELandmarksLib.io.images import read_volume, write_volume
from H3DELandmarksLib.io.markups import read_markups, write_markups
from H3DELandmarksLib.io.tables import COLUMNS
from H3DELandmarksLib.models import open_package
from H3DELandmarksLib.models.package import package_digest
from H3DELandmarksResearch.planning.point_tables import read_tables

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ["good.csv", "good.mrk.json", "good.provenance.json"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Path of a tiny model package."""
    return write_tiny_package(tmp_path_factory.mktemp("models") / "tiny").path


@pytest.fixture(autouse=True)
def no_other_models(tmp_path, monkeypatch):
    """An empty home, so that no installed model is found or added for real."""
    for variable in ("HOME", "XDG_DATA_HOME", "APPDATA", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path / "home"))
    monkeypatch.delenv("H3DE_MODELS", raising=False)


def make_scan(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.random.default_rng(seed).normal(0, 300, (24, 22, 20)).astype(np.int16)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = -10, 20, 30
    write_volume(path, Volume(array, affine))
    return path


@pytest.fixture
def scan(tmp_path):
    return make_scan(tmp_path / "scans" / "good.nrrd")


def detect(tiny, output, *words):
    return main(["detect", *map(str, words), "--model", str(tiny), "--output", str(output)])


# Results


def test_detect_writes_point_list_and_table_that_agree(tiny, scan, tmp_path, capsys):
    assert detect(tiny, tmp_path / "out", scan, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    entry = report["scans"][0]
    points = read_markups(entry["markups"])
    (table,) = read_tables(Path(entry["table"])).values()
    assert report["ok"] and report["model"] == {"id": "tiny", "version": "1.0.0"}
    assert points.names == NAMES and points.present.all()
    assert points.radius.tolist() == [1.0, 2.0, 3.0] and points.definitions[0] == "the left point"
    for k, name in enumerate(NAMES):
        assert np.allclose(table.positions[name], points.positions[k], atol=1e-4)
        assert entry["landmarks"][k]["position_lps_mm"] == points.positions[k].tolist()
    assert Path(entry["table"]).read_text(encoding="utf-8").splitlines()[0] == ",".join(COLUMNS)
    assert not (tmp_path / "out" / "good.png").exists()


def test_every_output_says_which_model_and_which_scan_and_who_has_looked(tiny, scan, tmp_path, capsys):
    before = datetime.now(timezone.utc).replace(microsecond=0)
    assert detect(tiny, tmp_path / "out", scan, "--device", "cpu", "--landmarks", "Left", "Right", "--json") == 0
    (entry,) = json.loads(capsys.readouterr().out)["scans"]
    origin = read_provenance(Path(entry["provenance"]))
    content, package = content_of(read_volume(scan)), open_package(tiny)
    assert (origin.model.id, origin.model.version, origin.model.sha256) == ("tiny", "1.0.0", package_digest(package))
    assert origin.model.confidence_within_mm == package.manifest.calibration.confidence.tolerance_mm
    assert (origin.scan.file, origin.scan.voxels_sha256) == (scan.name, content.digest)
    assert origin.scan.shape == content.grid.shape and origin.scan.spacing_mm == tuple(content.grid.spacing)
    assert (origin.settings.device, origin.settings.backend, origin.settings.precision) == ("cpu", "torch", "fp32")
    assert origin.settings.landmarks == ("Left", "Right") and origin.software == __version__
    assert datetime.strptime(origin.time, TIME_FORMAT).replace(tzinfo=timezone.utc) >= before
    assert [(p.name, p.state, p.by, p.cause) for p in origin.points] == [
        ("Left", "proposed", "program", None),
        ("Middle", "not examined", "program", "not asked for"),
        ("Right", "proposed", "program", None),
    ]
    assert [(p["state"], p["cause"]) for p in entry["landmarks"]] == [
        ("found", None),
        ("not examined", "not asked for"),
        ("found", None),
    ]
    with Path(entry["table"]).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["Left", "Right"]
    for row in rows:
        assert (row["review"], row["stated_by"], row["scan"], row["time"]) == (
            *("proposed", "program", scan.name),
            origin.time,
        )
        assert (row["model"], row["model_sha256"]) == ("tiny@1.0.0", origin.model.sha256)
        assert (row["scan_sha256"], row["device"]) == (content.digest, "cpu torch fp32")
    said = "".join(path.read_text(encoding="utf-8") for path in (tmp_path / "out").iterdir())
    assert str(scan.parent) not in said


def test_of_a_scan_that_is_not_recognised_the_first_sentence_says_so(tiny, scan, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Detector, "recognition", lambda self, found: RecognitionResult.of(0.01, 0.05))
    assert detect(tiny, tmp_path / "out", scan) == 0
    assert capsys.readouterr().out.startswith(f"{scan}: This does not look like")
    assert read_markups(tmp_path / "out" / "good.mrk.json").unknown.all()
    assert detect(tiny, tmp_path / "out", scan, "--json", "--show-doubtful") == 0
    (entry,) = json.loads(capsys.readouterr().out)["scans"]
    assert entry["summary"].startswith("This does not look like") and "3 of 3 landmarks found" in entry["summary"]
    assert entry["recognition"] == {"recognised": False, "p_value": 0.01, "false_alarm_rate": 0.05}
    assert read_provenance(Path(entry["provenance"])).settings.show_doubtful
    assert read_markups(tmp_path / "out" / "good.mrk.json").present.all()


def test_in_a_scan_that_is_not_recognised_nothing_is_absent(tiny, scan, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(examine_module, "_other_models", lambda *_: [])
    monkeypatch.setattr(Detector, "recognition", lambda self, found: RecognitionResult.of(0.01, 0.05))
    for presence in ([0.9, 0.01, 0.9], [0.01, 0.01, 0.01]):
        monkeypatch.setattr(Calibration, "presence", lambda self, logit, presence=presence: np.array(presence))
        assert detect(tiny, tmp_path / "out", scan, "--json", "--overwrite", "--show-doubtful") == 0
        (entry,) = json.loads(capsys.readouterr().out)["scans"]
        states = ["found" if one > 0.5 else "not recognised" for one in presence]
        assert [landmark["state"] for landmark in entry["landmarks"]] == states
        assert entry["summary"].startswith("This does not look like") and "absent" not in entry["summary"]


@pytest.mark.parametrize("p_value", [0.5, None])
def test_where_a_scan_is_recognised_nothing_changes_for_those_who_want_doubtful_points(
    tiny, scan, tmp_path, capsys, monkeypatch, p_value
):
    recognition = None if p_value is None else RecognitionResult.of(p_value, 0.05)
    monkeypatch.setattr(Detector, "recognition", lambda self, found: recognition)
    monkeypatch.setattr(Calibration, "presence", lambda self, logit: np.array([0.9, 0.3, 0.9]))
    one_off = MiscountedResult(0.8, True, None, None, 1)
    monkeypatch.setattr(Calibration, "miscounted", lambda self, count: one_off)
    said = []
    for words in ([], ["--show-doubtful"]):
        assert detect(tiny, tmp_path / "out", scan, "--json", "--overwrite", *words) == 0
        (entry,) = json.loads(capsys.readouterr().out)["scans"]
        said.append((entry["summary"], entry["landmarks"]))
        assert [landmark["state"] == "absent" for landmark in entry["landmarks"]] == [False] * 3
        assert [landmark["radius90_mm"] for landmark in entry["landmarks"]] == [None] * 3
    assert said[0] == said[1]


def test_of_a_scan_that_is_not_recognised_no_radius_is_shown_where_its_summary_says_that_none_is_stated(
    tiny, scan, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(Detector, "recognition", lambda self, found: RecognitionResult.of(0.01, 0.05))
    for count, is_stated in ((None, True), (MiscountedResult(0.8, True, None, None, 1), False)):
        monkeypatch.setattr(Calibration, "miscounted", lambda self, _, count=count: count)
        assert detect(tiny, tmp_path / "out", scan, "--json", "--overwrite", "--show-doubtful") == 0
        landmarks = json.loads(capsys.readouterr().out)["scans"][0]["landmarks"]
        assert [one["state"] for one in landmarks] == ["found"] * 3
        assert [one["radius90_mm"] is not None for one in landmarks] == [is_stated] * 3


def test_the_document_of_detect_is_of_its_format(tiny, scan, tmp_path, capsys):
    assert detect(tiny, tmp_path / "out", scan, tmp_path / "missing.nrrd", "--json") == 2
    result = build(DetectionResult, json.loads(capsys.readouterr().out))
    assert (result.format, result.format_version, result.model.id) == ("h3delandmarks-detection", 2, "tiny")
    assert [one.ok for one in result.scans] == [True, False] and result.scans[1].error.endswith(".")
    assert [landmark.name for landmark in result.scans[0].landmarks] == list(NAMES)


def commands(parser, words=()):
    """Every command and action with its parser."""
    for action in parser._actions:
        for name, below in (getattr(action, "choices", None) or {}).items() if hasattr(action, "add_parser") else ():
            yield (*words, name), below
            yield from commands(below, (*words, name))


@pytest.mark.parametrize("command", ["detect", "evaluate", "demo", "models"])
def test_the_help_of_a_command_ends_with_an_example_that_can_be_read(command):
    told = [(words, parser) for words, parser in commands(make_parser("h3delandmarks")) if words[0] == command]
    shown = [(words, parser.epilog) for words, parser in told if parser.epilog]
    assert (command,) in [words for words, _ in shown]
    for words, epilog in shown:
        example = epilog.removeprefix("Example: %(prog)s ").split()
        assert make_parser("h3delandmarks").parse_args([*words, *example])


def test_absent_landmarks_have_no_position_in_any_result(tiny, scan, tmp_path, capsys, monkeypatch):
    def find(self, volume, progress=None, cancelled=None, beyond=None):
        positions = [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
        found = LandmarkSet(NAMES, positions, presence=[0.9, 0.1, 0.8], confidence=[0.5, 0.5, np.nan])
        return Detection(found, None, found)

    monkeypatch.setattr(detector_module.Detector, "examine", find)
    assert detect(tiny, tmp_path, scan, "--json") == 0
    middle, right = json.loads(capsys.readouterr().out)["scans"][0]["landmarks"][1:]
    assert middle["state"] == "absent" and middle["position_lps_mm"] is None and middle["presence"] == 0.1
    assert right["confidence"] is None
    row = (tmp_path / "good.csv").read_text(encoding="utf-8").splitlines()[2]
    assert row.startswith("Middle,absent,,,,0.1000,0.5000,")
    assert np.isnan(read_markups(tmp_path / "good.mrk.json").positions[1]).all()


def test_picture_on_request(tiny, scan, tmp_path):
    assert detect(tiny, tmp_path / "out", scan, "--picture") == 0
    assert (tmp_path / "out" / "good.png").read_bytes().startswith(b"\x89PNG")


def test_model_is_loaded_once_for_many_scans(tiny, tmp_path, monkeypatch):
    scans = [make_scan(tmp_path / "scans" / f"{n}.nrrd", n) for n in range(3)]
    loaded = []
    monkeypatch.setattr(detectors, "_kept", None)  # as in each new process
    original = detector_module.Detector.__init__
    monkeypatch.setattr(
        detector_module.Detector, "__init__", lambda self, *a, **k: (loaded.append(1), original(self, *a, **k))[1]
    )
    assert detect(tiny, tmp_path / "out", *scans) == 0
    assert len(loaded) == 1 and len(list((tmp_path / "out").glob("*.mrk.json"))) == 3


def test_scans_of_the_same_name_do_not_overwrite_each_other(tiny, tmp_path):
    scans = [make_scan(tmp_path / place / "ct.nrrd", seed) for seed, place in enumerate("ab")]
    assert detect(tiny, tmp_path / "out", *scans) == 0
    results = {path.name: read_markups(path) for path in (tmp_path / "out").glob("*.mrk.json")}
    assert sorted(results) == ["a_ct.mrk.json", "b_ct.mrk.json"]
    assert not np.allclose(results["a_ct.mrk.json"].positions, results["b_ct.mrk.json"].positions)


def test_names_of_results(tmp_path):
    dicom = tmp_path / "1.2.840.10008"
    dicom.mkdir()

    def names(*scans):
        return [files.name for files in plan_results([tmp_path / scan for scan in scans], tmp_path)]

    assert names("z/ct.nii.gz", "z/ct.nii.gz", dicom, "z/no extension") == ["ct", "1.2.840.10008", "no extension"]
    assert names("x/a/ct.nii.gz", "y/a/CT.nrrd") == ["x_a_ct", "y_a_CT"]
    assert names("z/ct.nii", "z/ct.nrrd", "z/other.mha") == ["ct_nii", "ct_nrrd", "other"]
    assert names("p/a_b.nrrd", "a/b.nrrd", "c/b.nrrd") == ["p_a_b", f"{tmp_path.name}_a_b", "c_b"]
    assert [f.name for f in plan_results(["/a/b.nrrd", "/c/b.nrrd", "/a_b.nrrd"], tmp_path)] == ["a_b", "c_b", "a_b_2"]


# Nothing that a person made is lost


def test_results_may_lie_beside_the_scan(tiny, scan):
    before = scan.read_bytes()
    assert detect(tiny, scan.parent, scan) == 0
    assert scan.read_bytes() == before and (scan.parent / "good.mrk.json").exists()


def test_own_results_are_replaced_and_edited_ones_kept(tiny, scan, tmp_path, capsys):
    assert detect(tiny, tmp_path, scan) == 0
    assert detect(tiny, tmp_path, scan) == 0
    result = tmp_path / "good.mrk.json"
    points = read_markups(result)
    edited = points.with_positions(points.positions + [[0.5, 0, 0], [0, 0, 0], [0, 0, 0]])
    write_markups(result, edited)
    capsys.readouterr()
    assert detect(tiny, tmp_path, scan) == 2
    assert "was edited" in capsys.readouterr().err
    assert np.array_equal(read_markups(result).positions, edited.positions)
    assert detect(tiny, tmp_path, scan, "--overwrite") == 0
    assert np.array_equal(read_markups(result).positions, points.positions)


def test_an_expert_point_list_beside_the_scan_is_kept(tiny, scan):
    expert = scan.parent / "good.mrk.json"
    write_markups(expert, LandmarkSet(NAMES, np.arange(9.0).reshape(3, 3)))
    before = expert.read_bytes()
    assert detect(tiny, scan.parent, scan) == 2
    assert expert.read_bytes() == before


# Bad input


def write_4d(path):
    sitk.WriteImage(sitk.JoinSeries([sitk.Image(4, 4, 4, sitk.sitkInt16)] * 2), str(path))


def write_nan(path):
    image = sitk.GetImageFromArray(np.full((4, 4, 4), np.nan, np.float32))
    sitk.WriteImage(image, str(path))


def write_zero_spacing(path):
    sitk.WriteImage(sitk.Image(4, 4, 4, sitk.sitkInt16), str(path))
    data = path.read_bytes()
    path.write_bytes(data.replace(b"space directions: (1,0,0)", b"space directions: (0,0,0)"))


def write_truncated(path):
    make_scan(path)
    path.write_bytes(path.read_bytes()[:-2000])


BAD_SCANS = {
    "missing": lambda path: None,
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("not a scan"),
    "4D": write_4d,
    "NaN": write_nan,
    "zero spacing": write_zero_spacing,
    "truncated": write_truncated,
}


@pytest.mark.parametrize("kind", BAD_SCANS)
def test_bad_scan_gets_one_sentence_and_the_others_still_run(kind, tiny, scan, tmp_path, capfd):
    bad = tmp_path / "bad.nrrd"
    BAD_SCANS[kind](bad)
    assert detect(tiny, tmp_path / "out", bad, scan, "--json") == 2
    out, err = capfd.readouterr()
    report = json.loads(out)
    assert len(err.splitlines()) == 1 and str(bad) in err and err.rstrip().endswith(".")
    assert report["ok"] is False and [entry["ok"] for entry in report["scans"]] == [False, True]
    assert report["scans"][0]["error"] == err.strip()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == RESULTS


def single_sentence(capfd):
    err = capfd.readouterr().err
    assert len(err.splitlines()) == 1, err
    return err


def test_unknown_model(scan, tmp_path, capfd):
    assert detect("no-such-model", tmp_path, scan) == 2
    assert "no-such-model" in single_sentence(capfd)


def test_broken_package(tiny, scan, tmp_path, capfd):
    broken = shutil.copytree(tiny, tmp_path / "broken")
    weights = broken / "localizer.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"abcd")
    assert detect(broken, tmp_path / "out", scan, "--json") == 2
    out, err = capfd.readouterr()
    assert json.loads(out) == {"ok": False, "error": err.strip()} and "localizer.safetensors" in err


def test_output_that_is_a_file(tiny, scan, tmp_path, capfd):
    (tmp_path / "file").write_text("")
    for output in (tmp_path / "file", tmp_path / "file" / "below"):
        assert detect(tiny, output, scan) == 2
        assert str(output) in single_sentence(capfd)


def test_device_that_is_not_there(tiny, scan, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert detect(tiny, tmp_path, scan, "--device", "cuda") == 2
    assert "cuda" in single_sentence(capfd)


@pytest.mark.parametrize(("package", "words"), [("torch", []), ("matplotlib", ["--picture"])])
def test_missing_dependency(package, words, tiny, scan, tmp_path):
    arguments = ["detect", str(scan), "--model", str(tiny), "--output", str(tmp_path / "out"), *words]
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        f"from H3DELandmarksLib.cli.main import main; sys.exit(main({arguments!r}))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1 and f"pip install {package}" in result.stderr


def test_unexpected_error_goes_to_the_log_and_the_others_still_run(tiny, scan, tmp_path, capfd, monkeypatch):
    original = detector_module.Detector.examine

    def fail_once(self, volume, **options):
        monkeypatch.setattr(detector_module.Detector, "examine", original)
        raise RuntimeError("a detail for developers")

    monkeypatch.setattr(detector_module.Detector, "examine", fail_once)
    first = make_scan(tmp_path / "scans" / "first.nrrd")
    assert detect(tiny, tmp_path / "out", first, scan) == 2
    sentence = single_sentence(capfd)
    log = tmp_path / "out" / "h3delandmarks.log"
    assert str(log) in sentence and str(first) in sentence and "developers" not in sentence
    assert "a detail for developers" in log.read_text() and "Traceback" in log.read_text()
    assert (tmp_path / "out" / "good.mrk.json").exists()


def test_stopping(tiny, scan, tmp_path, capfd, monkeypatch):
    def stop(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(detector_module.Detector, "examine", stop)
    assert detect(tiny, tmp_path, scan) == 130
    assert single_sentence(capfd).strip() == "Stopped."


def test_wrong_usage_leaves_with_2(capsys):
    with pytest.raises(SystemExit) as leaving:
        main(["detect"])
    assert leaving.value.code == 2


@pytest.mark.parametrize("empty", ["", "  "])
def test_an_empty_name_is_not_the_current_folder(tiny, scan, tmp_path, capfd, monkeypatch, empty):
    monkeypatch.chdir(scan.parent)
    with pytest.raises(SystemExit) as leaving:
        detect(tiny, tmp_path / "out", empty)
    assert leaving.value.code == 2 and "empty" in capfd.readouterr().err and not (tmp_path / "out").exists()


# Progress


def test_progress_as_json_lines(tiny, scan, tmp_path, capfd):
    assert detect(tiny, tmp_path / "out", scan, tmp_path / "missing.nrrd", "--progress", "json") == 2
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    events = [line["event"] for line in lines]
    assert events[0] == "progress" and events[-2:] == ["error", "result"]
    assert {line["scan"] for line in lines[:-2]} == {"good"}
    fractions = [line["fraction"] for line in lines if line["event"] == "progress"]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0
    assert [entry["ok"] for entry in lines[-1]["scans"]] == [True, False]


def test_progress_lines_are_throttled(capsys):
    with Console(progress="json").task("scan") as report:
        for step in range(1001):
            report(step / 1000, "working")
    assert 2 <= len(capsys.readouterr().out.splitlines()) < 100


@pytest.mark.parametrize(("terminal", "shown"), [(True, True), (False, False)])
def test_bar_on_a_terminal_only(terminal, shown, monkeypatch):
    stream = io.StringIO()
    stream.isatty = lambda: terminal
    monkeypatch.setattr(sys, "stderr", stream)
    with Console().task("scan 7") as report:
        report(0.5, "searching")
    assert ("scan 7" in stream.getvalue()) == shown


def test_warnings_of_the_library_are_shown_and_those_of_others_not(capfd):
    import logging
    import warnings

    with Console(progress="json").showing_warnings():
        logging.getLogger("H3DELandmarksLib.detection").warning("voxels are %s", "coarse")
        warnings.warn("some package is old", DeprecationWarning, stacklevel=1)
    out, err = capfd.readouterr()
    assert err == "voxels are coarse\n"
    assert json.loads(out) == {"event": "warning", "scan": None, "message": "voxels are coarse"}


# Models


def test_models_list_info_verify_install(tiny, capsys):
    assert main(["models", "install", str(tiny)]) == 0
    assert main(["models", "install", str(tiny)]) == 2
    assert main(["models", "install", str(tiny), "--replace"]) == 0
    capsys.readouterr()
    assert main(["models", "list", "--json"]) == 0
    listed = {model["id"]: model for model in json.loads(capsys.readouterr().out)["models"]}
    assert listed["tiny"]["landmarks"] == 3 and listed["tiny"]["version"] == "1.0.0"
    assert main(["models", "list"]) == 0
    assert "tiny" in capsys.readouterr().out
    assert main(["models", "info", "tiny", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["manifest"]["scheme"]["id"] == "tiny-3"
    assert main(["models", "info", "tiny"]) == 0
    assert "the middle point" in capsys.readouterr().out
    assert main(["models", "verify", "tiny", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["models"][0]["ok"] is True


def test_verify_finds_damage_in_one_of_all_models(tiny, tmp_path, monkeypatch, capfd):
    place = tmp_path / "extra"
    shutil.copytree(tiny, place / "damaged")
    (place / "damaged" / "shape.safetensors").write_bytes(b"nothing")
    (place / "unusable").mkdir()
    monkeypatch.setenv("H3DE_MODELS", str(place))
    assert main(["models", "verify", "--json"]) == 2
    out, err = capfd.readouterr()
    verdicts = {model["id"]: model["ok"] for model in json.loads(out)["models"]}
    assert verdicts["tiny"] is False and verdicts["unusable"] is False
    assert len(err.splitlines()) == list(verdicts.values()).count(False) == 2
    assert main(["models", "list", "--json"]) == 0
    assert [entry["id"] for entry in json.loads(capfd.readouterr().out)["unusable"]] == ["unusable"]


# Evaluate, phantom, demo, train


def test_evaluate_pairs_by_name(tmp_path, capsys):
    truth = LandmarkSet(NAMES, np.zeros((3, 3)))
    for name, shift in (("one", 1.0), ("two", 3.0)):
        for folder, points in (("reference", truth), ("found", truth.with_positions(np.full((3, 3), shift / 3**0.5)))):
            (tmp_path / folder).mkdir(exist_ok=True)
            write_markups(tmp_path / folder / f"{name}.mrk.json", points)
    command = ["evaluate", "--predictions", str(tmp_path / "found"), "--reference", str(tmp_path / "reference")]
    assert main([*command, "--json", "--thresholds", "2", "5"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["cases"] == 2 and report["mre_mm"] == pytest.approx(2.0)
    assert (report["sdr_2"], report["sdr_5"]) == (0.5, 1.0)
    assert main(command) == 0
    assert "2.00" in capsys.readouterr().out
    (tmp_path / "found" / "two.mrk.json").unlink()
    assert main([*command, "--json"]) == 2
    out, err = capsys.readouterr()
    assert "'two'" in err and json.loads(out)["cases"] == 1


@pytest.mark.parametrize("threshold", ["nan", "-1", "0", "inf", "two"])
def test_thresholds_are_distances(tmp_path, capsys, threshold):
    with pytest.raises(SystemExit) as end:
        main(["evaluate", "--predictions", str(tmp_path), "--reference", str(tmp_path), "--thresholds", "2", threshold])
    assert end.value.code == 2 and "--thresholds" in capsys.readouterr().err


def test_a_threshold_that_is_given_twice_counts_once(tmp_path, capsys):
    write_markups(tmp_path / "case.mrk.json", LandmarkSet(("a",), [[0.0, 0, 0]]))
    words = ["--predictions", str(tmp_path), "--reference", str(tmp_path), "--thresholds", "2", "2.0", "1"]
    assert main(["evaluate", *words]) == 0
    assert capsys.readouterr().out.count("within 2 mm") == 1


def test_evaluate_reads_older_lists_and_labels_in_other_letters(tmp_path, capsys):
    points = LandmarkSet(NAMES, np.arange(9.0).reshape(3, 3))
    for folder in ("reference", "found"):
        (tmp_path / folder).mkdir()
    write_markups(tmp_path / "reference" / "one.mrk.json", points)
    rows = [f"id,{-x},{-y},{z},0,0,0,1,1,1,0,{name.upper()} ,," for name, (x, y, z) in zip(NAMES, points.positions)]
    (tmp_path / "found" / "one.fcsv").write_text("# CoordinateSystem = 0\n" + "\n".join(rows))
    command = ["evaluate", "--predictions", str(tmp_path / "found"), "--reference", str(tmp_path / "reference")]
    assert main([*command, "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["mre_mm"] == pytest.approx(0) and f"{NAMES[0].upper()} " in err
    write_markups(tmp_path / "found" / "one.mrk.json", points)
    assert main(command) == 2
    assert "more than one point list" in capsys.readouterr().err


def test_evaluate_takes_accents_of_other_systems_for_the_same(tmp_path, capsys):
    for folder, form in (("reference", "NFD"), ("found", "NFC")):
        (tmp_path / folder).mkdir()
        name = unicodedata.normalize(form, "Müller.mrk.json")
        write_markups(tmp_path / folder / name, LandmarkSet(NAMES, np.zeros((3, 3))))
    command = ["evaluate", "--predictions", str(tmp_path / "found"), "--reference", str(tmp_path / "reference")]
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cases"] == 1


def test_evaluate_says_what_is_missing(tmp_path, capfd):
    (tmp_path / "empty").mkdir()
    assert main(["evaluate", "--predictions", str(tmp_path / "no"), "--reference", str(tmp_path)]) == 2
    assert str(tmp_path / "no") in single_sentence(capfd)
    assert main(["evaluate", "--predictions", str(tmp_path / "empty"), "--reference", str(tmp_path)]) == 2
    assert "no point list" in single_sentence(capfd)


def test_phantom_writes_scan_and_truth(tmp_path, capsys):
    words = ["phantom", "--seed", "7", "--output", str(tmp_path), "--spacing", "1.2", "--missing", "L-M3, R-M3"]
    assert main([*words, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    points = read_markups(tmp_path / "phantom_7.mrk.json")
    assert (tmp_path / "phantom_7.nrrd").exists() and report["description"]["missing"] == ["L-M3", "R-M3"]
    absent = [name for name, present in zip(points.names, points.present) if not present]
    assert {"Ld", "Le", "Lf", "Rd", "Re", "Rf"} <= set(absent)


def test_phantom_keeps_what_is_there(tmp_path, capfd):
    (tmp_path / "phantom_7.mrk.json").write_text("mine")
    assert main(["phantom", "--seed", "7", "--output", str(tmp_path), "--spacing", "3"]) == 2
    assert "--overwrite" in single_sentence(capfd)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("phantom_7.mrk.json", "mine")]


@pytest.mark.parametrize(
    ("words", "named"),
    [(["--seed", "-1"], "seed"), *((["--seed", "7", "--spacing", mm], "voxel") for mm in ("-1", "0", "nan", "500"))],
)
def test_phantom_refuses_numbers_that_make_none(tmp_path, capfd, words, named):
    assert main(["phantom", *words, "--output", str(tmp_path)]) == 2
    sentence = single_sentence(capfd)
    assert named in sentence.lower() and "unexpected" not in sentence and not list(tmp_path.iterdir())


def test_phantom_refuses_teeth_that_it_does_not_know(tmp_path, capfd):
    assert main(["phantom", "--seed", "7", "--output", str(tmp_path), "--missing", "wisdom"]) == 2
    assert "wisdom" in single_sentence(capfd)


def test_demo_prints_the_error_against_the_truth(tiny, scan, tmp_path, capsys, monkeypatch):
    truth = LandmarkSet(NAMES, [[0, 0, 0], [0, 0, 3], [0, 0, 0]], presence=[1, 1, 0])
    found = truth.with_positions(np.array([[1.0, 0, 0], [0, 0, 0], [np.nan] * 3]))
    write_markups(scan.with_name("good.mrk.json"), truth)
    result = Detection(found, None, found)
    monkeypatch.setattr(detector_module.Detector, "examine", lambda self, volume, **options: result)
    words = ["demo", "--sample", str(scan), "--model", str(tiny), "--output", str(tmp_path / "out")]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "mean error 2.00 mm, largest 3.00 mm" in printed and "absent, as in the truth" in printed
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted([*RESULTS, "good.png"])
    assert main([*words, "--json"]) == 0
    assert [entry["error_mm"] for entry in json.loads(capsys.readouterr().out)["landmarks"]] == [1.0, 3.0, None]


def test_demo_never_overwrites_the_truth(tiny, scan):
    truth = scan.with_name("good.mrk.json")
    write_markups(truth, LandmarkSet(NAMES, np.zeros((3, 3))))
    before = truth.read_bytes()
    assert main(["demo", "--sample", str(scan), "--model", str(tiny), "--output", str(scan.parent)]) == 2
    assert truth.read_bytes() == before


def test_demo_sample_is_where_the_project_keeps_it():
    assert demo_command.SAMPLE.parent == ROOT / "Resources" / "SampleData"


@pytest.mark.parametrize(
    ("arguments", "resume", "stages", "package"),
    [
        ([], False, None, True),
        (["--resume"], True, None, True),
        (["--stage", "refiner", "--stage", "localizer"], False, ["refiner", "localizer"], False),
        (["--package"], False, [], True),
    ],
)
def test_train_hands_everything_on(tmp_path, monkeypatch, arguments, resume, stages, package):
    calls = []
    monkeypatch.setattr("H3DELandmarksResearch.training.run.run_training", lambda *a, **k: calls.append((a, k)))
    configuration = tmp_path / "mine.json"
    configuration.write_text("{}")
    assert main(["train", str(configuration), "--output", str(tmp_path / "run"), *arguments]) == 0
    ((given, settings),) = calls
    assert given == (configuration, tmp_path / "run") and callable(settings.pop("progress"))
    assert settings == {"resume": resume, "stages": stages, "package": package}


def test_train_without_configuration(tmp_path, capfd):
    assert main(["train", str(tmp_path / "none.json"), "--output", str(tmp_path)]) == 2
    assert "none.json" in single_sentence(capfd)


def test_as_a_program(tiny, scan, tmp_path):
    command = [sys.executable, "-m", "H3DELandmarksLib", "detect", str(scan), "--model", str(tiny)]
    result = subprocess.run([*command, "--output", str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    assert "3 of 3 landmarks found" in result.stdout and (tmp_path / "good.csv").exists()


def test_a_reader_that_stops_reading_is_no_error():
    command = f"'{sys.executable}' -m H3DELandmarksLib models info mouse-skull | head -n 1"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() and done.stderr == ""


def test_threads_that_wait_for_a_busy_core_sleep_unless_the_user_says_otherwise(monkeypatch):
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    main(["models", "list"])
    assert int(os.environ["GOMP_SPINCOUNT"]) <= 10_000
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    main(["models", "list"])
    assert os.environ["GOMP_SPINCOUNT"] == "7"
