"""Several readers' points of a case: in plain folders, in a project, through reviews, exports, archives and schemes."""

import numpy as np
import pytest
from sample_cases import NAMES, SCHEME, placed, points_of, scan_of

from H3DELandmarksLib.cases import create_project
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.execution import silent
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.formats.case_record import Revision, RevisionRecord
from H3DELandmarksLib.formats.reading import FormatError, build, parse_json, to_json
from H3DELandmarksResearch.cases.archive import add_archive, write_archive
from H3DELandmarksResearch.cases.case_folder import case_names, readers_in, readers_of_case, write_readers
from H3DELandmarksResearch.cases.exchange import export_cases, import_cases


def reading(seed):
    """All placed but the first, which is absent, and the second, of which nothing is said."""
    presence = np.ones(len(NAMES))
    presence[:2] = [0, np.nan]
    return LandmarkSet(tuple(NAMES), points_of(0) + seed, presence)


READERS = {"senior": reading(1), "reader-2": reading(2)}


def project_with_readers(folder):
    project = create_project(folder, SCHEME)
    return project, project.add(scan_of(0), placed(points_of(0)), readers=READERS).case


def check(readers):
    assert sorted(readers) == ["reader-2", "senior"]
    for word, points in readers.items():
        expected = READERS[word]
        found = points.ordered_as(expected.names)
        assert np.array_equal(found.present, expected.present) and np.array_equal(found.unknown, expected.unknown)
        assert np.allclose(found.positions, expected.positions, atol=1e-3, equal_nan=True)


def test_a_review_keeps_readers_and_a_later_one_goes_on_with_them(tmp_path):
    project, case = project_with_readers(tmp_path / "p")
    check(project.case(case).revision().readers)
    project.add(scan_of(0), placed(points_of(0) + 0.5))
    newest = project.case(case).revision()
    check(newest.readers)
    assert project.case(case).revision_numbers() == [1, 2]
    again = project.add(scan_of(0), placed(points_of(0) + 0.5), readers=READERS)
    assert not again.is_new_revision


def test_a_review_without_readers_is_written_as_before(tmp_path):
    project = create_project(tmp_path / "p", SCHEME)
    record = project.case(project.add(scan_of(0), placed(points_of(0))).case).revision().to_record()
    assert record.format_version == 1 and b"readers" not in to_json(record)


@pytest.mark.parametrize("readers", [{"Dr Muster": reading(0)}, {"a": reading(0), "A": reading(1)}, {"": reading(0)}])
def test_a_reader_needs_a_word_of_his_own(tmp_path, readers):
    project = create_project(tmp_path / "p", SCHEME)
    with pytest.raises(InputError, match="reader"):
        project.add(scan_of(0), placed(points_of(0)), readers=readers)
    assert project.cases() == []


def test_what_no_reader_says_is_refused(tmp_path):
    project, case = project_with_readers(tmp_path / "p")
    content = parse_json(to_json(project.case(case).revision().to_record()))
    build(RevisionRecord, content)

    def change(act):
        changed = parse_json(to_json(content))
        act(changed)
        with pytest.raises(FormatError):
            build(RevisionRecord, changed)

    change(lambda c: c.update(format_version=1))
    change(lambda c: c["readers"].append(c["readers"][0]))
    change(lambda c: c["readers"][0].update(name="Muster"))
    change(lambda c: c["readers"][0]["landmarks"][0].update(name="nose"))
    change(lambda c: c["readers"][0]["landmarks"].append(c["readers"][0]["landmarks"][0]))


def test_plain_files_and_archives_bring_readers_back(tmp_path):
    project, case = project_with_readers(tmp_path / "p")
    export_cases(project, "folder", tmp_path / "out", silent)
    assert case_names(tmp_path / "out") == [case] and readers_in(tmp_path / "out") == ["reader-2", "senior"]
    check(readers_of_case(tmp_path / "out", case))
    other = create_project(tmp_path / "q", SCHEME)
    assert len(import_cases(other, "folder", tmp_path / "out", silent).new) == 1
    check(other.case(case).revision().readers)
    write_archive(other, tmp_path / "a.zip", silent)
    third = create_project(tmp_path / "r", SCHEME)
    add_archive(third, tmp_path / "a.zip", silent)
    check(third.case(case).revision().readers)


def test_a_damaged_list_of_a_reader_costs_its_case_alone(tmp_path):
    project, case = project_with_readers(tmp_path / "p")
    project.add(scan_of(1), placed(points_of(1)))
    export_cases(project, "folder", tmp_path / "out", silent)
    (tmp_path / "out" / "readers" / "senior" / f"{case}.mrk.json").write_text("{")
    summary = import_cases(create_project(tmp_path / "q", SCHEME), "folder", tmp_path / "out", silent)
    assert len(summary.new) == 1 and "senior" in summary.skipped[0]


def test_folders_of_readers_are_words(tmp_path):
    write_readers(tmp_path, "one", {"a": reading(0)})
    assert list(readers_of_case(tmp_path, "one")) == ["a"] and readers_of_case(tmp_path, "two") == {}
    (tmp_path / "readers" / "Dr Muster").mkdir()
    with pytest.raises(InputError, match="reader"):
        readers_of_case(tmp_path, "one")


def test_a_revision_through_its_record_is_the_same(tmp_path):
    project, case = project_with_readers(tmp_path / "p")
    revision = project.case(case).revision()
    assert Revision.from_record(revision.to_record()).says_the_same(revision)
