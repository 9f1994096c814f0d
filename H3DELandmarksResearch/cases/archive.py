"""All cases as one zip file that another site can add to its own.

An archive is trusted in nothing: names, sizes, checksums, every field of every record and every voxel are checked
before the first case takes its place, and scans and records are written anew, so that nothing else comes along.
"""

from __future__ import annotations

import hashlib
import math
import re
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from H3DELandmarksLib.cases.export import ExportSummary
from H3DELandmarksLib.cases.store import (
    CONTENT,
    IMAGE,
    MIGRATION,
    REVISION,
    SCHEME,
    SCHEMES,
    CaseFiles,
    CaseProject,
    content_of,
    numbered,
    prepare_case,
    staging_folder,
)
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.execution import Progress
from H3DELandmarksLib.core.files import atomic_write, refuse_existing
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkScheme
from H3DELandmarksLib.formats.case_record import ImageContent, ImageRecord, Revision, RevisionRecord
from H3DELandmarksLib.formats.reading import build, parse_json, to_json
from H3DELandmarksLib.formats.schemes import SchemeHistory, SchemeStep, read_scheme_bytes, scheme_bytes
from H3DELandmarksLib.formats.untrusted_zip import (
    DAMAGED,
    ArchiveManifest,
    PackedFile,
    checked_entries,
    content_of_entry,
    extract,
    read_manifest,
    refused,
)
from H3DELandmarksLib.io.images import read_volume
from H3DELandmarksResearch.cases.exchange import ImportSummary

MANIFEST = "manifest.json"
FORMAT, FORMAT_VERSION = "h3delandmarks-archive", 1
_CASE_FILE = re.compile(r"cases/(case-[0-9a-f]{16}(?:-[2-9])?)/(?:image\.nrrd|image\.json|([0-9]{6})/revision\.json)")
_SCHEME_FILE = re.compile(r"schemes/([0-9]{6})/(?:scheme|migration)\.json")

MAX_HEADER_BYTES, MAX_SCAN_BYTES = 4096, 8 * 2**30
BYTES_PER_VOXEL = 8  # at most
# The header of an exported scan has these fields and no others, least of all "data file".
HEADER_FIELDS = frozenset(
    ("type", "dimension", "space", "sizes", "space directions", "kinds", "endian", "encoding", "space origin")
)


def read_untrusted_nrrd(path: Path, shape: tuple[int, ...]) -> Volume:
    """Read a scan that another site wrote.

    Args:
        path: NRRD file.
        shape: voxels along its axes, in any order, as its record says.

    Raises:
        InputError: its header names other files, keys or sizes, or it is damaged.
    """
    header = _header(path)
    try:
        sizes = [int(size) for size in header["sizes"].split()]
    except (KeyError, ValueError) as error:
        raise InputError(f"'{path}' has a header without sizes: export it again.") from error
    if sorted(sizes) != sorted(shape) or math.prod(sizes) * BYTES_PER_VOXEL > MAX_SCAN_BYTES:
        raise InputError(f"'{path}' has another size than its record says, or is too large: export it again.")
    return read_volume(path, as_stored=True)


def _header(path: Path) -> dict[str, str]:
    """The fields of the header; fields that no export writes are refused, comments are skipped."""
    with path.open("rb") as file:
        start = file.read(MAX_HEADER_BYTES)
    text, end, _ = start.partition(b"\n\n")
    lines = text.decode("ascii", errors="replace").splitlines()
    if not end or not lines or not lines[0].startswith("NRRD000"):
        raise InputError(f"'{path}' has no header of an exported scan: export it again.")
    fields = {}
    for line in lines[1:]:
        if line.startswith("#"):
            continue
        name, colon, value = line.partition(": ")
        if not colon or name not in HEADER_FIELDS or name in fields:
            raise InputError(f"'{path}' has a header with other fields than an exported scan: export it again.")
        fields[name] = value
    return fields


def scheme_files(history: SchemeHistory) -> dict[str, bytes]:
    """What an archive holds of a scheme: the newest version, and where it has changed also how it became that."""
    files = {SCHEME: scheme_bytes(history.newest)}
    if history.steps:
        for number, scheme in enumerate(history.schemes, 1):
            files[f"{SCHEMES}/{numbered(number)}/{SCHEME}"] = scheme_bytes(scheme)
        for number, step in enumerate(history.steps, 2):
            files[f"{SCHEMES}/{numbered(number)}/{MIGRATION}"] = step.to_bytes()
    return files


