"""Which cases are held out: whole subjects, by content, and the same ones when more cases come."""

import hashlib
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_package import toy_package
from toy_projects import FIRST_DAY, corrected, scan_of, toy_base, toy_project

from H3DELandmarksLib.cases.store import CaseFiles
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.formats.lineage import Lineage, ModelReference, UsedCase
from H3DELandmarksLib.formats.reading import to_plain
from H3DELandmarksLib.retraining.cases import CorrectedCase
from H3DELandmarksLib.retraining.fine_tuning import plan_fine_tuning
from H3DELandmarksLib.retraining.plan import HELD_OUT, TRAIN, VALIDATION, choose_subsets, known_subsets, subjects_of

POINT = LandmarkSet(("a",), np.zeros((1, 3)))


def a_case(number: int, subject: int | None = None, day: int | None = None) -> CorrectedCase:
    def name(n):
        return f"case-{hashlib.sha256(str(n).encode()).hexdigest()[:16]}"

    digest = hashlib.sha256(str(number).encode()).hexdigest()
    since = datetime(2026, 1, 1, tzinfo=timezone.utc) + timedelta(days=number if day is None else day)
    owner = name(number if subject is None else subject)
    return CorrectedCase(CaseFiles(Path("project") / name(number)), 1, digest, owner, since, POINT)


def of(subset, chosen):
    return {name for name, where in chosen.items() if where == subset}


@pytest.mark.parametrize(("count", "validation", "held_out"), [(5, 0, 1), (9, 0, 1), (10, 1, 2), (20, 3, 4)])
def test_a_fifth_is_held_out_and_from_ten_cases_some_are_for_validation(count, validation, held_out):
    chosen = choose_subsets([a_case(n) for n in range(count)])
    assert (len(of(VALIDATION, chosen)), len(of(HELD_OUT, chosen))) == (validation, held_out)
    assert len(of(TRAIN, chosen)) == count - validation - held_out


@given(st.integers(5, 40), st.integers(0, 40), st.sampled_from([0.1, 0.2, 0.25, 0.5]))
@settings(deadline=None)
def test_what_is_held_out_stays_so_when_cases_are_added(count, more, share):
    cases = [a_case(n) for n in range(count + more)]
    before, after = choose_subsets(cases[:count], share), choose_subsets(cases, share)
    assert of(HELD_OUT, before) <= of(HELD_OUT, after)
    assert set(after.values()) == set(choose_subsets(cases[::-1], share).values())
    assert after == {name: choose_subsets(cases[::-1], share)[name] for name in after}


@given(st.lists(st.integers(0, 9), min_size=5, max_size=40))
def test_scans_of_one_subject_are_on_one_side(owners):
    cases = [a_case(n, subject=min(owner, n)) for n, owner in enumerate(owners)]
    chosen = choose_subsets(cases)
    for members in subjects_of(cases).values():
        assert len({chosen[case.id] for case in members}) == 1
    for case in cases:
        assert chosen[case.id] == chosen.get(case.subject, chosen[case.id])


def test_the_same_voxels_in_two_places_are_of_one_subject(tmp_path):
    project = toy_project(tmp_path / "project", 5)
    scan, moved = scan_of(0), np.eye(4)
    moved[:3, 3] = 40
    points = [type(p)(p.name, p.state, p.position + 40) for p in corrected(0)]
    project.add(Volume(scan.array, moved), points, time=FIRST_DAY + timedelta(days=30))
    decided = plan_fine_tuning(project, toy_base(tmp_path / "base"))
    same = [row.subset for row in decided.cases if row.sha256 == project.find(scan).content().digest]
    assert len(same) == 2 and len(set(same)) == 1


def test_a_changed_copy_of_a_picture_is_in_the_subset_of_its_original_and_that_is_said(tmp_path):
    """Also where the copy is of another day and another window, whichever original it has."""
    project, originals = toy_project(tmp_path / "project", 10), {}
    for seed in (0, 3):
        scan = scan_of(seed)
        changed = Volume((scan.array // 2 + 7).astype(np.int16), scan.affine)
        copied = project.add(changed, corrected(seed), time=FIRST_DAY + timedelta(40)).case
        originals[copied] = project.find(scan).id
    decided = plan_fine_tuning(project, toy_base(tmp_path / "base"))
    subsets = {row.id: row.subset for row in decided.cases}
    told = [note for note in decided.notes if "same picture" in note]
    assert len(told) == 2
    for copied, original in originals.items():
        assert subsets[copied] == subsets[original]
        assert any(copied in note and original in note for note in told)


def test_without_a_share_nothing_is_held_out_and_that_is_said(tmp_path):
    decided = plan_fine_tuning(toy_project(tmp_path / "project"), toy_base(tmp_path / "base"), held_out=0)
    assert {row.subset for row in decided.cases} == {"train"}
    assert any("must be measured on other cases" in note for note in decided.notes)


def test_what_a_base_learnt_from_is_never_held_out_and_what_it_held_out_never_learnt_from():
    cases = [a_case(n) for n in range(10)]
    usual = choose_subsets(cases)
    turned = {name: TRAIN if where == HELD_OUT else HELD_OUT for name, where in usual.items()}
    chosen = choose_subsets(cases, known={case.sha256: turned[case.id] for case in cases})
    assert chosen == turned


def test_the_oldest_model_of_a_lineage_decides(tmp_path):
    a, b, c, d = (letter * 64 for letter in "abcd")
    older = Lineage(cases=(UsedCase(a, 1, HELD_OUT), UsedCase(b, 1, TRAIN)))
    newer = Lineage(
        base=ModelReference("toy", "1.0.0", d, older),
        cases=(UsedCase(a, 1, TRAIN), UsedCase(c, 1, HELD_OUT)),
        earlier=(d,),
    )
    package = toy_package(tmp_path / "toy", training={"lineage": to_plain(newer)})
    assert known_subsets(package.manifest) == {a: HELD_OUT, b: TRAIN, c: HELD_OUT, d: TRAIN}
    assert known_subsets(toy_package(tmp_path / "plain", training={}).manifest) == {}
