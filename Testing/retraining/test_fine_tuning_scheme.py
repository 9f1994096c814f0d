"""Another scheme than the base's: channels are taken over by name, groups and the mean shape follow."""

from copy import deepcopy
from typing import NamedTuple

import ladder
import numpy as np
import pytest
import torch
from flat_cases import NETWORK as FLAT_NETWORK
from hypothesis import given
from hypothesis import strategies as st
from toy_projects import SCHEME, SHAPE, TOY_NETWORK, toy_base, toy_project, with_chin

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.landmarks import LandmarkDefinition, LandmarkScheme, LandmarkSet
from H3DELandmarksLib.core.shape_model import Pose, ShapeModel, cube_rotations
from H3DELandmarksLib.formats.manifest import Group, StageDesign, WeightsFile
from H3DELandmarksLib.formats.reading import build
from H3DELandmarksLib.formats.schemes import SchemeHistory, SchemeStep
from H3DELandmarksLib.models import ModelPackage
from H3DELandmarksLib.networks import build_network
from H3DELandmarksLib.networks.arrays import to_array
from H3DELandmarksLib.retraining.fine_tuning import adapted_stages, blended_shape, names_in_base, plan_fine_tuning
from H3DELandmarksLib.retraining.run import retrain, start_run
from H3DELandmarksLib.training.warm_start import load_initial_weights, matching_channels

ALIKE = {name: name for name in SCHEME.names}


def scheme_of(*names, pairs=(), lateral=()):
    return LandmarkScheme("s", "2", tuple(LandmarkDefinition(n, n) for n in names), pairs, lateral)


# Channels


def settings_of(kind: str, landmarks: int) -> dict:
    if kind == "radiograph":
        return {**FLAT_NETWORK, "settings": {**FLAT_NETWORK["settings"], "landmarks": landmarks}}
    changes = {"heatmap": {"presence": True}, "anchor": {"head": "anchor", "output_stride": 1, "anchors": 2}}[kind]
    return {**TOY_NETWORK, "settings": {**TOY_NETWORK["settings"], **changes, "landmarks": landmarks}}


@pytest.mark.parametrize("kind", ["heatmap", "anchor", "radiograph"])
@pytest.mark.parametrize("channels", [[2, -1, 0], [0, 1, 2], [1], [0, 1, 2, -1, -1]])
def test_known_landmarks_answer_as_before_and_new_ones_start_fresh(tmp_path, kind, channels):
    torch.manual_seed(0)
    before, after = (build_network(**settings_of(kind, n)).eval() for n in (3, len(channels)))
    package = FromMemory(before)
    fresh = deepcopy(after)
    load_initial_weights(after, package, "localizer", channels)
    image = torch.rand(1, 1, 64, 64) if kind == "radiograph" else torch.rand(1, 1, 32, 32, 32)
    with torch.no_grad():
        old, new = before(image), after(image)
    known = [(place, channel) for place, channel in enumerate(channels) if channel >= 0]
    for place, channel in known:
        for a, b in zip(read(kind, old, channel), read(kind, new, place)):
            assert torch.allclose(a, b, atol=1e-5)
    for name in ("head.weight", "head.quarter_maps.2.weight", "presence.logits.weight"):
        if name in fresh.state_dict():
            for place in set(range(len(channels))) - {place for place, _ in known}:
                assert torch.equal(after.state_dict()[name][place], fresh.state_dict()[name][place])


class FromMemory(ModelPackage):
    """A package whose only weights are those of a network in memory."""

    class Stage(NamedTuple):
        """As much of a stage as is asked for."""

        name: str
        weights: WeightsFile

    class Manifest(NamedTuple):
        """As much of a manifest as is asked for."""

        id: str
        version: str
        stages: tuple["FromMemory.Stage", ...]

    def __init__(self, network):
        stage = FromMemory.Stage("localizer", WeightsFile("localizer.safetensors", "0" * 64))
        super().__init__(None, FromMemory.Manifest("m", "1.0.0", (stage,)), {})
        object.__setattr__(self, "network", network)

    def load_weights(self, file):
        return {name: to_array(value) for name, value in self.network.state_dict().items()}


def read(kind, output, channel):
    """What a network says of one landmark, as far as it does not depend on the others."""
    if kind == "radiograph":
        return output.quarter[:, channel], output.half[:, channel]
    if kind == "anchor":
        return output.maps[..., :3], output.maps[..., 3 + channel]
    return output.maps[:, channel], output.presence[:, channel]


def test_channels_are_found_by_name_in_every_group():
    base = [Group(("chin", "earR")), Group(("chin", "earL"))]
    now = [Group(("auricleR", "nose")), Group(("auricleL", "nose"))]
    names = {"auricleR": "earR", "auricleL": "earL"}
    assert matching_channels(now, base, names) == [1, -1]


