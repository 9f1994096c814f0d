"""A project of cases: what is kept comes back, nothing is overwritten, and nothing is ever there by halves."""

import json
import multiprocessing
import os
import resource
import shutil
import sys
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sample_cases import NAMES, SCHEME, placed, points_of, scan_of, set_of

from H3DELandmarksLib import __version__
from H3DELandmarksLib.cases import CaseLandmark, CaseProject, ModelName, ReviewState, create_project, open_project
from H3DELandmarksLib.cases.store import INDEX, content_of, read_index
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Volume, canonical
from H3DELandmarksLib.io.images import read_volume, write_volume
from H3DELandmarksResearch.cases.exchange import landmarks_from_sets

ROOT = Path(__file__).resolve().parents[2]
MODEL = ModelName("head-model", "1.2.0")
oblique = np.array([[0.4, -0.1, 0.02, 31.5], [0.1, 0.41, -0.03, -7.25], [0.0, 0.02, 0.9, 0.1], [0, 0, 0, 1]])


@pytest.fixture
def project(tmp_path):
    return create_project(tmp_path / "project", SCHEME)


def files_of(folder: Path) -> dict[str, bytes]:
    """Content of every file that is not a leftover or the index."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != INDEX
    }


@pytest.mark.parametrize("number_type", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_a_scan_is_kept_without_loss_in_its_own_geometry(project, number_type):
    values = np.random.default_rng(0).normal(100, 40, (7, 9, 11)).astype(number_type)
    added = project.add(Volume(values, oblique), placed(points_of(0)))
    kept = project.case(added.case).volume()
    assert kept.array.dtype == number_type
    np.testing.assert_array_equal(kept.array, values)
    np.testing.assert_allclose(kept.affine, oblique, atol=1e-9)


def test_a_revision_keeps_states_positions_model_version_and_time(project):
    points = points_of(0)
    landmarks = [
        CaseLandmark("aL", ReviewState.ACCEPTED, points[0], points[0], 0.9, 0.8, 1.5),
        CaseLandmark("aR", ReviewState.MOVED, points[1], points[1] + 2, 0.9, 0.3, 2.5),
        CaseLandmark("bL", ReviewState.PLACED, points[2], None, 0.1),
        CaseLandmark("bR", ReviewState.ABSENT, None, points[3]),
        CaseLandmark("cL", ReviewState.PROPOSED, points[4], points[4]),
        CaseLandmark("cR", ReviewState.PROPOSED_ABSENT, None, None, 0.2),
    ]
    when = datetime(2026, 5, 4, 3, 2, 1, tzinfo=timezone.utc)
    added = project.add(scan_of(0), landmarks, MODEL, time=when)
    revision = project.case(added.case).revision()
    assert (revision.model, revision.software, revision.time) == (MODEL, __version__, when)
    assert [p.name for p in revision.landmarks] == list(NAMES)
    assert [p.state for p in revision.landmarks] == [p.state for p in landmarks] + [ReviewState.UNKNOWN] * 4
    corrected, proposed = revision.corrected(SCHEME), revision.proposed(SCHEME)
    np.testing.assert_array_equal(corrected.presence[:4], [1, 1, 1, 0])
    assert corrected.unknown[4:].all(), "what nobody has decided must not be learnt"
    np.testing.assert_array_equal(corrected.positions[:3], points[:3])
    np.testing.assert_array_equal(proposed.positions[:2], [points[0], points[1] + 2])
    np.testing.assert_array_equal(proposed.presence[:6], [0.9, 0.9, 0.1, 1, 1, 0.2])
    np.testing.assert_array_equal(proposed.radius[:2], [1.5, 2.5])


def test_a_case_corrected_again_becomes_a_new_revision_and_changes_no_file(project):
    scan, points = scan_of(0), points_of(0)
    first = project.add(scan, placed(points))
    before = files_of(project.folder)
    second = project.add(scan, placed(points + [0.5, 0, 0]), MODEL)
    after = files_of(project.folder)
    assert (second.case, second.revision, second.is_new_case) == (first.case, 2, False)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {f"cases/{first.case}/000002/revision.json"}
    np.testing.assert_array_equal(project.case(first.case).revision(1).corrected(SCHEME).positions, points)


def test_saying_the_same_again_adds_nothing(project):
    first = project.add(scan_of(0), placed(points_of(0)))
    again = project.add(scan_of(0), placed(points_of(0)))
    assert (again.case, again.revision, again.is_new_revision) == (first.case, 1, False)


def test_going_back_to_an_earlier_position_is_a_revision_of_its_own(project):
    for points in (points_of(0), points_of(1), points_of(0)):
        added = project.add(scan_of(0), placed(points))
    assert added.revision == 3


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    axes=st.permutations([0, 1, 2]),
    flips=st.tuples(*[st.booleans()] * 3),
    number_type=st.sampled_from([np.int16, np.int32, np.float32, np.float64]),
)
def test_the_same_scan_is_recognised_in_any_axis_order_and_number_type(axes, flips, number_type):
    volume = Volume(np.random.default_rng(3).integers(-99, 99, (4, 5, 6)).astype(np.int16), oblique)
    array, affine = volume.array.transpose(axes), volume.affine[:, [*axes, 3]].copy()
    for axis, flip in enumerate(flips):
        if flip:
            array = np.flip(array, axis)
            affine[:3, 3] += affine[:3, axis] * (array.shape[axis] - 1)
            affine[:3, axis] *= -1
    assert content_of(Volume(array.astype(number_type), affine)).same_image(content_of(volume))


@pytest.mark.parametrize("extension", [".nrrd", ".nii.gz", ".mha"])
def test_the_same_scan_is_recognised_from_any_file(project, tmp_path, extension):
    scan = Volume(scan_of(0).array, np.diag([0.14063, 0.14063, 0.37, 1]) @ canonical(scan_of(0)).affine)
    first = project.add(scan, placed(points_of(0)))
    write_volume(tmp_path / f"other name{extension}", scan)
    assert project.find(read_volume(tmp_path / f"other name{extension}")).id == first.case


def test_another_scan_is_another_case(project):
    scan = scan_of(0)
    changed = scan.array.copy()
    changed[3, 4, 5] += 1
    moved = scan.affine + np.array([[0, 0, 0, 1.0]] + [[0] * 4] * 3)
    ids = {project.add(v, []).case for v in (scan, Volume(changed, scan.affine), Volume(scan.array, moved))}
    assert len(ids) == 3


def test_points_lists_become_states(project):
    points = points_of(0)
    proposed = set_of(points, presence=np.array([1.0] * 8 + [0.2, 0.2]))
    now = set_of(np.where(np.arange(10)[:, None] == 1, points + 1, points), presence=np.array([1.0] * 7 + [0, 0, 1]))
    expected = ["proposed", "moved"] + ["proposed"] * 5 + ["absent", "proposed absent", "placed"]
    states = [p.state.value for p in landmarks_from_sets(SCHEME, now, proposed, reviewed=False)[0]]
    assert states == expected
    accepted = [p.state.value for p in landmarks_from_sets(SCHEME, now, proposed, reviewed=True)[0]]
    assert accepted == ["accepted", "moved"] + ["accepted"] * 5 + ["absent", "absent", "placed"]
    assert {p.state for p in landmarks_from_sets(SCHEME, set_of(points))[0]} == {ReviewState.PLACED}
    assert {p.state for p in landmarks_from_sets(SCHEME, set_of(points), reviewed=False)[0]} == {ReviewState.PROPOSED}


def test_the_index_is_made_again_where_it_is_missing_damaged_or_old(project):
    for seed in range(3):
        project.add(scan_of(seed), placed(points_of(seed)), MODEL)
    told = read_index(project)
    assert [s.id for s in told] == [c.id for c in project.cases()]
    assert told[0].states == {"placed": 10} and told[0].model == "head-model@1.2.0"
    for damage in (lambda p: p.unlink(), lambda p: p.write_bytes(p.read_bytes()[:99]), lambda p: p.write_text("[]")):
        damage(project.folder / INDEX)
        assert read_index(project) == told
        assert json.loads((project.folder / INDEX).read_text())["cases"]
    project.add(scan_of(0), placed(points_of(5)))
    assert sorted(s.revision for s in read_index(project)) == [1, 1, 2]


def test_scans_of_a_subject_stay_together_however_they_are_reviewed_again(project):
    first = project.add(scan_of(0), []).case
    second = project.add(scan_of(1), [], subject=first).case
    third = project.add(scan_of(2), [], subject=second).case
    project.add(scan_of(1), placed(points_of(1)))
    project.add(scan_of(0), placed(points_of(0)), subject=third)
    assert {summary.id: summary.subject for summary in read_index(project)} == dict.fromkeys(
        [first, second, third], first
    )


def test_a_damaged_case_is_told_and_the_others_stay(project, caplog):
    ids = [project.add(scan_of(seed), []).case for seed in range(2)]
    (project.case(ids[0]).folder / "000001" / "revision.json").write_text("{")
    assert [s.id for s in read_index(project, rebuild=True)] == [ids[1]]
    assert ids[0] in caplog.text and "damaged" in caplog.text


def test_what_is_not_of_the_scheme_is_refused(project):
    with pytest.raises(InputError, match="not of the scheme"):
        project.add(scan_of(0), [CaseLandmark("nose", ReviewState.UNKNOWN)])
    with pytest.raises(InputError, match="place it again"):
        CaseLandmark("aL", ReviewState.MOVED)
    with pytest.raises(InputError, match="no case"):
        project.add(scan_of(0), [], subject="case-0123456789abcdef")
    assert project.cases() == []


def test_a_project_is_never_started_twice(project):
    before = files_of(project.folder)
    with pytest.raises(InputError, match="already"):
        create_project(project.folder, SCHEME)
    assert files_of(project.folder) == before
    with pytest.raises(InputError, match="holds no project"):
        open_project(project.folder.parent)
    scheme = project.folder / "schemes" / "000001" / "scheme.json"
    scheme.write_text(scheme.read_text(encoding="utf-8").replace('"pairs"', '"pears"'), encoding="utf-8")
    with pytest.raises(InputError, match="entry 'scheme.pears'.*'pairs'"):
        open_project(project.folder)


def _add_with_little_space(folder: Path, limit: int, answer) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        CaseProject(folder).add(scan_of(1), placed(points_of(1)))
        answer.put("added")
    except InputError as error:
        answer.put(str(error))


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file size are those of Unix")
@pytest.mark.parametrize("limit", [0, 300, 5_000, 20_000])
def test_without_space_nothing_changes_and_a_sentence_says_so(project, limit):
    """The system refuses to let files grow beyond `limit` bytes, at different stages of a case."""
    project.add(scan_of(0), placed(points_of(0)))
    before = files_of(project.folder)
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    child = context.Process(target=_add_with_little_space, args=(project.folder, limit, answer))
    child.start()
    said = answer.get(timeout=60)
    child.join(60)
    assert "written" in said and "space" in said
    assert files_of(project.folder) == before
    assert project.add(scan_of(1), placed(points_of(1))).is_new_case, "and it works again with space"


def _add_many(folder: Path, worker: int, count: int) -> None:
    for k in range(count):
        CaseProject(folder).add(scan_of(k % 2), placed(points_of(0) + [0, worker, 0.01 * k]))


def test_two_programs_at_once_lose_nothing(project):
    workers, count = 4, 6
    context = multiprocessing.get_context("spawn")
    children = [context.Process(target=_add_many, args=(project.folder, w, count)) for w in range(workers)]
    for child in children:
        child.start()
    for child in children:
        child.join(120)
    assert [child.exitcode for child in children] == [0] * workers
    cases = project.cases()
    assert len(cases) == 2
    for case in cases:
        assert case.revision_numbers() == list(range(1, workers * count // 2 + 1))
        case.volume()
    shifts = {tuple(r.landmarks[0].position) for case in cases for r in case.revisions()}
    assert len(shifts) == workers * count


def test_what_a_killed_program_left_is_not_seen_and_goes_away(project):
    left = project.folder / ".h3de-incoming" / "0123" / "case"
    left.mkdir(parents=True)
    shutil.copy(__file__, left / "image.nrrd")
    os.utime(left.parent, (1, 1))
    assert project.cases() == []
    project.add(scan_of(0), [])
    assert not left.exists()
