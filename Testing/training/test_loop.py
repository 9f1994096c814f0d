"""The training loop: learns, survives a kill, and resumes to the same weights."""

import numpy as np
import pytest
import torch
from typed import crop_sampler, reading, stage_trainer

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkDefinition, LandmarkScheme, LandmarkSet
from H3DELandmarksLib.core.shape_model import learn_shape_model
from H3DELandmarksLib.training import loop, sampling
from H3DELandmarksLib.training.cases import Case, prepare_case
from H3DELandmarksLib.training.loop import StageTrainer
from H3DELandmarksLib.training.sampling import draw_batch, resample_by_torch

NAMES = ("bright", "dim")
SCHEME = LandmarkScheme("toy", "1", tuple(LandmarkDefinition(n, n) for n in NAMES))
NETWORK = {
    "architecture": "h3denet",
    "settings": {
        "landmarks": 2,
        "stem_channels": [8, 16],
        "dims": [16, 16, 16, 16],
        "depths": [1, 1, 1, 1],
        "decoder_dims": [16, 16, 16],
        "fine_dims": [8, 8],
        "output_stride": 2,
    },
}
STAGE = {
    "name": "toy",
    "network": NETWORK,
    "spacing_mm": 1.0,
    "shape": [32, 32, 32],
    "groups": [{"landmarks": list(NAMES), "mirrored": False}],
}
SETTINGS = {
    "steps": 6,
    "batch": 1,
    "learning_rate": 3e-3,
    "weight_decay": 0.01,
    "warmup": 3,
    "ema": 0.8,
    "sigma": 1.0,
    "validate_every": 3,
    "checkpoint_seconds": 3600,
    "seed": 5,
}


def blob_cases(count: int) -> list:
    cases = []
    for number in range(count):
        points = np.array([[10.0, 12, 14], [20.0, 18, 16]]) + np.random.default_rng(number).uniform(-3, 3, (2, 3))
        lps = np.stack(np.meshgrid(*[np.arange(32)] * 3, indexing="ij"), -1)
        array = sum(b * np.exp(-((np.linalg.norm(lps - p, axis=-1) / 2.5) ** 2)) for b, p in zip((1.0, 0.5), points))
        case = Case(f"case{number}", Volume(array.astype(np.float32), np.eye(4)), LandmarkSet(NAMES, points))
        cases.append(case)
    shape = learn_shape_model(np.stack([c.landmarks.positions for c in cases]), SCHEME, own_frame=False)
    return [prepare_case(case, reading(), shape, canonical_pose=False) for case in cases], shape


@pytest.fixture(scope="module")
def data():
    return blob_cases(4)


def trainer(folder, data, **changes) -> StageTrainer:
    sampler = crop_sampler(STAGE, SCHEME, data[1], {"shift_mm": 4, "noise": 0.02})
    return stage_trainer(STAGE, {**SETTINGS, **changes}, sampler, folder, torch.device("cpu"))


def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(tmp_path, data):
    whole = trainer(tmp_path / "whole", data)
    whole.run(data[0][:3], data[0][3:])
    killed = trainer(tmp_path / "killed", data)
    killed._train_step(data[0][:3])
    killed.step = 1
    killed.save()
    killed._train_step(data[0][:3])
    resumed = trainer(tmp_path / "killed", data)
    assert resumed.resume() and resumed.step == 1
    resumed.run(data[0][:3], data[0][3:])
    for name, value in whole.weights().items():
        assert torch.allclose(value, resumed.weights()[name], atol=1e-6), name


def test_without_a_checkpoint_training_starts_at_the_beginning(tmp_path, data):
    assert trainer(tmp_path, data).resume() is False


def test_a_finished_stage_is_not_trained_again(tmp_path, data):
    first = trainer(tmp_path, data)
    first.run(data[0][:3], data[0][3:])
    again = trainer(tmp_path, data)
    again.resume()
    again.run(data[0][:3], data[0][3:])
    assert all(torch.equal(v, again.weights()[n]) for n, v in first.weights().items())


def test_training_that_diverges_is_told_and_not_kept(tmp_path, data):
    with pytest.raises(InputError, match="'toy' has diverged by step 6.*learning_rate than 1e\\+12"):
        trainer(tmp_path, data, learning_rate=1e12, weight_decay=0.0, warmup=1).run(data[0][:3], data[0][3:])
    assert not (tmp_path / "checkpoint.safetensors").exists()


def test_the_curve_has_one_line_per_validation(tmp_path, data):
    trainer(tmp_path, data).run(data[0][:3], data[0][3:])
    lines = (tmp_path / "curve.csv").read_text().splitlines()
    assert lines[0].startswith("step,loss,mean_mm") and [line.split(",")[0] for line in lines[1:]] == ["3", "6"]


def test_the_curve_is_drawn_beside_its_file(tmp_path, data):
    from PIL import Image

    trainer(tmp_path, data).run(data[0][:3], data[0][3:])
    with Image.open(tmp_path / "curve.png") as picture:
        assert picture.format == "PNG" and min(picture.size) > 200 and len(picture.convert("RGB").getcolors(10**6)) > 3


def test_blobs_are_learnt_to_within_two_voxels(tmp_path, data):
    pupil = trainer(tmp_path, data, steps=80, validate_every=80, warmup=10, ema=0.9)
    before = pupil.validate(data[0][3:])["mean_mm"]
    pupil.run(data[0][:3], data[0][3:])
    after = pupil.validate(data[0][3:])
    assert after["mean_mm"] < 2.0 < before and after["presence"] == 1.0


def test_steps_on_samples_made_as_on_a_gpu_have_the_same_losses(tmp_path, data, monkeypatch):
    usual = trainer(tmp_path / "usual", data)
    expected = [usual._train_step(data[0][:3]) for _ in range(3)]
    monkeypatch.setattr(sampling, "resample_on", resample_by_torch)
    other = trainer(tmp_path / "other", data)
    assert [other._train_step(data[0][:3]) for _ in range(3)] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(("runs_on", "made_on"), [("cpu", "cpu"), ("cuda", "cuda"), ("mps", "cpu")])
def test_samples_are_made_where_the_network_runs_if_pytorch_can(tmp_path, data, monkeypatch, runs_on, made_on):
    asked = []
    monkeypatch.setattr(loop, "draw_batch", lambda *arguments: asked.append(arguments[-1]))
    pupil = trainer(tmp_path, data)
    pupil.device = torch.device(runs_on)
    pupil._batch(data[0])
    assert asked == [torch.device(made_on)]


def test_a_batch_that_the_device_cannot_hold_is_made_again_elsewhere(tmp_path, data, monkeypatch, caplog):
    pupil = trainer(tmp_path, data)
    drawn = []

    def draw(sampler, cases, size, seed, device):
        drawn.append(device.type)
        if device.type == "cuda":
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return draw_batch(sampler, cases, size, seed, device)

    monkeypatch.setattr(loop, "draw_batch", draw)
    pupil.device = torch.device("cuda")
    assert np.isfinite(pupil._train_step(data[0][:3]))
    assert drawn[0] == "cuda" and drawn[-1] == "cpu" and "goes on with the CPU" in caplog.text
