"""Losses chosen by name: what a configuration may say, how training starts, and that each one learns."""

import json
import math

import numpy as np
import pytest
import torch
from test_loop import NETWORK, SCHEME, SETTINGS, STAGE, blob_cases

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.detection.decoding import DECODERS, DEEP_DECODERS
from H3DELandmarksLib.models.package import SCHEMA_FILE
from H3DELandmarksLib.networks import build_network
from H3DELandmarksLib.training.loop import StageTrainer
from H3DELandmarksLib.training.losses import LOSSES, choose_objective, start_at_background
from H3DELandmarksLib.training.sampling import CropSampler
from H3DELandmarksResearch.training.configuration import read_configuration

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
    objective = LOSSES[loss]
    anchor = {"head": "anchor", "output_stride": 1} if objective.head == "anchor" else {}
    decoding = {"method": objective.decoding, **({"voxels": 30} if loss == "published-heatmap" else {})}
    network = {**NETWORK, "settings": {**NETWORK["settings"], **anchor}}
    return {**STAGE, "network": network, "decoding": decoding, "training": {"loss": loss}}


def configuration_file(folder, stage):
    values = {
        "id": "toy",
        "version": "0.1.0",
        "title": "Toy",
        "intensity": {},
        "tolerance_mm": 1.0,
        "stages": [stage],
        "data": {"reader": "phantom"},
    }
    path = folder / "toy.json"
    path.write_text(json.dumps(values))
    return path


def test_a_configuration_without_a_loss_means_the_spatial_cross_entropy():
    objective = choose_objective({"sigma": 1.5, "steps": 3})
    assert objective.loss.func is LOSSES["spatial-cross-entropy"].loss and objective.loss.keywords == {"sigma": 1.5}


@pytest.mark.parametrize("loss", VOLUME_LOSSES)
def test_every_loss_with_its_decoder_and_head_is_accepted(tmp_path, loss):
    assert read_configuration(configuration_file(tmp_path, stage_for(loss)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"training": {"loss": "magic"}}, "'toy'.*no loss 'magic'.*spatial-cross-entropy, published-heatmap"),
        ({"decoding": {"method": "magic"}}, "'toy'.*no decoding method 'magic'.*softmax"),
        ({"training": {"loss": "ball-bce"}}, "'ball-bce' needs the decoding method 'peak', not 'softmax'"),
        (
            {"training": {"loss": "published-anchor"}, "decoding": {"method": "published-anchor"}},
            "needs the network head 'anchor', not 'heatmap'",
        ),
        (
            {"network": {"architecture": "h3denet", "settings": {"landmarks": 2, "stem_channels": [32], "dims": [24]}}},
            "Stage 'toy'",
        ),
        ({"network": {"architecture": "magic", "settings": {"landmarks": 2}}}, "'toy'.*'magic'.*h3denet"),
    ],
)
def test_what_does_not_exist_or_fit_is_refused_when_the_configuration_is_read(tmp_path, change, words):
    path = configuration_file(tmp_path, {**stage_for("spatial-cross-entropy"), **change})
    with pytest.raises(InputError, match=words):
        read_configuration(path)


def test_the_manifest_s_schema_knows_the_decoders():
    schema = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    decoding = schema["$defs"]["stage"]["properties"]["decoding"]
    assert decoding["properties"]["method"]["enum"] == [*DECODERS, *DEEP_DECODERS]


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
    changes = {"loss": loss, "steps": 60, "validate_every": 20, "warmup": 5, "ema": 0.8, "learning_rate": 1e-2}
    sampler = CropSampler(stage, SCHEME, shape, {"shift_mm": 4, "noise": 0.02})
    trainer = StageTrainer(
        stage, {**SETTINGS, **changes, **LOSS_SETTINGS[loss]}, sampler, tmp_path, torch.device("cpu")
    )
    trainer.run(cases[:3], cases[3:])
    curve = np.genfromtxt(tmp_path / "curve.csv", delimiter=",", names=True)
    assert curve["loss"][-1] < 0.8 * curve["loss"][0]
    assert curve["mean_mm"][-1] < 2.0 and curve["presence"][-1] == 1.0
