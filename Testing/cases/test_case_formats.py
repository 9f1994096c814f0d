"""The files of a folder of cases as typed records: the same bytes, and what is refused with and without pydantic."""

import json
from copy import deepcopy
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import numpy as np
import pytest
from sample_cases import NAMES, SCHEME, points_of, scan_of

from H3DELandmarksLib.cases import CaseLandmark, ModelName, ReviewState, Revision
from H3DELandmarksLib.cases.store import content_of
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.landmarks import Cause, LandmarkDefinition, LandmarkScheme
from H3DELandmarksLib.formats import reading
from H3DELandmarksLib.formats.case_record import ImageContent, ImageRecord, RevisionRecord
from H3DELandmarksLib.formats.reading import FormatError, parse_json, to_json
from H3DELandmarksLib.formats.schemes import MigrationRecord, SchemeRecord, SchemeStep, read_scheme_bytes, scheme_bytes
from H3DELandmarksLib.formats.untrusted_zip import ArchiveManifest

FIRST_VERSION = b"""{
 "format_version": 1,
 "time": "2026-05-04T03:02:01Z",
 "software": "0.1.0",
 "scheme": {
  "id": "head",
  "version": "1.0"
 },
 "model": {
  "id": "head-model",
  "version": "1.2.0"
 },
 "subject": null,
 "landmarks": [
  {
   "name": "aL",
   "state": "moved",
   "position": [
    1.0,
    2.5,
    -3.0
   ],
   "proposed": [
    1.0,
    2.0,
    -3.0
   ],
   "presence": 0.9,
   "confidence": null,
   "radius90": 1.5
  },
  {
   "name": "aR",
   "state": "absent",
   "position": null,
   "proposed": null,
   "presence": null,
   "confidence": null,
   "radius90": null
  }
 ]
}
"""

REVISION = b"""{
 "format_version": 2,
 "time": "2026-05-04T03:02:01Z",
 "software": "0.1.0",
 "scheme": {
  "id": "head",
  "version": "1.0"
 },
 "model": {
  "id": "head-model",
  "version": "1.2.0"
 },
 "subject": null,
 "landmarks": [
  {
   "name": "aL",
   "state": "moved",
   "position": [
    1.0,
    2.5,
    -3.0
   ],
   "proposed": [
    1.0,
    2.0,
    -3.0
   ],
   "presence": 0.9,
   "confidence": null,
   "radius90": 1.5
  },
  {
   "name": "aR",
   "state": "absent, accepted in bulk",
   "position": null,
   "proposed": null,
   "presence": 0.1,
   "confidence": null,
   "radius90": null
  },
  {
   "name": "top",
   "state": "not examined",
   "position": null,
   "proposed": null,
   "presence": null,
   "confidence": null,
   "radius90": null,
   "cause": "outside the scan"
  }
 ]
}
"""


@pytest.fixture(params=["with pydantic", "without pydantic"])
def build(request, monkeypatch):
    """Both ways of reading: what the command line has, and what a bare Slicer has."""
    if request.param == "without pydantic":

        def missing(record):
            raise ImportError("pydantic")

        monkeypatch.setattr(reading, "type_adapter", missing)
    else:
        pytest.importorskip("pydantic")
    return reading.build


def test_a_review_is_written_as_it_always_was(build):
    revision = Revision.from_record(build(RevisionRecord, parse_json(REVISION)))
    assert to_json(revision.to_record()) == REVISION
    moved, absent, top = revision.landmarks
    assert (moved.state, absent.state) == (ReviewState.MOVED, ReviewState.ABSENT_IN_BULK)
    assert (top.state, top.cause) == (ReviewState.NOT_EXAMINED, Cause.OUTSIDE_SCAN)
    np.testing.assert_array_equal(moved.position, (1, 2.5, -3))
    assert revision.model == ModelName("head-model", "1.2.0")
    assert revision.time == datetime(2026, 5, 4, 3, 2, 1, tzinfo=timezone.utc)


