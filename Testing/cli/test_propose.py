"""``propose``: landmarks of a few corrected cases in other scans, by the command line."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from example_projects import project_of_blobs
from example_scans import bent, marked, picture_of, still

from H3DELandmarksLib.cases import ReviewState
from H3DELandmarksLib.cases.examples import ExampleSet
from H3DELandmarksLib.cli.main import main
from H3DELandmarksLib.cohort import proposer
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.formats.provenance import read_provenance
from H3DELandmarksLib.io.images import read_volume, write_volume
from H3DELandmarksLib.io.markups import read_markups, write_markups
from H3DELandmarksLib.models import registry

MOVE = bent(2)


@pytest.fixture(autouse=True)
def no_models(tmp_path, monkeypatch):
    """Nothing is installed."""
    monkeypatch.setattr(registry, "bundled_folder", lambda: tmp_path / "no models")
    monkeypatch.setattr(registry, "user_folder", lambda: tmp_path / "no models")


@pytest.fixture
def scan(tmp_path) -> Path:
    write_volume(tmp_path / "new.nrrd", picture_of(2, MOVE))
    return tmp_path / "new.nrrd"


def propose(scan, examples, output, *options) -> int:
    return main(["propose", str(scan), "--examples", str(examples), "--output", str(output), *map(str, options)])


def worst(found: LandmarkSet) -> float:
    return float(np.linalg.norm(found.positions - marked(2, MOVE).positions, axis=1).max())


def test_a_project_of_cases_proposes_its_landmarks_in_the_next_scan(scan, tmp_path, capsys):
    project = project_of_blobs(tmp_path / "cases", 3)
    assert propose(scan, project.folder, tmp_path / "out", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["format"] == "h3delandmarks-proposal" and result["ok"] and len(result["examples"]) == 3
    (said,) = result["scans"]
    assert "6 of 6 landmarks found" in said["summary"] and "3 examples" in said["summary"]
    assert all(p["radius90_px"] > 0 and p["confidence"] is None for p in said["landmarks"])
    found = read_markups(tmp_path / "out" / "new.mrk.json")
    assert found.names == project.scheme.names and worst(found) < 1.5
    origin = read_provenance(tmp_path / "out" / "new.provenance.json")
    assert origin.model is None and origin.examples is not None and origin.scan is not None
    assert set(origin.examples.cases) == {case.id for case in project.cases()}
    assert origin.examples.guide is None and origin.examples.correlation > 0.9
    assert origin.cells()["model"] == "examples@3" and "from 3 examples" in origin.line()
    assert origin.scan.file == "new.nrrd" and {p.state for p in origin.points} == {"proposed"}
    assert "examples@3" in (tmp_path / "out" / "new.csv").read_text(encoding="utf-8")


def test_one_example_states_no_radius_and_says_so(scan, tmp_path, capsys):
    project = project_of_blobs(tmp_path / "cases", 1)
    assert propose(scan, project.folder, tmp_path / "out", "--guide", "none") == 0
    assert "1 example" in (said := capsys.readouterr().out) and "no radius" in said
    found = read_markups(tmp_path / "out" / "new.mrk.json")
    assert np.isnan(found.radius).all() and worst(found) < 1.5


def test_a_folder_of_scans_with_point_lists_serves_as_well_and_cases_can_be_chosen(scan, tmp_path, capsys):
    folder = tmp_path / "plain"
    folder.mkdir()
    for name, move in (("a", still), ("b", bent(2, turn=-0.05))):
        write_volume(folder / f"{name}.nrrd", picture_of(2, move))
        write_markups(folder / f"{name}.mrk.json", marked(2, move))
    assert propose(scan, folder, tmp_path / "out", "--cases", "b", "--landmarks", "P1", "P0") == 0
    assert read_markups(tmp_path / "out" / "new.mrk.json").names == ("P0", "P1")
    assert read_provenance(tmp_path / "out" / "new.provenance.json").examples.cases == ("b",)
    assert propose(scan, folder, tmp_path / "other", "--cases", "c") == 2
    assert "no case 'c'" in capsys.readouterr().err
    write_markups(folder / "b.mrk.json", marked(2, still, prefix="Q"))
    assert propose(scan, folder, tmp_path / "other") == 2
    assert "different schemes" in capsys.readouterr().err
    assert not (tmp_path / "other" / "new.mrk.json").exists()


def test_examples_that_are_unlike_the_scan_are_not_named_as_its_points_come_from_the_others(scan, tmp_path, capsys):
    (folder := tmp_path / "plain").mkdir()
    for name, seed in (("alike", 0), ("foreign", None)):
        write_volume(folder / f"{name}.nrrd", picture_of(2, still, seed=seed))
        write_markups(folder / f"{name}.mrk.json", marked(2, still))
    assert propose(scan, folder, tmp_path / "out", "--guide", "none") == 0
    said = capsys.readouterr().out
    assert "proposed from 1 example" in said and "1 other is unlike this scan" in said and "no radius" in said
    assert read_provenance(tmp_path / "out" / "new.provenance.json").examples.cases == ("alike",)


def test_a_scan_unlike_the_examples_gets_no_points_unless_they_are_asked_for(scan, tmp_path, capsys):
    project = project_of_blobs(tmp_path / "cases", 2)
    write_volume(scan, picture_of(2, still, seed=None))
    assert propose(scan, project.folder, tmp_path / "out") == 0
    assert "does not look like" in capsys.readouterr().out
    assert not read_markups(tmp_path / "out" / "new.mrk.json").present.any()
    origin = read_provenance(tmp_path / "out" / "new.provenance.json")
    assert {p.state for p in origin.points} == {"not recognised"}
    assert propose(scan, project.folder, tmp_path / "out", "--show-doubtful") == 0
    assert read_markups(tmp_path / "out" / "new.mrk.json").present.any()


def test_a_scan_is_no_example_for_itself(tmp_path, capsys):
    project = project_of_blobs(tmp_path / "cases", 1)
    write_volume(tmp_path / "same.nrrd", picture_of(2, still))
    assert propose(tmp_path / "same.nrrd", project.folder, tmp_path / "out") == 2
    assert "this scan itself" in capsys.readouterr().err


def test_points_that_nobody_has_looked_at_are_no_examples(scan, tmp_path, capsys):
    project = project_of_blobs(tmp_path / "cases", 1, state=ReviewState.ACCEPTED_IN_BULK)
    assert ExampleSet.of(project) is None
    assert propose(scan, project.folder, tmp_path / "out") == 2
    assert "no case with a point" in capsys.readouterr().err


def test_a_volume_is_not_compared_with_radiographs(tmp_path, capsys):
    project = project_of_blobs(tmp_path / "cases", 1)
    write_volume(tmp_path / "volume.nrrd", picture_of(3, still))
    assert propose(tmp_path / "volume.nrrd", project.folder, tmp_path / "out") == 2
    assert "radiographs" in capsys.readouterr().err


def test_the_points_of_a_model_lead_and_are_searched_once_in_an_example(scan, tmp_path, monkeypatch):
    project = project_of_blobs(tmp_path / "cases", 2)
    move, looked = bent(2, turn=2.0, shift=0.0), []
    write_volume(scan, picture_of(2, move))

    def found(self, model, volume):
        from H3DELandmarksLib.cases.store import content_of

        looked.append(content_of(volume).digest)
        known = {content_of(picture_of(2, m)).digest: m for m in (still, bent(2, turn=-0.05), move)}
        return marked(2, known[looked[-1]], count=14, prefix="G")

    monkeypatch.setattr(proposer.Proposer, "_recognising", lambda self, volume: "toy@1")
    monkeypatch.setattr(proposer.Proposer, "_found", found)
    assert propose(scan, project.folder, tmp_path / "out") == 0
    assert len(looked) == 3
    assert propose(scan, project.folder, tmp_path / "again") == 0
    assert len(looked) == 4, "only the new scan is searched again"
    found_points = read_markups(tmp_path / "out" / "new.mrk.json")
    assert np.linalg.norm(found_points.positions - marked(2, move).positions, axis=1).max() < 1.5
    assert read_provenance(tmp_path / "out" / "new.provenance.json").examples.guide == "toy@1"
    (project.folder / "guides").joinpath(f"{project.cases()[0].id}.json").write_text("{", encoding="utf-8")
    assert propose(scan, project.folder, tmp_path / "third") == 0 and len(looked) == 6


def test_proposals_in_a_picture_of_unknown_size_are_pixels(tmp_path, capsys):
    examples = tmp_path / "examples"
    examples.mkdir()
    rows, columns = np.mgrid[:160, :120]
    spots = np.array([[40.0, 50], [70, 60], [60, 110]])  # x, y
    for name, move in (("examples/a", 0), ("new", 3)):
        shades = sum(np.exp(-((columns - x - move) ** 2 + (rows - y - move) ** 2) / 90) for x, y in spots)
        sitk.WriteImage(sitk.GetImageFromArray((shades * 200).astype(np.uint8)), str(tmp_path / f"{name}.png"))
    picture = read_volume(examples / "a.png", needs_size=False)
    (examples / "a.png").unlink()
    write_volume(examples / "a.nrrd", picture)
    points = np.column_stack([spots, np.zeros(3)])
    write_markups(examples / "a.mrk.json", LandmarkSet(("p", "q", "r"), points))
    assert propose(tmp_path / "new.png", examples, tmp_path / "out", "--guide", "none", "--json") == 0
    (said,) = json.loads(capsys.readouterr().out)["scans"]
    assert said["unit"] == "px" and "pixels" in said["summary"]
    for landmark, (x, y) in zip(said["landmarks"], spots + 3):
        assert landmark["position_lps_px"] == pytest.approx([x, y, 0], abs=1.5)
    assert "left_px" in (tmp_path / "out" / "new.csv").read_text(encoding="utf-8")


@pytest.mark.parametrize(("column", "cell"), [("model", "mouse-skull"), ("region", "box.mrk.json")])
def test_a_list_s_models_and_regions_are_refused_as_they_would_do_nothing(scan, tmp_path, capsys, column, cell):
    project, out = project_of_blobs(tmp_path / "cases", 1), tmp_path / "out"
    (tmp_path / "list.csv").write_text(f"path,{column}\n{scan.name},{cell}\n", encoding="utf-8")
    assert propose(tmp_path / "list.csv", project.folder, out, "--guide", "none") == 2
    assert column in capsys.readouterr().err and not (out / "new.mrk.json").exists()
    (tmp_path / "list.csv").write_text(f"path,{column},subject\n{scan.name},,one\n", encoding="utf-8")
    assert propose(tmp_path / "list.csv", project.folder, out, "--guide", "none") == 0


def test_proposals_for_a_bids_data_set_are_a_derivative_of_it(scan, tmp_path, capsys):
    root, project = tmp_path / "set", project_of_blobs(tmp_path / "cases", 2)
    (root / "sub-01" / "anat").mkdir(parents=True)
    scan.rename(root / "sub-01" / "anat" / "sub-01_ct.nrrd")
    (root / "dataset_description.json").write_text('{"BIDSVersion": "1.10.0"}', encoding="utf-8")
    assert propose(root, project.folder, root) == 2
    assert "is the data set itself" in capsys.readouterr().err
    assert propose(root, project.folder, out := tmp_path / "out") == 0
    sidecar = json.loads((out / "sub-01" / "anat" / "sub-01_desc-landmarks_ct.json").read_text(encoding="utf-8"))
    assert sidecar["Sources"] == ["bids:raw:sub-01/anat/sub-01_ct.nrrd"] and "2 examples" in sidecar["Description"]
    assert json.loads((out / "dataset_description.json").read_text(encoding="utf-8"))["DatasetType"] == "derivative"
