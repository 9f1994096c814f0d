"""One case in a project's folder: its scan, what that contains, and its revisions."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from H3DELandmarksLib.cohort import strict_json as strict
from H3DELandmarksLib.cohort.content import ImageContent, content_of
from H3DELandmarksLib.cohort.record import Revision
from H3DELandmarksLib.errors import InputError
from H3DELandmarksLib.geometry import Volume
from H3DELandmarksLib.volume_io import read_volume, write_volume

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
