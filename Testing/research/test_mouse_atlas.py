"""The mouse atlas: which reading of a point list fits its scan."""

import json

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from H3DELandmarksLib.cli.main import main
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.core.shape_model import Pose
from H3DELandmarksLib.io.images import write_volume
from H3DELandmarksLib.io.markups import read_markups, write_markups
from H3DELandmarksResearch.converters.mouse_atlas import CONFIGURATIONS, match_names
from H3DELandmarksResearch.training.configuration import doubtful_cases

NAMES = tuple(str(k + 1) for k in range(12))
SPACING = 0.2
FLIP = np.array([-1.0, -1, 1])
TURN = Pose(np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]), np.array([9.0, -1.0, 0.5]))


def skull(seed=0):
    """A scan of 12 small bright blocks ("bone") in noise, and the points at their centers, LPS mm."""
    random = np.random.default_rng(seed)
    array = random.integers(0, 12, (48, 44, 40)).astype(np.uint8)
    places = np.stack(np.meshgrid(*[range(6, n - 6, 9) for n in array.shape]), -1).reshape(-1, 3)
    index = random.permutation(places)[:12]
    for i in index:
        array[tuple(slice(n - 1, n + 2) for n in i)] = 150
    volume = Volume(array, np.diag([SPACING] * 3 + [1.0]))
    return volume, volume.grid.lps_from_ijk(index)


def publish(folder, name, volume, positions, points_name=None):
    for place in ("targets", "target_LMs"):
        (folder / "data" / place).mkdir(parents=True, exist_ok=True)
    write_volume(folder / "data" / "targets" / f"{name}_.nii.gz", volume)
    path = folder / "data" / "target_LMs" / f"{points_name or name + '_'}.mrk.json"
    write_markups(path, LandmarkSet(NAMES, positions))
    return path


def convert(source, target, *words):
    return main(["convert", "mouse-atlas", str(source), str(target), *map(str, words)])


@pytest.fixture
def poses(tmp_path):
    path = tmp_path / "poses.json"
    stored = {"rotation": TURN.rotation.tolist(), "translation": TURN.translation.tolist()}
    path.write_text(json.dumps({"turned_J": stored, "both_J": stored}))
    return path


def test_points_that_claim_lps_and_hold_ras_are_corrected(tmp_path, capsys):
    volume, points = skull()
    publish(tmp_path / "atlas", "right.J", volume, points)
    publish(tmp_path / "atlas", "wrong.J", volume, points * FLIP, points_name="wrong.J")
    assert convert(tmp_path / "atlas", tmp_path / "out") == 0
    for name in ("right_J", "wrong_J"):
        assert np.allclose(read_markups(tmp_path / "out" / f"{name}.mrk.json").positions, points)
    assert "1 point lists hold RAS values under the name LPS: wrong_J" in capsys.readouterr().out


def test_known_poses_are_recognized_and_left_to_training_or_applied(tmp_path, poses, capsys):
    volume, points = skull()
    elsewhere = TURN.to_model(points)
    publish(tmp_path / "atlas", "turned.J", volume, elsewhere)
    publish(tmp_path / "atlas", "both.J", volume, elsewhere * FLIP)
    assert convert(tmp_path / "atlas", tmp_path / "out", "--poses", poses) == 0
    assert convert(tmp_path / "atlas", tmp_path / "moved", "--poses", poses, "--move-points") == 0
    for name in ("turned_J", "both_J"):
        assert np.allclose(read_markups(tmp_path / "out" / f"{name}.mrk.json").positions, elsewhere)
        assert np.allclose(read_markups(tmp_path / "moved" / f"{name}.mrk.json").positions, points)
    assert "2 point lists lie in another pose" in capsys.readouterr().out


def test_points_that_fit_in_no_reading_are_refused(tmp_path, capsys):
    volume, points = skull()
    publish(tmp_path / "atlas", "good.J", volume, points)
    publish(tmp_path / "atlas", "turned.J", volume, TURN.to_model(points))
    assert convert(tmp_path / "atlas", tmp_path / "out") == 2
    output = capsys.readouterr()
    assert "turned.J_.nii.gz" in output.err and "neither as LPS nor as RAS" in output.err
    assert "1 case written, 0 kept as they were, 1 skipped" in output.out


