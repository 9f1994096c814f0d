"""Promoting the candidate of a retraining: by its comparison, or against it with a reason that is kept."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from promotion_cases import case_ids, found_at, make_project, make_run
from toy_package import toy_package

from H3DELandmarksLib.core.errors import InputError, ModelPackageError
from H3DELandmarksLib.formats.comparison import Rule, read_comparison, write_comparison
from H3DELandmarksLib.formats.lineage import lineage_of
from H3DELandmarksLib.formats.run import read_run
from H3DELandmarksLib.formats.versions import read_history
from H3DELandmarksLib.models import find_model, registry
from H3DELandmarksLib.models.versions import revert, versions_of
from H3DELandmarksLib.retraining.compare import compare_models, held_out_cases
from H3DELandmarksLib.retraining.promote import open_candidate, promote_run


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A project, and a finished run whose candidate is toy 1.1.0."""
    folder = tmp_path_factory.mktemp("promote")
    base = toy_package(folder / "bundled" / "toy", 0)
    project = make_project(folder / "project", base.scheme, 7)
    make_run(folder / "run", project, base, ["train", "validation"] + ["held-out"] * 5)
    toy_package(folder / "run" / "package", 1, version="1.1.0")
    return folder, project


@pytest.fixture
def home(made, tmp_path, monkeypatch):
    """A copy of the run, the bundled base and an empty folder for the user's models."""
    shutil.copytree(made[0] / "run", tmp_path / "run")
    monkeypatch.setattr(registry, "user_folder", lambda: tmp_path / "user")
    monkeypatch.setattr(registry, "bundled_folder", lambda: made[0] / "bundled")
    monkeypatch.delenv("H3DE_MODELS", raising=False)
    return tmp_path


def compare(made, run, gain, rule=None):
    """Write the comparison of a candidate that is better by so many mm."""
    record, base = read_run(run), find_model("toy")
    cases = held_out_cases(made[1], base, open_candidate(record), record)
    found = found_at(cases, 3.0), found_at(cases, 3.0 - gain)
    comparison = compare_models(base, open_candidate(record), cases, found)
    write_comparison(replace(comparison, rule=rule or Rule()), run / "comparison.json")
    return comparison


def user_files(home):
    return {str(p) for p in (home / "user").rglob("*")}


def test_a_better_candidate_becomes_current(made, home):
    comparison = compare(made, home / "run", 0.5)
    done = promote_run(home / "run")
    assert done.decision.promote and done.override is None
    assert find_model("toy").path == done.package.path == home / "user" / "toy-1.1.0"
    assert comparison.sentence() in done.package.model_card()
    new, old = versions_of("toy")
    assert (new.is_current, new.base, new.cases, new.comparison) == (True, "toy@1.0.0", 1, comparison.sentence())
    assert not old.is_current and revert("toy").package.version == "1.0.0"


def test_the_version_says_by_hash_what_it_was_made_from(made, home):
    compare(made, home / "run", 0.5)
    lineage = lineage_of(promote_run(home / "run").package.manifest)
    digests = [made[1].case(name).content().digest for name in case_ids(made[1], 7)]
    assert lineage.learnt == set(digests[:2]) and {case.sha256 for case in lineage.cases} == set(digests)


def test_one_that_is_not_better_is_not_promoted(made, home):
    compare(made, home / "run", -0.5)
    with pytest.raises(InputError, match=r"not taken into use\. It is not shown to be better.*'L' is clearly worse"):
        promote_run(home / "run")
    assert find_model("toy").version == "1.0.0" and not user_files(home)


def test_a_person_may_decide_otherwise_and_both_are_kept(made, home):
    compare(made, home / "run", -0.5)
    done = promote_run(home / "run", override="our own  definition")
    assert find_model("toy").version == "1.1.0"
    entry = read_history(home / "user", "toy")[-1]
    assert entry.details.override == done.override == "our own definition"
    assert not entry.details.decision.promote and len(entry.details.decision.reasons) == 3
    assert entry.details.comparison.total.improvement.mean == pytest.approx(-0.5)
    assert versions_of("toy")[0].override == "our own definition"


def test_a_reason_that_is_not_needed_is_no_override(made, home):
    compare(made, home / "run", 0.5)
    assert promote_run(home / "run", override="I like it").override is None


