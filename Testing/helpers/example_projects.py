"""Projects of corrected cases whose landmarks no model knows: blobs of `example_scans`."""

from datetime import datetime, timedelta, timezone
from pathlib import Path

from example_scans import bent, marked, picture_of, still

from H3DELandmarksLib.cases import CaseLandmark, CaseProject, ReviewState, create_project
from H3DELandmarksLib.core.landmarks import LandmarkDefinition, LandmarkScheme

MOVES = {2: (still, bent(2, turn=-0.05), bent(2, shift=-0.02)), 3: (still, bent(3, turn=-0.05), bent(3, shift=-0.02))}
FIRST_DAY = datetime(2026, 1, 1, tzinfo=timezone.utc)


def project_of_blobs(folder: Path, count: int, axes: int = 2, state: ReviewState = ReviewState.PLACED) -> CaseProject:
    """A project with up to three cases of six landmarks each."""
    names = marked(axes, still).names
    scheme = LandmarkScheme("own-landmarks", "1", tuple(LandmarkDefinition(name, "") for name in names))
    project = create_project(folder, scheme)
    for number, move in enumerate(MOVES[axes][:count]):
        positions = marked(axes, move).positions
        landmarks = [CaseLandmark(name, state, place) for name, place in zip(names, positions)]
        project.add(picture_of(axes, move), landmarks, time=FIRST_DAY + timedelta(days=number))
    return project