def read_schemes(
    path: Path, archive: zipfile.ZipFile, entries: Mapping[str, zipfile.ZipInfo], files: Mapping[str, PackedFile]
) -> SchemeHistory:
    """The scheme of an archive with the versions that it has had.

    Args:
        path: of the archive, for messages.
        archive: opened.
        entries: its files, checked.
        files: what its manifest says of them.

    Raises:
        InputError, FormatError: a version is missing, was changed or is damaged.
    """

    def content(name: str) -> bytes:
        if name not in entries:
            raise refused(path, "the versions of its scheme are not complete")
        found = content_of_entry(archive, entries[name])
        if hashlib.sha256(found).hexdigest() != files[name].sha256:
            raise refused(path, "a file in it was changed")
        return found

    newest = read_scheme_bytes(content(SCHEME))
    places = sorted({f"{SCHEMES}/{match[1]}" for name in files if (match := _SCHEME_FILE.fullmatch(name))})
    schemes = tuple(read_scheme_bytes(content(f"{place}/{SCHEME}")) for place in places) or (newest,)
    if schemes[-1] != newest:
        raise refused(path, "the versions of its scheme are not complete")
    return SchemeHistory(schemes, tuple(SchemeStep.from_bytes(content(f"{p}/{MIGRATION}")) for p in places[1:]))


@dataclass(frozen=True)
class _Incoming:
    """A case of an archive that is checked and prepared."""

    folder: Path
    content: ImageContent
    revisions: list[Revision]


def write_archive(project: CaseProject, path: Path, progress: Progress, overwrite: bool = False) -> ExportSummary:
    """Write all cases with all their revisions; a damaged one is left out with its reason.

    Args:
        project: whose cases.
        path: zip file; of several programs that write it at once, one is the first.
        progress: receives the fraction done and the id of the case at hand.
        overwrite: whether a file that is there may be replaced.

    Raises:
        InputError: there is no case that can be exported, or the file is there already.
        OutputError: it cannot be written.
    """
    cases, summary = project.cases(), ExportSummary(path)
    if not cases:
        raise InputError(f"The project '{project.folder}' has no cases yet: add some first.")
    refuse_existing(path, overwrite=overwrite)
    files: dict[str, PackedFile] = {}
    with atomic_write(path, may_replace=lambda old: overwrite) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        history = project.history()
        for name, content in scheme_files(history).items():
            _put(archive, files, name, content)
        for number, case in enumerate(cases):
            progress(number / len(cases), case.id)
            try:
                packed = _packed_case(case, history)
            except InputError as error:
                summary.skip(case.id, error)
                continue
            for name, content in packed.items():
                _put(archive, files, name, content)
            summary.written.append(case.id)
        summary.check()
        manifest = ArchiveManifest(FORMAT, FORMAT_VERSION, files)
        archive.writestr(zipfile.ZipInfo(MANIFEST), to_json(manifest))
    progress(1.0, "done")
    return summary


def add_archive(project: CaseProject, path: Path, progress: Progress) -> ImportSummary:
    """Add the cases of an archive to a project: all of them, or none where anything is wrong.

    Raises:
        InputError: the archive cannot be used, or the project cannot be written to.
    """
    summary = ImportSummary()
    try:
        with zipfile.ZipFile(path) as archive, staging_folder(project.folder) as staging:
            incoming = _checked(project, path, archive, staging, progress)
            for case in incoming:
                summary.count(project.add_prepared(case.folder, case.content, case.revisions))
    except DAMAGED as error:
        raise refused(path, f"it is damaged or was changed ({error})") from error
    except FileNotFoundError as error:
        raise InputError(f"'{path}' does not exist: check the path.") from error
    progress(1.0, "done")
    return summary


def _packed_case(case: CaseFiles, history: SchemeHistory) -> dict[str, bytes]:
    """What belongs to a case, records in the form that this version writes; raises InputError where it is damaged.

    That is also where no project would take the archive for it: one such case would keep all others out.
    """
    place, content, reviews = f"cases/{case.id}", case.content(), case.revision_numbers()
    if not reviews or not case.id.startswith(content.case_id):
        what = "is called as the case of another scan" if reviews else "has no review"
        raise InputError(f"The case '{case.folder}' {what}: restore it from a backup, or move it away.")
    packed = {f"{place}/{CONTENT}": to_json(content.to_record())}
    for number in reviews:
        revision = case.revision(number)
        if not history.knows(revision):
            raise InputError(
                f"Review {number} of the case '{case.folder}' has other landmarks than each version of the project's "
                "scheme: restore the case, or the project's folder 'schemes', from a backup."
            )
        packed[f"{place}/{numbered(number)}/{REVISION}"] = to_json(revision.to_record())
    case.volume()  # refuses a scan that cannot be read or was changed
    try:
        packed[f"{place}/{IMAGE}"] = case.image.read_bytes()
    except OSError as error:
        raise InputError(f"The scan of '{case.id}' cannot be read ({error.strerror}).") from error
    return packed


