"""Radiographs with COCO-style key points, and the challenge's own form of ISBI2015."""

import json
import zlib

import numpy as np
import pytest
import SimpleITK as sitk

from H3DELandmarksLib.cli.main import main
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.io.images import read_volume
from H3DELandmarksResearch.cases.case_folder import read_case, readers_of_case
from H3DELandmarksResearch.converters.converters import CONVERTERS
from H3DELandmarksResearch.converters.flat_images import read_radiograph
from H3DELandmarksResearch.converters.radiograph_sets import RADIOGRAPH_SETS

WIDTH, HEIGHT = 30, 20
ISBI = RADIOGRAPH_SETS["isbi2015"].names


def write_image(path, kind=np.uint8, channels=0, size=(WIDTH, HEIGHT), own=False):
    """A picture whose value at (x, y) is x + 2 y; with `own`, from row 8 on it is unlike those of other names."""
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    array = (x + 2 * y).astype(kind)
    if own:
        array[8:] = np.random.default_rng(zlib.crc32(str(path).encode())).integers(0, 200, array[8:].shape)
    if channels:
        array = np.stack([array] * channels, axis=-1)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(array, isVector=channels > 0), str(path))


def keypoints(count):
    """Key point k at (k + 0.5, k / 2), visible."""
    return [value for k in range(count) for value in (k + 0.5, k / 2, 2)]


def write_set(source, subset, names, count=19, points=None, **image):
    """One JSON file and its pictures."""
    for name in names:
        write_image(source / "2D_images" / name, own=True)
    data = {
        "images": [
            {"id": k, "file_name": name, "width": WIDTH, "height": HEIGHT, **image} for k, name in enumerate(names)
        ],
        "annotations": [
            {"id": 9 + k, "image_id": k, "category_id": 1, "keypoints": points or keypoints(count)}
            for k, _ in enumerate(names)
        ],
    }
    (source / "JSON").mkdir(parents=True, exist_ok=True)
    (source / "JSON" / f"{subset}.json").write_text(json.dumps(data))


def convert(kind, source, target, *words):
    return main(["convert", kind, str(source), str(target), *map(str, words)])


def case(target, name, names=ISBI):
    volume, landmarks = read_case(target, name, names)
    return volume, landmarks


# COCO


def test_a_picture_becomes_one_slice_and_a_key_point_a_place_on_it(tmp_path):
    write_set(tmp_path / "set", "train", ["001.png"])
    assert convert("coco", tmp_path / "set", tmp_path / "out", "--set", "isbi2015") == 0
    volume, landmarks = case(tmp_path / "out", "001")
    assert volume.array.shape == (WIDTH, HEIGHT, 1) and volume.array.dtype == np.uint8
    assert volume.array[7, 5, 0] == 7 + 2 * 5
    assert np.allclose(volume.spacing, [0.1, 0.1, 1])
    assert np.allclose(landmarks.positions[4], [0.45, 0.2, 0])
    assert landmarks.names[0] == "sella" and landmarks.names[18] == "articulare" and landmarks.present.all()


def test_the_case_lies_where_the_library_sees_the_picture_itself(tmp_path):
    write_set(tmp_path / "set", "train", ["001.png"])
    convert("coco", tmp_path / "set", tmp_path / "out", "--set", "isbi2015", "--spacing", 1)
    flat = read_volume(tmp_path / "set" / "2D_images" / "001.png", (1.0, 1.0))
    volume, _ = case(tmp_path / "out", "001")
    assert np.array_equal(flat.array, volume.array) and np.allclose(flat.affine, volume.affine)


def test_key_points_that_are_not_visible_are_missing(tmp_path):
    points = keypoints(19)
    points[3 * 4 : 3 * 5] = [0, 0, 0]
    write_set(tmp_path / "set", "test", ["001.png"], points=points)
    assert convert("coco", tmp_path / "set", tmp_path / "out", "--set", "isbi2015") == 0
    _, landmarks = case(tmp_path / "out", "001")
    assert np.flatnonzero(~landmarks.present).tolist() == [4] and not landmarks.unknown.any()


def test_files_are_subsets_and_validation_is_held_out_where_there_is_none(tmp_path, capsys):
    write_set(tmp_path / "set", "train", [f"{k}.png" for k in range(4)])
    write_set(tmp_path / "set", "test", ["t.png"])
    assert convert("coco", tmp_path / "set", tmp_path / "out", "--set", "isbi2015", "--hold-out", 2) == 0
    split = json.loads((tmp_path / "out" / "split.json").read_text())
    assert split == {"train": ["0", "2"], "validation": ["1", "3"], "test": ["t"]}
    assert "no validation cases" in capsys.readouterr().out
    write_set(tmp_path / "set", "val", ["v.png"])
    assert convert("coco", tmp_path / "set", tmp_path / "whole", "--set", "isbi2015") == 0
    split = json.loads((tmp_path / "whole" / "split.json").read_text())
    assert split == {"train": ["0", "1", "2", "3"], "validation": ["v"], "test": ["t"]}


