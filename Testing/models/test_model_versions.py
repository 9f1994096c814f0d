"""Versions of a model: side by side, one of them current, the way back, and nothing lost by a kill or a rival."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_package import CARD, toy_package

from H3DELandmarksLib.core.errors import ModelPackageError
from H3DELandmarksLib.formats.lineage import Lineage, ModelReference, UsedCase, lineage_of
from H3DELandmarksLib.models import available_models, find_model, install_model, registry
from H3DELandmarksLib.models.package import package_digest
from H3DELandmarksLib.models.versions import (
    HISTORY,
    HistoryEntry,
    add_version,
    current_version,
    next_version,
    read_history,
    revert,
    succession,
    versions_of,
)

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "Testing" / "helpers"


@pytest.fixture
def bundled(tmp_path, monkeypatch):
    """A bundled model 1.0.0, and an empty folder for the user's."""
    monkeypatch.setattr(registry, "user_folder", lambda: tmp_path / "user")
    monkeypatch.setattr(registry, "bundled_folder", lambda: tmp_path / "bundled")
    monkeypatch.delenv("H3DE_MODELS", raising=False)
    (tmp_path / "bundled").mkdir()
    return toy_package(tmp_path / "bundled" / "toy")


def keep(tmp_path, seed, event="promote", version="1.1.0", **changes):
    """Keep a new model as a version."""
    package = toy_package(tmp_path / f"candidate-{seed}", seed, version=version, **changes)
    return add_version(package, package.manifest, CARD, event, {})


def current():
    return find_model("toy").version


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_promoted_version_is_current_and_the_older_one_stays(bundled, tmp_path):
    before = files(bundled.path)
    kept = keep(tmp_path, 1)
    assert kept.path == tmp_path / "user" / "toy-1.1.0"
    assert find_model("toy").path == kept.path
    assert find_model("toy@1.0.0").path == bundled.path and files(bundled.path) == before
    assert [(v.package.version, v.source, v.is_current) for v in versions_of("toy")] == [
        ("1.1.0", "installed", True),
        ("1.0.0", "bundled", False),
    ]


def test_the_way_back_is_one_step_each_time(bundled, tmp_path):
    keep(tmp_path, 1)
    keep(tmp_path, 2, version="1.2.0")
    assert [revert("toy").package.version, revert("toy").package.version] == ["1.1.0", "1.0.0"]
    with pytest.raises(ModelPackageError, match=r"No version of 'toy' was current before 1\.0\.0"):
        revert("toy")
    assert current() == "1.0.0"
    assert revert("toy", "1.2.0").is_current and current() == "1.2.0"
    assert revert("toy").package.version == "1.0.0"
    events = [entry.event for entry in read_history(tmp_path / "user", "toy")]
    assert events == ["start", "promote", "promote", "revert", "revert", "revert", "revert"]


@pytest.mark.parametrize(
    ("model", "version", "message"),
    [
        ("toy", "9.0.0", r"has no version '9\.0\.0': choose one of 1\.1\.0, 1\.0\.0"),
        ("toy", "1.1.0", "is the current one already"),
        ("tory", None, "did you mean 'toy'"),
        ("toy@1.0.0", None, "give the id alone"),
    ],
)
def test_a_way_back_that_is_none_changes_nothing(bundled, tmp_path, model, version, message):
    keep(tmp_path, 1)
    before = files(tmp_path / "user")
    with pytest.raises(ModelPackageError, match=message):
        revert(model, version)
    assert files(tmp_path / "user") == before


def test_no_version_is_overwritten(bundled, tmp_path):
    first = keep(tmp_path, 1)
    before = files(first.path)
    second = keep(tmp_path, 2)
    assert (second.version, current()) == ("1.1.1", "1.1.1")
    assert package_digest(second) != package_digest(first) and files(first.path) == before
    taken = keep(tmp_path, 3, version="1.0.0")
    assert taken.version == "1.0.1" and find_model("toy@1.0.0").path == bundled.path


