"""A scheme that changes: what was reviewed before stays on disk as it was and is seen through every change."""

import json
import shutil
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sample_cases import NAMES, SCHEME, placed, points_of, scan_of, set_of

from H3DELandmarksLib.cases import CaseLandmark, ModelName, ReviewState, create_project
from H3DELandmarksLib.cases.quality import check_project
from H3DELandmarksLib.cases.store import CaseProject, read_index, staging_folder
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.landmarks import LandmarkDefinition, LandmarkScheme
from H3DELandmarksLib.io.images import write_volume
from H3DELandmarksLib.io.markups import write_markups
from H3DELandmarksResearch.cases.archive import add_archive, write_archive
from H3DELandmarksResearch.cases.exchange import export_cases, import_cases
from H3DELandmarksResearch.cases.schemes import SchemeEdit, is_newer, migrate, next_version, plan_migration


def silent(fraction, message):
    """Progress that nobody watches."""


@pytest.fixture
def project(tmp_path):
    """Two cases: one placed completely; one with a proposal accepted, one moved, one absent, the rest not reviewed."""
    project = create_project(tmp_path / "project", SCHEME)
    project.add(scan_of(0), placed(points_of(0)))
    points = points_of(1)
    project.add(
        scan_of(1),
        [
            CaseLandmark("top", ReviewState.ACCEPTED, points[8], points[8], 0.9, 0.8, 1.0),
            CaseLandmark("front", ReviewState.MOVED, points[9], points[9] + 1, 0.9, 0.8, 1.0),
            CaseLandmark("aL", ReviewState.ABSENT, None, points[0], 0.6, 0.3, 1.0),
            CaseLandmark("aR", ReviewState.PROPOSED, points[1], points[1], 0.7, 0.4, 1.0),
        ],
        ModelName("head-model", "1.0.0"),
    )
    return project


def case_at(project, seed):
    return project.find(scan_of(seed))


def change(project, same_points=(), **edit):
    """Migrate by single changes; gives the plan."""
    edited = SchemeEdit(**edit)
    plan = plan_migration(project, edited.applied_to(project.scheme), edited.renamed, same_points)
    migrate(plan)
    return plan


def states(project, seed):
    return {p.name: p.state for p in project.review(case_at(project, seed)).landmarks}


def files_of(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "index.json"
    }


def test_an_added_landmark_is_unknown_in_old_cases(project):
    change(project, added=["chin"], definitions={"chin": "the lowest point"})
    for seed in (0, 1):
        assert states(project, seed)["chin"] is ReviewState.UNKNOWN
    seen = project.review(case_at(project, 0)).corrected(project.scheme)
    assert seen.unknown.tolist() == [False] * 10 + [True]
    np.testing.assert_array_equal(seen.positions[:10], points_of(0))


def test_a_dropped_landmark_leaves_the_view_and_stays_on_disk(project):
    change(project, dropped=["top"])
    assert "top" not in states(project, 0) and "top" not in project.scheme.names
    on_disk = case_at(project, 0).revision().landmarks[8]
    assert on_disk.name == "top"
    np.testing.assert_array_equal(on_disk.position, points_of(0)[8])
    change(project, added=["top"], definitions={"top": "the point top"})
    assert states(project, 0)["top"] is ReviewState.UNKNOWN, "a landmark that comes again is a new one"


def test_a_renamed_landmark_carries_its_points(project):
    change(project, renamed={"front": "nose"})
    before, after = case_at(project, 1).revision().landmarks[9], project.review(case_at(project, 1)).landmarks[9]
    assert before.name == "front" and after.to_record() == replace(before.to_record(), name="nose")


def test_an_exchange_of_two_names_exchanges_their_points(project):
    change(project, renamed={"aL": "bL", "bL": "aL"})
    seen = project.review(case_at(project, 0)).corrected(project.scheme)
    order = [2, 1, 0, *range(3, 10)]
    assert project.scheme.names == ("bL", "aR", "aL", "bR", *NAMES[4:])
    np.testing.assert_array_equal(seen.ordered_as(NAMES).positions, points_of(0)[order])
    assert project.scheme.pairs[:2] == (("bL", "aR"), ("aL", "bR")), "pairs follow the landmarks, not the words"


