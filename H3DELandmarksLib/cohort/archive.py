"""A project's cases as one zip file that another site can add to its own project.

An archive is trusted in nothing: names, sizes, checksums, every field of every record and every voxel are checked
before the first case takes its place, and scans and records are written anew, so that nothing else comes along.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import stat
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from H3DELandmarksLib.cohort import strict_json as strict
from H3DELandmarksLib.cohort.archive_image import read_foreign_nrrd
from H3DELandmarksLib.cohort.case_files import CONTENT, IMAGE, REVISION, CaseFiles, numbered, prepare_case
from H3DELandmarksLib.cohort.content import ImageContent, content_of
from H3DELandmarksLib.cohort.exchange import ImportSummary, Progress
from H3DELandmarksLib.cohort.project import CaseProject
from H3DELandmarksLib.cohort.record import Revision
from H3DELandmarksLib.cohort.scheme_file import read_scheme_bytes, scheme_bytes
from H3DELandmarksLib.cohort.storage import folder_aside
from H3DELandmarksLib.errors import InputError
from H3DELandmarksLib.files import replaced_when_complete

MANIFEST, SCHEME = "manifest.json", "scheme.json"
FORMAT, FORMAT_VERSION = "h3delandmarks-archive", 1
MOST_FILES, LARGEST_FILE = 100_000, 8 * 2**30
MOST_EXPANSION, HARMLESS = 200, 2**20
_CASE_FILE = re.compile(r"cases/(case-[0-9a-f]{16}(?:-[2-9])?)/(?:image\.nrrd|image\.json|([0-9]{6})/revision\.json)")
_PIECE = 2**20


@dataclass(frozen=True)
class _Incoming:
    """A case of an archive that is checked and prepared."""

    folder: Path
    content: ImageContent
    revisions: list[Revision]


def write_archive(project: CaseProject, path: Path, progress: Progress) -> int:
    """Write all cases with all their revisions; returns how many cases.

    Raises:
        InputError: there is no case, the file is there already or cannot be written, or a case is damaged.
    """
    cases = project.cases()
    if not cases:
        raise InputError(f"The project '{project.folder}' has no cases yet: add some first.")
    if path.exists():
        raise InputError(f"'{path}' is there already: choose another name.")
    files: dict[str, dict[str, Any]] = {}
    try:
        with replaced_when_complete(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            _put(archive, files, SCHEME, scheme_bytes(project.scheme))
            for number, case in enumerate(cases):
                progress(number / len(cases), case.id)
                _put_case(archive, files, case)
            content = {"format": FORMAT, "format_version": FORMAT_VERSION, "files": files}
            archive.writestr(zipfile.ZipInfo(MANIFEST), strict.dump(content))
    except OSError as error:
        raise InputError(f"'{path}' cannot be written ({error.strerror}): check the folder and its space.") from error
    progress(1.0, "done")
    return len(cases)


def add_archive(project: CaseProject, path: Path, progress: Progress) -> ImportSummary:
    """Add the cases of an archive to a project: all of them, or none where anything is wrong.

    Raises:
        InputError: the archive cannot be used, or the project cannot be written to.
    """
    summary = ImportSummary()
    try:
        with zipfile.ZipFile(path) as archive, folder_aside(project.folder) as aside:
            incoming = _checked(project, path, archive, aside, progress)
            for case in incoming:
                summary.count(project.add_prepared(case.folder, case.content, case.revisions))
    except (zipfile.BadZipFile, zipfile.LargeZipFile, strict.Malformed, NotImplementedError, EOFError) as error:
        raise _refused(path, f"it is damaged or was changed ({error})") from error
    except FileNotFoundError as error:
        raise InputError(f"'{path}' does not exist: check the path.") from error
    progress(1.0, "done")
    return summary


def _put_case(archive: zipfile.ZipFile, files: dict[str, dict[str, Any]], case: CaseFiles) -> None:
    """Add what belongs to a case, records in the form that this version writes."""
    place = f"cases/{case.id}"
    _put(archive, files, f"{place}/{CONTENT}", strict.dump(case.content().to_dict()))
    for number, revision in zip(case.revision_numbers(), case.revisions()):
        _put(archive, files, f"{place}/{numbered(number)}/{REVISION}", strict.dump(revision.to_dict()))
    _put(archive, files, f"{place}/{IMAGE}", case.image.read_bytes())


def _put(archive: zipfile.ZipFile, files: dict[str, dict[str, Any]], name: str, content: bytes) -> None:
    """Add a file under a fixed date; scans are compressed already."""
    archive.writestr(zipfile.ZipInfo(name), content)
    files[name] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _checked(
    project: CaseProject, path: Path, archive: zipfile.ZipFile, aside: Path, progress: Progress
) -> list[_Incoming]:
    """Every case of the archive, checked and prepared beside the project's own."""
    entries = _entries(path, archive)
    needed, free = sum(entry.file_size for entry in entries.values()), shutil.disk_usage(project.folder).free
    if 2 * needed > free:
        raise _refused(path, f"it needs {2 * needed / 2**30:.1f} GB of free space, but {free / 2**30:.1f} are left")
    scheme_content = _content(archive, entries[SCHEME])
    schemes = {(scheme.id, scheme.version): scheme for scheme in project.schemes()}
    theirs = read_scheme_bytes(scheme_content)
    mine = schemes.get((theirs.id, theirs.version))
    if mine is None or (mine.names, mine.pairs, mine.lateral) != (theirs.names, theirs.pairs, theirs.lateral):
        raise _refused(path, f"its scheme is '{theirs.id}' {theirs.version}, not one of this project")
    files = _manifest(path, archive, entries)
    places: dict[str, list[str]] = {}
    for name in sorted(set(files) - {SCHEME}):
        places.setdefault(_CASE_FILE.fullmatch(name)[1], []).append(name)
    incoming = []
    for number, (case, names) in enumerate(places.items()):
        progress(number / len(places), case)
        for name in names:
            _extract(path, archive, entries[name], files[name], aside / "raw" / name)
        incoming.append(_prepared(path, aside, case, schemes))
        shutil.rmtree(aside / "raw")
    if len({(case.content.digest, case.content.grid.affine.tobytes()) for case in incoming}) != len(incoming):
        raise _refused(path, "it holds a scan twice")
    return incoming


