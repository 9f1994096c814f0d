"""Corrected cases: kept safely and without patient data, checked before training.

The flow: `store` takes a scan with its corrected landmarks; `quality` finds what to look at before training;
`next_case` says which scan to correct next; `export` hands out points. The research package exchanges cases with
others and changes which landmarks there are.

A project is a folder::

    schemes/000001/scheme.json        the landmarks; a changed list is a new folder, old ones stay
    schemes/000002/migration.json     what a person says about the change: new names, words for the same point
    cases/case-<content>/image.nrrd   the scan in its own geometry
    cases/case-<content>/image.json   what it contains, by which the same scan is recognised
    cases/case-<content>/000001/revision.json   one review: proposed and corrected positions, states, model, time
    index.json                        a summary; made again from the cases wherever it is missing or old

Schemes, cases and revisions are only ever added, each as a folder that takes its place in one step. Revisions stay as
they were written; `CaseProject.review` gives the newest one of a case as the newest scheme sees it.
"""

from H3DELandmarksLib.cases.store import CaseProject, create_project, open_project
from H3DELandmarksLib.core.landmarks import ReviewState
from H3DELandmarksLib.formats.case_record import CaseLandmark, ModelName, Revision

__all__ = ["CaseLandmark", "CaseProject", "ModelName", "ReviewState", "Revision", "create_project", "open_project"]
