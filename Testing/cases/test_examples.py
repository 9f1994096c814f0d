"""Which corrected cases serve as examples for landmarks that no model knows."""

from datetime import timedelta

import numpy as np
import pytest
from example_projects import FIRST_DAY, project_of_blobs
from example_scans import marked, picture_of, still

from H3DELandmarksLib.cases import CaseLandmark, ReviewState
from H3DELandmarksLib.cases.examples import MOST, ExampleSet, MarkedCase, marked_cases
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.formats.case_record import GuideRecord
from H3DELandmarksLib.formats.reading import FormatError, build, parse_json, to_json
from H3DELandmarksLib.io.images import write_volume
from H3DELandmarksLib.io.markups import write_markups


def test_the_cases_that_were_reviewed_last_serve_and_at_most_five(tmp_path):
    project = project_of_blobs(tmp_path / "cases", 1)
    names, places = project.scheme.names, marked(2, still).positions
    added = []
    for day in range(10, 17):
        case = picture_of(2, lambda points, day=day: points + (day, 0, 0))
        landmarks = [CaseLandmark(name, ReviewState.PLACED, place) for name, place in zip(names, places)]
        added.append(project.add(case, landmarks, time=FIRST_DAY + timedelta(days=day)).case)
    found = ExampleSet.of(project)
    assert found is not None and found.cases == tuple(added[:-6:-1]) and found.version == str(MOST) and found.is_2d
    assert [case.name for case in marked_cases(project.folder)] == list(found.cases)
    assert [case.name for case in marked_cases(project.folder, [added[0], added[0]])] == [added[0]]
    with pytest.raises(InputError, match="no case"):
        marked_cases(project.folder, ["case-0000"])


def test_scans_of_a_folder_are_read_when_they_are_needed_and_no_case_counts_twice(tmp_path):
    for name in ("a", "b"):
        write_volume(tmp_path / f"{name}.nrrd", picture_of(2, still))
        write_markups(tmp_path / f"{name}.mrk.json", marked(2, still))
    cases = marked_cases(tmp_path, ["a", "b", "a"])
    assert [case.name for case in cases] == ["a", "b"]
    write_volume(tmp_path / "a.nrrd", later := picture_of(2, lambda points: points + (9, 0, 0)))
    np.testing.assert_array_equal(cases[0].volume().array, later.array)
    (tmp_path / "b.nrrd").unlink()
    with pytest.raises(InputError, match="no scan"):
        marked_cases(tmp_path)


def test_only_points_that_somebody_has_looked_at_are_taken_from_a_case(tmp_path):
    project = project_of_blobs(tmp_path / "cases", 0)
    names, places = project.scheme.names, marked(2, still).positions
    states = (
        ReviewState.PLACED,
        ReviewState.ACCEPTED,
        ReviewState.MOVED,
        ReviewState.ACCEPTED_IN_BULK,
        ReviewState.PROPOSED,
        ReviewState.ABSENT,
    )
    landmarks = [
        CaseLandmark(name, state, None if state is ReviewState.ABSENT else place, place + (state is ReviewState.MOVED))
        for name, state, place in zip(names, states, places)
    ]
    project.add(picture_of(2, still), landmarks)
    (case,) = marked_cases(project.folder)
    assert case.landmarks.presence.tolist()[:3] == [1, 1, 1] and case.landmarks.presence[5] == 0
    assert case.landmarks.unknown[3:5].all()
    assert np.array_equal(case.volume().array, picture_of(2, still).array)


def test_a_project_without_cases_is_told(tmp_path):
    project = project_of_blobs(tmp_path / "cases", 0)
    assert ExampleSet.of(project) is None
    with pytest.raises(InputError, match="no case with a point"):
        marked_cases(project.folder)
    with pytest.raises(InputError, match="No point list"):
        marked_cases(tmp_path)


def test_what_guides_is_kept_and_read_back_and_a_folder_that_is_read_only_is_no_error(tmp_path):
    found = LandmarkSet(("A", "B"), [[1, 2, 3], [4, 5, 6]], [1.0, 0.1])
    record = GuideRecord.of(("toy@1",), "toy@1", found)
    assert build(GuideRecord, parse_json(to_json(record))) == record
    np.testing.assert_array_equal(record.landmarks.positions, [[1, 2, 3]])
    assert len(GuideRecord.of(("toy@1",), None, None).landmarks) == 0
    case = MarkedCase("one", lambda: picture_of(2, still), found, tmp_path / "guides" / "one.json")
    assert case.known_guide() is None
    case.keep_guide(record)
    assert case.known_guide() == record
    lost = MarkedCase("one", lambda: picture_of(2, still), found, tmp_path / "no" / "such" / "one.json")
    lost.keep_guide(record)
    assert lost.known_guide() is None
    with pytest.raises(FormatError, match="guessed"):
        build(GuideRecord, {**parse_json(to_json(record)), "guessed": 1})
