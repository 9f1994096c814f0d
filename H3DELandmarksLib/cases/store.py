"""A folder of corrected cases: one scheme, many cases, nothing ever overwritten; and the index that sums it up."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import numpy as np

from H3DELandmarksLib import __version__
from H3DELandmarksLib.core.errors import InputError, OutputError
from H3DELandmarksLib.core.files import (
    TEMPORARY_PREFIX,
    append_numbered,
    atomic_move,
    atomic_write,
    numbered_folders,
    remove_forgotten,
)
from H3DELandmarksLib.core.geometry import Volume, canonical
from H3DELandmarksLib.core.landmarks import LandmarkScheme, LandmarkSet
from H3DELandmarksLib.formats.case_record import (
    CASE_ID,
    TIME_FORMAT,
    TOKEN,
    CaseLandmark,
    CaseSummary,
    ImageContent,
    ImageRecord,
    IndexRecord,
    ModelName,
    Revision,
    RevisionRecord,
    complete,
)
from H3DELandmarksLib.formats.reading import FormatError, build, parse_json, to_json
from H3DELandmarksLib.formats.schemes import SchemeHistory, SchemeStep, read_scheme_bytes, scheme_bytes
from H3DELandmarksLib.io.images import read_volume, write_volume

log = logging.getLogger(__name__)
Record = TypeVar("Record")

SCHEMES, CASES, INDEX = "schemes", "cases", "index.json"
SCHEME, MIGRATION = "scheme.json", "migration.json"
IMAGE, CONTENT, REVISION = "image.nrrd", "image.json", "revision.json"
STAGING = f"{TEMPORARY_PREFIX}incoming"
MAX_OF_SAME_VOXELS = 9
# Fewer cannot be split into what teaches, what is held out and what calibrates.
MIN_TRAINING_CASES = 5


@contextmanager
def staging_folder(project: Path) -> Iterator[Path]:
    """A new folder to prepare what will be added; removed at the end with whatever is left in it.

    Raises:
        OutputError: something in the block could not be written.
    """
    staging = project / STAGING / uuid4().hex
    try:
        staging.mkdir(parents=True)
        remove_forgotten([*staging.parent.iterdir(), *project.glob(f"{TEMPORARY_PREFIX}*-*")])
        yield staging
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise OutputError(
            f"The project '{project}' cannot be written to ({reason}): check the permission and the free space; "
            "what was complete before is unchanged.",
            error,
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def content_of(volume: Volume) -> ImageContent:
    """The content of a scan; a scan that is flipped or stored in another number type has the same."""
    ordered = canonical(volume)
    digest = hashlib.sha256(np.array(ordered.array.shape, dtype="<i8").tobytes())
    for plane in np.moveaxis(ordered.array, -1, 0):
        digest.update((np.ascontiguousarray(plane, dtype="<f8") + 0.0).data)  # adding 0 makes -0 and 0 the same
    return ImageContent(digest.hexdigest(), ordered.grid)


@dataclass(frozen=True)
class CaseFiles:
    """A case that is there completely.

    Attributes:
        folder: named after the case.
    """

    folder: Path

    @property
    def id(self) -> str:
        """Made from the content of the scan."""
        return self.folder.name

    @property
    def image(self) -> Path:
        """The scan in its own geometry, without any other information."""
        return self.folder / IMAGE

    def content(self) -> ImageContent:
        """What the scan contains.

        Raises:
            InputError: the case is damaged.
        """
        return ImageContent.from_record(self._read(ImageRecord, self.folder / CONTENT))

    def volume(self) -> Volume:
        """The scan.

        Raises:
            InputError: it is damaged, or another one than the case's record says.
        """
        volume = read_volume(self.image, as_stored=True)
        if not content_of(volume).same_image(self.content()):
            raise InputError(
                f"The scan of the case '{self.id}' is not what it was when the case was added ('{self.image}', SHA-256 "
                "differs): restore it from a backup, or move the case away."
            )
        return volume

    def revision_numbers(self) -> list[int]:
        """Numbers of all reviews, the oldest first."""
        return [int(path.name) for path in numbered_folders(self.folder)]

    def revision(self, number: int | None = None) -> Revision:
        """One review; the newest when no number is given.

        Raises:
            InputError: it is not there, or damaged.
        """
        number = max(self.revision_numbers(), default=0) if number is None else number
        return Revision.from_record(self._read(RevisionRecord, self.folder / numbered(number) / REVISION))

    def revisions(self) -> list[Revision]:
        """All reviews, the oldest first."""
        return [self.revision(number) for number in self.revision_numbers()]

    def _read(self, record: type[Record], path: Path) -> Record:
        try:
            return build(record, parse_json(path.read_bytes()))
        except (OSError, FormatError) as error:
            raise InputError(
                f"The case '{self.folder}' is damaged ({path.name}: {getattr(error, 'strerror', None) or error}): "
                "restore it from a backup, or move it away."
            ) from error


def numbered(number: int) -> str:
    """Name of the folder of a revision or scheme."""
    return f"{number:06d}"


def prepare_case(folder: Path, volume: Volume, content: ImageContent, revisions: Sequence[Revision]) -> None:
    """Write everything that belongs to a new case into a new folder, and read the scan back to be sure of it.

    Raises:
        OSError: the folder cannot be written to, or did not keep every voxel.
        InputError: the scan cannot be written.
    """
    folder.mkdir()
    write_volume(folder / IMAGE, volume)
    if not content_of(read_volume(folder / IMAGE, as_stored=True)).same_image(content):
        raise OSError(0, "the scan was not kept exactly")
    (folder / CONTENT).write_bytes(to_json(content.to_record()))
    for number, revision in enumerate(revisions, 1):
        (folder / numbered(number)).mkdir()
        _write_revision(folder / numbered(number), revision)


def _write_revision(folder: Path, revision: Revision) -> None:
    (folder / REVISION).write_bytes(to_json(revision.to_record()))


@dataclass(frozen=True)
class Added:
    """What adding a review did.

    Attributes:
        case: id.
        revision: number of the review that says it now.
        is_new_case: whether the scan was not in the project before.
        is_new_revision: whether a review was added; False where the newest one said the same already.
    """

    case: str
    revision: int
    is_new_case: bool
    is_new_revision: bool


@dataclass(frozen=True)
class CaseProject:
    """A project that exists; every method looks at the folder anew, so that several programs may use it.

    Attributes:
        folder: of the project.
    """

    folder: Path

    @property
    def scheme(self) -> LandmarkScheme:
        """The newest scheme.

        Raises:
            InputError: the folder holds no project, or its scheme is damaged.
        """
        return self.schemes()[-1]

    def schemes(self) -> list[LandmarkScheme]:
        """All versions of the scheme, the oldest first."""
        return list(self.history().schemes)

    def history(self) -> SchemeHistory:
        """All versions of the scheme with the steps between them; tells what a review says under the newest.

        Raises:
            InputError: as for `scheme`.
        """
        try:
            places = numbered_folders(self.folder / SCHEMES)
        except OSError:
            places = []
        if not places:
            raise InputError(
                f"'{self.folder}' holds no project of cases: choose another folder, or start a project there."
            )
        try:
            return SchemeHistory(
                tuple(read_scheme_bytes((place / SCHEME).read_bytes()) for place in places),
                tuple(SchemeStep.from_bytes((place / MIGRATION).read_bytes()) for place in places[1:]),
            )
        except (OSError, FormatError) as error:
            raise InputError(
                f"The project '{self.folder}' has a damaged scheme ({error}): restore '{SCHEMES}' from a backup."
            ) from error

    def review(self, case: CaseFiles) -> Revision:
        """The newest review of a case as the newest scheme sees it: what training and checks read.

        What was reviewed under an older scheme stays on disk as it was; see `scheme_history`.
        """
        return self.history().now(case.revision())

    def cases(self) -> list[CaseFiles]:
        """All cases, by id."""
        try:
            names = sorted(path.name for path in (self.folder / CASES).iterdir() if CASE_ID.fullmatch(path.name))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise InputError(f"The project '{self.folder}' cannot be read: check the permission.") from error
        return [CaseFiles(self.folder / CASES / name) for name in names]

    def case(self, case_id: str) -> CaseFiles:
        """One case.

        Raises:
            InputError: there is none of this id.
        """
        if not CASE_ID.fullmatch(case_id) or not (self.folder / CASES / case_id).is_dir():
            raise InputError(f"The project has no case '{case_id}': choose one that 'cases list' names.")
        return CaseFiles(self.folder / CASES / case_id)

    def subject_of(self, case: CaseFiles) -> str:
        """Id of the case that stands for the subject of a case, also where that has got another subject since."""
        seen, following = [case.id], case.revision().subject
        while following is not None and following not in seen:
            seen.append(following)
            try:
                following = self.case(following).revision().subject
            except InputError:  # it was moved away
                following = None
        return seen[-1] if following is None else min(seen[seen.index(following) :])

    def find(self, volume: Volume) -> CaseFiles | None:
        """The case of a scan, recognised by its content; None where it is not in the project."""
        return self._find(content_of(volume))[0]

    def add(
        self,
        volume: Volume,
        landmarks: Iterable[CaseLandmark],
        model: ModelName | None = None,
        subject: str | None = None,
        time: datetime | None = None,
        readers: Mapping[str, LandmarkSet] | None = None,
    ) -> Added:
        """Keep one review: a new case, or a new revision where the scan is known already.

        Args:
            volume: the scan as it was loaded.
            landmarks: those of the scheme; any that are not given are unknown.
            model: which model proposed them.
            subject: id of another case of the same subject; by default what the newest review of the scan says.
            time: of the review; now by default.
            readers: what several people marked, each for himself, LPS mm, by a word for each; by default what the
                newest review of the scan says. Points of other names than the scheme's are left out.

        Raises:
            InputError: a landmark is not of the scheme, a reader's word cannot be one, or the project cannot be written
                to; nothing has changed then.
        """
        scheme = self.scheme
        content = content_of(volume)
        known = self._find(content)[0]
        subject = self._subject(subject, known)
        now = (time or datetime.now(timezone.utc)).replace(microsecond=0)
        stated = (scheme.id, scheme.version)
        said = self._readers(scheme, readers, known)
        revision = Revision(complete(scheme, landmarks), stated, model, __version__, now, subject, said)
        with staging_folder(self.folder) as staging:
            if known is None:
                prepare_case(staging / "case", volume, content, [revision])
            return self.add_prepared(staging / "case", content, [revision])

    def _readers(
        self, scheme: LandmarkScheme, readers: Mapping[str, LandmarkSet] | None, known: CaseFiles | None
    ) -> dict[str, LandmarkSet]:
        """What the readers of a scan said of the scheme's landmarks."""
        if readers is None:
            return {} if known is None else dict(self.review(known).readers)
        words = set()
        for word in readers:
            if not TOKEN.fullmatch(word) or word.casefold() in words:
                raise InputError(
                    f"'{word[:64]}' cannot name a reader: give each another word of letters, digits, dots and hyphens."
                )
            words.add(word.casefold())
        return {word: points.ordered_as(scheme.names) for word, points in readers.items()}

    def _subject(self, subject: str | None, known: CaseFiles | None) -> str | None:
        """The case that stands for the subject of a scan; None for the scan's own."""
        if subject is None:
            return None if known is None else known.revision().subject
        first = self.subject_of(self.case(subject))
        return None if known is not None and known.id == first else first

    def add_prepared(self, prepared: Path, content: ImageContent, revisions: Sequence[Revision]) -> Added:
        """Give a prepared case its place, or its reviews where the scan is known by now.

        Args:
            prepared: folder as `prepare_case` makes it; it may be missing where the scan is known.
            content: of its scan.
            revisions: its reviews, the oldest first; those that the case has already are left out.
        """
        (self.folder / CASES).mkdir(exist_ok=True)
        while True:
            case, free = self._find(content)
            if case is not None:
                return self._add_revisions(prepared.parent / "revision", case, revisions)
            if atomic_move(prepared, self.folder / CASES / free):
                return Added(free, len(revisions), True, True)

    def _add_revisions(self, staging: Path, case: CaseFiles, revisions: Sequence[Revision]) -> Added:
        """Add reviews to a case; another program may do the same at the same time.

        A single review is left out where the newest one says the same, several where any one does.
        """
        is_new = False
        for revision in revisions:
            if revision.subject == case.id:
                revision = replace(revision, subject=None)

            def prepare(folder: Path, revision: Revision = revision) -> bool:
                known = case.revisions()
                if any(revision.says_the_same(other) for other in (known[-1:] if len(revisions) == 1 else known)):
                    return False
                _write_revision(folder, revision)
                return True

            is_new = append_numbered(case.folder, staging, prepare) is not None or is_new
        return Added(case.id, max(case.revision_numbers()), False, is_new)

    def _find(self, content: ImageContent) -> tuple[CaseFiles | None, str]:
        """The case of a content, and the id for a new one."""
        for case in self._places(content):
            if not case.folder.exists():
                return None, case.id
            if case.content().same_image(content):
                return case, case.id
        raise InputError(f"These voxels are in the project at {MAX_OF_SAME_VOXELS} places already: remove some first.")

    def _places(self, content: ImageContent) -> Iterator[CaseFiles]:
        for number in range(1, MAX_OF_SAME_VOXELS + 1):
            name = content.case_id if number == 1 else f"{content.case_id}-{number}"
            yield CaseFiles(self.folder / CASES / name)