def test_the_same_model_is_not_kept_twice(bundled, tmp_path):
    first = keep(tmp_path, 1)
    package = toy_package(tmp_path / "again", 1, version="1.1.0", title="Another title")
    assert add_version(package, package.manifest, CARD, "promote", {}).path == first.path
    assert [entry.package.version for entry in available_models()] == ["1.1.0", "1.0.0"]


def test_what_is_added_becomes_current_only_where_it_is_the_first(bundled, tmp_path):
    keep(tmp_path, 1, "add", version="3.0.0")
    assert current() == "1.0.0"
    keep(tmp_path, 2, "add", version="0.1.0", id="other")
    assert find_model("other").version == "0.1.0"


def test_what_is_copied_but_not_recorded_is_not_current(bundled, tmp_path):
    """As a kill between the two leaves it."""
    keep(tmp_path, 1)
    revert("toy")
    toy_package(tmp_path / "user" / "toy-5.0.0", 5, version="5.0.0")
    assert current() == "1.0.0" and versions_of("toy")[0].package.version == "5.0.0"


def test_an_installed_version_is_current_where_it_is_newer(bundled, tmp_path):
    keep(tmp_path, 1)
    install_model(toy_package(tmp_path / "p", 2, version="1.0.5").path)
    assert current() == "1.1.0"
    install_model(toy_package(tmp_path / "q", 3, version="1.10.0").path)
    assert current() == "1.10.0" and revert("toy").package.version == "1.1.0"


def test_without_a_history_the_newest_version_is_current(bundled, tmp_path):
    install_model(toy_package(tmp_path / "p", 2, version="1.2.0").path)
    assert current() == "1.2.0" and not (tmp_path / "user" / HISTORY).exists()
    assert [v.is_current for v in versions_of("toy")] == [True, False]


def test_a_version_that_was_removed_leaves_the_one_before_current(bundled, tmp_path):
    kept = keep(tmp_path, 1)
    for path in kept.path.iterdir():
        path.unlink()
    kept.path.rmdir()
    assert current() == "1.0.0"


def test_a_damaged_entry_is_left_out_with_a_warning(bundled, tmp_path, caplog):
    keep(tmp_path, 1)
    (tmp_path / "user" / HISTORY / "toy" / "000002" / "entry.json").write_text("{")
    assert current() == "1.0.0" and "is damaged" in caplog.text
    keep(tmp_path, 2)
    assert current() == "1.1.1"


def test_versions_tell_base_cases_and_comparison(bundled, tmp_path):
    used = tuple(UsedCase(str(k) * 64, 1, subset) for k, subset in enumerate(("train", "train", "held-out")))
    lineage = Lineage(ModelReference.to(bundled), used)
    package = toy_package(tmp_path / "c", 1, version="1.1.0", training={"lineage": lineage.to_dict()})
    details = {"comparison": {"sentence": "Better."}, "override": "our own convention"}
    add_version(package, package.manifest, CARD, "promote", details)
    new, old = versions_of("toy")
    assert (new.base, new.cases, new.comparison, new.override) == ("toy@1.0.0", 2, "Better.", "our own convention")
    assert (old.base, old.cases, old.comparison, old.date) == (None, None, None, "2026-01-01")


# Lineage


def test_a_digest_is_of_what_determines_the_points(tmp_path):
    digest = package_digest(toy_package(tmp_path / "a"))
    described = toy_package(tmp_path / "b", title="Other", version="7.0.0", training={}, limitations=[])
    assert package_digest(described) == digest
    assert package_digest(toy_package(tmp_path / "c", seed=1)) != digest
    assert package_digest(toy_package(tmp_path / "d", intensity={"method": "window", "low": 0, "high": 9})) != digest