def test_a_review_without_bulk_and_causes_is_still_one_of_the_first_version(build):
    revision = Revision.from_record(build(RevisionRecord, parse_json(FIRST_VERSION)))
    assert to_json(revision.to_record()) == FIRST_VERSION
    moved, absent = revision.landmarks
    assert (moved.state, absent.state, absent.cause) == (ReviewState.MOVED, ReviewState.ABSENT, None)
    np.testing.assert_array_equal(moved.proposed, (1, 2, -3))


@pytest.mark.parametrize("state", ["not examined", "not recognised"])
def test_what_nobody_knows_teaches_nothing(state):
    content = REVISION.replace(b"not examined", state.encode())
    revision = Revision.from_record(reading.build(RevisionRecord, parse_json(content)))
    scheme = LandmarkScheme("head", "1.0", tuple(LandmarkDefinition(n, "") for n in ("aL", "aR", "top")))
    assert revision.corrected(scheme).unknown.tolist() == [False, False, True]
    assert revision.corrected(scheme).present.tolist() == [True, False, False]
    assert revision.proposed(scheme).causes == (None, None, Cause.OUTSIDE_SCAN)


def test_every_file_comes_back_the_same(build):
    content = content_of(scan_of(0))
    again = ImageContent.from_record(build(ImageRecord, parse_json(to_json(content.to_record()))))
    assert again.same_image(content) and to_json(again.to_record()) == to_json(content.to_record())
    assert read_scheme_bytes(scheme_bytes(SCHEME)) == SCHEME
    step = SchemeStep({"b": "c", "a": "b"}, frozenset(("y", "x")))
    assert SchemeStep.from_bytes(step.to_bytes()) == step
    assert step.to_bytes() == SchemeStep({"a": "b", "b": "c"}, frozenset(("x", "y"))).to_bytes()


def test_files_with_escaped_letters_are_read_as_before(build):
    escaped = json.dumps(parse_json(scheme_bytes(SCHEME)), ensure_ascii=True).replace("the point aL", "\\u00e4")
    record = build(SchemeRecord, parse_json(escaped.encode()))
    assert record.scheme.landmarks[0].definition == "ä"


def at(content, *place):
    for key in place[:-1]:
        content = content[key]
    return content, place[-1]


def replaced(content, value, *place):
    content = deepcopy(content)
    holder, key = at(content, *place)
    holder[key] = value
    return content


FIRST = ("landmarks", 0)


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ("x", ("patient",)),
        ("x", (*FIRST, "note")),
        ("x", ("scheme", "title")),
        (5, ("format_version",)),
        ("1", ("format_version",)),
        ("2026-05-04", ("time",)),
        ("2026-13-04T03:02:01Z", ("time",)),
        ("2026-05-04T03:02:01Z\n", ("time",)),
        ("Erika Mustermann", ("software",)),
        ("1.0\n", ("software",)),
        ("a" * 65, ("software",)),
        ("", ("scheme", "id")),
        ("head model", ("model", "id")),
        (" head", ("model", "version")),
        ("case-0123456789abcdef-1", ("subject",)),
        ("case-0123456789abcdef\n", ("subject",)),
        ("", (*FIRST, "name")),
        ("a" * 201, (*FIRST, "name")),
        ("a\nb", (*FIRST, "name")),
        ("a\x1b[31mb", (*FIRST, "name")),
        ("aR", (*FIRST, "name")),
        ("lost", (*FIRST, "state")),
        ("not examined", (*FIRST, "state")),
        ("nobody was there", (*FIRST, "cause")),
        ("absent", (*FIRST, "state")),
        (None, (*FIRST, "position")),
        ([1.0, 2.0], (*FIRST, "position")),
        ([1.0, 2.0, 3.0, 4.0], (*FIRST, "position")),
        ([1.0, 2.0, 2e6], (*FIRST, "position")),
        ([1.0, 2.0, 10**400], (*FIRST, "position")),
        ([1.0, 2.0, True], (*FIRST, "position")),
        ([1.0, 2.0, "3"], (*FIRST, "position")),
        ({"x": 1}, (*FIRST, "position")),
        (1.01, (*FIRST, "presence")),
        (-0.01, (*FIRST, "confidence")),
        (-1.0, (*FIRST, "radius90")),
        ({}, ("landmarks",)),
        ([3], ("landmarks",)),
    ],
)
def test_what_no_review_holds_is_refused(build, value, place):
    with pytest.raises(FormatError) as told:
        build(RevisionRecord, replaced(parse_json(REVISION), value, *place))
    assert "\n" not in str(told.value) and len(str(told.value)) < 600