def test_names_are_followed_through_renamings_and_a_name_that_came_back_is_new():
    first, second, third = scheme_of("a", "b"), scheme_of("c", "b"), scheme_of("c", "a", "b")
    history = SchemeHistory((first, second, third), (SchemeStep({"a": "c"}), SchemeStep()))
    versions = [LandmarkScheme("s", str(n), x.landmarks) for n, x in enumerate(history.schemes)]
    history = SchemeHistory(tuple(versions), history.steps)
    assert names_in_base(history, versions[0]) == {"c": "a", "b": "b"}
    assert names_in_base(history, scheme_of("b", "x")) == {"b": "b"}


# Groups

SIDES = {
    "name": "sides",
    "network": {"architecture": "h3denet", "settings": {"landmarks": 2}},
    "spacing_mm": 1.0,
    "shape": [40, 40, 40],
    "groups": [{"landmarks": ["top", "earR"], "mirrored": False}, {"landmarks": ["top", "earL"], "mirrored": True}],
}
ALL = {
    "name": "localizer",
    "network": {"architecture": "h3denet", "settings": {"landmarks": 3}},
    "spacing_mm": 4.0,
    "shape": [64, 64, 64],
    "groups": [{"landmarks": ["top", "earL", "earR"], "mirrored": False}],
}
PLACES = {
    "top": [0, 0, 9],
    "earL": [9, 0, 0],
    "earR": [-9, 0, 0],
    "jawL": [8, 0, -4],
    "jawR": [-8, 0, -4],
    "nose": [0, -9, 0],
    "toe": [0, 0, -900],
}


def adapted(*names, pairs=(), lateral=(), base=("top", "earL", "earR"), stages=(ALL, SIDES)):
    shape = ShapeModel(np.array([PLACES[name] for name in names], float), np.ones(len(names)))
    known = {name: name for name in names if name in base}
    designs = [build(StageDesign, stage) for stage in stages]
    result = adapted_stages(designs, known, scheme_of(*names, pairs=pairs, lateral=lateral), shape)
    for stage in result:
        assert {len(group.landmarks) for group in stage.groups} == {stage.channels}
    assert set(result[0].groups[0].landmarks) == set(names)
    return {stage.name: [list(group.landmarks) for group in stage.groups] for stage in result}


def test_an_unchanged_scheme_keeps_the_stages():
    pairs = (("earL", "earR"),)
    assert adapted("top", "earL", "earR", pairs=pairs) == {
        "localizer": [["top", "earL", "earR"]],
        "sides": [["top", "earR"], ["top", "earL"]],
    }


def test_a_new_pair_joins_both_groups_on_one_channel_each_on_its_side():
    found = adapted("top", "earL", "earR", "jawL", "jawR", pairs=(("earL", "earR"), ("jawL", "jawR")))
    assert found["sides"] == [["top", "earR", "jawR"], ["top", "earL", "jawL"]]


def test_a_midline_landmark_joins_both_groups_and_a_lone_one_neither():
    pairs = (("earL", "earR"),)
    assert adapted("top", "earL", "earR", "nose", pairs=pairs)["sides"] == [
        ["top", "earR", "nose"],
        ["top", "earL", "nose"],
    ]
    lone = adapted("top", "earL", "earR", "jawL", pairs=pairs, lateral=("jawL",))
    assert lone["sides"] == [["top", "earR"], ["top", "earL"]]


def test_a_landmark_beyond_every_crop_is_found_by_the_first_stage_alone():
    assert "toe" not in str(adapted("top", "earL", "earR", "toe", pairs=(("earL", "earR"),))["sides"])


def test_without_its_counterpart_a_landmark_leaves_the_stage_of_both_sides():
    found = adapted("top", "earL", lateral=("earL",))
    assert found == {"localizer": [["top", "earL"]], "sides": [["top"], ["top"]]}


def test_a_stage_that_loses_all_its_landmarks_is_gone():
    groups = [{"landmarks": ["earR"], "mirrored": False}, {"landmarks": ["earL"], "mirrored": True}]
    only = {**SIDES, "network": {"architecture": "h3denet", "settings": {"landmarks": 1}}, "groups": groups}
    assert adapted("top", stages=(ALL, only)) == {"localizer": [["top"]]}


# Mean shape


