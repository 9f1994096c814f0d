"""A project folder: one scheme, many cases, nothing ever overwritten."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from H3DELandmarksLib import __version__
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.files import TEMPORARY_PREFIX, flush, remove_forgotten, replaced_when_complete, take_place
from H3DELandmarksLib.core.geometry import Grid, Volume, canonical
from H3DELandmarksLib.core.landmarks import LandmarkScheme
from H3DELandmarksLib.formats import strict_json as strict
from H3DELandmarksLib.formats.case_record import CASE_ID, CaseLandmark, ModelName, Revision, complete
from H3DELandmarksLib.formats.schemes import SchemeHistory, SchemeStep, read_scheme_bytes, scheme_bytes
from H3DELandmarksLib.io.images import read_volume, write_volume

ASIDE = f"{TEMPORARY_PREFIX}incoming"


@contextmanager
def folder_aside(project: Path) -> Iterator[Path]:
    """A new folder to prepare what will be added; removed at the end with whatever is left in it.

    Raises:
        InputError: something in the block could not be written.
    """
    aside = project / ASIDE / uuid4().hex
    try:
        aside.mkdir(parents=True)
        remove_forgotten([*aside.parent.iterdir(), *project.glob(f"{TEMPORARY_PREFIX}*-*")])
        yield aside
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(
            f"The project '{project}' cannot be written to ({reason}): check the permission and the free space; "
            "what was complete before is unchanged."
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def write_file(path: Path, content: bytes) -> None:
    """Write a small file that takes the place of an older one when it is complete."""
    with replaced_when_complete(path) as temporary:
        temporary.write_bytes(content)
        flush(temporary)


MOST_VOXELS = 2**31
SAME_PLACE = 0.05  # voxels; NIfTI keeps positions to about seven digits
_FIELDS = ("format_version", "voxels_sha256", "shape", "affine")


@dataclass(frozen=True)
class ImageContent:
    """Values and place of a scan, its axes in the order closest to L, P, S.

    Attributes:
        digest: SHA-256 of shape and values, whatever number type and axis order they were stored in.
        grid: where the voxels lie.
    """

    digest: str
    grid: Grid

    @property
    def case_id(self) -> str:
        """Id of the first case with these voxels; other cases with the same voxels elsewhere get a number behind."""
        return f"case-{self.digest[:16]}"

    def same_voxels(self, other: ImageContent) -> bool:
        """Whether the values are the same."""
        return self.digest == other.digest

    def same_image(self, other: ImageContent) -> bool:
        """Whether values and place are the same."""
        if not self.same_voxels(other) or self.grid.shape != other.grid.shape:
            return False
        corners = np.array(np.meshgrid(*([0, n - 1] for n in self.grid.shape), indexing="ij")).reshape(3, -1).T
        apart = self.grid.lps_from_ijk(corners) - other.grid.lps_from_ijk(corners)
        return bool(np.linalg.norm(apart, axis=1).max() <= SAME_PLACE * self.grid.spacing.min())

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {
            "format_version": 1,
            "voxels_sha256": self.digest,
            "shape": list(self.grid.shape),
            "affine": self.grid.affine.tolist(),
        }

    @classmethod
    def from_dict(cls, data: Any) -> ImageContent:
        """Read the form written by `to_dict`; raises Malformed."""
        entry = strict.fields(data, _FIELDS)
        digest = strict.text(entry["voxels_sha256"], 64)
        if entry["format_version"] != 1 or len(digest) != 64 or set(digest) - set("0123456789abcdef"):
            raise strict.Malformed("another format")
        shape = tuple(strict.whole(size, 1, 2**16) for size in strict.listed(entry["shape"], 3))
        if len(shape) != 3 or np.prod(shape, dtype=np.float64) > MOST_VOXELS:
            raise strict.Malformed("no size of a scan")
        try:
            return cls(digest, Grid(strict.matrix(entry["affine"]), shape))
        except InputError as error:
            raise strict.Malformed("no geometry") from error


def content_of(volume: Volume) -> ImageContent:
    """The content of a scan; a scan that is flipped or stored in another number type has the same."""
    ordered = canonical(volume)
    digest = hashlib.sha256(np.array(ordered.array.shape, dtype="<i8").tobytes())
    for plane in np.moveaxis(ordered.array, -1, 0):
        digest.update(np.ascontiguousarray(plane, dtype="<f8") + 0.0)  # adding 0 makes -0 and 0 the same
    return ImageContent(digest.hexdigest(), ordered.grid)


IMAGE, CONTENT, REVISION = "image.nrrd", "image.json", "revision.json"
NUMBERED = re.compile(r"[0-9]{6}")


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
        try:
            return ImageContent.from_dict(strict.load(self.folder / CONTENT))
        except (OSError, strict.Malformed) as error:
            raise self._damaged(error) from error

    def volume(self) -> Volume:
        """The scan.

        Raises:
            InputError: it is damaged.
        """
        return read_volume(self.image)

    def revision_numbers(self) -> list[int]:
        """Numbers of all reviews, the oldest first."""
        return sorted(int(path.name) for path in self.folder.iterdir() if NUMBERED.fullmatch(path.name))

    def revision(self, number: int | None = None) -> Revision:
        """One review; the newest when no number is given.

        Raises:
            InputError: it is not there, or damaged.
        """
        try:
            number = max(self.revision_numbers()) if number is None else number
            return Revision.from_dict(strict.load(self.folder / numbered(number) / REVISION))
        except (OSError, ValueError) as error:
            raise self._damaged(error) from error

    def revisions(self) -> list[Revision]:
        """All reviews, the oldest first."""
        return [self.revision(number) for number in self.revision_numbers()]

    def _damaged(self, error: Exception) -> InputError:
        return InputError(f"The case '{self.folder}' is damaged ({error}): restore it from a backup, or move it away.")


def numbered(number: int) -> str:
    """Name of the folder of a revision or scheme."""
    return f"{number:06d}"


def prepare_case(folder: Path, volume: Volume, content: ImageContent, revisions: list[Revision]) -> None:
    """Write everything that belongs to a new case into a new folder, and read the scan back to be sure of it.

    Raises:
        OSError: the folder cannot be written to, or did not keep every voxel.
        InputError: the scan cannot be written.
    """
    folder.mkdir()
    write_volume(folder / IMAGE, volume)
    if not content_of(read_volume(folder / IMAGE)).same_image(content):
        raise OSError(0, "the scan was not kept exactly")
    (folder / CONTENT).write_bytes(strict.dump(content.to_dict()))
    for number, revision in enumerate(revisions, 1):
        prepare_revision(folder / numbered(number), revision)


def prepare_revision(folder: Path, revision: Revision) -> None:
    """Write a review into a new folder, which replaces what was prepared there before."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / REVISION).write_bytes(strict.dump(revision.to_dict()))