def test_another_definition_makes_old_points_proposals(project):
    change(project, definitions={"top": "2 mm in front of it", "aL": "farther back", "cL": "higher"})
    seen = {p.name: p for p in project.review(case_at(project, 0)).landmarks}
    assert seen["top"].state is ReviewState.PROPOSED and seen["top"].proposed is None
    np.testing.assert_array_equal(seen["top"].position, points_of(0)[8])
    assert states(project, 1)["aL"] is ReviewState.PROPOSED_ABSENT
    assert states(project, 1)["cL"] is ReviewState.UNKNOWN
    corrected = project.review(case_at(project, 0)).corrected(project.scheme)
    assert [n for n, unknown in zip(NAMES, corrected.unknown) if unknown] == ["aL", "cL", "top"]


def test_other_words_for_the_same_point_change_nothing(project):
    change(project, ["top"], definitions={"top": "the uppermost point"})
    assert states(project, 0)["top"] is ReviewState.PLACED
    assert (
        project.review(case_at(project, 1)).landmarks[8].to_record()
        == case_at(project, 1).revision().landmarks[8].to_record()
    )


def test_a_review_under_the_new_definition_holds(project):
    change(project, definitions={"top": "another"})
    added = project.add(scan_of(0), placed(points_of(0)))
    assert added.is_new_revision and states(project, 0)["top"] is ReviewState.PLACED
    change(project, definitions={"front": "another"})
    assert states(project, 0)["top"] is ReviewState.PLACED


def test_a_review_that_comes_late_under_the_old_scheme_is_seen_through_the_change(project):
    """A program that read the scheme before the change may write after it."""
    late = replace(case_at(project, 0).revision(), model=ModelName("late", "1"))
    change(project, definitions={"top": "another"}, renamed={"front": "nose"})
    with staging_folder(project.folder) as aside:
        project.add_prepared(aside / "case", case_at(project, 0).content(), [late])
    assert case_at(project, 0).revision_numbers() == [1, 2]
    assert states(project, 0)["top"] is ReviewState.PROPOSED and states(project, 0)["nose"] is ReviewState.PLACED


def test_the_plan_says_what_happens_to_how_many_cases_and_changes_nothing(project):
    before = files_of(project.folder)
    edit = SchemeEdit(["chin"], {"chin": "low", "top": "another", "cL": "words"}, ["dL", "dR"], {"front": "nose"})
    plan = plan_migration(project, edit.applied_to(SCHEME), edit.renamed, ["cL"])
    assert {(c.kind, c.name): c.cases for c in plan.changes} == {
        ("added", "chin"): 2,
        ("redefined", "top"): 2,
        ("reworded", "cL"): 1,
        ("dropped", "dL"): 1,
        ("dropped", "dR"): 1,
        ("renamed", "nose"): 2,
    }
    assert plan.unreadable == ()
    assert len(plan.sentences()) == 7 and "1.0 (10 landmarks) -> 1.1 (9)" in plan.sentences()[0]
    assert files_of(project.folder) == before
    nothing_new = plan_migration(project, replace(SCHEME, version="1.1", pairs=SCHEME.pairs[::-1]))
    assert nothing_new.changes == ()


def test_a_damaged_case_is_told_and_left(project):
    (case_at(project, 1).folder / "000001" / "revision.json").write_text("{")
    plan = change(project, dropped=["top"])
    assert [c.cases for c in plan.changes] == [1] and len(plan.unreadable) == 1 and "damaged" in plan.unreadable[0]


def landmarks(**definitions):
    return tuple(LandmarkDefinition(name, words) for name, words in definitions.items())


@pytest.mark.parametrize(
    ("scheme", "renamed", "same_points", "sentence"),
    [
        (replace(SCHEME, version="2", id="face"), {}, [], "is 'head', not 'face'"),
        (replace(SCHEME, version="1.0"), {}, [], "1.0 is not newer"),
        (replace(SCHEME, version="0.9"), {}, [], "for example 1.1"),
        (replace(SCHEME, version="new version"), {}, [], "letters, digits"),
        (replace(SCHEME, version="2"), {"beak": "top"}, [], "no landmark 'beak'"),
        (replace(SCHEME, version="2"), {"top": "front"}, [], "'top' is renamed to 'front' but also in the new"),
        (replace(SCHEME, version="2"), {"top": "beak"}, [], "no landmark 'beak'"),
        (SchemeEdit(dropped=["top"]).applied_to(SCHEME), {"top": "front"}, [], "another landmark of the old"),
        (replace(SCHEME, version="2"), {"top": "front", "front": "front"}, [], "same name"),
        (replace(SCHEME, version="2"), {}, ["beak"], "not in both"),
    ],
)
def test_what_cannot_follow_is_refused_in_one_sentence(project, scheme, renamed, same_points, sentence):
    before = files_of(project.folder)
    with pytest.raises(InputError, match=sentence) as caught:
        plan_migration(project, scheme, renamed, same_points)
    assert "\n" not in str(caught.value)
    assert files_of(project.folder) == before