@pytest.mark.parametrize(
    ("words", "entry", "spacing"),
    [
        ((), {"pixel_spacing": 0.125}, (0.125, 0.125)),
        ((), {"pixel_spacing": [0.1, 0.2]}, (0.1, 0.2)),
        ((), {"pixel_spacing": "0.15"}, (0.15, 0.15)),
        (("--spacing", "0.3x0.4"), {"pixel_spacing": 0.125}, (0.3, 0.4)),
        (("--set", "isbi2015"), {"pixel_spacing": 0.2}, (0.2, 0.2)),
        (("--set", "isbi2015"), {}, (0.1, 0.1)),
    ],
)
def test_the_pixel_size_is_the_users_else_the_images_else_the_sets(tmp_path, words, entry, spacing):
    write_set(tmp_path / "set", "train", ["a.png"], **entry)
    assert convert("coco", tmp_path / "set", tmp_path / "out", *words) == 0
    volume = read_volume(tmp_path / "out" / "a.nrrd")
    assert np.allclose(volume.spacing, [*spacing, 1])


def test_the_scale_of_a_hand_is_its_wrist(tmp_path):
    points = [value for k in range(37) for value in (k / 2, 3.0, 1)]
    write_set(tmp_path / "set", "train", ["a.png"], points=points)
    assert convert("coco", tmp_path / "set", tmp_path / "out", "--set", "hand") == 0
    volume, landmarks = case(tmp_path / "out", "a", ("1", "5"))
    assert np.linalg.norm(landmarks.positions[1] - landmarks.positions[0]) == pytest.approx(50)
    assert np.allclose(volume.spacing, [25, 25, 1])


def test_names_come_from_the_set_else_from_the_file_else_are_numbers(tmp_path):
    write_set(tmp_path / "set", "train", ["a.png"], count=2)
    assert convert("coco", tmp_path / "set", tmp_path / "plain", "--spacing", 1) == 0
    assert case(tmp_path / "plain", "a", ("1", "2"))[1].present.all()
    path = tmp_path / "set" / "JSON" / "train.json"
    data = json.loads(path.read_text())
    path.write_text(json.dumps({**data, "categories": [{"id": 1, "keypoints": ["hip", "knee"]}]}))
    assert convert("coco", tmp_path / "set", tmp_path / "named", "--spacing", 1) == 0
    assert case(tmp_path / "named", "a", ("hip", "knee"))[1].present.all()


def test_pictures_of_one_name_in_two_subsets_are_two_cases(tmp_path):
    write_set(tmp_path / "set", "train", ["train/1.png"])
    write_set(tmp_path / "set", "test", ["test/1.png"])
    assert convert("coco", tmp_path / "set", tmp_path / "out", "--set", "isbi2015", "--hold-out", 0) == 0
    split = json.loads((tmp_path / "out" / "split.json").read_text())
    assert len(split["train"]) == len(split["test"]) == 1 and set(split["train"]) != set(split["test"])


@pytest.mark.parametrize(
    ("suffix", "kind", "channels"),
    [(".png", np.uint8, 0), (".png", np.uint16, 0), (".bmp", np.uint8, 3), (".tif", np.uint16, 0)],
)
def test_gray_pictures_of_every_format_keep_their_values(tmp_path, suffix, kind, channels):
    write_image(tmp_path / f"a{suffix}", kind, channels)
    array = read_radiograph(tmp_path / f"a{suffix}", (1, 1)).array[..., 0]
    x, y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT), indexing="ij")
    assert array.dtype == kind and np.array_equal(array, x + 2 * y)


def test_color_becomes_luminance_and_other_numbers_are_refused(tmp_path):
    color = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    color[..., 1] = 100
    sitk.WriteImage(sitk.GetImageFromArray(color, isVector=True), str(tmp_path / "green.png"))
    assert (read_radiograph(tmp_path / "green.png", (1, 1)).array == 59).all()
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 4), np.float32)), str(tmp_path / "f.tif"))
    with pytest.raises(InputError, match="whole numbers"):
        read_radiograph(tmp_path / "f.tif", (1, 1))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda s, d: (s / "2D_images" / "bad.png").unlink(), "'bad.png' of"),
        (lambda s, d: (s / "2D_images" / "bad.png").write_bytes(b"junk"), "bad.png' "),
        (lambda s, d: write_image(s / "2D_images" / "bad.png", size=(9, 9)), "has 9 x 9 pixels, not 30 x 20"),
        (lambda s, d: d["annotations"][1].update(keypoints=keypoints(18)), "has 18 key points for 'bad.png', not 19"),
        (lambda s, d: d["annotations"].pop(1), "has 0 annotations for 'bad.png'"),
        (lambda s, d: d["annotations"][1]["keypoints"].__setitem__(0, 500), "sella lie outside the image"),
        (lambda s, d: d["images"][1].update(pixel_spacing=-1), "states the pixel size -1"),
    ],
)
def test_a_bad_picture_is_left_out_with_a_sentence(tmp_path, capsys, damage, sentence):
    write_set(tmp_path / "set", "train", ["a.png", "bad.png", "c.png"])
    path = tmp_path / "set" / "JSON" / "train.json"
    data = json.loads(path.read_text())
    damage(tmp_path / "set", data)
    path.write_text(json.dumps(data))
    assert convert("coco", tmp_path / "set", tmp_path / "out", "--set", "isbi2015", "--hold-out", 0) == 2
    output = capsys.readouterr()
    assert sentence in output.err and "2 cases written, 0 kept as they were, 1 skipped" in output.out
    assert json.loads((tmp_path / "out" / "split.json").read_text())["train"] == ["a", "c"]