@given(st.integers(0, 10_000))
def test_cases_of_the_bases_own_shape_leave_it_where_it_is_in_its_frame(seed):
    rng = np.random.default_rng(seed)
    base = ShapeModel(SHAPE - SHAPE.mean(axis=0), np.ones(3))
    turn, shift = cube_rotations()[rng.integers(24)], rng.uniform(-100, 100, 3)
    cases = [LandmarkSet(SCHEME.names, Pose(turn, shift).to_lps(base.mean)) for _ in range(3)]
    blended = blended_shape(base, ALIKE, SCHEME, SCHEME, cases, canonical_pose=True)
    assert np.allclose(blended.mean, base.mean, atol=1e-9) and (blended.tolerance <= 1 + 1e-9).all()


def test_more_cases_of_another_shape_move_the_mean_farther():
    base = ShapeModel(SHAPE - SHAPE.mean(axis=0), np.ones(3))
    other = base.mean + np.array([[0, 0, 4.0], [0, 0, 0], [0, 0, 0]])

    def lift(count):
        cases = [LandmarkSet(SCHEME.names, other)] * count
        mean = blended_shape(base, ALIKE, SCHEME, SCHEME, cases, canonical_pose=False).mean
        return (mean - mean[1])[0, 2] - (base.mean - base.mean[1])[0, 2]

    assert 0 < lift(2) < lift(5) < lift(50) < 4 + 1e-9
    assert lift(10) == pytest.approx(2)


def test_a_landmark_with_another_definition_lies_where_the_cases_say():
    base = ShapeModel(SHAPE - SHAPE.mean(axis=0), np.ones(3))
    redefined = (LandmarkDefinition("Left", "another point"), *SCHEME.landmarks[1:])
    scheme = LandmarkScheme("tiny-3", "2", redefined, SCHEME.pairs)
    other = base.mean + np.array([[0, 0, 4.0], [0, 0, 0], [0, 0, 0]])
    mean = blended_shape(base, ALIKE, SCHEME, scheme, [LandmarkSet(SCHEME.names, other)], canonical_pose=False).mean
    assert np.allclose(mean - mean[1], other - other[1])


def test_a_new_landmark_that_nobody_placed_is_named():
    base = ShapeModel(SHAPE - SHAPE.mean(axis=0), np.ones(3))
    scheme = scheme_of("Left", "Middle", "Right", "Chin")
    case = LandmarkSet(scheme.names, np.concatenate([SHAPE, [[np.nan] * 3]]), [1, 1, 1, np.nan])
    with pytest.raises(InputError, match="does not know Chin"):
        blended_shape(base, ALIKE, SCHEME, scheme, [case], canonical_pose=False)


# The whole


def test_a_run_with_one_landmark_more_and_one_less_ends_with_a_package_of_the_new_scheme(tmp_path):
    scheme = with_chin()
    project, base = toy_project(tmp_path / "project", 5, scheme), toy_base(tmp_path / "base")
    candidate = retrain(start_run(tmp_path / "run", plan_fine_tuning(project, base, 2)), "cpu")
    assert candidate.scheme == scheme
    assert candidate.manifest.stages[0].groups[0].landmarks == ("Left", "Right", "Chin")
    before, after = (p.load_weights("localizer.safetensors")["head.weight"] for p in (base, candidate))
    assert np.abs(after[0] - before[0]).max() < 0.05 and np.abs(after[1] - before[2]).max() < 0.05


def test_a_model_without_any_landmark_in_common_is_refused(tmp_path):
    scheme = LandmarkScheme("other", "1", (LandmarkDefinition("Chin", "the chin"),))
    project = toy_project(tmp_path / "project", 5, scheme)
    with pytest.raises(InputError, match="start a new model"):
        plan_fine_tuning(project, toy_base(tmp_path / "base"))


def test_a_closer_look_at_structures_stays_while_all_landmarks_do():
    network = {**FLAT_NETWORK, "settings": {**FLAT_NETWORK["settings"], "landmarks": len(ladder.NAMES)}}
    everything = [{"landmarks": list(ladder.NAMES), "mirrored": False}]
    search = build(StageDesign, ladder.stage(name="search", poses="scan", network=network, groups=everything))
    stages = [search, build(StageDesign, ladder.stage())]
    shape = ShapeModel(ladder.corners(), np.ones(len(ladder.NAMES)))
    known = {name: name for name in ladder.NAMES}
    assert adapted_stages(stages, known, ladder.SCHEME, shape) == stages
    renamed = {f"{name} now": name for name in ladder.NAMES}
    fewer = {name: name for name in ladder.NAMES[4:]}
    for names, more in ((renamed, ()), (fewer, ()), (known, ("new",))):
        scheme = scheme_of(*names, *more)
        places = ShapeModel(np.zeros((len(scheme), 3)), np.ones(len(scheme)))
        assert [stage.name for stage in adapted_stages(stages, names, scheme, places)] == ["search"]
