"""Losses chosen by name: what a configuration may say, how training starts, and that each one learns."""

import math
import re

import numpy as np
import pytest
import torch
from test_loop import NETWORK, SCHEME, SETTINGS, STAGE, blob_cases
from typed import crop_sampler, stage_trainer, training, typed_stage

from H3DELandmarksLib.detection.decoding import DECODERS, DEEP_DECODERS
from H3DELandmarksLib.formats.reading import FormatError
from H3DELandmarksLib.formats.training import LOSS_DECODING
from H3DELandmarksLib.networks import build_network
from H3DELandmarksLib.training.losses import LOSSES, choose_objective, start_at_background

LOSS_SETTINGS = {
    "spatial-cross-entropy": {"sigma": 1.0},
    "published-heatmap": {"radius": 4.0},
    "published-anchor": {},
    "gaussian-bce": {"sigma": 1.5},
    "ball-bce": {"radius": 3.0},
}
VOLUME_LOSSES = tuple(LOSS_SETTINGS)


def stage_for(loss: str) -> dict:
    """The toy stage of the loop's tests with the head and the decoder that a loss needs."""
    anchor = {"head": "anchor", "output_stride": 1} if loss == "published-anchor" else {}
    decoding = {"method": LOSS_DECODING[loss], **({"voxels": 30} if loss == "published-heatmap" else {})}
    network = {**NETWORK, "settings": {**NETWORK["settings"], **anchor}}
    return {**STAGE, "network": network, "decoding": decoding, "training": {"loss": loss}}


def test_a_configuration_without_a_loss_means_the_spatial_cross_entropy():
    objective = choose_objective(training(sigma=1.5))
    assert objective.loss.func is LOSSES["spatial-cross-entropy"].loss
    assert objective.loss.keywords == {"sigma": 1.5}


@pytest.mark.parametrize("loss", VOLUME_LOSSES)
def test_every_loss_with_its_decoder_and_head_is_accepted(loss):
    assert typed_stage(stage_for(loss)).training.loss == loss


@pytest.mark.parametrize(
    ("change", "entry"),
    [
        ({"training": {"loss": "magic"}}, "training.loss"),
        ({"training": {"sigmaa": 1.0}}, "training.sigmaa"),
        ({"training": {"loss": "ball-bce", "sigma": 1.0}}, "sigma"),
        ({"decoding": {"method": "magic"}}, "decoding.method"),
        ({"training": {"loss": "ball-bce"}}, "decoding.method"),
        ({"training": {"loss": "published-anchor"}, "decoding": {"method": "published-anchor"}}, "decoding.method"),
        ({"network": {"architecture": "h3denet", "settings": {"landmarks": 2, "dims": [24]}}}, "settings.dims"),
        ({"network": {"architecture": "magic", "settings": {"landmarks": 2}}}, "magic"),
    ],
)
def test_what_does_not_exist_or_fit_is_refused_by_the_name_of_the_entry(change, entry):
    with pytest.raises(FormatError, match=re.escape(entry)):
        typed_stage({**stage_for("spatial-cross-entropy"), **change})


def test_every_loss_has_a_decoder():
    assert set(LOSS_DECODING.values()) <= {*DECODERS, *DEEP_DECODERS}


def test_the_softmax_head_starts_as_it_always_did():
    torch.manual_seed(3)
    head = build_network(**NETWORK).head
    torch.manual_seed(4)
    start_at_background(head, -math.log(16**3))
    torch.manual_seed(4)
    assert torch.equal(head.weight, torch.nn.init.normal_(torch.empty_like(head.weight), std=0.01))
    assert torch.allclose(head.bias, torch.tensor(-math.log(16**3)))


def test_an_anchor_head_starts_with_rare_classes_and_no_offset():
    head = build_network(**stage_for("published-anchor")["network"]).head
    start_at_background(head, -4.6)
    maps = head(torch.zeros(1, 16, 2, 2, 2))
    assert (maps[..., :3] == 0).all() and torch.allclose(maps[..., 3:], torch.tensor(-4.6))


@pytest.mark.parametrize("loss", [name for name in VOLUME_LOSSES if name != "spatial-cross-entropy"])
def test_a_small_network_learns_with_it(tmp_path, loss):
    cases, shape = blob_cases(4)
    stage = stage_for(loss)
    without_sigma = {name: value for name, value in SETTINGS.items() if name != "sigma"}
    changes = {"loss": loss, "steps": 60, "validate_every": 20, "warmup": 5, "ema": 0.8, "learning_rate": 1e-2}
    sampler = crop_sampler(stage, SCHEME, shape, {"shift_mm": 4, "noise": 0.02})
    trainer = stage_trainer(
        stage, {**without_sigma, **changes, **LOSS_SETTINGS[loss]}, sampler, tmp_path, torch.device("cpu")
    )
    trainer.run(cases[:3], cases[3:])
    curve = np.genfromtxt(tmp_path / "curve.csv", delimiter=",", names=True)
    assert curve["loss"][-1] < 0.8 * curve["loss"][0]
    assert curve["mean_mm"][-1] < 2.0 and curve["presence"][-1] == 1.0
