"""Spine radiographs of AASCE 2019: both published forms, faulty labels apart, patients in one subset."""

import json
import shutil
import zlib

import numpy as np
import pytest
import SimpleITK as sitk

from H3DELandmarksLib.cli.main import main
from H3DELandmarksResearch.cases.case_folder import read_case
from H3DELandmarksResearch.converters.aasce2019 import NAMES

WIDTH, HEIGHT = 40, 80
POINTS = np.column_stack([10 + np.arange(68) % 2 * 10.0, 1 + np.arange(68) * 1.1])


def write_picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.random.default_rng(zlib.crc32(path.name.encode())).integers(0, 255, (HEIGHT, WIDTH)).astype(np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path))


def write_json(folder, sources, flags=()):
    cases = {}
    for number, source in enumerate(sources):
        name = f"train_{number:03d}"
        write_picture(folder / "images" / f"{name}.jpg")
        cases[name] = {"points_px": POINTS.tolist(), "flags": ["order"] if name in flags else [], "source": source}
    (folder / "landmarks.json").write_text(json.dumps({"cases": cases}))


def convert(source, target, *words):
    return main(["convert", "aasce2019", str(source), str(target), *words])


def test_a_pixel_counts_as_one_millimeter_and_the_conversion_says_that_it_is_none(tmp_path, capsys):
    write_json(tmp_path / "set", ["x-1 A AP.jpg"])
    assert convert(tmp_path / "set", tmp_path / "out") == 0
    volume, landmarks = read_case(tmp_path / "out", "train_000", NAMES)
    assert volume.array.shape == (WIDTH, HEIGHT, 1) and np.allclose(volume.spacing[:2], 1)
    np.testing.assert_allclose(landmarks.positions[:, :2], POINTS)
    assert "pixel" in capsys.readouterr().out


def test_corners_are_named_from_the_top_by_the_sides_of_the_picture(tmp_path):
    write_json(tmp_path / "set", ["x-1 A AP.jpg"])
    convert(tmp_path / "set", tmp_path / "out", "--spacing", "0.5x0.25")
    _, landmarks = read_case(tmp_path / "out", "train_000", NAMES)
    place = dict(zip(landmarks.names, landmarks.positions))
    assert place["T1 upper left"][0] < place["T1 upper right"][0]
    assert place["T1 lower left"][1] < place["T2 upper left"][1] < place["L5 lower left"][1]
    np.testing.assert_allclose(place["L5 lower right"][:2], POINTS[67] * (0.5, 0.25))


def test_shares_of_the_picture_in_tables_become_pixels(tmp_path):
    folder = tmp_path / "set"
    write_picture(folder / "data" / "a.jpg")
    (folder / "filenames.csv").write_text("a.jpg\nmissing.jpg\n")
    row = ",".join(str(v) for v in (POINTS / (WIDTH, HEIGHT)).T.ravel())
    (folder / "landmarks.csv").write_text(f"{row}\n{row}\n")
    assert convert(folder, tmp_path / "out") == 0
    _, landmarks = read_case(tmp_path / "out", "a", NAMES)
    np.testing.assert_allclose(landmarks.positions[:, :2], POINTS, atol=1e-4)


def test_faulty_labels_teach_and_judge_nothing_and_patients_stay_together(tmp_path):
    sources = [f"x-{k // 2} {'AB'[k % 2]} AP.jpg" for k in range(32)]
    write_json(tmp_path / "set", sources, flags=("train_005",))
    convert(tmp_path / "set", tmp_path / "out")
    split = json.loads((tmp_path / "out" / "split.json").read_text())
    assert split["faulty"] == ["train_005"]
    where = {name: subset for subset, names in split.items() for name in names}
    assert len(where) == 32 and {"train", "validation", "test"} <= set(where.values())
    for first in range(0, 32, 2):
        subsets = {where[f"train_{k:03d}"] for k in (first, first + 1)} - {"faulty"}
        assert len(subsets) == 1


def test_a_picture_that_two_subsets_share_is_left_out_on_request(tmp_path, capsys):
    write_json(tmp_path / "set", [f"x-{k} A AP.jpg" for k in range(8)])
    images = tmp_path / "set" / "images"
    shutil.copyfile(images / "train_000.jpg", images / "train_003.jpg")
    assert convert(tmp_path / "set", tmp_path / "out") == 2 and "--leave-out-repeats" in capsys.readouterr().err
    assert convert(tmp_path / "set", tmp_path / "out", "--leave-out-repeats") == 0
    split = json.loads((tmp_path / "out" / "split.json").read_text(encoding="utf-8"))
    assert "train_000" in split["train"] and not any("train_003" in names for names in split.values())


def test_a_corner_beyond_the_picture_is_missing(tmp_path):
    folder = tmp_path / "set"
    write_json(folder, ["x-1 A AP.jpg"])
    record = json.loads((folder / "landmarks.json").read_text())
    record["cases"]["train_000"]["points_px"][67] = [5.0, HEIGHT + 3.0]
    (folder / "landmarks.json").write_text(json.dumps(record))
    convert(folder, tmp_path / "out")
    _, landmarks = read_case(tmp_path / "out", "train_000", NAMES)
    assert not landmarks.present[67] and landmarks.present[:67].all()


@pytest.mark.parametrize("text", ["", '{"cases": {"a": {}}}', "[1]"])
def test_a_folder_without_the_set_is_refused(tmp_path, text):
    (tmp_path / "set").mkdir()
    if text:
        (tmp_path / "set" / "landmarks.json").write_text(text)
    assert convert(tmp_path / "set", tmp_path / "out") == 2
