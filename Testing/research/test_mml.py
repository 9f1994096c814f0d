"""The MML set: file axes, missing points, split, and where the axes run in the patient."""

import itertools
import json
import zlib

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st

from H3DELandmarksLib.cli.main import main
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksResearch.cases.case_folder import read_case
from H3DELandmarksResearch.converters.mml import axes_from_points, axes_text, missing_as_nan, parse_axes
from H3DELandmarksResearch.phantom.scheme import MOLAR_SCHEME

NAMES = MOLAR_SCHEME.names
LETTERS = ["".join(p) for triple in itertools.product("LR", "PA", "SI") for p in itertools.permutations(triple)]
SPACING = np.array([0.5, 0.75, 1.0])
SIZE = (80, 56, 40)


def jaw() -> np.ndarray:
    """(14, 3) LPS mm of a plain lower jaw: third molars 10 mm behind the second ones, roots 12 mm below crowns."""
    side = [(0, 0, 12), (0, 0, 4), (0, -2, 0), (0, 2, 0), (0, 10, 12), (0, 8, 0), (0, 12, 0)]
    left = np.array(side, float) + [30, 5, 5]
    return np.concatenate([left, left * [0, 1, 1] + [6, 0, 0]])


def write_published(folder, name, index, spacing=SPACING):
    """One case as published; a voxel value of 200 marks each point."""
    folder.mkdir(parents=True, exist_ok=True)
    seed = zlib.crc32(f"{folder.name}/{name}".encode())  # so that no two cases show the same scan
    array = np.random.default_rng(seed).integers(5, 16, SIZE).astype(np.uint8)
    for i in np.rint(index[np.isfinite(index).all(axis=1) & (index > 0).all(axis=1)]).astype(int):
        array[tuple(i)] = 200
    sitk.WriteImage(sitk.GetImageFromArray(np.ascontiguousarray(array.T)), str(folder / f"{name}_volume.nrrd"))
    np.save(folder / f"{name}_label.npy", index)
    np.save(folder / f"{name}_spacing.npy", spacing)


def shifted(letters: str) -> np.ndarray:
    """Voxel coordinates of the jaw in an array whose axes run to `letters`."""
    index = np.rint(jaw() @ parse_axes(letters) / SPACING)
    return index - index.min(axis=0) + 2


@pytest.fixture
def published(tmp_path):
    for folder, name in (("train", "a"), ("train", "b"), ("val", "a"), ("test", "c")):
        write_published(tmp_path / "mml" / folder, name, shifted("LPS"))
    return tmp_path / "mml"


def convert(source, target, *words):
    return main(["convert", "mml", str(source), str(target), *words])


def test_a_point_of_the_label_lies_on_the_same_voxel_of_the_case(published, tmp_path):
    assert convert(published, tmp_path / "out") == 0
    volume, landmarks = read_case(tmp_path / "out", "train-a", NAMES)
    assert np.allclose(volume.spacing, SPACING) and volume.array.dtype == np.uint8
    index = volume.grid.ijk_from_lps(landmarks.positions)
    assert np.allclose(index, shifted("LPS"), atol=1e-6)
    assert (volume.array[tuple(np.rint(index).astype(int).T)] == 200).all()
    assert landmarks.definitions[0] == MOLAR_SCHEME.landmarks[0].definition


def test_the_published_split_is_kept(published, tmp_path, capsys):
    assert convert(published, tmp_path / "out", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] and len(report["written"]) == 4
    split = json.loads((tmp_path / "out" / "split.json").read_text())
    assert split == {"train": ["train-a", "train-b"], "validation": ["validation-a"], "test": ["test-c"]}