def _put(archive: zipfile.ZipFile, files: dict[str, PackedFile], name: str, content: bytes) -> None:
    """Add a file under a fixed date; scans are compressed already."""
    archive.writestr(zipfile.ZipInfo(name), content)
    files[name] = PackedFile.of(content)


def _checked(
    project: CaseProject, path: Path, archive: zipfile.ZipFile, staging: Path, progress: Progress
) -> list[_Incoming]:
    """Every case of the archive, checked and prepared beside the project's own."""
    entries = checked_entries(path, archive, _may_hold, {MANIFEST, SCHEME}, "cases export")
    needed, free = sum(entry.file_size for entry in entries.values()), shutil.disk_usage(project.folder).free
    if 2 * needed > free:
        raise refused(path, f"it needs {2 * needed / 2**30:.1f} GB of free space, but {free / 2**30:.1f} are left")
    files = read_manifest(path, archive, entries, MANIFEST, (FORMAT, FORMAT_VERSION)).files
    history, their_history = project.history(), read_schemes(path, archive, entries, files)
    _check_same_scheme(path, history, their_history.newest)
    names_by_case: dict[str, list[str]] = {}
    for name in sorted(files):
        if match := _CASE_FILE.fullmatch(name):
            names_by_case.setdefault(match[1], []).append(name)
    incoming = []
    for number, (case, names) in enumerate(names_by_case.items()):
        progress(number / len(names_by_case), case)
        for name in names:
            extract(path, archive, entries[name], files[name], staging / "raw" / name)
        incoming.append(_prepared(path, staging, case, history, their_history))
        shutil.rmtree(staging / "raw")
    if len({(case.content.digest, case.content.grid.affine.tobytes()) for case in incoming}) != len(incoming):
        raise refused(path, "it holds a scan twice")
    return incoming


def _check_same_scheme(path: Path, history: SchemeHistory, theirs: LandmarkScheme) -> None:
    """Refuse an archive whose newest scheme is none of the project's; definitions may have other words."""
    mine = {(scheme.id, scheme.version): scheme for scheme in history.schemes}.get((theirs.id, theirs.version))
    if mine is None:
        raise refused(path, f"its scheme is '{theirs.id}' {theirs.version}, not one of this project")
    if (mine.names, mine.pairs, mine.lateral) != (theirs.names, theirs.pairs, theirs.lateral):
        differing = f"its scheme '{theirs.id}' {theirs.version} has other landmarks or pairs than this project's"
        raise refused(path, differing)


def _may_hold(name: str) -> bool:
    return name in (MANIFEST, SCHEME) or any(form.fullmatch(name) for form in (_CASE_FILE, _SCHEME_FILE))


def _prepared(path: Path, staging: Path, name: str, mine: SchemeHistory, theirs: SchemeHistory) -> _Incoming:
    """Check one extracted case and write it anew."""
    raw = CaseFiles(staging / "raw" / "cases" / name)
    if not (raw.image.is_file() and (raw.folder / CONTENT).is_file() and raw.revision_numbers()):
        raise refused(path, f"'{name}' in it is not complete")
    content = ImageContent.from_record(build(ImageRecord, parse_json((raw.folder / CONTENT).read_bytes())))
    revisions = []
    for number in raw.revision_numbers():
        record = build(RevisionRecord, parse_json((raw.folder / numbered(number) / REVISION).read_bytes()))
        revision = Revision.from_record(record)
        is_theirs_alone = theirs.knows(revision) and not mine.knows(revision)
        revisions.append(theirs.now(revision) if is_theirs_alone else revision)
    for revision in revisions:
        if not mine.knows(revision):
            raise refused(path, f"a review of '{name}' follows another scheme than this project")
    try:
        volume = read_untrusted_nrrd(raw.image, content.grid.shape)
        is_same = content_of(volume).same_image(content)
    except InputError as error:
        raise refused(path, f"the scan of '{name}' in it cannot be used") from error
    if not is_same or not name.startswith(content.case_id):
        raise refused(path, f"the scan of '{name}' in it is another one than its record says")
    prepare_case(staging / name, volume, content, revisions)
    return _Incoming(staging / name, content, revisions)
