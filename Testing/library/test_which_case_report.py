"""The report on orders of correction: it says "better" only where the paired differences leave no doubt."""

import json

import numpy as np
import pytest

from benchmarks.which_case.report import draw, read_runs, summary, text

STRATEGIES, SIZES = ("random", "uncertainty", "combined"), (4, 8, 12)


def write_runs(folder, gain, seeds=6):
    """Errors that fall with the number of specimens, lower by `gain` mm with the order "combined"."""
    rng = np.random.default_rng(0)
    for seed in range(seeds):
        level = rng.normal(0.5, 0.05)
        for strategy in STRATEGIES:
            rounds = []
            for number, size in enumerate(SIZES):
                better = gain if strategy == "combined" and number else 0.0
                error = level - 0.02 * number - better + (rng.normal(0, 0.01, 5) if number else np.zeros(5))
                values = dict(zip("abcde", error))
                rounds.append({"size": size, "cpu_s": 6.0, "validation": values, "test": values})
            (folder / f"{strategy}-{seed}.json").write_text(json.dumps(rounds))


@pytest.mark.parametrize(("gain", "beats"), [(0.05, True), (0.0, False), (-0.05, False)])
def test_an_order_beats_chance_only_without_doubt(tmp_path, gain, beats):
    write_runs(tmp_path, gain)
    found = summary(read_runs(tmp_path, STRATEGIES, SIZES))
    assert found["beats_random"] is beats
    assert (found["best"] == "combined") is (gain >= 0.05) or gain == 0
    mean, low, high = found["orders"]["combined"]["difference_of_curves_mm"]
    assert low <= mean <= high and mean == pytest.approx(-gain, abs=0.01)
    assert found["orders"]["combined"]["difference_mm"][0] == pytest.approx((0, 0, 0), abs=1e-9)
    assert found["cpu_minutes"] == pytest.approx(6 * 3 * 3 * 6 / 60, abs=0.05)
    assert set(found["test"]["mean_mm"]) == {"random", found["best"]}, "other orders are not looked at on the test set"
    assert ("beats the random order" in text(found, "")) is beats


def test_seeds_that_are_not_complete_are_left_out(tmp_path):
    write_runs(tmp_path, 0.05)
    path = tmp_path / "uncertainty-3.json"
    path.write_text(json.dumps(json.loads(path.read_text())[:2]))
    (tmp_path / "combined-5.json").unlink()
    found = summary(read_runs(tmp_path, STRATEGIES, SIZES))
    assert found["seeds"] == [0, 1, 2, 4]
    draw(found, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 10_000