@pytest.mark.parametrize("place", [("time",), ("subject",), (*FIRST, "radius90"), ("scheme", "version")])
def test_every_entry_must_be_there(build, place):
    content = parse_json(REVISION)
    holder, key = at(content, *place)
    del holder[key]
    with pytest.raises(FormatError, match=f"{key}.*missing"):
        build(RevisionRecord, content)


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ("0" * 63, ("voxels_sha256",)),
        ("G" * 64, ("voxels_sha256",)),
        ([4, 4], ("shape",)),
        ([4, 4, 0], ("shape",)),
        ([60000, 60000, 60000], ("shape",)),
        ([4, 4, 4.0], ("shape",)),
        ([[1, 0, 0, 0]] * 3, ("affine",)),
        ([[1, 0, 0]] * 4, ("affine",)),
        ([[0.0] * 4] * 4, ("affine",)),
        ("scan.nrrd", ("file",)),
    ],
)
def test_what_no_scan_can_be_is_refused(build, value, place):
    content = parse_json(to_json(content_of(scan_of(0)).to_record()))
    with pytest.raises(FormatError):
        build(ImageRecord, replaced(content, value, *place))


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ("other", ("format",)),
        (2, ("format_version",)),
        ("a head", ("scheme", "id")),
        ("x", ("scheme", "patient")),
        ("x", ("scheme", "landmarks", 0, "note")),
        ("a\nb", ("scheme", "landmarks", 8, "name")),
        ("", ("scheme", "landmarks", 8, "name")),
        ("a" * 201, ("scheme", "landmarks", 8, "name")),
        ("a" * 4001, ("scheme", "landmarks", 8, "definition")),
        ("aL", ("scheme", "landmarks", 8, "name")),
        ([["aL"]], ("scheme", "pairs")),
        ([["aL", "beak"]], ("scheme", "pairs")),
        ([], ("scheme", "landmarks")),
    ],
)
def test_what_no_scheme_holds_is_refused(build, value, place):
    content = parse_json(scheme_bytes(SCHEME))
    with pytest.raises(FormatError):
        build(SchemeRecord, replaced(content, value, *place))


@pytest.mark.parametrize("renamed", [[["a"]], [["a", "b", "c"]], [["a", ""]], [["a", "b\n"]], ["ab"], {"a": "b"}])
def test_what_no_migration_holds_is_refused(build, renamed):
    content = parse_json(SchemeStep({"a": "b"}).to_bytes())
    build(MigrationRecord, content)
    with pytest.raises(FormatError):
        build(MigrationRecord, {**content, "renamed": renamed})


@pytest.mark.parametrize(
    "file",
    [{"size": -1, "sha256": "0" * 64}, {"size": 1, "sha256": "0" * 63}, {"size": 1}, {"size": 1.5, "sha256": "0" * 64}],
)
def test_what_no_archive_says_of_a_file_is_refused(build, file):
    content = {"format": "x", "format_version": 1, "files": {"a": {"size": 1, "sha256": "0" * 64}}}
    assert build(ArchiveManifest, content).files["a"].size == 1
    with pytest.raises(FormatError):
        build(ArchiveManifest, {**content, "files": {"a": file}})


@pytest.mark.parametrize("name", ["Erika Mustermann", " model", "model ", "a\n", "", "-model", "a" * 65, "mödel"])
def test_ids_of_models_hold_no_text(name):
    with pytest.raises(InputError):
        ModelName(name, "1")
    with pytest.raises(InputError):
        ModelName("model", name)


