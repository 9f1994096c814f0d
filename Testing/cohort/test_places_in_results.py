"""What results say beside the points: at which places networks saw each landmark, and that a count is in doubt."""

import numpy as np

from H3DELandmarksLib.cohort.origin import describe_count, landmark_results
from H3DELandmarksLib.core.candidates import Candidates
from H3DELandmarksLib.core.landmarks import Cause, LandmarkSet
from H3DELandmarksLib.formats.reading import build, to_plain
from H3DELandmarksLib.formats.results import LandmarkResult, MiscountedResult, PlaceResult

FOUND = LandmarkSet(("a", "b"), np.array([[1.0, 2, 3], [4, 5, 6]]), np.ones(2), np.full(2, 0.9), np.ones(2))
SEEN = Candidates.of([[(1, 2, 3, 0.75, 0.5), (9, 2, 3, 0.125, 2.0)], [(4, 5, 6, 0.5, 1.0)]])


def test_places_come_with_their_landmark():
    landmarks = FOUND.unknown_where(np.array([False, True]), Cause.NOT_ASKED_FOR)
    first, second = landmark_results(landmarks, SEEN)
    assert first.places == (PlaceResult((1.0, 2.0, 3.0), 0.75, 0.5), PlaceResult((9.0, 2.0, 3.0), 0.125, 2.0))
    assert second.places == ()
    assert build(LandmarkResult, to_plain(first)) == first


def test_a_decoder_without_places_states_none():
    assert [result.places for result in landmark_results(FOUND)] == [(), ()]


def test_a_doubtful_count_is_told_with_what_follows_from_it():
    doubt = MiscountedResult(0.26, True, hit_rate=0.7, false_alarm_rate=0.3, step=4)
    told = describe_count(doubt)
    assert "26%" in told and "no radius" in told and "check the first" in told
    assert describe_count(MiscountedResult(0.26, False, None, None, 4)) == describe_count(None) == ""
