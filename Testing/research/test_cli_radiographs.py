"""The command line with radiographs: pictures and volumes of one slice in, the same results out as for other scans."""

import json
from pathlib import Path

import numpy as np
import pytest
from flat_cases import NAMES, distance_to_plane, radiograph
from PIL import Image
from tiny_model import write_tiny_radiograph_package

from H3DELandmarksLib.cli.main import main
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.detection import Detector
from H3DELandmarksLib.io.images import read_volume, write_volume
from H3DELandmarksLib.io.markups import read_markups, write_markups
from H3DELandmarksLib.models import open_package
from H3DELandmarksResearch.planning.point_tables import read_tables


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    return write_tiny_radiograph_package(tmp_path_factory.mktemp("models") / "tiny").path


@pytest.fixture
def film(tmp_path) -> Path:
    """A picture with pixels of 0.6 x 0.9 mm."""
    (tmp_path / "films").mkdir()
    array = radiograph(1)[0].array[..., 0].T
    Image.fromarray((array / array.max() * 255).astype(np.uint8)).save(tmp_path / "films" / "film.png")
    return tmp_path / "films" / "film.png"


def detect(tiny, output, *words):
    return main(["detect", *map(str, words), "--model", str(tiny), "--output", str(output)])


def test_a_picture_gives_a_point_list_a_table_and_a_picture(tiny, film, tmp_path, capsys):
    assert detect(tiny, tmp_path / "out", film, "--spacing", "0.6x0.9", "--picture", "--json") == 0
    (entry,) = json.loads(capsys.readouterr().out)["scans"]
    points, (table,) = read_markups(entry["markups"]), read_tables(Path(entry["table"])).values()
    volume = read_volume(film, (0.6, 0.9))
    expected = Detector(open_package(tiny), device="cpu").detect(volume)
    assert points.names == NAMES == tuple(table.positions)
    np.testing.assert_allclose(points.positions, expected.positions, atol=1e-6)
    np.testing.assert_allclose(list(table.positions.values()), expected.positions, atol=1e-4)
    assert not points.positions[:, 2].any() and volume.grid.contains(points.positions, margin=-2).all()
    assert Path(entry["picture"]) == tmp_path / "out" / "film.png"
    assert Path(entry["picture"]).read_bytes().startswith(b"\x89PNG")


def test_pictures_and_volumes_of_the_same_radiograph_agree(tiny, film, tmp_path, capsys):
    write_volume(tmp_path / "same.nrrd", read_volume(film, (0.6, 0.9)))
    assert detect(tiny, tmp_path / "out", tmp_path / "same.nrrd", "--json") == 0
    assert detect(tiny, tmp_path / "out", film, "--spacing", "0.6x0.9", "--json") == 0
    same, picture = (read_markups(tmp_path / "out" / f"{name}.mrk.json") for name in ("same", "film"))
    np.testing.assert_allclose(same.positions, picture.positions, atol=1e-6)


def test_without_a_pixel_size_the_sentence_says_what_to_do(tiny, film, tmp_path, capsys):
    assert detect(tiny, tmp_path / "out", film) == 2
    assert "does not state how large its pixels are" in capsys.readouterr().err
    assert detect(tiny, tmp_path / "out", film, "--spacing", "0.2") == 0


@pytest.mark.parametrize("words", ["wide", "0", "-1", "0.1x", "0.1x0.2x0.3x0.4", "nan"])
def test_what_is_no_pixel_size_is_wrong_usage(tiny, film, tmp_path, capsys, words):
    with pytest.raises(SystemExit, match="2"):
        detect(tiny, tmp_path / "out", film, f"--spacing={words}")
    assert "is no pixel size in mm" in capsys.readouterr().err


def test_a_volume_for_a_model_for_radiographs_ends_with_a_sentence(tiny, tmp_path, capsys):
    write_volume(tmp_path / "ct.nrrd", Volume(np.zeros((9, 9, 9), np.int16), np.eye(4)))
    assert detect(tiny, tmp_path / "out", tmp_path / "ct.nrrd") == 2
    assert "'tiny-radiograph' reads radiographs" in capsys.readouterr().err


def test_a_radiograph_is_never_replaced_by_a_picture_of_the_result(tiny, film, tmp_path, capsys):
    """Another radiograph of the same name may lie in the folder of the results; pictures that were drawn go."""
    before = film.read_bytes()
    write_volume(tmp_path / "film.nrrd", radiograph(2)[0])
    assert detect(tiny, film.parent, tmp_path / "film.nrrd", "--picture") == 2
    assert film.read_bytes() == before and "is kept" in capsys.readouterr().err
    assert detect(tiny, film.parent, film, "--spacing", "0.6x0.9", "--picture") == 2
    assert film.read_bytes() == before
    for _ in range(2):
        assert detect(tiny, tmp_path / "out", tmp_path / "film.nrrd", "--picture") == 0


def test_the_demo_runs_with_a_radiograph_and_tells_the_errors_in_mm(tiny, tmp_path, capsys):
    volume, truth = radiograph(3, plane="sagittal")
    write_volume(tmp_path / "film.nrrd", volume)
    write_markups(tmp_path / "film.mrk.json", truth)
    words = ["demo", "--sample", tmp_path / "film.nrrd", "--model", tiny, "--output", tmp_path / "out", "--json"]
    assert main([*map(str, words)]) == 0
    report = json.loads(capsys.readouterr().out)
    found = np.array([entry["position_lps_mm"] for entry in report["landmarks"]])
    errors = [entry["error_mm"] for entry in report["landmarks"]]
    np.testing.assert_allclose(np.linalg.norm(found - truth.positions, axis=1), errors, atol=1e-6)
    assert distance_to_plane(volume, found).max() < 1e-9
    assert (tmp_path / "out" / "film.png").is_file()


def test_the_model_describes_itself(tiny, capsys):
    assert main(["models", "info", str(tiny)]) == 0
    assert "the Top spot" in capsys.readouterr().out
    assert main(["models", "verify", str(tiny)]) == 0