@pytest.mark.parametrize(("system", "sign"), [("LPS", 1), ("1", 1), ("RAS", -1), ("0", -1)])
def test_older_point_lists_are_read_too(tmp_path, system, sign):
    volume, points = skull()
    publish(tmp_path / "atlas", "old", volume, points).unlink()
    stored = points * [sign, sign, 1]
    rows = [f"id_{n},{x!r},{y!r},{z!r},0,0,0,1,1,1,0,{n},," for n, (x, y, z) in zip(NAMES, stored.tolist())]
    header = [
        "# Markups fiducial file version = 4.11",
        f"# CoordinateSystem = {system}",
        "# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID",
    ]
    path = tmp_path / "atlas" / "data" / "target_LMs" / "old_.fcsv"
    path.write_text("\n".join([*header, *rows]) + "\n")
    assert np.allclose(read_markups(path).positions, points)
    assert convert(tmp_path / "atlas", tmp_path / "out") == 0
    found = read_markups(tmp_path / "out" / "old.mrk.json")
    assert found.names == NAMES and np.allclose(found.positions, points)


def test_a_damaged_older_point_list_is_told(tmp_path):
    (tmp_path / "a.fcsv").write_text("# CoordinateSystem = LPS\nid_1,1,two,3\n")
    with pytest.raises(InputError, match="not a complete point list"):
        read_markups(tmp_path / "a.fcsv")
    (tmp_path / "b.fcsv").write_text("# CoordinateSystem = IJK\nid_1,1,2,3\n")
    with pytest.raises(InputError, match="coordinate system 'IJK'"):
        read_markups(tmp_path / "b.fcsv")


def test_point_lists_are_matched_by_name_or_by_its_only_beginning():
    assert match_names(["A_J", "BTBR_T_x", "C_J"], ["A_J", "BTBR_T", "D"]) == {"A_J": "A_J", "BTBR_T_x": "BTBR_T"}
    assert match_names(["A_J_1"], ["A", "A_J"]) == {}


def specimen(seed):
    """A scan of a skull like the others, each block a little elsewhere, and the points at the blocks' centers."""
    random = np.random.default_rng(seed)
    places = np.random.default_rng(3).permutation(np.stack(np.meshgrid(*[range(8, 34, 6)] * 3), -1).reshape(-1, 3))[:12]
    index = places + random.integers(-1, 2, places.shape)
    array = random.integers(0, 12, (44, 42, 40)).astype(np.uint8)
    for i in index:
        array[tuple(slice(n - 1, n + 2) for n in i)] = 150
    volume = Volume(array, np.diag([SPACING] * 3 + [1.0]))
    return volume, volume.grid.lps_from_ijk(index)


@pytest.fixture
def unknown_poses(tmp_path):
    """An atlas of six specimens whose points fit and one whose points lie in an unknown pose and are flipped beside."""
    atlas = tmp_path / "published"
    truth = {}
    for seed in (0, 1, 2, 3, 4, 5, 7):
        volume, points = specimen(seed)
        truth[f"s{seed}_J"] = points
        turn = Pose(Rotation.random(random_state=seed).as_matrix(), np.array([3.0, -8, 5]))
        listed = points if seed < 6 else turn.to_lps(points)
        publish(atlas, f"s{seed}.J", volume, listed * (FLIP if seed % 2 else 1))
    return atlas, truth


def test_poses_that_nobody_knows_are_found_from_the_specimens_that_fit(unknown_poses, tmp_path, capsys):
    """A list that belongs to no place in its scan is refused then, too."""
    atlas, truth = unknown_poses
    publish(atlas, "wrong.J", specimen(9)[0], np.random.default_rng(5).uniform(1, 8, (12, 3)))
    assert convert(atlas, tmp_path / "out") == 2
    output, refused = capsys.readouterr()
    assert "wrong.J" in refused and "nor in any other pose" in refused
    assert (
        "7 cases written, 0 kept as they were, 1 skipped" in output
        and "1 more point lists" in output
        and "s7_J" in output
    )
    for name, points in truth.items():
        found = read_markups(tmp_path / "out" / f"{name}.mrk.json").positions
        assert np.linalg.norm(found - points, axis=1).max() < 0.5 * SPACING


def test_doubtful_specimens_are_named_with_the_reason(tmp_path, capsys):
    volume, points = skull()
    publish(tmp_path / "atlas", "LG.J", volume, points)
    publish(tmp_path / "atlas", "C57BL6_J", volume, points)
    assert convert(tmp_path / "atlas", tmp_path / "out") == 0
    output = capsys.readouterr().out
    assert "LG_J is doubtful" in output and "C57BL6_J is doubtful" not in output
    named = json.loads((CONFIGURATIONS / "mouse-skull.json").read_text())["data"]["split"]
    doubtful = doubtful_cases(CONFIGURATIONS / "mouse-skull.json")
    assert doubtful.keys() < {name for names in named.values() for name in names} and len(doubtful) == 5
