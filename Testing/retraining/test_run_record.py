"""The record of a run: read in every version, refused by the name of the entry, listed with what stands in it."""

import json
import re
from contextlib import nullcontext
from datetime import datetime, timezone

import pytest
from run_records import as_version_1, plain_stage, run_record, write_run_record
from toy_projects import SCHEME, toy_base, toy_project

from H3DELandmarksLib.core.errors import Cancelled, InputError
from H3DELandmarksLib.core.files import held
from H3DELandmarksLib.formats.run import LOCK, RunRecord, StageProgress, list_runs, read_run
from H3DELandmarksLib.formats.training import TrainingStage
from H3DELandmarksLib.retraining.fine_tuning import plan_fine_tuning
from H3DELandmarksLib.retraining.run import retrain, start_run


def test_a_record_of_the_first_version_is_read_as_one_of_today(tmp_path):
    stages = [plain_stage(SCHEME, "localizer") | {"poses": "cube-rotations"}, plain_stage(SCHEME, "refiner", 4)]
    told = [{"name": "localizer", "step": 9, "steps": 9}, {"name": "refiner", "step": 1, "steps": 4}]
    changes = {"plan": {"stages": stages, "base_names": {}}, "stages": told}
    old = as_version_1(run_record(SCHEME, **changes))
    assert old["format_version"] == 1 and old["own_frame"] is True and (old["step"], old["steps"]) == (10, 13)
    (tmp_path / "run.json").write_text(json.dumps(old))
    record = read_run(tmp_path).record
    assert record == read_run(write_run_record(tmp_path / "today", SCHEME, **changes)).record
    assert isinstance(record, RunRecord) and isinstance(record.plan.stages[0], TrainingStage)
    assert record.sees_canonical_pose and (record.step, record.steps) == (10, 13)
    assert record.stages[1] == StageProgress("refiner", 1, 4)


def test_a_run_that_an_older_version_began_is_gone_on_with_to_the_same_candidate(tmp_path):
    project, base = toy_project(tmp_path / "project"), toy_base(tmp_path / "base")
    decided = plan_fine_tuning(project, base, 2)
    whole = retrain(start_run(tmp_path / "whole", decided), "cpu")
    asked = []
    with pytest.raises(Cancelled):
        retrain(start_run(tmp_path / "old", decided), "cpu", cancelled=lambda: asked.append(0) or len(asked) > 6)
    path = tmp_path / "old" / "run.json"
    path.write_text(json.dumps(as_version_1(json.loads(path.read_text()))))
    candidate = retrain(read_run(tmp_path / "old"), "cpu")
    assert candidate.content == whole.content
    assert json.loads(path.read_text())["format_version"] == 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format_version": 3}, "format_version.*newer"),
        ({"statee": "done"}, "statee.*state"),
        ({"state": "dnoe"}, "state.*done"),
        ({"cases": [{"id": "a", "revision": 0, "sha256": "0" * 64, "subset": "train"}]}, "cases[0].revision"),
        ({"cases": [{"id": "a", "revision": 1, "sha256": "0" * 64, "subset": "trian"}]}, "cases[0].subset.*train"),
        ({"plan": {"stages": []}}, "plan.stages"),
        ({"updated": "yesterday"}, "updated"),
        ({"stages": [{"name": "localizer", "step": -1, "steps": 9}]}, "stages[0].step"),
    ],
)
def test_a_broken_record_is_refused_by_file_and_entry(tmp_path, changes, words):
    folder = write_run_record(tmp_path / "run", SCHEME, **changes)
    with pytest.raises(InputError) as refused:
        read_run(folder)
    assert "run.json" in str(refused.value)
    assert re.search(words.replace("[", r"\[").replace("]", r"\]"), str(refused.value)), refused.value


def test_runs_are_listed_newest_name_first_without_what_cannot_be_read(tmp_path):
    for name in ("2026-01-01", "2026-02-01"):
        write_run_record(tmp_path / name, SCHEME)
    write_run_record(tmp_path / "2026-03-01", SCHEME, state="dnoe")
    (tmp_path / "2026-04-01").mkdir()
    assert [run.folder.name for run in list_runs(tmp_path)] == ["2026-02-01", "2026-01-01"]


LONG_AGO = "2026-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("updated", "is_locked", "state"), [(LONG_AGO, False, "cancelled"), (LONG_AGO, True, "running")]
)
def test_a_killed_run_is_not_running_for_ever(tmp_path, updated, is_locked, state):
    folder = write_run_record(tmp_path / "run", SCHEME, state="running", updated=updated)
    with held(folder / LOCK) if is_locked else nullcontext():
        record = read_run(folder).record
    assert record.state == state and (record.message is None) == is_locked
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert read_run(write_run_record(tmp_path / "new", SCHEME, state="running", updated=now)).record.state == "running"


def test_the_second_of_two_programs_in_a_run_is_told(tmp_path):
    folder = write_run_record(tmp_path / "run", SCHEME, state="running")
    before = (folder / "run.json").read_bytes()
    with held(folder / LOCK), pytest.raises(InputError, match="Another program"):
        retrain(read_run(folder), "cpu")
    assert (folder / "run.json").read_bytes() == before
