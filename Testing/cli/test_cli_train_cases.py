"""``train --from-cases`` on the command line: the whole in small, and every wrong wish in one sentence."""

import json

import pytest
from toy_projects import toy_base, toy_project

from H3DELandmarksLib.cli.main import main
from H3DELandmarksLib.models import open_package


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    folder = tmp_path_factory.mktemp("given")
    return toy_project(folder / "project").folder, toy_base(folder / "base").path, folder


def train(*words):
    return main(["train", *map(str, words)])


def sentence(capfd):
    out, err = capfd.readouterr()
    assert out == "" and err.count("\n") == 1 and "Traceback" not in err
    return err


def test_retraining_tells_its_progress_as_lines_and_resumes_when_done(given, tmp_path, capfd):
    project, base, _ = given
    words = [
        "--from-cases",
        project,
        "--base-model",
        base,
        "--output",
        tmp_path / "run",
        "--steps",
        2,
        "--device",
        "cpu",
        "--progress",
        "json",
    ]
    assert train(*words) == 0
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert lines[-1]["event"] == "result" and lines[-1]["cases"] == {"train": 4, "validation": 0, "held-out": 1}
    assert lines[-1]["version"] == "1.1.0" and open_package(lines[-1]["package"]).id == "tiny"
    progress = [line for line in lines if line["event"] == "progress"]
    assert all({"fraction", "message", "stage", "step", "steps", "seconds_left"} <= set(line) for line in progress)
    assert train(*words) == 2
    assert "--resume" in json.loads(capfd.readouterr().out.splitlines()[0])["message"]
    assert train(*words, "--resume") == 0


def test_nothing_is_held_out_on_request(given, tmp_path, capfd):
    project, base, _ = given
    words = ["--from-cases", project, "--base-model", base, "--output", tmp_path / "run", "--steps", 1, "--held-out", 0]
    assert train(*words, "--device", "cpu") == 0
    assert "No case was held out" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "give a configuration, or cases"),
        (["--base-model", "mouse-skull"], "--base-model belongs to --from-cases"),
        (["--steps", "5", "mouse-skull"], "--steps belongs to --from-cases"),
        (["--from-cases", "PROJECT"], "Name the model to retrain"),
        (["--from-cases", "PROJECT", "mouse-skull", "--base-model", "BASE"], "leave it out"),
        (["--from-cases", "PROJECT", "--base-model", "BASE", "--stage", "refiner"], "always does all stages"),
        (["--from-cases", "PROJECT", "--base-model", "BASE", "--encoder-from", "BASE"], "belongs to --new-model"),
        (["--from-cases", "PROJECT", "--base-model", "none-such"], "no model 'none-such'"),
        (["--from-cases", "BASE", "--base-model", "BASE"], "no project of cases"),
        (
            ["--from-cases", "PROJECT", "--new-model", "new", "--model-id", "other"],
            "--model-id belongs to --from-folder",
        ),
        (["--from-cases", "PROJECT", "--new-model", "new", "--spacing", "0.3"], "--spacing belongs to --from-folder"),
        (["--from-cases", "PROJECT", "--new-model", "new", "--plan-only"], "--plan-only belongs to --from-folder"),
        (["--from-cases", "PROJECT", "--resume"], "no run"),
    ],
)
def test_wishes_that_cannot_be_fulfilled_are_told_in_one_sentence(given, tmp_path, capfd, words, told):
    places = {"PROJECT": given[0], "BASE": given[1]}
    assert train(*(places.get(word, word) for word in words), "--output", tmp_path / "run") == 2
    assert told in sentence(capfd)
    assert not (tmp_path / "run").exists()


def test_another_model_than_that_of_the_run_is_refused(given, tmp_path, capfd):
    project, base, _ = given
    words = ["--from-cases", project, "--output", tmp_path / "run", "--device", "cpu"]
    assert train(*words, "--base-model", base, "--steps", 1) == 0
    capfd.readouterr()
    assert train(*words, "--new-model", "another", "--resume") == 2
    assert "trains the model 'tiny'" in sentence(capfd)


@pytest.mark.parametrize("steps", ["0", "-1", "many"])
@pytest.mark.parametrize("source", ["--from-cases", "--from-folder"])
def test_a_number_of_steps_is_one_at_least(given, tmp_path, source, steps, capfd):
    with pytest.raises(SystemExit) as end:
        train(source, given[0], "--output", tmp_path / "run", "--steps", steps)
    assert end.value.code == 2 and "--steps" in capfd.readouterr().err and not (tmp_path / "run").exists()


def test_what_was_decided_when_a_run_began_is_not_changed_in_silence(given, tmp_path, capfd):
    project, base, _ = given
    words = ["--from-cases", project, "--base-model", base, "--output", tmp_path / "run", "--device", "cpu"]
    assert train(*words, "--steps", 2) == 0
    capfd.readouterr()
    assert train(*words, "--steps", 500, "--resume") == 2
    assert "--steps" in sentence(capfd)
    assert train(*words, "--encoder-from", base, "--resume") == 2
    capfd.readouterr()
    assert train(*words, "--steps", 2, "--held-out", 0.5, "--resume", "--json") == 0
    (warning,) = json.loads(capfd.readouterr().out)["warnings"]
    assert "--held-out" in warning["message"]
