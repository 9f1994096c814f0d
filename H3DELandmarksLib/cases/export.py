"""Handing out points: sets of landmarks as files of a form, in a folder that appears when it is complete."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Protocol

from H3DELandmarksLib import __version__
from H3DELandmarksLib.cases.point_forms import POINT_FORMS
from H3DELandmarksLib.core.errors import InputError, OutputError
from H3DELandmarksLib.core.files import (
    TEMPORARY_PREFIX,
    atomic_write,
    cannot_write,
    remove_forgotten,
    restore_interrupted,
    shown,
)
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.core.measurements import Measurements
from H3DELandmarksLib.core.text import plural
from H3DELandmarksLib.evaluation.measures import measure, without_moved_radii
from H3DELandmarksLib.formats.case_record import utc_now
from H3DELandmarksLib.formats.export import (
    EXPORT,
    Coordinates,
    ExportedCase,
    ExportRecord,
    digests,
    is_incomplete,
    recorded_bytes,
)
from H3DELandmarksLib.formats.measurements import measurements_of_names
from H3DELandmarksLib.formats.reading import to_json
from H3DELandmarksLib.io.tables import write_measurements

log = logging.getLogger(__name__)
MEASUREMENT_TABLE = "measurements.csv"
WITHOUT_UNIT = ("fcsv", "table-wide", "tps", "nts", "morphologika", "morphoj")


@dataclass(frozen=True)
class OutgoingCase:
    """A case to hand out.

    Attributes:
        id: names its files.
        read: gives the scan.
        corrected: what people decided, unknown where nobody has; LPS mm, in the order of the scheme.
        proposed: what a model had said.
        record: where it comes from.
        readers: what several people marked, by a word for each, LPS mm.
        subject: id of the case that stands for the subject; None for the case itself.
    """

    id: str
    read: Callable[[], Volume]
    corrected: LandmarkSet
    proposed: LandmarkSet
    record: ExportedCase
    readers: Mapping[str, LandmarkSet] = field(default_factory=dict)
    subject: str | None = None


class FormWriter(Protocol):
    """Writes cases in a form into a new folder, one after the other.

    It is made from the names of the landmarks, in their order, the folder, and whether positions shall be RAS.
    """

    @property
    def coordinates(self) -> Coordinates:
        """Of what it writes."""

    @property
    def absent(self) -> str:
        """How it writes that a landmark is absent or undecided."""

    def add(self, case: OutgoingCase) -> None:
        """Write a case, or raise InputError before anything of it is written."""

    def close(self) -> None:
        """Write what belongs to all cases."""


@dataclass
class ExportSummary:
    """What an export did.

    Attributes:
        target: folder or file.
        written: ids of the cases.
        skipped: reasons by id of the cases that could not be exported.
    """

    target: Path
    written: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    def text(self) -> str:
        """One line."""
        left_out = f", {len(self.skipped)} left out" if self.skipped else ""
        return f"{plural(len(self.written), 'case')} written{left_out}: {shown(self.target)}"

    def skip(self, case: str, error: InputError) -> None:
        """Note that a case cannot be exported, with a warning."""
        self.skipped[case] = " ".join(str(error).split())
        log.warning("%s: left out. %s", case, self.skipped[case])

    def check(self) -> None:
        """Refuse an export without any case; raises InputError."""
        if not self.written:
            reason = next(iter(self.skipped.values()), "There are none.")
            raise InputError(f"No case can be exported. {reason}")


def export_points(
    cases: Sequence[OutgoingCase],
    names: Sequence[str],
    form: str,
    target: Path,
    scheme: str | None = None,
    overwrite: bool = False,
    is_ras: bool = False,
) -> ExportSummary:
    """Hand out landmarks that are in memory, such as those of a scene; see `export_cases`.

    What is measured on them follows from their names.

    Args:
        cases: with ids that can be names of files.
        names: of the landmarks, in the order of the files.
        form: a key of `POINT_FORMS`.
        target, overwrite, is_ras: as for `export_cases`.
        scheme: id@version of the landmarks, where they follow one.

    Raises:
        InputError, OutputError: as for `export_cases`.
    """
    given = ((case.id, lambda case=case: case) for case in cases)
    definitions = measurements_of_names(names)
    return export_sets(
        given, partial(POINT_FORMS[form], names, is_ras=is_ras), form, target, scheme, overwrite, definitions
    )


def export_sets(
    cases: Iterator[tuple[str, Callable[[], OutgoingCase]]],
    writer_of: Callable[[Path], FormWriter],
    form: str,
    target: Path,
    scheme: str | None,
    overwrite: bool = False,
    definitions: Measurements | None = None,
) -> ExportSummary:
    """Hand out cases that are made one at a time.

    Args:
        cases: ids, and what makes each case or raises InputError.
        writer_of: makes the writer for a folder.
        form: of the writer, for the record.
        target, overwrite: as for `export_cases`.
        scheme: id@version of the landmarks, where they follow one.
        definitions: what is measured on them, into a table beside.

    Raises:
        InputError, OutputError: as for `export_cases`.
    """
    summary, records, measured = ExportSummary(target), [], {}
    with _new_export(target, overwrite) as folder:
        writer = writer_of(folder)
        for name, make in cases:
            try:
                case = make()
                case = replace(case, corrected=without_moved_radii(case.corrected, case.proposed))
                writer.add(case)
            except OutputError:
                raise
            except InputError as error:
                summary.skip(name, error)
            else:
                summary.written.append(name)
                records.append(case.record)
                if definitions:
                    measured[name] = measure(case.corrected, definitions, pixels=case.record.unit == "px")
        summary.check()
        if form in WITHOUT_UNIT and len({record.unit for record in records}) > 1:
            log.warning(
                "Some cases are in pixels and others in mm, which the form '%s' does not tell: %s does.", form, EXPORT
            )
        writer.close()
        if measured:
            write_measurements(folder / MEASUREMENT_TABLE, measured)
        made = utc_now()
        about = (writer.coordinates, writer.absent, scheme, tuple(records), summary.skipped, digests(folder))
        record = ExportRecord(__version__, made, form, *about)
        (folder / EXPORT).write_bytes(to_json(record))
    return summary


@contextmanager
def _new_export(target: Path, overwrite: bool) -> Iterator[Path]:
    """A new folder that takes the place of `target` when it is complete; of several at once, one is the first.

    Raises:
        InputError: something is there that no export has left so.
        OutputError: it cannot be written.
    """
    restore_interrupted(target.parent)  # what a killed export has left aside
    before = recorded_bytes(target)

    def may_replace(old: Path) -> bool:
        if old.is_dir() and not any(old.iterdir()):
            return True
        return before is not None and recorded_bytes(old) == before and (overwrite or is_incomplete(old))

    try:
        if target.is_symlink() or (target.exists() and not target.is_dir()):
            raise InputError(f"'{shown(target)}' is there and no folder: choose another target.")
        if before is None and target.exists() and any(target.iterdir()):
            raise InputError(f"'{shown(target)}' is there and not an empty folder: choose another target.")
        if target.exists() and not may_replace(target):
            raise InputError(
                f"'{shown(target)}' holds an earlier export, or what somebody has made of it, and is kept: add "
                "--overwrite to replace it, or choose another target."
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_forgotten(path for path in target.parent.glob(f"{TEMPORARY_PREFIX}*") if path.name.endswith(target.name))
    except OSError as error:
        raise error if isinstance(error, InputError) else cannot_write(target, error) from error
    with atomic_write(target, may_replace=may_replace) as folder:
        folder.mkdir()
        yield folder
