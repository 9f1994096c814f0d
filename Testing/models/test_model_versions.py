"""Versions of a model: side by side, one of them current, the way back, and nothing lost by a kill or a rival."""

import itertools
import json
import math
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_package import CARD, toy_package

from H3DELandmarksLib.core.errors import ModelPackageError
from H3DELandmarksLib.formats.comparison import Comparison, Figures, Improvement, Row
from H3DELandmarksLib.formats.lineage import Lineage, ModelReference, UsedCase, lineage_of
from H3DELandmarksLib.formats.reading import build, to_plain
from H3DELandmarksLib.formats.versions import (
    HISTORY,
    EventDetails,
    HistoryEntry,
    append_entry,
    current_version,
    next_version,
    read_history,
    succession,
    version_order,
)
from H3DELandmarksLib.models import available_models, find_model, registry
from H3DELandmarksLib.models.package import package_digest
from H3DELandmarksLib.models.versions import add_version, revert, versions_of
from H3DELandmarksResearch.cli.models import install_model

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
    return add_version(package, package.content, CARD, event)


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
    assert add_version(package, package.content, CARD, "promote").path == first.path
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


def compared(base):
    """A comparison in which nothing can be said."""
    figures = Figures(math.nan, math.nan, 0, 0, math.nan, math.nan)
    row = Row("all", 0, figures, figures, Improvement(0, math.nan, -math.inf, math.inf, 1.0), 1.0)
    return Comparison(
        base=base.reference,
        candidate=base.reference,
        cases=(("a", 1),),
        subjects=1,
        tolerance_mm=2.0,
        miss_mm=4.0,
        total=row,
        landmarks=(row,),
        time="2026-11-23T08:00:00Z",
    )


def test_versions_tell_base_cases_and_comparison(bundled, tmp_path):
    used = tuple(UsedCase(str(k) * 64, 1, subset) for k, subset in enumerate(("train", "train", "held-out")))
    lineage = Lineage(bundled.reference, used)
    package = toy_package(tmp_path / "c", 1, version="1.1.0", training={"lineage": to_plain(lineage)})
    comparison = compared(bundled)
    details = EventDetails(comparison=comparison, override="our own convention")
    add_version(package, package.content, CARD, "promote", details)
    new, old = versions_of("toy")
    assert (new.base, new.cases, new.comparison) == ("toy@1.0.0", 2, comparison.sentence())
    assert new.override == "our own convention"
    assert (old.base, old.cases, old.comparison, old.date) == (None, None, None, "2026-01-01")


def test_details_that_cannot_be_read_do_not_change_which_version_is_current(bundled, tmp_path, caplog):
    keep(tmp_path, 1)
    path = tmp_path / "user" / HISTORY / "toy" / "000002" / "entry.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "details": {"comparison": {"sentence": "Better."}}}))
    assert current() == "1.1.0" and versions_of("toy")[0].comparison is None and "1.1.0" in caplog.text


def test_an_entry_of_another_kind_is_left_out(tmp_path, caplog):
    append_entry(tmp_path, "toy", lambda history: HistoryEntry("start", "1.0.0", "1.0.0", None, ""))
    path = tmp_path / HISTORY / "toy" / "000001" / "entry.json"
    content = json.loads(path.read_text())
    for changed in ({"format_version": 2}, {"event": "dance"}, {"who": "me"}, {"version": 3}):
        caplog.clear()
        path.write_text(json.dumps({**content, **changed}))
        assert read_history(tmp_path, "toy") == [] and "left out" in caplog.text


# Lineage


def test_a_digest_is_of_what_determines_the_points(tmp_path):
    digest = package_digest(toy_package(tmp_path / "a"))
    described = toy_package(tmp_path / "b", title="Other", version="7.0.0", training={}, limitations=[])
    assert package_digest(described) == digest
    assert package_digest(toy_package(tmp_path / "c", seed=1)) != digest
    assert package_digest(toy_package(tmp_path / "d", intensity={"method": "window", "low": 0, "high": 9})) != digest


def made_from(**lineage):
    return SimpleNamespace(training={"lineage": lineage})


