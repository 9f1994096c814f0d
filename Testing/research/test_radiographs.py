"""Radiographs as cases: points on the anatomy, absence outside the field, the same picture from the same seed."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from H3DELandmarksLib.cli.main import main
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Volume, crop_grid
from H3DELandmarksLib.core.landmarks import LandmarkDefinition, LandmarkScheme, LandmarkSet
from H3DELandmarksLib.core.shape_model import Pose
from H3DELandmarksLib.io.images import write_volume
from H3DELandmarksLib.io.markups import write_markups
from H3DELandmarksResearch.cases.case_folder import read_case
from H3DELandmarksResearch.phantom import draw_anatomy
from H3DELandmarksResearch.radiographs import RECIPES, Recipe, make_radiograph, read_recipe
from H3DELandmarksResearch.radiographs.recipe import drawn
from H3DELandmarksResearch.radiographs.subjects import phantom_subject, specimen_subject
from H3DELandmarksResearch.training.configuration import CONFIGURATIONS, read_configuration

NAMES = ("front", "back", "left", "right", "absent", "unknown")
SCHEME = LandmarkScheme("toy", "1", tuple(LandmarkDefinition(n, "") for n in NAMES), (("left", "right"),))
AXES = {"front": "front", "back": "back"}
IN_PLACE = Pose(np.eye(3), np.zeros(3))


def toy_recipe(**changes) -> Recipe:
    """A small, dim recipe; `changes` replace entries of its parts, as ``part={"entry": value}``."""
    values = json.loads((RECIPES / "mouse-skull.json").read_text(encoding="utf-8"))
    values |= {"pixels": [72, 60], "axes": AXES, "configuration": "toy.json"}
    for part, entries in changes.items():
        values[part] = {**values[part], **entries} if isinstance(entries, dict) else entries
    return Recipe("toy", values)


def toy_subject(pose: Pose = IN_PLACE):
    """Four bright balls in soft tissue, brought into any pose."""
    places = np.array([[0, -9, 0], [0, 9, 0], [6, 2, 1], [-6, 2, 1]], dtype=float)
    array = np.zeros((40, 50, 20))
    grid = crop_grid(np.zeros(3), np.eye(3), 0.5, array.shape)
    for place in places:
        array[tuple(np.round(grid.ijk_from_lps(place)).astype(int))] = 2000
    array = gaussian_filter(array, 1.0) + 4
    positions = np.concatenate([pose.to_lps(places), np.full((2, 3), np.nan)])
    landmarks = LandmarkSet(NAMES, positions, np.array([1, 1, 1, 1, 0, np.nan]))
    placed = np.eye(4)
    placed[:3, :3], placed[:3, 3] = pose.rotation, pose.translation
    return specimen_subject("toy", Volume(array, placed @ grid.affine), landmarks, SCHEME, AXES)


OPEN = {"collimator": {"chance": 0}}


@pytest.mark.parametrize("view", read_recipe("mouse-skull").views)
def test_points_lie_in_the_plane_and_on_what_they_mark(view):
    for seed in range(4):
        made = make_radiograph(toy_subject(), toy_recipe(**OPEN), view, np.random.default_rng(seed))
        assert made.volume.array.shape == (72, 60, 1) and made.landmarks.names == NAMES
        present = made.landmarks.present
        np.testing.assert_array_equal(made.landmarks.positions[present, 2], 0)
        for x, y, _ in made.volume.grid.ijk_from_lps(made.landmarks.positions[present]):
            i, j = int(round(x)), int(round(y))
            part = made.volume.array[max(i - 3, 0) : i + 4, max(j - 3, 0) : j + 4, 0]
            peak = np.argwhere(part == part.max()).mean(axis=0) + [max(i - 3, 0), max(j - 3, 0)]
            assert np.abs(peak - [x, y]).max() < 1.8


def test_absent_and_unknown_landmarks_stay_so_and_those_outside_the_field_are_absent():
    recipe = toy_recipe(collimator={"chance": 1, "off_center": 0.3}, collimator_open=[0.3, 0.6])
    cut = 0
    for seed in range(12):
        made = make_radiograph(toy_subject(), recipe, "dorsoventral", np.random.default_rng(seed))
        presence = made.landmarks.presence
        assert presence[4] == 0 and np.isnan(presence[5]) and set(presence[:4]) <= {0.0, 1.0}
        assert made.volume.grid.contains(made.landmarks.positions[made.landmarks.present]).all()
        cut += int((presence[:4] == 0).sum())
    assert 5 < cut < 45


def test_the_same_seed_gives_the_same_picture_and_another_seed_another():
    first, again, other = (
        make_radiograph(toy_subject(), toy_recipe(), "lateral", np.random.default_rng(seed)) for seed in (7, 7, 8)
    )
    np.testing.assert_array_equal(first.volume.array, again.volume.array)
    np.testing.assert_array_equal(first.volume.affine, again.volume.affine)
    np.testing.assert_array_equal(first.landmarks.positions, again.landmarks.positions)
    assert (first.volume.array != other.volume.array).mean() > 0.3


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(read_recipe("mouse-skull").views))
def test_the_pose_in_the_scanner_does_not_matter(seed, view):
    rng = np.random.default_rng(seed)
    pose = Pose(Rotation.random(random_state=rng).as_matrix(), rng.uniform(-80, 80, 3))
    here, there = (
        make_radiograph(toy_subject(p), toy_recipe(**OPEN), view, np.random.default_rng(3)) for p in (IN_PLACE, pose)
    )
    np.testing.assert_allclose(there.landmarks.positions, here.landmarks.positions, atol=1e-6)
    difference = there.volume.array.astype(float) - here.volume.array
    assert np.abs(difference).mean() < 0.02 * np.ptp(here.volume.array)


def test_pixels_need_not_be_square():
    made = make_radiograph(
        toy_subject(), toy_recipe(beam={"pixel_aspect": 1.5}), "dorsoventral", np.random.default_rng(0)
    )
    assert made.volume.spacing[0] == pytest.approx(1.5 * made.volume.spacing[1])


def test_a_specimen_without_the_points_that_give_its_axes_is_refused():
    subject = toy_subject()
    lost = replace(subject.landmarks, presence=np.array([0, 1, 1, 1, 0, np.nan]))
    with pytest.raises(InputError, match="front and back"):
        specimen_subject("toy", subject.volume, lost, SCHEME, AXES)


def test_the_jaw_is_that_of_the_phantom_scan_of_the_same_seed():
    subject, anatomy = phantom_subject(1005, spacing=1.5), draw_anatomy(1005)
    present = subject.landmarks.present
    there = {name for name, known in zip(subject.landmarks.names, present) if known}
    assert anatomy.missing and there == set(anatomy.landmarks())
    expected = np.array([anatomy.landmarks()[name] for name in subject.landmarks.names if name in there])
    np.testing.assert_allclose(subject.landmarks.positions[present], expected)
    assert subject.volume.grid.contains(expected, margin=15).all()
    around = subject.volume.array[tuple(np.round(subject.volume.grid.ijk_from_lps(expected)).astype(int).T)]
    assert np.median(around) > 500  # teeth, and not the air or soft tissue around them


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.json")), ids=lambda path: path.stem)
def test_bundled_recipes_are_complete(path):
    recipe = read_recipe(path.stem)
    assert recipe.id == path.stem and len(recipe.views) >= 3
    configurations = CONFIGURATIONS
    configuration = read_configuration(configurations / f"{recipe.values['configuration']}.json")
    assert set(recipe.values.get("axes", {}).values()) <= set(configuration.scheme.names)
    for part in ("attenuation", "beam", "exposure", "display", "collimator"):
        assert all(value is not None for value in recipe.draw(part, np.random.default_rng(0)).values())


def test_ranges_are_drawn_evenly_or_evenly_in_logarithm():
    rng = np.random.default_rng(0)
    plain = np.array([drawn([2, 4], rng) for _ in range(2000)])
    wide = np.array([drawn([1, 100], rng) for _ in range(2000)])
    assert drawn(3, rng) == 3 and abs(np.median(plain) - 3) < 0.1 and 8 < np.median(wide) < 12.5
    assert plain.min() >= 2 and plain.max() <= 4 and wide.min() >= 1 and wide.max() <= 100


@pytest.mark.parametrize(
    ("content", "sentence"),
    [("{", "not readable JSON"), ('{"id": "x"}', "lacks the entries configuration"), (None, "does not exist")],
)
def test_a_recipe_that_cannot_be_used_is_named(tmp_path, content, sentence):
    path = tmp_path / "mine.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=sentence):
        read_recipe(str(path))


def toy_stage() -> dict:
    """A stage that nothing is trained by here; a configuration needs one."""
    return {
        "name": "refiner",
        "network": {"architecture": "h3denet", "settings": {"landmarks": len(NAMES)}},
        "spacing_mm": 1.0,
        "shape": [32, 32, 32],
        "groups": [{"landmarks": list(NAMES)}],
        "training": {"steps": 1, "learning_rate": 1e-3},
    }


@pytest.fixture
def toy_recipe_file(tmp_path, monkeypatch):
    """A recipe with a configuration of three specimens on disk, one in each subset."""
    data = tmp_path / "data"
    data.mkdir()
    subject = toy_subject()
    for name in ("one", "two", "three"):
        write_volume(data / f"{name}.nrrd", Volume(subject.volume.array.astype(np.uint8), subject.volume.affine))
        write_markups(data / f"{name}.mrk.json", subject.landmarks)
    split = {"train": ["one"], "validation": ["two"], "test": ["three"]}
    configuration = {
        "id": "toy",
        "version": "1.0.0",
        "title": "Toy",
        "intensity": {"method": "window", "low": 0, "high": 1000},
        "stages": [toy_stage()],
        "tolerance_mm": 1,
        "scheme": "scheme.json",
        "data": {"reader": "case-folder", "folder": str(data), "split": split},
    }
    (tmp_path / "scheme.json").write_text(json.dumps(SCHEME.to_dict()))
    (tmp_path / "toy.json").write_text(json.dumps(configuration))
    values = {**toy_recipe().values, "configuration": str(tmp_path / "toy.json")}
    (tmp_path / "recipe.json").write_text(json.dumps(values))
    return tmp_path / "recipe.json"


def test_the_command_writes_cases_and_the_split_of_their_subjects(toy_recipe_file, tmp_path, capsys):
    target = tmp_path / "radiographs"
    command = ["radiographs", str(toy_recipe_file), str(target), "--views", "5", "--seed", "3", "--json"]
    assert main(command) == 0
    assert len(json.loads(capsys.readouterr().out)["written"]) == 15
    split = json.loads((target / "split.json").read_text())
    assert [len(split[s]) for s in ("train", "validation", "test")] == [5, 5, 5]
    assert all(name.startswith("three_") for name in split["test"])
    volume, landmarks = read_case(target, "one_lateral-002", NAMES)
    assert volume.array.shape == (72, 60, 1) and landmarks.present.sum() >= 3
    before = {path: path.read_bytes() for path in target.iterdir()}
    (target / "one_lateral-002.nrrd").write_bytes(b"mine")
    assert main(command) == 0
    assert (target / "one_lateral-002.nrrd").read_bytes() == b"mine"
    assert {path: path.read_bytes() for path in target.iterdir() if path.name != "one_lateral-002.nrrd"} == {
        path: content for path, content in before.items() if path.name != "one_lateral-002.nrrd"
    }


def test_the_command_gives_the_same_pictures_one_subset_at_a_time(toy_recipe_file, tmp_path):
    whole, part = tmp_path / "whole", tmp_path / "part"
    main(["radiographs", str(toy_recipe_file), str(whole), "--views", "4"])
    assert main(["radiographs", str(toy_recipe_file), str(part), "--views", "2", "--subset", "test"]) == 0
    names = sorted(path.name for path in part.glob("*.nrrd"))
    assert names == ["three_dorsoventral-000.nrrd", "three_oblique-left-001.nrrd"]
    for name in names:
        first, second = (read_case(folder, name.removesuffix(".nrrd"), NAMES) for folder in (whole, part))
        np.testing.assert_array_equal(first[0].array, second[0].array)
        np.testing.assert_array_equal(first[1].positions, second[1].positions)


def test_subjects_set_apart_for_calibration_stay_apart(toy_recipe_file, tmp_path, capsys):
    command = ["radiographs", str(toy_recipe_file), str(tmp_path / "some"), "--views", "2"]
    assert main([*command, "--subset", "calibration"]) == 2
    assert "no subset 'calibration': choose among train, validation, test" in capsys.readouterr().err
    configuration = json.loads((tmp_path / "toy.json").read_text())
    configuration["data"]["split"] = {"train": ["one"], "validation": [], "calibration": ["three"], "test": ["two"]}
    (tmp_path / "toy.json").write_text(json.dumps(configuration))
    assert main(command) == 0
    split = json.loads((tmp_path / "some" / "split.json").read_text())
    assert len(split["calibration"]) == 2 and all(name.startswith("three_") for name in split["calibration"])


def test_the_command_takes_only_the_views_that_are_asked_for(toy_recipe_file, tmp_path):
    views = ["--view", "lateral", "--view", "dorsoventral"]
    assert main(["radiographs", str(toy_recipe_file), str(tmp_path / "some"), "--views", "3", *views]) == 0
    names = sorted(path.name.split("_")[1] for path in (tmp_path / "some").glob("one_*.nrrd"))
    assert names == ["dorsoventral-001.nrrd", "lateral-000.nrrd", "lateral-002.nrrd"]


def test_the_command_refuses_what_it_cannot_do(tmp_path, capsys):
    assert main(["radiographs", "no-such", str(tmp_path)]) == 2
    assert "mandibular-molar, mouse-skull" in capsys.readouterr().err
    assert main(["radiographs", "mouse-skull", str(tmp_path), "--view", "frontal"]) == 2
    assert "no view 'frontal': choose one of dorsoventral" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["radiographs", "mouse-skull", str(tmp_path), "--views", "0"])