def test_a_pair_that_loses_a_side_leaves_a_lateral_landmark(project):
    change(project, dropped=["aR"], renamed={"aL": "a left"})
    assert project.scheme.pairs == SCHEME.pairs[1:] and project.scheme.lateral == ("a left",)
    change(project, dropped=["top"])
    assert project.scheme.lateral == ("a left",), "and it stays one"


@pytest.mark.parametrize(
    "versions", [["0.9", "1.0-rc.1", "1.0", "1.0.1", "1.1", "1.9", "1.10", "2"], ["a", "b", "b1", "b2", "b10"]]
)
def test_versions_are_ordered_by_their_numbers(versions):
    for earlier, later in zip(versions, versions[1:]):
        assert is_newer(later, earlier) and not is_newer(earlier, later) and not is_newer(later, later)


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,20}", fullmatch=True))
def test_the_next_version_is_newer(version):
    assert is_newer(next_version(version), version)


def test_of_many_programs_with_the_same_plan_one_succeeds(project):
    plans = [plan_migration(project, replace(SCHEME, version=f"2.{n}")) for n in range(8)]
    refused = []

    def run(plan):
        try:
            migrate(plan)
        except InputError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=run, args=(plan,)) for plan in plans]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 7 and all("meanwhile" in sentence for sentence in refused)
    assert len(project.schemes()) == 2 and not list((project.folder / ".h3de-incoming").iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="uses fork and SIGKILL")
def test_no_version_is_lost_or_damaged_by_kill_at_any_point(project):
    from benchmarks.killing import count_operations, kill_at

    def migrate_to_next(acknowledge):
        plan = plan_migration(project, replace(project.scheme, version=next_version(project.scheme.version)))
        migrate(plan)
        acknowledge(plan.scheme.version)

    operations = count_operations(project.folder, migrate_to_next)
    assert operations > 5
    for operation in range(1, operations + 1):
        before = [scheme.version for scheme in project.schemes()]
        said = kill_at(operation, project.folder, migrate_to_next)
        there = [scheme.version for scheme in project.schemes()]
        assert there[: len(before)] == before and len(there) <= len(before) + 1
        assert set(said) <= set(there)
    assert states(project, 0)["top"] is ReviewState.PLACED


@st.composite
def edits(draw, names):
    """A change that fits a scheme with these names, which are pairs but for "top" and "front"."""
    kind = draw(st.sampled_from(["add", "drop", "rename", "redefine", "reword"]))
    name = draw(st.sampled_from(names))
    fresh = f"new{draw(st.integers(0, 10**6))}"
    if kind == "add" or len(names) < 3:
        return SchemeEdit(added=[fresh], definitions={fresh: "words"}), ()
    if kind == "drop":
        return SchemeEdit(dropped=[name], definitions={}), ()
    if kind == "rename":
        return SchemeEdit(renamed={name: fresh}), ()
    return SchemeEdit(definitions={name: fresh}), (name,) if kind == "reword" else ()


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_sequence_of_changes_keeps_old_files_and_what_was_said_of_each_landmark(tmp_path, data):
    """The model: under which names the points of the first review are still valid, and where they lie."""
    folder = tmp_path / "any"
    shutil.rmtree(folder, ignore_errors=True)
    scheme = replace(SCHEME, pairs=(), lateral=NAMES[:8])
    project = create_project(folder, scheme)
    case = project.case(project.add(scan_of(0), placed(points_of(0))).case)
    valid = dict(zip(NAMES, points_of(0)))
    for _ in range(data.draw(st.integers(1, 6))):
        before = files_of(folder)
        edit, same_points = data.draw(edits(project.scheme.names))
        if set(edit.added) & set(project.scheme.names) or set(edit.renamed.values()) & set(project.scheme.names):
            continue
        change(project, same_points, **vars(edit))
        after = files_of(folder)
        assert {name: after[name] for name in before} == before, "nothing that was there has changed"
        number = f"{len(project.schemes()):06d}"
        assert set(after) - set(before) == {f"schemes/{number}/scheme.json", f"schemes/{number}/migration.json"}
        for name in [*edit.dropped, *(set(edit.definitions) - set(same_points))]:
            valid.pop(name, None)
        valid = {edit.renamed.get(name, name): point for name, point in valid.items()}
        seen = project.review(case).corrected(project.scheme)
        assert {n: tuple(p) for n, p, u in zip(seen.names, seen.positions, seen.unknown) if not u} == {
            name: tuple(point) for name, point in valid.items()
        }
        np.testing.assert_array_equal(case.revision(1).corrected(scheme).positions, points_of(0))
    assert CaseProject(folder).schemes()[0] == scheme


