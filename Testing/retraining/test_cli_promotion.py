"""The words of the command line from a retraining to a better model and back, with networks that really run."""

import json
from copy import deepcopy

import numpy as np
import pytest
import torch
from promotion_cases import make_project, make_run, small_scan
from tiny_model import MANIFEST, NETWORK, write_tiny_package

from H3DELandmarksLib.cli.main import main
from H3DELandmarksLib.detection import Detector
from H3DELandmarksLib.models import registry, write_package
from H3DELandmarksLib.networks import build_network


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A bundled model, another one as the candidate of a run, and seven cases as the candidate sees them."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "bundled").mkdir()
    (folder / "run").mkdir()
    base = write_tiny_package(folder / "bundled" / "tiny")
    torch.manual_seed(1)
    weights = {
        "localizer.safetensors": build_network(**NETWORK).state_dict(),
        "shape.safetensors": base.load_weights("shape.safetensors"),
    }
    candidate = write_package(folder / "new", {**deepcopy(MANIFEST), "version": "1.1.0"}, weights, "# Tiny\n")
    detector = Detector(candidate, device="cpu", backend="torch", precision="fp32")
    seen = [detector.detect(small_scan(seed)).positions for seed in range(7)]
    project = make_project(folder / "cases", base.scheme, 7, points=seen.__getitem__)
    (folder / "run").rmdir()
    run = make_run(folder / "run", project, base, ["train"] + ["held-out"] * 6)
    (folder / "new").rename(run / "package")
    return folder


@pytest.fixture
def home(made, tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "user_folder", lambda: tmp_path / "user")
    monkeypatch.setattr(registry, "bundled_folder", lambda: made / "bundled")
    monkeypatch.delenv("H3DE_MODELS", raising=False)
    (made / "run" / "comparison.json").unlink(missing_ok=True)
    return tmp_path


def call(capsys, *words):
    """Exit code and JSON document of one command."""
    code = main(["models", *map(str, words), "--json"])
    return code, json.loads(capsys.readouterr().out)


def compare(capsys, made, *words, candidate=None):
    run = made / "run"
    engine = ("--device", "cpu", "--backend", "torch", "--precision", "fp32")
    return call(
        capsys,
        "compare",
        "tiny",
        candidate or run / "package",
        "--cases",
        made / "cases",
        "--run",
        run,
        *engine,
        *words,
    )


def test_compare_promote_list_revert_share_and_add(made, home, capsys, monkeypatch):
    code, compared = compare(capsys, made)
    assert code == 0 and compared["decision"] == {"promote": True, "reasons": []}
    assert compared["sentence"].startswith("The new model is better by ") and len(compared["cases"]) == 6
    assert compared["total"]["candidate"]["mean_mm"] < 0.01 < compared["total"]["base"]["mean_mm"]
    assert compared["rule"] == {
        "margin_mm": 0.0,
        "landmark_margin_mm": 0.5,
        "presence_margin": 0.02,
        "least_subjects": 5,
    }
    assert json.loads((made / "run" / "comparison.json").read_text())["sentence"] == compared["sentence"]
    assert (made / "run" / "comparison.png").read_bytes()[:4] == b"\x89PNG"

    code, promoted = call(capsys, "promote", made / "run")
    assert code == 0 and (promoted["version"], promoted["override"]) == ("1.1.0", None)
    _, listed = call(capsys, "versions", "tiny")
    assert [(v["version"], v["current"], v["base"], v["cases"]) for v in listed["versions"]] == [
        ("1.1.0", True, "tiny@1.0.0", 1),
        ("1.0.0", False, None, None),
    ]
    assert listed["versions"][0]["comparison"] == compared["sentence"]

    code, back = call(capsys, "revert", "tiny")
    assert code == 0 and back["version"] == "1.0.0"
    code, shared = call(capsys, "share", "tiny@1.1.0", home / "tiny.zip")
    assert code == 0 and shared["version"] == "1.1.0"
    monkeypatch.setattr(registry, "user_folder", lambda: home / "other site")
    code, added = call(capsys, "add", home / "tiny.zip")
    assert code == 0 and added["new"] and not added["current"]
    again = Detector(registry.find_model("tiny@1.1.0"), device="cpu", backend="torch", precision="fp32")
    sent = Detector(registry.open_package(made / "run" / "package"), device="cpu", backend="torch", precision="fp32")
    found = [detector.detect(small_scan(0)).positions for detector in (again, sent)]
    np.testing.assert_array_equal(*found)


