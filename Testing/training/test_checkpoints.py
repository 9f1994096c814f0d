"""Checkpoints of a training: nothing in them is run, and those of before are read where that is safe."""

import contextlib
import json
import math

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch_versions import needs_torch

from H3DELandmarksLib.core.errors import InputError, MissingDependencyError
from H3DELandmarksLib.core.files import atomic_write
from H3DELandmarksLib.training import checkpoints
from H3DELandmarksLib.training.checkpoints import (
    CHECKPOINT,
    OLDER_NAME,
    PROGRESS,
    Checkpoint,
    TrainingProgress,
    averaged_weights,
    has_checkpoint,
    load_checkpoint,
    save_checkpoint,
)

reads_older = needs_torch("2.6", "cannot read a pickle safely")
WEIGHT = torch.arange(6.0).reshape(2, 3)
STATE = Checkpoint(
    TrainingProgress(7, (0.5, math.nan), ("one",), ("a", "b")),
    {"a.weight": WEIGHT},
    {"module.a.weight": WEIGHT + 1, "n_averaged": torch.tensor(7)},
    {0: {"step": torch.tensor(7.0), "exp_avg": WEIGHT / 2}},
)
OLDER = {
    "step": 7,
    "losses": [0.5],
    "network": dict(STATE.network),
    "average": dict(STATE.average),
    "optimizer": {"state": dict(STATE.optimizer), "param_groups": [{"lr": 0.1, "betas": (0.9, 0.999), "params": [0]}]},
    "schedule": {"last_epoch": 7, "lr_lambdas": [None]},
}


class Evil:
    """Leaves a trace where a pickle is trusted."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return exec, (f"open({str(self.trace)!r}, 'w')",)


def test_what_is_written_is_read(tmp_path):
    save_checkpoint(tmp_path / CHECKPOINT, STATE)
    read = load_checkpoint(tmp_path / CHECKPOINT)
    assert read.progress.step == 7 and read.progress.losses[0] == 0.5 and math.isnan(read.progress.losses[1])
    for part in ("network", "average"):
        assert getattr(read, part).keys() == getattr(STATE, part).keys()
    assert torch.equal(read.network["a.weight"], WEIGHT) and read.average["n_averaged"].dtype == torch.int64
    assert torch.equal(read.optimizer[0]["exp_avg"], WEIGHT / 2)
    assert averaged_weights(tmp_path / CHECKPOINT).keys() == {"a.weight"}
    assert (read.progress.learnt, read.progress.landmarks) == (("one",), ("a", "b"))


def test_the_file_is_no_pickle(tmp_path):
    save_checkpoint(tmp_path / CHECKPOINT, STATE)
    assert load_file(tmp_path / CHECKPOINT)["network.a.weight"].shape == (2, 3)


def test_an_interrupted_write_leaves_the_last_checkpoint_whole(tmp_path, monkeypatch):
    save_checkpoint(tmp_path / CHECKPOINT, STATE)

    @contextlib.contextmanager
    def full(path):
        with atomic_write(path) as partial:
            yield partial
            partial.write_bytes(b"half")
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "atomic_write", full)
    with pytest.raises(InputError, match="space"):
        save_checkpoint(tmp_path / CHECKPOINT, STATE)
    assert load_checkpoint(tmp_path / CHECKPOINT).progress.step == 7
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT]


@pytest.mark.parametrize(
    "progress",
    [None, "", "[" * 100_000, '{"step": -1}', '{"step": 1e400}', '{"step": 1, "run": "x"}', '{"step": null}'],
)
def test_a_checkpoint_without_its_progress_is_named(tmp_path, progress):
    path = tmp_path / CHECKPOINT
    save_file({"network.a": WEIGHT}, path, None if progress is None else {PROGRESS: progress})
    with pytest.raises(InputError, match=CHECKPOINT):
        load_checkpoint(path)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\xff" * 100, b"\x08\x00\x00\x00\x00\x00\x00\x00{}"])
def test_a_damaged_checkpoint_is_named(tmp_path, content):
    path = tmp_path / CHECKPOINT
    path.write_bytes(content)
    with pytest.raises(InputError, match=CHECKPOINT):
        load_checkpoint(path)


def test_one_that_is_missing_is_named(tmp_path):
    with pytest.raises(InputError, match="train"):
        load_checkpoint(tmp_path / CHECKPOINT)


@reads_older
def test_one_of_before_is_read_and_replaced_by_the_next(tmp_path):
    torch.save(OLDER, tmp_path / OLDER_NAME)
    path = tmp_path / CHECKPOINT
    assert has_checkpoint(path)
    read = load_checkpoint(path)
    assert read.progress == TrainingProgress(7, (0.5,)) and torch.equal(read.network["a.weight"], WEIGHT)
    assert torch.equal(read.optimizer[0]["exp_avg"], WEIGHT / 2)
    save_checkpoint(path, read)
    assert [entry.name for entry in tmp_path.iterdir()] == [CHECKPOINT]


def test_one_of_before_is_not_read_by_a_pytorch_that_could_run_it(tmp_path, monkeypatch):
    torch.save(OLDER, tmp_path / OLDER_NAME)
    monkeypatch.setattr(torch, "__version__", "2.5.1")
    with pytest.raises(MissingDependencyError, match=r"2\.6"):
        load_checkpoint(tmp_path / CHECKPOINT)


@reads_older
@pytest.mark.parametrize("place", ["step", "network", "schedule"])
def test_one_of_before_runs_nothing(tmp_path, place):
    trace = tmp_path / "trace"
    torch.save({**OLDER, place: Evil(trace)}, tmp_path / OLDER_NAME)
    with contextlib.nullcontext() if place == "schedule" else pytest.raises(InputError, match=OLDER_NAME):
        load_checkpoint(tmp_path / CHECKPOINT)
    assert not trace.exists()


@reads_older
@pytest.mark.parametrize("content", [{}, {"step": 1}, {**OLDER, "step": "x"}, {**OLDER, "optimizer": 3}, 5])
def test_one_of_before_of_another_kind_is_named(tmp_path, content):
    torch.save(content, tmp_path / OLDER_NAME)
    with pytest.raises(InputError, match=OLDER_NAME):
        load_checkpoint(tmp_path / CHECKPOINT)


def test_the_progress_is_json(tmp_path):
    save_checkpoint(tmp_path / CHECKPOINT, STATE)
    head = (tmp_path / CHECKPOINT).read_bytes()
    size = int.from_bytes(head[:8], "little")
    assert json.loads(json.loads(head[8 : 8 + size])["__metadata__"][PROGRESS]) == {
        "step": 7,
        "losses": [0.5, None],
        "learnt": ["one"],
        "landmarks": ["a", "b"],
    }