def test_index_checks_and_exports_follow_the_new_scheme(project, tmp_path):
    assert read_index(project)[0].states != read_index(project)[1].states
    change(project, added=["chin"], definitions={"chin": "low", "top": "another"}, renamed={"front": "nose"})
    told = {summary.id: summary for summary in read_index(project)}[case_at(project, 0).id]
    assert told.states == {"proposed": 1, "unknown": 1, "placed": 9} and told.scheme == "head@1.0"
    asked = {f.landmark for f in check_project(project, silent) if f.case == told.id and f.kind.value == "unreviewed"}
    assert asked == {"chin", "top"}
    export_cases(project, "folder", tmp_path / "out", silent)
    points = json.loads((tmp_path / "out" / f"{told.id}.mrk.json").read_text())["markups"][0]["controlPoints"]
    assert {p["label"]: p["positionStatus"] for p in points if p["label"] in ("chin", "top", "nose")} == {
        "chin": "undefined",
        "top": "undefined",
        "nose": "defined",
    }


def test_points_that_come_under_an_old_name_get_the_new_one(project, tmp_path):
    change(project, renamed={"front": "nose"})
    change(project, renamed={"nose": "beak"})
    (tmp_path / "more").mkdir()
    write_volume(tmp_path / "more" / "scan.nrrd", scan_of(5))
    write_markups(tmp_path / "more" / "scan.mrk.json", set_of(points_of(5)))
    summary = import_cases(project, "folder", tmp_path / "more", silent)
    assert summary.left_out == 0
    np.testing.assert_array_equal(project.review(case_at(project, 5)).landmarks[9].position, points_of(5)[9])
    assert project.history().renamed(set_of(points_of(5))).names == (*NAMES[:9], "beak")


def test_an_archive_of_a_changed_project_fits_one_that_began_with_the_new_scheme(project, tmp_path):
    change(project, definitions={"top": "another"}, renamed={"front": "nose"})
    write_archive(project, tmp_path / "cases.zip", silent)
    other = create_project(tmp_path / "other", project.scheme)
    assert len(add_archive(other, tmp_path / "cases.zip", silent).new) == 2
    for seed in (0, 1):
        theirs, mine = (p.review(p.find(scan_of(seed))).to_record() for p in (project, other))
        assert mine == theirs
    assert len(add_archive(other, tmp_path / "cases.zip", silent).unchanged) == 2


def test_an_archive_of_a_changed_project_stays_as_it_was_where_the_same_change_was_made(project, tmp_path):
    mine = tmp_path / "mine"
    shutil.copytree(project.folder, mine)
    shutil.rmtree(mine / "cases")
    for folder in (project.folder, mine):
        change(CaseProject(folder), definitions={"top": "another"})
    write_archive(project, tmp_path / "cases.zip", silent)
    assert len(add_archive(CaseProject(mine), tmp_path / "cases.zip", silent).new) == 2
    assert {k: v for k, v in files_of(mine).items() if k.endswith("revision.json")} == {
        k: v for k, v in files_of(project.folder).items() if k.endswith("revision.json")
    }


def test_a_scheme_file_with_a_name_twice_is_told(tmp_path):
    from H3DELandmarksResearch.cases.schemes import scheme_of_file

    def said(**changes):
        (tmp_path / "s.json").write_text(json.dumps({**SCHEME.to_dict(), **changes}))
        with pytest.raises(InputError) as caught:
            scheme_of_file(tmp_path / "s.json")
        return str(caught.value)

    twice = [{"name": "top", "definition": ""}, {"name": "top", "definition": ""}]
    for sentence, name, word in (
        (said(landmarks=twice, pairs=[]), "'top'", "called"),
        (said(lateral=["aR"]), "'aR'", "twice"),
        (said(lateral=["beak"]), "'beak'", "lateral"),
        (said(pears=[]), "'pears'", "did you mean"),
        (said(id="a scheme"), "a scheme", "letters"),
    ):
        assert name in sentence and word in sentence and "\n" not in sentence
    assert LandmarkScheme("head", "1", landmarks(top="", front="")).names == ("top", "front")
