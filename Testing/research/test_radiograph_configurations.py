"""The bundled configurations for simulated radiographs: small networks that differ in their architecture alone."""

import json

import pytest
import torch

from H3DELandmarksLib.networks import build_network
from H3DELandmarksResearch.radiographs import read_recipe
from H3DELandmarksResearch.training.configuration import CONFIGURATIONS, read_configuration

FOLDER = CONFIGURATIONS
LIMIT = 3e6  # bytes of half-precision weights


@pytest.mark.parametrize("architecture", ["hyatt", "han"])
@pytest.mark.parametrize("data", ["mouse", "molar"])
def test_networks_are_small_and_cover_the_scheme(data, architecture):
    configuration = read_configuration(FOLDER / f"{data}-radiograph-{architecture}.json")
    (stage,) = configuration.record.stages
    assert stage.groups[0].landmarks == configuration.scheme.names
    network = build_network(stage.network.architecture, stage.network.settings)
    assert sum(value.numel() for value in network.state_dict().values()) * 2 < LIMIT
    maps = network(torch.zeros(1, 1, *stage.shape[:2]))
    assert [tuple(level.shape[1:]) for level in maps] == [(len(configuration.scheme), n, n) for n in (48, 96, 192)]


@pytest.mark.parametrize("data", ["mouse", "molar"])
def test_the_two_architectures_are_trained_alike(data):
    hyatt, han = (json.loads((FOLDER / f"{data}-radiograph-{a}.json").read_text()) for a in ("hyatt", "han"))
    assert (hyatt["stages"][0]["network"].pop("architecture"), han["stages"][0]["network"].pop("architecture")) == (
        "hyatt",
        "han",
    )
    # The two are one function under two names: from the same seed they would become the same model.
    assert hyatt["stages"][0]["training"].pop("seed") != han["stages"][0]["training"].pop("seed")
    assert {key for key in hyatt if hyatt[key] != han[key]} - {"version"} == {"id", "title"}


@pytest.mark.parametrize(("data", "recipe"), [("mouse", "mouse-skull"), ("molar", "mandibular-molar")])
def test_one_crop_covers_the_largest_view_of_the_recipe(data, recipe):
    configuration = read_configuration(FOLDER / f"{data}-radiograph-hyatt.json")
    stage, beam = configuration.record.stages[0], read_recipe(recipe).values["beam"]
    largest = beam["field_mm"][1] * beam["magnification"][1]
    assert stage.spacing_mm * stage.shape[0] > 0.85 * largest