def _entries(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The files of the archive by name, refused where a name or size is not one that an export gives."""
    entries = archive.infolist()
    if len(entries) > MOST_FILES:
        raise _refused(path, "it holds too many files")
    for entry in entries:
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if entry.filename not in (MANIFEST, SCHEME) and not _CASE_FILE.fullmatch(entry.filename):
            raise _refused(path, "it holds a file that no export writes")
        if kind not in (0, stat.S_IFREG) or entry.flag_bits & 1:
            raise _refused(path, "it holds a link or an encrypted file")
        expansion = entry.file_size / max(entry.compress_size, 1)
        if entry.file_size > LARGEST_FILE or (entry.file_size > HARMLESS and expansion > MOST_EXPANSION):
            raise _refused(path, "a file in it is far too large")
    by_name = {entry.filename: entry for entry in entries}
    if len(by_name) != len(entries):
        raise _refused(path, "it holds a file twice")
    if not {MANIFEST, SCHEME} <= set(by_name):
        raise _refused(path, "it was not written by 'cases export'")
    return by_name


def _manifest(path: Path, archive: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo]) -> dict[str, dict[str, Any]]:
    """Size and checksum of every file but the manifest."""
    names = ("format", "format_version", "files")
    content = strict.fields(strict.parse(_content(archive, entries[MANIFEST])), names)
    if content["format"] != FORMAT or content["format_version"] != FORMAT_VERSION:
        raise _refused(path, "it is of another version: update this software")
    files = content["files"]
    if not isinstance(files, dict) or set(files) != set(entries) - {MANIFEST}:
        raise _refused(path, "its files are not those that its manifest names")
    for name, entry in files.items():
        fields = strict.fields(entry, ("size", "sha256"))
        if strict.whole(fields["size"], 0, LARGEST_FILE) != entries[name].file_size:
            raise _refused(path, "a file in it has another size than its manifest says")
    return files


def _content(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    if entry.file_size > strict.LARGEST:
        raise strict.Malformed("too large")
    return archive.read(entry)


def _extract(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, said: dict[str, Any], target: Path) -> None:
    """Write one file aside; its checksum must be right."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with archive.open(entry) as source, target.open("wb") as file:
        while piece := source.read(_PIECE):
            digest.update(piece)
            file.write(piece)
    if digest.hexdigest() != said["sha256"]:
        raise _refused(path, "a file in it was changed")


def _prepared(path: Path, aside: Path, name: str, schemes: dict) -> _Incoming:
    """Check one extracted case and write it anew."""
    raw = CaseFiles(aside / "raw" / "cases" / name)
    if not (raw.image.is_file() and (raw.folder / CONTENT).is_file() and raw.revision_numbers()):
        raise _refused(path, f"'{name}' in it is not complete")
    content = ImageContent.from_dict(strict.load(raw.folder / CONTENT))
    revisions = [
        Revision.from_dict(strict.load(raw.folder / numbered(k) / REVISION)) for k in raw.revision_numbers()
    ]
    for revision in revisions:
        scheme = schemes.get(revision.scheme)
        if scheme is None or tuple(p.name for p in revision.landmarks) != scheme.names:
            raise _refused(path, f"a review of '{name}' follows another scheme than this project")
    try:
        volume = read_foreign_nrrd(raw.image, content.grid.shape)
        is_same = content_of(volume).same_image(content)
    except InputError as error:
        raise _refused(path, f"the scan of '{name}' in it cannot be used") from error
    if not is_same or not name.startswith(content.case_id):
        raise _refused(path, f"the scan of '{name}' in it is another one than its record says")
    prepare_case(aside / name, volume, content, revisions)
    return _Incoming(aside / name, content, revisions)


def _refused(path: Path, reason: str) -> InputError:
    return InputError(f"The archive '{path}' is refused, because {reason}: ask for a new export; nothing was added.")