def test_scans_that_a_base_learnt_from_are_known():
    base = {"base": None, "cases": [{"sha256": "a" * 64, "revision": 1, "subset": "train"}]}
    subsets = {"b": "validation", "c": "held-out"}
    cases = [{"sha256": c * 64, "revision": 2, "subset": subset, "id": "x"} for c, subset in subsets.items()]
    reference = {"id": "m", "version": "1.0.0", "digest": "0" * 64, "path": "/home/x", "lineage": base}
    lineage = lineage_of({"training": {"lineage": {"base": reference, "cases": cases}}})
    assert lineage.learnt == {"a" * 64, "b" * 64}
    assert Lineage.from_dict(lineage.to_dict()) == lineage and "/home" not in json.dumps(lineage.to_dict())
    assert lineage_of({"training": {"lineage": {"base": None, "cases": [{"sha256": "Mustermann"}]}}}) is None


# History


versions = st.sampled_from(("1.0.0", "1.1.0", "1.2.0"))


@given(st.lists(st.tuples(st.sampled_from(("promote", "add")), versions), max_size=8), versions)
def test_the_last_event_decides(events, start):
    history, now = [HistoryEntry("start", start, start, None, "")], start
    for event, version in events:
        before, now = now, version if event == "promote" else now
        history.append(HistoryEntry(event, version, now, before, ""))
        assert current_version(history, ("1.0.0", "1.1.0", "1.2.0")) == now
    stack = succession(history)
    assert stack[0] == start and all(a != b for a, b in zip(stack, stack[1:]))


def test_version_numbers_count_up():
    assert [next_version(v) for v in ("1.2.9", "1.2.3-rc.1")] == ["1.2.10", "1.2.4"]


# Kills and rivals


def start(home, seed):
    """A process that promotes and reverts without end, and says what is done."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, str(HERE / "promote_forever.py"), str(home), str(seed)],
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    )


def said(process):
    return [json.loads(line) for line in process.stdout.read().splitlines() if line.endswith("}")]


def check_home(told):
    """Every version is intact and everything that was said to be done is in the history."""
    history = read_history(registry.user_folder(), "toy")
    recorded = {(entry.event, entry.version, entry.digest) for entry in history}
    assert all((entry["event"], entry["version"], entry["digest"]) in recorded for entry in told)
    for version in versions_of("toy"):
        version.package.verify()
    assert current() == history[-1].current if history else True
    assert not [entry for entry in available_models() if entry.problem]


@pytest.mark.skipif(sys.platform == "win32", reason="uses SIGKILL")
@pytest.mark.parametrize("rounds", [3, pytest.param(30, marks=pytest.mark.slow)])
def test_nothing_is_lost_by_kills(bundled, tmp_path, rounds):
    random.seed(rounds)
    told = []
    for number in range(rounds):
        process = start(tmp_path, number)
        told.append(json.loads(process.stdout.readline()))  # so that no process spends its time importing
        time.sleep(random.uniform(0, 0.15))
        process.send_signal(signal.SIGKILL)
        told += said(process)
        assert process.wait() == -signal.SIGKILL
        check_home(told)
    assert len(told) > rounds


@pytest.mark.skipif(sys.platform == "win32", reason="uses SIGKILL")
def test_two_processes_at_once_get_versions_of_their_own(bundled, tmp_path):
    processes = [start(tmp_path, seed) for seed in (0, 1)]
    told = [[json.loads(process.stdout.readline()) for _ in range(6)] for process in processes]
    for process in processes:
        process.kill()
    told = [mine + said(process) for mine, process in zip(told, processes)]
    for process in processes:
        process.wait()
    check_home(sum(told, []))
    digests = [{entry["version"]: entry["digest"] for entry in mine if entry["event"] == "promote"} for mine in told]
    assert not set(digests[0]) & set(digests[1])
    numbers = sorted(path.name for path in (tmp_path / "user" / HISTORY / "toy").iterdir() if path.name.isdigit())
    assert numbers == [f"{k:06d}" for k in range(1, len(numbers) + 1)]
