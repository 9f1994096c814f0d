"""What reading a scan has to say, and what it needs to be told, in every command that reads scans."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from sample_cases import SCHEME, points_of
from tiny_model import write_tiny_package

from H3DELandmarksLib.cases import create_project
from H3DELandmarksLib.cli.main import main
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.formats.reading import build
from H3DELandmarksLib.formats.results import DetectionResult
from H3DELandmarksLib.io.markups import write_markups


def write_bare(path: Path) -> Path:
    """A scan without spacing and directions."""
    path.parent.mkdir(exist_ok=True)
    array = np.random.default_rng(0).normal(0, 300, (20, 22, 24)).astype("<i2")
    head = "NRRD0004\ntype: short\ndimension: 3\nsizes: 24 22 20\nencoding: raw\nendian: little\n\n"
    path.write_bytes(head.encode() + array.tobytes())
    return path


def write_two_series(folder: Path) -> Path:
    """Series 3 has 20 slices, series 4 has 16."""
    folder.mkdir()
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    rng = np.random.default_rng(0)
    for number, count in ((3, 20), (4, 16)):
        for n in range(count):
            image = sitk.GetImageFromArray(rng.normal(0, 300, (1, 24, 22)).astype(np.int16))
            image.SetSpacing((2, 2, 2))
            for tag, value in {
                "0008|0060": "CT",
                "0008|0016": "1.2.840.10008.5.1.4.1.1.2",
                "0008|0018": f"1.2.{number}.{n + 1}",
                "0020|000d": "1.2",
                "0020|000e": f"1.2.{number}",
                "0020|0011": str(number),
                "0020|0013": str(n + 1),
                "0020|0032": f"0\\0\\{2 * n}",
                "0020|0037": "1\\0\\0\\0\\1\\0",
            }.items():
                image.SetMetaData(tag, value)
            writer.SetFileName(str(folder / f"{number}-{n:02}.dcm"))
            writer.Execute(image)
    return folder


@pytest.fixture
def words_of(tmp_path):
    """The words of each command that read a scan, by its name."""
    model = write_tiny_package(tmp_path / "tiny").path
    project = create_project(tmp_path / "project", SCHEME)
    write_markups(tmp_path / "points.mrk.json", LandmarkSet(SCHEME.names, points_of(0), np.ones(len(SCHEME))))

    def words(command: str, scan: Path) -> list[str]:
        given = {
            "detect": ["detect", scan, "--model", model, "--output", tmp_path / "out", "--device", "cpu"],
            "add": ["cases", "add", project.folder, scan, tmp_path / "points.mrk.json"],
            "rank": ["cases", "rank", scan.parent, "--model", model, "--output", tmp_path / "r.csv", "--device", "cpu"],
        }
        return [*map(str, given[command]), "--json"]

    return words


def overwriting(command: str) -> list[str]:
    """What lets a command replace its own results of before."""
    return [] if command == "add" else ["--overwrite"]


@pytest.mark.parametrize("command", ["detect", "add", "rank"])
def test_a_spacing_can_be_stated_and_doubts_reach_people_and_programs(words_of, tmp_path, capsys, command):
    words = words_of(command, write_bare(tmp_path / "scans" / "bare.nrrd"))
    assert main(words) == 2
    assert "--spacing" in capsys.readouterr().err
    assert main([*words, "--spacing", "2x2x2", *overwriting(command)]) == 0
    told = capsys.readouterr()
    warnings = json.loads(told.out)["warnings"]
    assert "directions" in told.err and any("directions" in warning["message"] for warning in warnings)
    if command == "detect":
        assert build(DetectionResult, json.loads(told.out)).warnings[0].scan == "bare"


@pytest.mark.parametrize("command", ["detect", "add", "rank"])
def test_the_choice_of_a_series_is_told_and_can_be_changed(words_of, tmp_path, capsys, command):
    (tmp_path / "patients").mkdir()
    words = words_of(command, write_two_series(tmp_path / "patients" / "ct"))
    assert main(words) == 0
    assert any("--series" in warning["message"] for warning in json.loads(capsys.readouterr().out)["warnings"])
    assert main([*words, "--series", "4", *overwriting(command)]) == 0
    warnings = json.loads(capsys.readouterr().out).get("warnings", [])
    assert not any("--series" in warning["message"] for warning in warnings)
    assert main([*words, "--series", "5", *overwriting(command)]) == 2
    assert "series '5'" in capsys.readouterr().err