@pytest.mark.parametrize("missing", [np.nan, 0.0, -1.0, -1000.0])
def test_every_way_to_write_missing_is_absent_in_the_case(published, tmp_path, missing):
    index = shifted("LPS")
    index[5] = missing
    write_published(published / "test", "c", index)
    assert convert(published, tmp_path / "out") == 0
    _, landmarks = read_case(tmp_path / "out", "test-c", NAMES)
    assert np.flatnonzero(~landmarks.present).tolist() == [5] and not landmarks.unknown.any()


def test_one_strongly_negative_or_undefined_coordinate_is_enough():
    points = np.array([[5.0, 6, 7], [5, -500, 7], [5, np.nan, 7], [0, 6, 7], [-1, 6, 7]])
    assert np.isfinite(missing_as_nan(points)).all(axis=1).tolist() == [True, False, False, True, True]


@pytest.mark.parametrize("letters", ["RAI", "SLP", "IAR"])
def test_axes_are_found_from_the_landmarks(tmp_path, letters):
    write_published(tmp_path / "mml" / "train", "a", shifted(letters))
    assert convert(tmp_path / "mml", tmp_path / "out") == 0
    _, landmarks = read_case(tmp_path / "out", "train-a", NAMES)
    steps, wanted = np.diff(landmarks.positions, axis=0), np.diff(jaw(), axis=0)
    assert np.abs(steps - wanted).max() < 1.01  # coordinates were rounded to voxels of at most 1 mm


@given(st.sampled_from(LETTERS), st.integers(0, 2**31))
def test_any_axes_are_found_in_spite_of_scatter_and_missing_teeth(letters, seed):
    random = np.random.default_rng(seed)
    cases = []
    for _ in range(5):
        points = jaw() @ parse_axes(letters) + random.normal(0, 1.0, (14, 3)) + random.uniform(0, 50, 3)
        points[random.random(14) < 0.2] = np.nan
        cases.append(points)
    assert axes_text(axes_from_points(cases)) == letters


def test_axes_can_be_given_and_left_handed_ones_are_told(published, tmp_path, capsys):
    assert convert(published, tmp_path / "out", "--axes", "RPS") == 0
    assert "left-handed" in capsys.readouterr().out
    volume, _ = read_case(tmp_path / "out", "test-c", NAMES)
    assert np.allclose(np.diag(volume.affine)[:3], SPACING * [-1, 1, 1])
    assert convert(published, tmp_path / "out2", "--axes", "LLS") == 2


def test_landmarks_that_show_no_axes_are_refused():
    with pytest.raises(InputError, match="--axes"):
        axes_from_points([np.full((14, 3), np.nan)])
    with pytest.raises(InputError, match="--axes"):
        axes_from_points([])


def test_values_that_the_configuration_does_not_expect_are_told(published, tmp_path, capsys):
    image = sitk.GetImageFromArray(np.full(SIZE[::-1], -1000, np.int16))
    sitk.WriteImage(image, str(published / "test" / "c_volume.nrrd"))
    assert convert(published, tmp_path / "out") == 0
    assert "0..255" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda f: (f / "c_label.npy").unlink(), "c_label.npy' is missing"),
        (lambda f: (f / "c_label.npy").write_bytes(b"junk"), "c_label.npy' is damaged"),
        (lambda f: np.save(f / "c_label.npy", np.zeros((13, 3))), "should hold 14 x 3 coordinates, but holds 13 x 3"),
        (lambda f: np.save(f / "c_label.npy", np.full((14, 3), 500.0)), "L0, La"),
        (lambda f: np.save(f / "c_spacing.npy", np.array([1.0, 0, 1])), "not positive"),
        (lambda f: (f / "c_volume.nrrd").write_bytes(b"NRRD0004\n"), "c_volume.nrrd"),
    ],
)
def test_a_bad_case_is_left_out_with_a_sentence_that_names_the_file(published, tmp_path, capsys, damage, sentence):
    damage(published / "test")
    assert convert(published, tmp_path / "out") == 2
    output = capsys.readouterr()
    assert sentence in output.err and "3 cases written, 0 kept as they were, 1 skipped" in output.out
