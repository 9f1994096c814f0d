"""kill -9 at random moments of adding cases: every case that was there stays, complete."""

import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="uses fork and SIGKILL")


def test_no_case_is_lost_or_damaged_by_kill(tmp_path):
    check(tmp_path, 10)


@pytest.mark.slow
def test_no_case_is_lost_or_damaged_by_a_hundred_kills(tmp_path):
    check(tmp_path, 100)


def check(folder, rounds):
    from benchmarks.kill_export import run

    outcome = run(folder, rounds, seed=rounds)
    assert outcome.cases > 0 and outcome.revisions > outcome.cases
    assert (outcome.rounds, outcome.indices_rebuilt) == (rounds, rounds)
    assert outcome.lost == [] and outcome.damaged == []