def test_scans_that_a_base_learnt_from_are_known():
    base = {"base": None, "cases": [{"sha256": "a" * 64, "revision": 1, "subset": "train"}]}
    subsets = {"b": "validation", "c": "held-out"}
    cases = [{"sha256": c * 64, "revision": 2, "subset": subset, "id": "x"} for c, subset in subsets.items()]
    reference = {"id": "m", "version": "1.0.0", "digest": "0" * 64, "path": "/home/x", "lineage": base}
    lineage = lineage_of(made_from(base=reference, cases=cases))
    assert lineage.learnt == {"a" * 64, "b" * 64}
    assert lineage.subsets == {"a" * 64: "train", "b" * 64: "validation", "c" * 64: "held-out"}
    shared = lineage.by_hash_alone()
    assert shared.learnt == lineage.learnt and build(Lineage, to_plain(shared)) == shared
    assert "/home" not in json.dumps(to_plain(lineage)) and '"x"' not in json.dumps(to_plain(shared))


@pytest.mark.parametrize(
    "case",
    [
        {"sha256": "Mustermann"},
        {"sha256": "Mustermann", "revision": 1, "subset": "train"},
        {"sha256": "a" * 64, "revision": 1, "subset": "Mustermann"},
        {"sha256": "a" * 64, "revision": "1", "subset": "train"},
    ],
)
def test_a_lineage_that_names_something_else_than_a_scan_is_none(case):
    assert lineage_of(made_from(base=None, cases=[case])) is None


def test_a_reference_is_to_a_model_by_its_digest():
    for wrong in (("m m", "1.0.0", "0" * 64), ("m", "1 of Erika", "0" * 64), ("m", "1.0.0", "Erika")):
        with pytest.raises(ValueError):
            build(ModelReference, dict(zip(("id", "version", "digest"), wrong)))


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
    assert [next_version(v, "minor") for v in ("1.2.9", "1.9.3-rc.1")] == ["1.3.0", "1.10.0"]
    assert [next_version(v) for v in ("4", "2026-a", "b")] == ["5", "2027-a", "b.1"]


@pytest.mark.parametrize(
    "ordered",
    [
        ["0.9.0", "1.0.0-rc.1", "1.0.0-rc.2", "1.0.0-rc.10", "1.0.0", "1.0.1", "1.2.0", "1.10.0", "2.0.0"],
        ["1.0.0-1", "1.0.0-2", "1.0.0"],
        ["0.9", "1.0-rc.1", "1.0", "1.0.1", "1.1", "1.10", "2"],
        ["a", "b", "b1", "b2", "b10"],
    ],
)
def test_versions_are_ordered_by_number_and_a_candidate_comes_before_its_release(ordered):
    newest_first = ordered[::-1]
    assert sorted(newest_first, key=version_order) == ordered


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,20}", fullmatch=True))
def test_the_next_version_is_newer(version):
    assert version_order(next_version(version)) > version_order(version)


# Kills


CHANGES = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.link", "os.truncate")


def killed_at(step, folder, work):
    """Whether a process that does `work` was killed before its `step`-th change of a file below a folder."""
    pid = os.fork()
    if pid == 0:
        steps = itertools.count(1)

        def kill(event, arguments):
            writes = event == "open" and arguments[2] is not None and arguments[2] & (os.O_WRONLY | os.O_RDWR)
            if (writes or event in CHANGES) and str(folder) in str(arguments[0]) and next(steps) == step:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            sys.addaudithook(kill)
            work()
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a process is killed at a chosen step")
@pytest.mark.parametrize(("event", "after"), [("promote", "1.2.0"), ("revert", "1.0.0")])
def test_a_kill_at_any_step_leaves_what_was_or_what_shall_be(bundled, tmp_path, event, after):
    keep(tmp_path, 1)
    before, new = tmp_path / "before", toy_package(tmp_path / "new", 2, version="1.2.0")
    shutil.copytree(tmp_path / "user", before)
    history = read_history(before, "toy")

    def work():
        if event == "promote":
            add_version(new, new.content, CARD, "promote")
        else:
            revert("toy")

    for step in itertools.count(1):
        killed = killed_at(step, tmp_path / "user", work)
        now = read_history(tmp_path / "user", "toy")
        assert now[:2] == history and [entry.event for entry in now[2:]] in ([], [event])
        assert current() == (after if now[2:] else "1.1.0") and (killed or now[2:])
        assert not [entry for entry in available_models() if entry.problem]
        for version in versions_of("toy"):
            version.package.verify()
        if not killed:
            break
        if not now[2:]:
            work()
            assert current() == after
        shutil.rmtree(tmp_path / "user")
        shutil.copytree(before, tmp_path / "user")
    assert step > 5


# Rivals


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