def create_project(folder: str | Path, scheme: LandmarkScheme) -> CaseProject:
    """Start a project.

    Args:
        folder: made where it does not exist.
        scheme: landmarks of all its cases.

    Raises:
        InputError: there is a project already, or the folder cannot be written to.
    """
    project = CaseProject(Path(folder))
    content = scheme_bytes(scheme)
    try:
        (project.folder / SCHEMES).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"The project '{folder}' cannot be made ({error.strerror}): choose another folder.", error
        ) from error
    with staging_folder(project.folder) as staging:
        (staging / "scheme").mkdir()
        (staging / "scheme" / SCHEME).write_bytes(content)
        if not atomic_move(staging / "scheme", project.folder / SCHEMES / numbered(1)):
            raise InputError(f"'{folder}' holds a project of cases already: use that one, or choose another folder.")
    return project


def open_project(folder: str | Path) -> CaseProject:
    """Open a project.

    Raises:
        InputError: the folder holds none.
    """
    project = CaseProject(Path(folder))
    project.schemes()
    return project


def read_index(project: CaseProject, rebuild: bool = False) -> list[CaseSummary]:
    """The index, brought up to date with the cases; damaged cases are left out with a warning.

    Args:
        project: whose cases are summed up.
        rebuild: read every case again, whatever the index says.
    """
    history = project.history()
    scheme = f"{history.newest.id}@{history.newest.version}"
    kept = {} if rebuild else {summary.id: summary for summary in _stored_index(project, scheme)}
    summaries = []
    for case in project.cases():
        try:
            newest = max(case.revision_numbers(), default=0)
            known = kept.get(case.id)
            summaries.append(known if known and known.revision == newest else _summary(project, case, history))
        except InputError as error:
            log.warning("%s", error)
    if rebuild or summaries != list(kept.values()):
        try:
            with atomic_write(project.folder / INDEX) as temporary:
                temporary.write_bytes(to_json(IndexRecord(2, scheme, tuple(summaries))))
        except OutputError as error:
            log.warning("%s The cases themselves are complete.", error)
    return summaries


def _stored_index(project: CaseProject, scheme: str) -> Sequence[CaseSummary]:
    """What the file says; nothing where it is missing, cannot be used, or is of another scheme."""
    try:
        record = build(IndexRecord, parse_json((project.folder / INDEX).read_bytes()))
    except (OSError, FormatError):
        return ()
    return record.cases if record.scheme == scheme else ()


def _summary(project: CaseProject, case: CaseFiles, history: SchemeHistory) -> CaseSummary:
    number = max(case.revision_numbers(), default=0)
    revision, grid = case.revision(number), case.content().grid
    return CaseSummary(
        case.id,
        number,
        project.subject_of(case),
        revision.time.strftime(TIME_FORMAT),
        None if revision.model is None else str(revision.model),
        "@".join(revision.scheme),
        grid.shape,
        tuple(round(float(x), 6) for x in grid.spacing),
        history.now(revision).counts(),
    )