def test_a_long_name_of_a_stranger_is_shortened_in_the_sentence(build):
    with pytest.raises(FormatError) as told:
        build(RevisionRecord, {**parse_json(REVISION), "x\x1b" * 10_000: 1})
    assert len(str(told.value)) < 600 and "\x1b" not in str(told.value)


def test_a_review_tells_what_a_person_decided_apart_from_what_the_model_said():
    here, there = np.array([1.0, 2, 3]), np.array([4.0, 5, 6])
    states = (ReviewState.ACCEPTED, ReviewState.ACCEPTED_IN_BULK, ReviewState.MOVED, ReviewState.ABSENT)
    said = [
        CaseLandmark(name, state, None if state is ReviewState.ABSENT else here, there, 0.9, 0.8, 1.5)
        for name, state in zip("abcd", states)
    ]
    said[0], said[1] = (replace(one, position=there) for one in said[:2])
    scheme = LandmarkScheme("four", "1", tuple(LandmarkDefinition(name, "") for name in "abcd"))
    time = datetime(2026, 5, 4, 5, 2, 1, tzinfo=timezone(timedelta(hours=2)))
    revision = Revision((*said[:3], replace(said[3], proposed=None, presence=0.1)), ("four", "1"), None, "0.1", time)
    corrected, proposed = revision.corrected(scheme), revision.proposed(scheme)
    np.testing.assert_array_equal(corrected.presence, [1, 1, 1, 0])
    np.testing.assert_array_equal(corrected.confidence, [0.8, 0.8, np.nan, np.nan])
    np.testing.assert_array_equal(corrected.radius, [1.5, 1.5, np.nan, np.nan])
    np.testing.assert_array_equal(proposed.presence, [0.9, 0.9, 0.9, 0.1])
    assert revision.to_record().time == "2026-05-04T03:02:01Z"


@pytest.mark.parametrize(("by", "is_known"), [("b", True), ("sides exchanged", True), ("nobody", False)])
def test_what_revised_a_proposal_is_a_landmark_or_a_remedy_of_the_last_version(by, is_known):
    landmarks = (
        CaseLandmark("a", ReviewState.PROPOSED, np.zeros(3), revised_by=by),
        CaseLandmark("b", ReviewState.UNKNOWN),
    )
    revision = Revision(landmarks, ("two", "1"), None, "0.1", datetime(2026, 5, 4, tzinfo=timezone.utc))
    if is_known:
        assert revision.to_record().format_version == 4
        return
    with pytest.raises(ValueError, match="revised"):
        revision.to_record()


def test_a_landmark_of_two_sets_keeps_what_was_said():
    from sample_cases import set_of

    proposed = set_of(points_of(0), presence=np.full(10, 0.8), confidence=np.full(10, np.nan), radius=np.full(10, 2.0))
    landmark = CaseLandmark.from_sets(NAMES[1], ReviewState.MOVED, set_of(points_of(1)), proposed, 1)
    assert (landmark.presence, landmark.confidence, landmark.radius) == (0.8, None, 2.0)
    np.testing.assert_array_equal(landmark.position, points_of(1)[1])
    np.testing.assert_array_equal(landmark.proposed, points_of(0)[1])


@pytest.mark.parametrize(
    ("by", "now"),
    [
        (None, None),
        ("sides exchanged", "sides exchanged"),
        ("old name", "new name"),
        ("gone", "correction of a landmark that is not of the scheme"),
    ],
)
def test_what_has_revised_a_proposal_is_renamed_with_its_landmark(by, now):
    landmark = CaseLandmark("aL", ReviewState.ACCEPTED_IN_BULK, np.zeros(3), np.zeros(3), revised_by=by)
    renamed = landmark.revised(by, {"old name": "new name"})
    assert renamed.revised_by == now and renamed.is_taught == (by is None)
    assert CaseLandmark.from_record(renamed.to_record()).revised_by == now
