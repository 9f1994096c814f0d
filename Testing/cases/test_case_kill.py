"""kill -9 at every file operation of adding cases: every case that was there stays, complete."""

import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="uses fork and SIGKILL")


def test_no_case_is_lost_or_damaged_by_a_kill_at_any_file_operation(tmp_path):
    from benchmarks.kill_export import run

    outcome = run(tmp_path)
    assert outcome.kills > 20 and outcome.indices_rebuilt == outcome.kills
    assert outcome.lost == [] and outcome.damaged == []
    assert outcome.cases > 0 and outcome.revisions > outcome.cases


def test_a_killed_exchange_of_models_loses_none(tmp_path):
    """`models install --replace`: the version is there after a kill at any file operation, the old one or the new."""
    from benchmarks.killing import count_operations, kill_at
    from H3DELandmarksLib.core.files import atomic_write, restore_interrupted

    target = tmp_path / "models" / "toy-1.0.0"
    target.mkdir(parents=True)
    (target / "manifest.json").write_text("version 0")

    def exchange(acknowledge):
        with atomic_write(target) as temporary:
            temporary.mkdir()
            (temporary / "manifest.json").write_text("version 1")
            (temporary / "weights").write_text("1")

    for operation in range(1, count_operations(tmp_path / "models", exchange) + 1):
        kill_at(operation, tmp_path / "models", exchange)
        restore_interrupted(tmp_path / "models")
        assert (target / "manifest.json").read_text() in ("version 0", "version 1")


def test_results_exports_and_models_are_all_old_or_all_new_however_they_are_stopped(tmp_path):
    """A short form of ``python -m benchmarks.kill_outputs``, which stops at every file operation."""
    from benchmarks.kill_outputs import run

    outcomes = run(tmp_path, sizes=3, kinds=("results", "install", "zip"), every=2)
    assert set(outcomes) == {"results", "install", "zip"}
    for outcome in outcomes.values():
        assert outcome.is_good, outcome
        assert outcome.kills >= 2 and outcome.full_disks >= 2 and outcome.limits == 3


def test_the_campaign_finds_files_that_are_written_in_their_places(tmp_path):
    from benchmarks.kill_outputs import Output, campaign

    def careless(folder, number):
        for name in ("a.csv", "b.csv"):
            (folder / name).write_text(f"{name} {number}" * 100)

    outcome = campaign(Output(careless), tmp_path, sizes=2)
    assert outcome.mixed and outcome.untold


def test_an_export_that_was_killed_while_it_replaced_another_can_be_repeated(tmp_path):
    from benchmarks.kill_outputs import campaign, outputs

    outcome = campaign(outputs(tmp_path / "given")["folder"], tmp_path / "folder", sizes=0, every=5)
    assert outcome.is_good and outcome.kills > 3, outcome