@pytest.mark.parametrize("reason", ["", "  ", "x" * 501])
def test_a_reason_must_say_something(made, home, reason):
    compare(made, home / "run", -0.5)
    with pytest.raises(InputError, match="why the rule is overridden"):
        promote_run(home / "run", override=reason)


def test_without_a_comparison_only_a_reason_helps(made, home):
    with pytest.raises(InputError, match="make one with 'models compare'"):
        promote_run(home / "run")
    (reason,) = promote_run(home / "run", override="no cases left").decision.reasons
    assert "not compared" in reason


def test_the_rule_of_the_comparison_holds(made, home):
    compare(made, home / "run", 0.5, Rule(margin_mm=0.6))
    with pytest.raises(InputError, match=r"better by more than 0\.6 mm"):
        promote_run(home / "run")


def test_a_comparison_without_a_rule_promotes_nothing(made, home):
    comparison = compare(made, home / "run", 0.5)
    write_comparison(replace(comparison, rule=None), home / "run" / "comparison.json")
    with pytest.raises(InputError, match="states no rule"):
        promote_run(home / "run")


def test_a_noisy_candidate_is_not_promoted_for_its_mean(made, home):
    comparison = compare(made, home / "run", 0.5)
    gain = replace(comparison.total.improvement, low=-0.1, high=1.1)
    noisy = replace(comparison, rule=Rule(), total=replace(comparison.total, improvement=gain))
    write_comparison(noisy, home / "run" / "comparison.json")
    with pytest.raises(InputError, match="not shown to be better"):
        promote_run(home / "run")
    assert find_model("toy").version == "1.0.0"


def test_a_comparison_of_another_candidate_is_refused(made, home):
    compare(made, home / "run", 0.5)
    toy_package(home / "run" / "package", 2, True, version="1.1.0")
    for override in (None, "I want it"):
        with pytest.raises(InputError, match="is of another candidate"):
            promote_run(home / "run", override=override)


def test_a_comparison_with_a_version_that_is_not_current_any_more_is_not_enough(made, home):
    compare(made, home / "run", 0.5)
    shutil.copytree(home / "run", home / "other")
    toy_package(home / "other" / "package", 2, True, version="1.1.0")
    promote_run(home / "run")
    comparison = read_comparison(home / "run" / "comparison.json")
    other = open_candidate(read_run(home / "other")).reference
    write_comparison(replace(comparison, candidate=other), home / "other" / "comparison.json")
    with pytest.raises(InputError, match=r"compared with toy@1\.0\.0, but toy@1\.1\.0 is current now"):
        promote_run(home / "other")
    compare(made, home / "other", 0.5)
    assert promote_run(home / "other").package.version == "1.1.1"


def test_the_first_model_of_its_id_needs_no_comparison(made, home):
    make_run(home / "new", made[1], None, ["train"] * 7)
    toy_package(home / "new" / "package", 3, id="mine", version="0.1.0")
    done = promote_run(home / "new")
    assert done.comparison is None and find_model("mine").version == "0.1.0"
    with pytest.raises(ModelPackageError, match="No version of 'mine' was current before"):
        revert("mine")


@pytest.mark.parametrize(
    ("state", "told"), [("running", "cancelled"), ("cancelled", "cancelled"), ("failed", "failed")]
)
def test_an_unfinished_run_has_no_candidate(made, home, state, told):
    """A run that says it is running, while nobody holds its lock, was killed."""
    shutil.rmtree(home / "run")
    make_run(home / "run", made[1], None, ["train"] * 7, state)
    with pytest.raises(InputError, match=f"is not finished .{told}.: resume it"):
        promote_run(home / "run", override="now")


def test_a_damaged_candidate_is_not_promoted(made, home):
    compare(made, home / "run", 0.5)
    weights = home / "run" / "package" / "a.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    with pytest.raises(ModelPackageError, match="was changed or damaged"):
        promote_run(home / "run")
    assert find_model("toy").version == "1.0.0" and not user_files(home)


def test_promoting_twice_changes_nothing_more(made, home):
    compare(made, home / "run", 0.5)
    first = promote_run(home / "run")
    assert promote_run(home / "run").package.path == first.package.path
    assert np.all([v.package.version in ("1.0.0", "1.1.0") for v in versions_of("toy")])
    assert revert("toy").package.version == "1.0.0"
