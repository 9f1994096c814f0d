"""The files of one result take their places together, whatever stops the program that puts them there.

They are prepared in a hidden folder beside. Its folder ``old`` is made when everything new is complete; old tables and
pictures step aside into it, the point list takes its place, and the new table and picture follow. A point list that is
still in the hidden folder means that nothing has changed yet, and none that the new one has taken its place. So the
next program knows whether to take back or to complete what a killed one has begun.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from H3DELandmarksLib.core.errors import OutputError
from H3DELandmarksLib.core.files import (
    TEMPORARY_PREFIX,
    cannot_write,
    flush,
    flush_tree,
    held,
    remove_forgotten,
    temporary_name,
)
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.formats.export import sha256_of
from H3DELandmarksLib.formats.provenance import Provenance, write_provenance
from H3DELandmarksLib.formats.results import MeasurementResult
from H3DELandmarksLib.io.markups import read_markups, read_stamp, write_markups
from H3DELandmarksLib.io.tables import write_measurements, write_table

if TYPE_CHECKING:
    from H3DELandmarksLib.cohort.result_files import ResultFiles

# Entries of the stamp: digests.
TABLE, PROVENANCE, PICTURE, MEASUREMENTS = FOLLOWING = ("table", "provenance", "picture", "measurements")
PREPARED, OLD, LOCK = ".results", "old", "lock"


class Preparation:
    """New results in a hidden folder beside their places; a context that removes what is left of it."""

    def __init__(self, files: ResultFiles, folder: Path | None = None) -> None:
        """Args: whose results, and the folder that a killed program has left."""
        self.files = files
        self.folder = folder or files.folder / temporary_name(PREPARED)
        self.new = replace(files, folder=self.folder)
        self.lock = contextlib.ExitStack()

    @classmethod
    def recover(cls, files: ResultFiles) -> None:
        """Complete or take back what killed programs have left of these results."""
        folders = list(files.folder.glob(f"{TEMPORARY_PREFIX}*-{PREPARED}"))
        for left in (cls(files, folder) for folder in folders):
            if left.is_about_these_files and left._settle_if_left():
                shutil.rmtree(left.folder, ignore_errors=True)
        remove_forgotten(folder for folder in folders if not cls(files, folder).names)

    @property
    def names(self) -> set[str]:
        """Names of the files in it."""
        there: list[Path] = []
        for folder in (self.folder, self.folder / OLD):
            with contextlib.suppress(OSError):  # another scan's, which is finished by now
                there += folder.iterdir()
        return {path.name for path in there} - {LOCK, OLD}

    @property
    def is_about_these_files(self) -> bool:
        """Whether the folder holds files of these results."""
        return bool(self.names & {path.name for path in (self.new.markups, *self.new.others)})

    def __enter__(self) -> Preparation:
        try:
            self.folder.mkdir()
            self.lock.enter_context(held(self.folder / LOCK))
        except OSError as error:
            self.__exit__()
            raise cannot_write(self.files.markups, error) from error
        return self

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(OSError):
            self._settle()
        self.lock.close()  # first: Windows removes no open file
        shutil.rmtree(self.folder, ignore_errors=True)

    def fill(
        self,
        landmarks: LandmarkSet,
        origin: Mapping[str, str],
        draw: Callable[[Path], None] | None,
        provenance: Provenance | None = None,
        measurements: Sequence[MeasurementResult] = (),
    ) -> Exception | None:
        """Write everything and read it back; returns why there is no picture, where there shall be one."""
        not_drawn, new = None, self.new
        try:
            if draw is not None:
                try:
                    draw(new.picture)
                except Exception as error:
                    not_drawn = error
                    new.picture.unlink(missing_ok=True)
            write_table(new.table, landmarks, provenance)
            if provenance is not None:
                write_provenance(new.provenance, provenance)
            if measurements:
                write_measurements(new.measurements, {new.name: measurements})
            written = dict(zip(FOLLOWING, new.others))
            stamp = {entry: sha256_of(path) for entry, path in written.items() if path.exists()}
            unit = provenance.unit if provenance else "mm"
            write_markups(new.markups, landmarks, {**stamp, **origin}, unit=unit)
            if read_stamp(new.markups) is None or read_markups(new.markups).names != landmarks.names:
                raise OSError("it is not what was written")
            flush_tree(self.folder)
        except OSError as error:
            raise _about(self.files, error) from error
        return not_drawn

    def take_place(self, going: Sequence[Path]) -> None:
        """Put the new files in place of the old ones.

        Args:
            going: tables and pictures that step aside.
        """
        files = self.files
        try:
            (self.folder / OLD).mkdir()
            for path in going:
                os.replace(path, self.folder / OLD / path.name)
            os.replace(self.new.markups, files.markups)
            self._settle()
            flush(files.folder)
        except OSError as error:
            raise _about(files, error) from error

    def _settle_if_left(self) -> bool:
        """Settle what nobody works on any more; returns whether that is so."""
        try:
            with held(self.folder / LOCK) as is_left:
                if is_left:
                    self._settle()
                return is_left
        except OSError:
            return False

    def _settle(self) -> None:
        """Finish what was begun, or take it back; may be repeated."""
        files, old = self.files, self.folder / OLD
        if not old.is_dir():
            return
        if self.new.markups.exists():
            for path in files.others:
                if (old / path.name).exists() and not os.path.lexists(path):
                    os.replace(old / path.name, path)
            return
        stamp = read_stamp(files.markups) or {}
        for new, entry in zip(self.new.others, FOLLOWING):
            path = files.folder / new.name
            if new.exists() and sha256_of(new) == stamp.get(entry) and not os.path.lexists(path):
                os.replace(new, path)


def _about(files: ResultFiles, error: OSError) -> OutputError:
    """The sentence, about the results and not about files that nobody has seen."""
    reason = error if error.errno else error.__cause__ if isinstance(error.__cause__, OSError) else error
    return cannot_write(files.markups, reason)