SCHEMES, CASES, SCHEME, MIGRATION = "schemes", "cases", "scheme.json", "migration.json"
MOST_OF_SAME_VOXELS = 9


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
            names = sorted(p.name for p in (self.folder / SCHEMES).iterdir() if NUMBERED.fullmatch(p.name))
        except OSError:
            names = []
        if not names:
            raise InputError(
                f"'{self.folder}' holds no project of cases: choose another folder, or start a project there."
            )
        places = [self.folder / SCHEMES / name for name in names]
        try:
            return SchemeHistory(
                tuple(read_scheme_bytes((place / SCHEME).read_bytes()) for place in places),
                tuple(SchemeStep.from_bytes((place / MIGRATION).read_bytes()) for place in places[1:]),
            )
        except (OSError, strict.Malformed) as error:
            raise InputError(f"The project '{self.folder}' has a damaged scheme: restore it from a backup.") from error

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
    ) -> Added:
        """Keep one review: a new case, or a new revision where the scan is known already.

        Args:
            volume: the scan as it was loaded.
            landmarks: those of the scheme; any that are not given are unknown.
            model: which model proposed them.
            subject: id of another case of the same subject; by default what the newest review of the scan says.
            time: of the review; now by default.

        Raises:
            InputError: a landmark is not of the scheme, or the project cannot be written to; nothing has changed then.
        """
        scheme = self.scheme
        content = content_of(volume)
        known = self._find(content)[0]
        subject = self._subject(subject, known)
        now = (time or datetime.now(timezone.utc)).replace(microsecond=0)
        revision = Revision(complete(scheme, landmarks), (scheme.id, scheme.version), model, __version__, now, subject)
        with folder_aside(self.folder) as aside:
            if known is None:
                prepare_case(aside / "case", volume, content, [revision])
            return self.add_prepared(aside / "case", content, [revision])

    def _subject(self, subject: str | None, known: CaseFiles | None) -> str | None:
        """The case that stands for the subject of a scan; None for the scan's own."""
        if subject is None:
            return None if known is None else known.revision().subject
        first = self.case(subject).revision().subject or subject
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
            if take_place(prepared, self.folder / CASES / free):
                return Added(free, len(revisions), True, True)

    def _add_revisions(self, aside: Path, case: CaseFiles, revisions: Sequence[Revision]) -> Added:
        """Add reviews to a case; another program may do the same at the same time."""
        added = False
        for revision in revisions:
            if revision.subject == case.id:
                revision = replace(revision, subject=None)
            while True:
                last = max(case.revision_numbers(), default=0)
                known = case.revisions()
                told = known[-1:] if len(revisions) == 1 else known
                if any(revision.says_the_same(other) for other in told):
                    break
                prepare_revision(aside, revision)
                if take_place(aside, case.folder / numbered(last + 1)):
                    added = True
                    break
        return Added(case.id, max(case.revision_numbers()), False, added)

    def _find(self, content: ImageContent) -> tuple[CaseFiles | None, str]:
        """The case of a content, and the id for a new one."""
        for case in self._places(content):
            if not case.folder.exists():
                return None, case.id
            if case.content().same_image(content):
                return case, case.id
        raise InputError(f"These voxels are in the project at {MOST_OF_SAME_VOXELS} places already: remove some first.")

    def _places(self, content: ImageContent) -> Iterator[CaseFiles]:
        for number in range(1, MOST_OF_SAME_VOXELS + 1):
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
        raise InputError(f"The project '{folder}' cannot be made ({error.strerror}): choose another folder.") from error
    with folder_aside(project.folder) as aside:
        (aside / "scheme").mkdir()
        (aside / "scheme" / SCHEME).write_bytes(content)
        if not take_place(aside / "scheme", project.folder / SCHEMES / numbered(1)):
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