def test_the_base_against_itself_is_not_promoted(made, home, capsys):
    code, compared = compare(capsys, made, "--output", home / "c.json", candidate="tiny")
    assert code == 0 and not compared["decision"]["promote"] and (home / "c.json").exists()
    assert compared["total"]["improvement"] == {"subjects": 6, "mean": 0.0, "low": 0.0, "high": 0.0, "p": 1.0}
    code, refused = call(capsys, "promote", made / "run", "--comparison", home / "c.json")
    assert code == 2 and "is of another candidate" in refused["error"]


def test_no_margin_lets_a_worse_model_pass(made, home, capsys):
    code, refused = compare(capsys, made, "--margin", "-0.1")
    assert code == 2 and "--override REASON" in refused["error"]
    assert not (made / "run" / "comparison.json").exists()


def test_margins_are_those_that_were_stated(made, home, capsys):
    _, compared = compare(
        capsys,
        made,
        "--margin",
        "500",
        "--landmark-margin",
        "3",
        "--min-cases",
        "7",
        "--tolerance",
        "1.5",
        "--chart",
        home / "chart.png",
    )
    assert compared["tolerance_mm"] == 1.5 and len(compared["decision"]["reasons"]) == 2
    assert compared["chart"] == str(home / "chart.png") and (home / "chart.png").exists()
    code, refused = call(capsys, "promote", made / "run")
    assert code == 2 and "better by more than 500 mm" in refused["error"]
    code, done = call(capsys, "promote", made / "run", "--override", "our own scans look right")
    assert code == 0 and done["override"] == "our own scans look right" and not done["decision"]["promote"]
    assert main(["models", "versions", "tiny"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("* 1.1.0") and told[0].endswith("overridden: our own scans look right")
    assert told[1].startswith("  1.0.0") and "bundled" in told[1]


def test_people_read_a_table(made, home, capsys):
    words = [
        "compare",
        "tiny",
        made / "run" / "package",
        "--cases",
        made / "cases",
        "--run",
        made / "run",
        "--device",
        "cpu",
        "--backend",
        "torch",
    ]
    assert main(["models", *map(str, words)]) == 0
    told = capsys.readouterr().out
    assert told.startswith("The new model is better by ") and "By the rule it may be used." in told
    assert [line.split()[0] for line in told.splitlines() if line.startswith(("Left", "Middle", "Right", "all"))] == [
        "Left",
        "Middle",
        "Right",
        "all",
    ]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["compare", "none", "tiny", "--cases", "{0}/cases", "--run", "{0}/run"], "no model 'none'"),
        (["compare", "tiny", "tiny", "--cases", "{0}", "--run", "{0}/run"], "holds no project"),
        (["compare", "tiny", "tiny", "--cases", "{0}/cases", "--run", "{0}"], "holds no retraining"),
        (["compare", "tiny", "tiny", "--cases", "{0}/cases"], "does not say which cases it learnt from"),
        (["compare", "tiny", "tiny", "--cases", "{0}/cases", "--run", "{0}/run", "--min-cases", "1"], "two subjects"),
        (["compare", "tiny", "tiny", "--cases", "{0}/cases", "--output", "{0}/x.png"], "ends with .json"),
        (["promote", "{0}/cases"], "holds no retraining"),
        (["promote", "{0}/run"], "make one with 'models compare'"),
        (["versions", "none"], "no model 'none'"),
        (["revert", "tiny"], "was current before"),
        (["share", "tiny", "{0}/nowhere/x.zip"], "cannot be written"),
        (["add", "{0}/none.zip"], "does not exist"),
    ],
)
def test_errors_are_sentences(made, home, capsys, words, sentence):
    code, document = call(capsys, *(word.format(made) for word in words))
    assert code == 2 and sentence in document["error"] and "unexpected" not in document["error"]
