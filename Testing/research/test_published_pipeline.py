"""An imported checkpoint of HYATT-Net beside its authors' whole pipeline, written out word for word.

The pipeline: a box around the whole image, widened to the input's aspect ratio and by 1.25; a linear warp of the box
to the input, black outside; gray values less the means, over the deviations; flip test with exchanged names, its maps
moved by a cell; peaks with a quarter shift, back to the image, mean of three heads.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from published_networks import PublishedHyattNet, randomize

from H3DELandmarksLib.cli.main import main
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.detection import Detector
from H3DELandmarksLib.models import open_package
from H3DELandmarksLib.networks.arrays import to_array, to_tensor

NAMES, PAIR = ("left", "right", "top", "tip"), (1, 0, 2, 3)
MEANS, DEVIATIONS = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def network(seed: int) -> PublishedHyattNet:
    sizes = {"dims": (32, 32, 80, 64, 64), "mlp_ratios": (1, 1, 1, 1, 1), "neck": 16, "image_dim": 8}
    return randomize(PublishedHyattNet(len(NAMES), **sizes), seed)


def box_of(width: int, height: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Center and size in pixels, as `_xywh2cs` has them."""
    aspect, w, h = size[0] / size[1], float(width), float(height)
    if w > aspect * h:
        h = w / aspect
    elif w < aspect * h:
        w = h * aspect
    return np.array([width / 2, height / 2]), 1.25 * np.array([w, h])


def warped(image: np.ndarray, center: np.ndarray, box: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(rows, columns) of the input, `warpAffine` with INTER_LINEAR and a black border."""
    columns, rows = ((np.arange(n) - n / 2) * b / n + c for n, b, c in zip(size, box, center))
    framed = np.pad(image.astype(np.float64), 1)
    out = np.zeros((len(rows), len(columns)))
    for r, y in enumerate(rows):
        for c, x in enumerate(columns):
            if -1 < x < image.shape[1] and -1 < y < image.shape[0]:
                i, j = int(np.floor(y)) + 1, int(np.floor(x)) + 1
                v, u = y - np.floor(y), x - np.floor(x)
                upper = (1 - u) * framed[i, j] + u * framed[i, j + 1]
                lower = (1 - u) * framed[i + 1, j] + u * framed[i + 1, j + 1]
                out[r, c] = (1 - v) * upper + v * lower
    return out


def flipped_back(maps: np.ndarray) -> np.ndarray:
    """Maps (K, H, W) of the mirror image with names exchanged, and moved by a cell."""
    back = maps[list(PAIR)][:, :, ::-1].copy()
    back[:, :, 1:] = back[:, :, :-1].copy()
    return back


def peaks(maps: np.ndarray) -> np.ndarray:
    """(K, 2) columns and rows."""
    found = np.full((len(maps), 2), -1.0)
    for k, level in enumerate(maps):
        row, column = np.unravel_index(level.argmax(), level.shape)
        if level[row, column] > 0:
            found[k] = column, row
            if 1 < column < level.shape[1] - 1 and 1 < row < level.shape[0] - 1:
                across = level[row, column + 1] - level[row, column - 1]
                found[k] += 0.25 * np.sign([across, level[row + 1, column] - level[row - 1, column]])
    return found


def published_points(net: PublishedHyattNet, image: np.ndarray, size: tuple[int, int], flip_test: bool) -> np.ndarray:
    """(K, 2) columns and rows of the image."""
    center, box = box_of(image.shape[1], image.shape[0], size)
    gray = warped(image, center, box, size)
    batch = (np.stack([gray] * 3) - MEANS[:, None, None]) / DEVIATIONS[:, None, None]
    heads = []
    with torch.inference_mode():
        tensor = to_tensor(batch.astype(np.float32))[None]
        looks = [net(tensor), net(tensor.flip(3))]
    for direct, mirrored in zip(*looks):
        maps = to_array(direct[0])
        if flip_test:
            maps = (maps + flipped_back(to_array(mirrored[0]))) * 0.5
        scale = box / maps.shape[:0:-1]
        heads.append(peaks(maps) * scale + center - box / 2)
    return np.mean(heads, axis=0)


def picture(width: int, height: int) -> np.ndarray:
    """Smooth shapes with noise in a black frame, 8 bits."""
    rng = np.random.default_rng(width)
    y, x = np.mgrid[:height, :width]
    image = 90 + 60 * np.sin(x / 17) * np.cos(y / 23) + rng.normal(0, 12, (height, width))
    for _ in range(9):
        middle, radius = rng.uniform(0.1, 0.9, 2) * (height, width), rng.uniform(4, 15)
        image += rng.uniform(-90, 90) * np.exp(-((y - middle[0]) ** 2 + (x - middle[1]) ** 2) / radius**2)
    image[:2] = image[-2:] = image[:, :2] = image[:, -2:] = 0
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def imported(folder: Path, net: PublishedHyattNet, size: tuple[int, int], set_name: str) -> Detector:
    definitions = [{"name": name, "definition": name} for name in NAMES]
    scheme = {"id": set_name, "version": "1", "landmarks": definitions, "pairs": [["left", "right"]]}
    (folder / "points.json").write_text(json.dumps(scheme))
    torch.save({"meta": {}, "state_dict": net.state_dict(), "optimizer": {}}, folder / "model.pth")
    words = ["--landmarks", str(folder / "points.json"), "--size", *map(str, size)]
    words += ["--output", str(folder / "out")]
    assert main(["models", "import-published", str(folder / "model.pth"), *words]) == 0
    return Detector(open_package(folder / "out"), device="cpu")


@pytest.mark.parametrize(
    ("shape", "pixel", "size", "set_name"),
    [
        ((151, 190), 0.1, (128, 128), "isbi2015"),
        ((420, 517), 0.1, (128, 128), "hand"),
        ((330, 150), 0.37, (128, 256), "isbi2015"),
        ((90, 77), 2.0, (128, 128), "pelvis"),
    ],
    ids=["fine", "finer pixels", "wide, other pixels", "one view, enlarged"],
)
def test_points_are_those_of_the_published_pipeline(tmp_path, shape, pixel, size, set_name):
    net, image = network(shape[0]), picture(*shape)
    detector = imported(tmp_path, net, size, set_name)
    expected = published_points(net, image, size, flip_test=set_name != "pelvis")
    found = detector.findings(Volume(image.T[..., None], np.diag([pixel, pixel, 1, 1])))
    np.testing.assert_allclose(found.positions[:, :2] / pixel, expected, atol=0.02)


def test_a_wrong_scale_or_one_look_gives_other_points(tmp_path):
    """What the comparison above can see."""
    net, image = network(151), picture(151, 190)
    expected = published_points(net, image, (128, 128), flip_test=True)
    once = published_points(net, image, (128, 128), flip_test=False)
    assert np.abs(once - expected).max() > 1
    framed = np.pad(image, ((0, 30), (0, 0)))
    assert np.abs(published_points(net, framed, (128, 128), flip_test=True) - expected).max() > 0.1
