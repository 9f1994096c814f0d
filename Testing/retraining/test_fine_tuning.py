"""Fine-tuning from corrected cases: five suffice to learn from, only what a person decided teaches, and it is told."""

import json
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
import torch
from flat_cases import SCHEME as FLAT_SCHEME
from flat_cases import radiograph
from tiny_model import write_tiny_radiograph_package
from toy_projects import FIRST_DAY, NAMES, corrected, learnt_base, points_of, scan_of, toy_base, toy_project

from H3DELandmarksLib.cases import CaseLandmark, ReviewState, create_project
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.detection import Detector
from H3DELandmarksLib.formats.lineage import lineage_of
from H3DELandmarksLib.formats.run import StageProgress, read_run
from H3DELandmarksLib.models import open_package
from H3DELandmarksLib.networks.arrays import to_array
from H3DELandmarksLib.retraining.fine_tuning import plan_fine_tuning
from H3DELandmarksLib.retraining.run import retrain, start_run
from H3DELandmarksLib.training.checkpoints import averaged_weights


def finished(folder, project, base, steps=2, **more):
    record = start_run(folder, plan_fine_tuning(project, base, steps, **more))
    return record, retrain(record, "cpu")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A project of six cases, an untrained base and a finished run of two steps."""
    folder = tmp_path_factory.mktemp("small")
    project, base = toy_project(folder / "project", 6), toy_base(folder / "base")
    record, candidate = finished(folder / "run", project, base)
    return project, base, record, candidate


def error_of(package, seeds):
    detector = Detector(package, "cpu", "torch")
    truth = [np.array([points_of(seed)[name] for name in NAMES]) for seed in seeds]
    found = [detector.findings(scan_of(seed)).positions for seed in seeds]
    return float(np.linalg.norm(np.array(found) - truth, axis=2).mean())


def test_five_corrected_cases_lower_the_error_on_scans_that_nobody_corrected(tmp_path):
    base, project = learnt_base(tmp_path), toy_project(tmp_path / "project", 5)
    _, candidate = finished(tmp_path / "run", project, base, steps=40)
    unseen = range(50, 54)
    before, after = error_of(base, unseen), error_of(candidate, unseen)
    assert before > 2 and after < 1


def test_the_package_verifies_and_says_what_it_comes_from(small):
    project, base, record, candidate = small
    candidate.verify()
    lineage = candidate.manifest.training["lineage"]
    assert replace(lineage_of(candidate.manifest).base, lineage=None) == replace(base.reference, lineage=None)
    assert (candidate.id, candidate.version) == (base.id, "1.1.0")
    assert (lineage["base"]["id"], lineage["base"]["version"]) == (base.id, "1.0.0")
    assert [(row["id"], row["revision"]) for row in lineage["cases"]] == [(case.id, 1) for case in project.cases()]
    assert all(row["sha256"] == project.case(row["id"]).content().digest for row in lineage["cases"])
    assert lineage["base"]["digest"] in candidate.model_card()
    assert str(project.folder) not in json.dumps(candidate.content) + candidate.model_card()


def test_the_record_tells_states_subsets_and_steps(small):
    _, base, record, _ = small
    told = read_run(record.folder).record
    assert told.state == "done" and (told.step, told.steps) == (2, 2)
    assert told.base.digest and told.base.version == base.version
    assert {row.subset for row in told.cases} == {"train", "held-out"}
    assert told.stages == (StageProgress("localizer", 2, 2),) and told.device == "cpu"
    assert any("too few cases for a calibration" in note for note in told.notes)


def test_accuracy_is_that_of_the_held_out_cases_alone(small):
    _, _, record, candidate = small
    held_out = [row.id for row in record.record.cases if row.subset == "held-out"]
    assert [row["case"] for row in candidate.manifest.accuracy["held-out"]["per_case"]] == held_out


def test_with_few_cases_no_radius_becomes_smaller_and_presence_stays_calibrated_as_it_was(small):
    _, base, _, candidate = small
    before, after = base.manifest.calibration, candidate.manifest.calibration
    assert after.presence == before.presence and after.confidence == before.confidence
    assert (np.array(after.radius90_mm) >= before.radius90_mm).all()


def test_layers_that_read_the_image_stay_as_they_are_with_few_cases(small):
    _, base, record, _ = small
    before = base.load_weights("localizer.safetensors")
    after = averaged_weights(record.folder / "localizer" / "checkpoint.safetensors")
    for name, value in after.items():
        same = np.array_equal(to_array(value), before[name])
        assert same or not name.startswith("encoder."), name
    assert not np.array_equal(to_array(after["head.weight"]), before["head.weight"])


def weights_after(folder, base, change):
    """Weights after some steps on cases of which one landmark of every case is changed, by its number."""
    project = toy_project(folder / "project", 0)
    for seed in range(5):
        landmarks = [change(landmark, seed) if landmark.name == "Middle" else landmark for landmark in corrected(seed)]
        project.add(scan_of(seed), landmarks, time=FIRST_DAY + timedelta(days=seed))
    record = start_run(folder / "run", plan_fine_tuning(project, base, 12))
    retrain(record, "cpu")
    return averaged_weights(record.folder / "localizer" / "checkpoint.safetensors")


def test_a_wrong_point_that_nobody_reviewed_changes_no_weight(tmp_path):
    """Near, far away, or on a point that is proposed as absent; steps are enough that each of them is drawn."""
    base = toy_base(tmp_path / "base")
    near, far = np.array([16.0, 13, 22]), np.array([-90.0, 500, 3])

    def unreviewed(landmark, seed):
        wrong = (ReviewState.PROPOSED, near, near), (ReviewState.PROPOSED, far, far), (ReviewState.PROPOSED_ABSENT,)
        return CaseLandmark(landmark.name, *wrong[seed % 3])

    weights = {
        name: weights_after(tmp_path / name, base, change)
        for name, change in {
            "unreviewed": unreviewed,
            "unknown": lambda landmark, _: CaseLandmark(landmark.name, ReviewState.UNKNOWN),
            "moved": lambda landmark, _: CaseLandmark(landmark.name, ReviewState.MOVED, np.array([9.0, 9, 9])),
            "absent": lambda landmark, _: CaseLandmark(landmark.name, ReviewState.ABSENT),
        }.items()
    }

    def same(a, b):
        return all(torch.equal(value, weights[b][name]) for name, value in weights[a].items())

    assert same("unreviewed", "unknown")
    assert not same("unknown", "moved") and not same("unknown", "absent") and not same("moved", "absent")


def test_only_the_newest_review_of_a_case_teaches(tmp_path):
    project, base = toy_project(tmp_path / "project"), toy_base(tmp_path / "base")
    before = {row.id: row.revision for row in plan_fine_tuning(project, base).cases}
    again = [CaseLandmark(p.name, ReviewState.MOVED, p.position + 1) for p in corrected(3)]
    changed = project.add(scan_of(3), again).case
    after = {row.id: row.revision for row in plan_fine_tuning(project, base).cases}
    assert after == {**before, changed: 2}


def test_cases_that_nobody_reviewed_are_left_out_with_the_reason(tmp_path):
    project, base = toy_project(tmp_path / "project"), toy_base(tmp_path / "base")
    proposed = [CaseLandmark(p.name, ReviewState.PROPOSED, p.position, p.position) for p in corrected(9)]
    unreviewed = project.add(scan_of(9), proposed).case
    decided = plan_fine_tuning(project, base)
    assert decided.left_out == {unreviewed: "nobody has reviewed a point"}
    assert unreviewed not in {row.id for row in decided.cases}


def test_four_cases_are_too_few(tmp_path):
    with pytest.raises(InputError, match=r"at least 5 corrected cases.*correct 1 more"):
        plan_fine_tuning(toy_project(tmp_path / "project", 4), toy_base(tmp_path / "base"))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [({"steps": 0}, "at least one step"), ({"held_out": 0.9}, "from 0 to 0.5"), ({"held_out": -1}, "from 0 to 0.5")],
)
def test_settings_that_cannot_be_are_refused(small, settings, sentence):
    with pytest.raises(InputError, match=sentence):
        plan_fine_tuning(small[0], small[1], **settings)


def test_a_run_is_never_begun_where_something_lies(small, tmp_path):
    project, base, record, _ = small
    decided = plan_fine_tuning(project, base, 2)
    with pytest.raises(InputError, match="--resume"):
        start_run(record.folder, decided)
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(InputError, match="not empty"):
        start_run(tmp_path, decided)


def test_a_candidate_can_be_retrained_and_keeps_the_whole_lineage(small, tmp_path):
    project, base, record, candidate = small
    _, again = finished(tmp_path / "run", project, candidate)
    lineage = again.manifest.training["lineage"]
    assert lineage["base"]["lineage"]["base"]["digest"] == record.record.base.digest
    subsets = [{row["id"]: row["subset"] for row in x["cases"]} for x in (lineage, lineage["base"]["lineage"])]
    assert subsets[0] == subsets[1]
    rates = [p.manifest.training["stages"]["localizer"]["training"]["learning_rate"] for p in (base, again)]
    assert rates[0] == rates[1], "rates must not become smaller with every retraining"


def test_a_finished_run_is_left_as_it_is(small):
    _, _, record, candidate = small
    manifest = (candidate.path / "manifest.json").stat().st_mtime_ns
    assert retrain(read_run(record.folder), "cpu").version == candidate.version
    assert (candidate.path / "manifest.json").stat().st_mtime_ns == manifest
    assert open_package(candidate.path).id == "tiny"


def test_a_model_for_radiographs_is_retrained_on_radiographs_in_any_plane(tmp_path):
    project, base = create_project(tmp_path / "project", FLAT_SCHEME), write_tiny_radiograph_package(tmp_path / "base")
    for seed, plane in enumerate(("axial", "coronal", "sagittal", "axial", "oblique")):
        scan, points = radiograph(seed, plane=plane)
        landmarks = [CaseLandmark(n, ReviewState.PLACED, p) for n, p in zip(points.names, points.positions)]
        project.add(scan, landmarks)
    _, candidate = finished(tmp_path / "run", project, base, steps=1)
    scan, points = radiograph(7, plane="coronal")
    found = Detector(candidate, "cpu", "torch").detect(scan)
    assert found.names == points.names and candidate.is_2d


def test_a_volume_among_radiographs_is_told(tmp_path):
    base = write_tiny_radiograph_package(tmp_path / "base")
    project = create_project(tmp_path / "project", FLAT_SCHEME)
    names = dict(zip(NAMES, FLAT_SCHEME.names))
    for seed in range(5):
        places = points_of(seed)
        landmarks = [CaseLandmark(names[n], ReviewState.PLACED, places[n]) for n in NAMES]
        project.add(scan_of(seed), landmarks)
    with pytest.raises(InputError, match="reads radiographs"):
        finished(tmp_path / "run", project, base)
