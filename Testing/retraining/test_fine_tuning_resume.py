"""A run survives kill -9, a wish to stop, and too little memory, and ends as if nothing had happened."""

import json
import logging
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from toy_projects import FIRST_DAY, SCHEME, SHAPE, corrected, localizer, scan_of, toy_base, toy_project
from typed import crop_sampler, reading, stage_trainer

from H3DELandmarksLib.cases import open_project
from H3DELandmarksLib.core.errors import Cancelled, InputError
from H3DELandmarksLib.core.files import atomic_write
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.core.shape_model import ShapeModel
from H3DELandmarksLib.formats.run import read_run
from H3DELandmarksLib.retraining.fine_tuning import plan_fine_tuning
from H3DELandmarksLib.retraining.run import retrain, start_run
from H3DELandmarksLib.training.cases import Case, prepare_case
from H3DELandmarksLib.training.checkpoints import averaged_weights
from H3DELandmarksLib.training.loop import MemoryPlan, read_curve

ROOT = Path(__file__).resolve().parents[2]
STEPS = 6


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A project, a base, what is decided for them, and an uninterrupted run."""
    folder = tmp_path_factory.mktemp("given")
    project, base = toy_project(folder / "project"), toy_base(folder / "base")
    decision = decided(project, base)
    whole = start_run(folder / "whole", decision)
    retrain(whole, "cpu")
    return project, base, decision, whole.folder


def decided(project, base):
    decision = plan_fine_tuning(project, base, STEPS)
    (stage,) = decision.plan.stages
    stage = replace(stage, training=replace(stage.training, validate_every=2))
    return replace(decision, plan=replace(decision.plan, stages=(stage,)))


def assert_same_result(folder, whole):
    one, other = (averaged_weights(run / "localizer" / "checkpoint.safetensors") for run in (folder, whole))
    assert all(torch.equal(value, one[name]) for name, value in other.items())
    for file in ("package/manifest.json", "package/localizer.safetensors", "localizer/curve.csv"):
        assert (folder / file).read_bytes() == (whole / file).read_bytes(), file


def stopped_at(step):
    """A wish to stop that comes after so many steps."""
    asked = []
    return lambda: asked.append(0) or len(asked) > step


@pytest.mark.parametrize("step", [0, 5, 8, 11, 13])
def test_a_cancelled_run_can_be_gone_on_with_to_the_same_result(given, tmp_path, step):
    _, _, decision, whole = given
    record = start_run(tmp_path, decision)
    with pytest.raises(Cancelled):
        retrain(record, "cpu", cancelled=stopped_at(step))
    assert read_run(tmp_path).record.state == "cancelled"
    retrain(read_run(tmp_path), "cpu")
    assert read_run(tmp_path).record.state == "done"
    assert_same_result(tmp_path, whole)


def test_cases_that_come_while_a_run_pauses_do_not_change_it(given, tmp_path):
    given_project, _, decision, whole = given
    shutil.copytree(given_project.folder, tmp_path / "project")
    project = open_project(tmp_path / "project")
    record = start_run(tmp_path / "run", replace(decision, project=str(project.folder.resolve())))
    with pytest.raises(Cancelled):
        retrain(record, "cpu", cancelled=stopped_at(9))
    project.add(scan_of(7), corrected(7), time=FIRST_DAY + timedelta(days=7))
    project.add(scan_of(1), [type(p)(p.name, p.state, p.position + 5) for p in corrected(1)])
    retrain(read_run(tmp_path / "run"), "cpu")
    assert_same_result(tmp_path / "run", whole)


@pytest.mark.skipif(sys.platform == "win32", reason="uses fork and SIGKILL")
def test_killed_at_chosen_moments_a_run_ends_with_the_same_result(tmp_path):
    words = ["-m", "benchmarks.kill_training", "--rounds", "3", "--output", tmp_path / "outcome.json"]
    done = subprocess.run([sys.executable, *map(str, words)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    outcome = json.loads((tmp_path / "outcome.json").read_text())
    assert outcome["kills"] == 3 and outcome["runs"] >= 1
    assert outcome["different"] == outcome["damaged"] == []


def test_lines_of_the_curve_beyond_the_checkpoint_are_not_there_twice(given, tmp_path):
    _, _, decision, whole = given
    record = start_run(tmp_path, decision)
    with pytest.raises(Cancelled):
        retrain(record, "cpu", cancelled=stopped_at(8))
    with (tmp_path / "localizer" / "curve.csv").open("a") as stream:
        stream.write("6,9,9,9,9,0\n8,9,9,9,9,0\n")
    retrain(read_run(tmp_path), "cpu")
    assert [row["step"] for row in read_curve(tmp_path / "localizer" / "curve.csv")] == ["2", "4", "6"]


def test_progress_tells_stage_steps_and_in_time_the_seconds_left(given, tmp_path):
    told = []

    def tell(fraction, message, **more):
        told.append(SimpleNamespace(fraction=fraction, **more))

    retrain(start_run(tmp_path, given[2]), "cpu", tell)
    steps = [status for status in told if status.stage == "localizer"]
    assert [status.step for status in steps] == list(range(1, STEPS + 1))
    assert steps[0].seconds_left is None and steps[-1].seconds_left == 0 and steps[-1].steps == STEPS
    fractions = [status.fraction for status in told]
    assert fractions == sorted(fractions) and fractions[-1] == 1


def test_a_base_that_was_changed_meanwhile_is_noticed(given, tmp_path):
    base = toy_base(tmp_path / "base")
    record = start_run(tmp_path / "run", decided(given[0], base))
    manifest = json.loads((base.path / "manifest.json").read_text())
    (base.path / "manifest.json").write_text(json.dumps({**manifest, "outside": -7.0}))
    with pytest.raises(InputError, match="not the one that this run began with"):
        retrain(record, "cpu")
    assert read_run(tmp_path / "run").record.state == "failed"
    assert "began with" in read_run(tmp_path / "run").record.message


def test_a_damaged_record_is_named(tmp_path):
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(InputError, match="damaged"):
        read_run(tmp_path)


# Memory


class Short:
    """A network's memory that holds so many samples only; the network's own work is real."""

    def __init__(self, network, samples):
        self.samples = samples
        network.register_forward_pre_hook(self.check)

    def check(self, network, inputs):
        if network.training and len(inputs[0]) > self.samples:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")


def test_a_batch_in_parts_gives_the_gradients_of_the_whole(given, tmp_path, caplog):
    shape = ShapeModel(SHAPE - SHAPE.mean(axis=0), np.ones(3))
    settings = {
        "batch": 4,
        "learning_rate": 1e-3,
        "weight_decay": 0.01,
        "seed": 1,
        "steps": 2,
        "warmup": 1,
        "ema": 0.5,
        "validate_every": 2,
        "checkpoint_seconds": 60,
    }
    points = [np.array([p.position for p in corrected(seed)]) for seed in range(2)]
    presences = ([1, 1, np.nan], [1, 0, 1])
    cases = [
        prepare_case(Case(str(n), scan_of(n), LandmarkSet(SCHEME.names, p, there)), reading(0, 1000), shape, False)
        for n, (p, there) in enumerate(zip(points, presences))
    ]
    stage = {name: value for name, value in localizer().items() if name != "weights"}
    trainers = []
    for name in ("whole", "parts"):
        sampler = crop_sampler(stage, SCHEME, shape, {"shift_mm": 1})
        trainers.append(stage_trainer(stage, settings, sampler, tmp_path / name, torch.device("cpu")))
    Short(trainers[1].network, 1)
    with caplog.at_level(logging.WARNING):
        losses = [trainer._train_step(cases) for trainer in trainers]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    gradients = [{n: p.grad for n, p in t.network.named_parameters() if p.grad is not None} for t in trainers]
    assert all(torch.allclose(g, gradients[1][n], rtol=1e-2, atol=1e-4) for n, g in gradients[0].items())
    assert trainers[1].memory.parts == 4 and len(caplog.records) == 1
    trainers[1]._train_step(cases)
    assert len(caplog.records) == 1


def test_where_one_sample_is_too_much_training_goes_on_with_the_cpu_and_says_so_once(caplog):
    devices = ["cuda"]

    def work(parts):
        if devices == ["cuda"]:
            raise RuntimeError("CUDA out of memory.")
        return 1.0

    plan = MemoryPlan(4)
    with caplog.at_level(logging.WARNING):
        assert plan.attempt(work, devices.pop) == 1.0
    assert plan.parts == 4 and len(caplog.records) == 1 and "CPU" in caplog.text


def test_too_little_memory_on_the_cpu_is_told_and_other_errors_pass():
    def short(parts):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    def wrong(parts):
        raise RuntimeError("shapes differ")

    with pytest.raises(InputError, match="memory is too small"):
        MemoryPlan(2).attempt(short, lambda: None)
    with pytest.raises(RuntimeError, match="shapes differ"):
        MemoryPlan(2).attempt(wrong, lambda: None)


# The command line


def command(*words):
    return [sys.executable, "-m", "H3DELandmarksLib", "train", *map(str, words)]


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGTERM")
def test_terminated_the_command_line_keeps_a_checkpoint_and_goes_on_from_it(given, tmp_path):
    project, base, *_ = given
    words = [
        "--from-cases",
        project.folder,
        "--base-model",
        base.path,
        "--output",
        tmp_path / "run",
        "--device",
        "cpu",
        "--progress",
        "json",
    ]
    process = subprocess.Popen(command(*words, "--steps", 5000), cwd=ROOT, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        told = json.loads(line)
        if told.get("step"):
            process.terminate()
            break
    rest = process.communicate(timeout=120)[0]
    assert process.returncode == 130
    assert {"stage", "step", "steps", "seconds_left"} <= set(told) and told["event"] == "progress"
    assert '"event": "result"' not in rest
    content = read_run(tmp_path / "run").record
    assert content.state == "cancelled" and 1 <= content.step < 5000
    assert (tmp_path / "run" / "localizer" / "checkpoint.safetensors").exists()


def test_a_file_that_a_reader_holds_for_a_moment_is_written_in_the_end(tmp_path, monkeypatch):
    """As on Windows, where a file that is open cannot be replaced; here its folder refuses for a moment."""
    from H3DELandmarksLib.core import files as watched_files

    path, refusals = tmp_path / "run.json", [PermissionError("in use")] * 3

    def wait(seconds):
        assert not path.exists()

    def replaced(target, **more):
        if refusals:
            raise refusals.pop()
        return atomic_write(target, **more)

    monkeypatch.setattr(watched_files, "atomic_write", replaced)
    monkeypatch.setattr(watched_files.time, "sleep", wait)
    watched_files.write_watched(path, "told")
    assert path.read_text() == "told" and not refusals