def test_a_set_whose_pixel_size_nobody_knows_asks_for_it(tmp_path, capsys):
    write_set(tmp_path / "set", "train", ["a.png"], count=10)
    assert convert("coco", tmp_path / "set", tmp_path / "out", "--set", "pelvis") == 2
    assert "--spacing" in capsys.readouterr().err


def test_every_known_set_can_be_named():
    assert CONVERTERS["coco"].options["--set"]["choices"] == tuple(RADIOGRAPH_SETS)
    counts = {name: len(known.names) for name, known in RADIOGRAPH_SETS.items()}
    assert counts == {"isbi2015": 19, "cepha29": 29, "hand": 37, "cephadoadu": 10, "pelvis": 10}


# ISBI2015 as the challenge publishes it


def write_isbi(source, numbers=(1, 2, 151, 301), width=WIDTH):
    folders = {1: "TrainingData", 2: "TrainingData", 151: "Test1Data", 301: "Test2Data"}
    for number in numbers:
        picture = np.random.default_rng(number).integers(0, 255, (HEIGHT, width), dtype=np.uint8)
        path = source / "RawImage" / folders[number] / f"{number:03d}.bmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(sitk.GetImageFromArray(picture), str(path))
        for doctor, shift in (("400_senior", 0), ("400_junior", 1)):
            folder = source / "AnnotationsByMD" / doctor
            folder.mkdir(parents=True, exist_ok=True)
            lines = [f"{k + shift},{k // 2}" for k in range(19)] + ["1", "2", "1"]
            (folder / f"{number:03d}.txt").write_text("\n".join(lines) + "\n")


def test_isbi2015_takes_the_mean_of_both_doctors_and_the_published_split(tmp_path):
    write_isbi(tmp_path / "isbi")
    assert convert("isbi2015", tmp_path / "isbi", tmp_path / "out", "--hold-out", 2) == 0
    volume, landmarks = case(tmp_path / "out", "151")
    assert np.allclose(landmarks.positions[6], [0.65, 0.3, 0]) and np.allclose(volume.spacing, [0.1, 0.1, 1])
    split = json.loads((tmp_path / "out" / "split.json").read_text())
    assert split == {
        "train": ["001"],
        "validation": ["002"],
        "test": ["151", "301"],
        "test1": ["151"],
        "test1_clean": ["151"],
        "test2": ["301"],
    }
    readers = readers_of_case(tmp_path / "out", "151")
    assert np.allclose(readers["senior"].positions[6], [0.6, 0.3, 0])
    assert np.allclose(readers["junior"].positions[6], [0.7, 0.3, 0]) and list(readers) == ["junior", "senior"]


def test_isbi2015_never_puts_a_picture_into_two_subsets(tmp_path, capsys):
    write_isbi(tmp_path / "isbi")
    raw = tmp_path / "isbi" / "RawImage"
    (raw / "Test1Data" / "151.bmp").write_bytes((raw / "TrainingData" / "002.bmp").read_bytes())
    assert convert("isbi2015", tmp_path / "isbi", tmp_path / "out") == 0
    assert "151 = 002" in capsys.readouterr().out
    split = json.loads((tmp_path / "out" / "split.json").read_text())
    assert (split["test"], split["test1"], "test1_clean" in split) == (["301"], ["151"], False)
    (tmp_path / "isbi" / "splits.json").write_text(json.dumps({"test1_clean": ["151"], "other": {}}))
    assert convert("isbi2015", tmp_path / "isbi", tmp_path / "listed") == 0
    split = json.loads((tmp_path / "listed" / "split.json").read_text())
    assert (split["test"], split["test1_clean"]) == (["301"], ["151"])


def test_isbi2015_without_one_doctors_file_leaves_that_case_out(tmp_path, capsys):
    write_isbi(tmp_path / "isbi")
    (tmp_path / "isbi" / "AnnotationsByMD" / "400_junior" / "151.txt").unlink()
    (tmp_path / "isbi" / "AnnotationsByMD" / "400_senior" / "301.txt").write_text("1,2\n3,4\n")
    assert convert("isbi2015", tmp_path / "isbi", tmp_path / "out") == 2
    output = capsys.readouterr()
    assert "151.txt' is missing" in output.err and "19 lines" in output.err and "2 cases written" in output.out
